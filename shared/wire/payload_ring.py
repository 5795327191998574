"""The payload ring: shared memory through which large payloads go from one process to the other.

A payload that is sent through a socket is copied into the kernel and out again, by ZeroMQ's thread, in pieces. In the
ring it is copied once by its sender and once by its reader; the batch only says where it lies. Each pair of worker and
master has two rings in one memory file without a name, one for each way, which nothing can leave behind.

Operations: put a payload and learn where it lies; get it from there; give back the room of what the reader has dealt
with. The ring itself is told nothing by the other side: both already know from the wire what was dealt with
(acknowledgements down, credit up), so room comes back by *marks*. What was put since the last `seal` belongs to one
mark, and `free` gives back everything up to a mark. A payload that finds no room travels with its batch instead.

Memory is reserved in steps, when a payload needs it for the first time: a pair that never has a large payload takes
none. Where the machine has none to give, that is a ring without room.
"""

from __future__ import annotations

import os
from collections import deque

from zwoole.shared.memory.mapping import mapped, reserve

SHORT_BYTES = 1024 * 1024
STEP_BYTES = 256 * 1024  # how much is reserved at a time
RING_MIN_BYTES = 2048  # below it, saying where a payload lies costs as much as the copies it saves


class PayloadRing:
    """One way's ring.

    Attributes:
        capacity: its size in bytes.
    """

    __slots__ = ("_descriptor", "_head", "_marks", "_memory", "_offset", "_reserved", "_sealed", "_tail", "capacity")

    def __init__(self, memory: memoryview, descriptor: int = -1, offset: int = 0) -> None:
        """Use `memory`, which both processes have mapped, from its first to its last byte.

        Args:
            memory: the memory.
            descriptor: its file, of which nothing is reserved yet; -1: all of it is.
            offset: where in the file it begins.
        """
        self.capacity = len(memory)
        self._memory = memory
        self._descriptor = descriptor
        self._offset = offset
        self._reserved = 0 if descriptor >= 0 else self.capacity
        # Bytes put and given back in all; their place is the remainder by the capacity.
        self._head = 0
        self._tail = 0
        self._sealed = 0
        self._marks: deque[tuple[int, int]] = deque()  # mark, and the head when it was made

    def put(self, payload: bytes) -> int:
        """Copy a payload into the ring and return its position; -1 where there is no room for it now."""
        size = len(payload)
        if self._head == self._tail:  # all of it is free: the first bytes are the ones the cache still has
            self._head = self._tail = self._sealed = 0
        position = self._head % self.capacity
        head = self._head
        # Where little waits, the ring is as short as what a cache holds; a large one is for when much does.
        early = position >= SHORT_BYTES and max(head - self._tail, size) <= SHORT_BYTES // 2
        if early or position + size > self.capacity:  # in one piece, behind the end of the memory
            head += self.capacity - position
            position = 0
        if head + size - self._tail > self.capacity:
            return -1
        if position + size > self._reserved and not self._has_reserved(position + size):
            return -1
        self._memory[position : position + size] = payload
        self._head = head + size
        return position

    def _has_reserved(self, end: int) -> bool:
        """Reserve memory up to `end`, and a step beyond; False if there is none to be had."""
        end = min(-(-end // STEP_BYTES) * STEP_BYTES, self.capacity)
        try:
            reserve(self._descriptor, self._offset + self._reserved, end - self._reserved)
        except OSError:
            return False
        self._reserved = end
        return True

    def forget_descriptor(self) -> None:
        """Go on with what is reserved: the file is closed."""
        self._descriptor = -1

    def seal(self, mark: int) -> None:
        """Let everything put since the last seal be given back at `mark`; marks only grow."""
        if self._head != self._sealed:
            self._sealed = self._head
            self._marks.append((mark, self._head))

    def free(self, mark: int) -> None:
        """Give back the room of everything that was sealed at `mark` or before."""
        marks = self._marks
        while marks and marks[0][0] <= mark:
            self._tail = marks.popleft()[1]

    def view(self, position: int, size: int) -> memoryview:
        """Return a payload as it lies in the ring, valid until its sender may give it back.

        Raises:
            ValueError: no payload can lie there.
        """
        if position + size > self.capacity:
            raise ValueError("a payload behind the end of its ring")
        return self._memory[position : position + size]


class SharedMemory:
    """The memory of a pair's two rings, made by the master and opened by the worker; unmapped when nobody refers to it.

    Attributes:
        descriptor: the memory file.
        down, up: the rings.
    """

    def __init__(self, descriptor: int) -> None:
        """Map a memory file; `create` and `open` are the way in.

        Raises:
            OSError, ValueError: it cannot be mapped.
        """
        self.descriptor = descriptor
        size = os.fstat(descriptor).st_size
        whole = memoryview(mapped(descriptor, size))
        half = size // 2
        self.down = PayloadRing(whole[:half], descriptor)
        self.up = PayloadRing(whole[half:], descriptor, half)

    @staticmethod
    def create(ring_bytes: int) -> SharedMemory:
        """Make the memory for two rings of `ring_bytes` each.

        Raises:
            OSError: there is none to be had.
        """
        descriptor = os.memfd_create("zwoole-payloads", os.MFD_CLOEXEC)
        try:
            os.ftruncate(descriptor, 2 * ring_bytes)
            return SharedMemory(descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    @staticmethod
    def open(pid: int, descriptor: int) -> SharedMemory:
        """Map what another process of this user made.

        Raises:
            OSError, ValueError: it cannot be reached.
        """
        own = os.open(f"/proc/{pid}/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
        try:
            return SharedMemory(own)
        except BaseException:
            os.close(own)
            raise

    def close_descriptor(self) -> None:
        """Close the file; what is mapped and reserved stays, more cannot be reserved."""
        if self.descriptor >= 0:
            self.down.forget_descriptor()
            self.up.forget_descriptor()
            os.close(self.descriptor)
            self.descriptor = -1
