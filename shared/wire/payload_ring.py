"""The payload ring: shared memory that carries large payloads from one process to another.

A payload that goes through a socket is copied into the kernel and out again, in pieces. In the ring, the sender copies
it once and the reader copies it once; the batch carries only its position. Each pair of worker and master has two rings
in one unnamed memory file, one per direction, which cannot be left behind.

Operations: put a payload and get its position; read it there; release the room of payloads that the reader is done
with. The ring needs no messages of its own for that: acknowledgements (down) and credit (up) already tell both sides
which payloads are done. Everything that was put since the last `seal` belongs to one *mark*, and `free` releases
everything up to a mark. A payload that does not fit travels in its batch instead.

Memory is reserved in steps when a payload first needs it, so a pair without large payloads takes none. If the machine
has no memory left, the ring counts as full.
"""

from __future__ import annotations

import os
from collections import deque

from zwoole.shared.memory.mapping import mapped, reserve

try:
    import cython
except ImportError:
    from zwoole.shared.uncompiled import cython  # type: ignore[assignment, no-redef, unused-ignore]

if cython.compiled:
    from cython.cimports.cpython.bytes import (  # type: ignore[import-not-found, unused-ignore]
        PyBytes_AS_STRING,
        PyBytes_FromStringAndSize,
    )
    from cython.cimports.cpython.unicode import (  # type: ignore[import-not-found, unused-ignore]
        PyUnicode_AsUTF8,
        PyUnicode_DecodeUTF8,
    )
    from cython.cimports.libc.string import memcpy  # type: ignore[import-not-found, unused-ignore]

SHORT_BYTES = 1024 * 1024
STEP_BYTES = 256 * 1024  # reserved at a time
RING_MIN_BYTES = 2048  # below this, sending the position costs as much as the copies that the ring saves
_SHORT_BYTES = SHORT_BYTES  # C integers in the compiled module


class PayloadRing:
    """The ring of one direction.

    Attributes:
        capacity: its size in bytes.
    """

    __slots__ = (
        "_bytes",
        "_descriptor",
        "_head",
        "_marks",
        "_memory",
        "_offset",
        "_reserved",
        "_sealed",
        "_tail",
        "capacity",
    )

    def __init__(self, memory: memoryview, descriptor: int = -1, offset: int = 0) -> None:
        """Use all of `memory`, which both processes have mapped.

        Args:
            memory: the memory.
            descriptor: the memory's file, of which nothing is reserved yet; -1: everything is reserved.
            offset: index in the file of the memory's first byte.
        """
        self.capacity = len(memory)
        self._memory = memory
        self._bytes = memory  # the same, typed in the compiled module
        self._descriptor = descriptor
        self._offset = offset
        self._reserved = 0 if descriptor >= 0 else self.capacity
        # Total bytes put and released; positions are these modulo the capacity.
        self._head = 0
        self._tail = 0
        self._sealed = 0
        self._marks: deque[tuple[int, int]] = deque()  # mark, and the head at that time

    def put(self, payload: bytes) -> int:
        """Copy a payload into the ring and return its position; -1 if there is no room now."""
        size = len(payload)
        position = self._claim(size)
        if position < 0:
            return -1
        if cython.compiled:
            memcpy(cython.address(self._bytes[position]), PyBytes_AS_STRING(payload), size)
        else:
            self._memory[position : position + size] = payload
        return position

    def put_ascii(self, text: str) -> int:
        """Copy an ASCII text into the ring and return its position; -1 if there is no room now."""
        size = len(text)
        position = self._claim(size)
        if position < 0:
            return -1
        if cython.compiled:
            memcpy(cython.address(self._bytes[position]), PyUnicode_AsUTF8(text), size)
        else:
            self._memory[position : position + size] = text.encode()
        return position

    def _claim(self, size: int) -> int:
        """Return the position of room for a payload, which is the payload's now; -1 if there is none."""
        if self._head == self._tail:  # empty: start at its beginning, which is most likely still in the CPU's cache
            self._head = self._tail = self._sealed = 0
        position = self._head % self.capacity
        head = self._head
        # While little is queued, use only as much of the ring as fits a CPU cache.
        early = position >= _SHORT_BYTES and max(head - self._tail, size) <= _SHORT_BYTES // 2
        if early or position + size > self.capacity:  # a payload never wraps around the end
            head += self.capacity - position
            position = 0
        if head + size - self._tail > self.capacity:
            return -1
        if position + size > self._reserved and not self._has_reserved(position + size):
            return -1
        self._head = head + size
        return position

    def _has_reserved(self, end: int) -> bool:
        """Reserve memory up to `end`, rounded up to a step; return False if there is none."""
        end = min(-(-end // STEP_BYTES) * STEP_BYTES, self.capacity)
        try:
            reserve(self._descriptor, self._offset + self._reserved, end - self._reserved)
        except OSError:
            return False
        self._reserved = end
        return True

    def forget_descriptor(self) -> None:
        """Reserve nothing more: the file is closed."""
        self._descriptor = -1

    def seal(self, mark: int) -> None:
        """Assign everything that was put since the last seal to `mark`. Marks must grow."""
        if self._head != self._sealed:
            self._sealed = self._head
            self._marks.append((mark, self._head))

    def free(self, mark: int) -> None:
        """Release the room of everything that was sealed at `mark` or before."""
        marks = self._marks
        while marks and marks[0][0] <= mark:
            self._tail = marks.popleft()[1]

    def data(self, position: int, size: int) -> bytes:
        """Return a copy of a payload.

        Raises:
            ValueError: the payload would end behind the ring.
        """
        self._check(position, size)
        if cython.compiled:
            origin = cython.cast(cython.p_char, cython.address(self._bytes[position]))
            return PyBytes_FromStringAndSize(origin, size)  # type: ignore[no-any-return, unused-ignore]
        return bytes(self._memory[position : position + size])

    def text(self, position: int, size: int) -> str:
        """Return a payload, decoded from UTF-8.

        Raises:
            UnicodeDecodeError: it is not UTF-8.
            ValueError: the payload would end behind the ring.
        """
        self._check(position, size)
        if cython.compiled:
            origin = cython.cast(cython.p_char, cython.address(self._bytes[position]))
            return PyUnicode_DecodeUTF8(origin, size, cython.NULL)  # type: ignore[no-any-return, unused-ignore]
        return str(self._memory[position : position + size], "utf-8")

    def view(self, position: int, size: int) -> memoryview:
        """Return a payload in place. The view is valid until the sender may release the payload.

        Raises:
            ValueError: the payload would end behind the ring.
        """
        self._check(position, size)
        return self._memory[position : position + size]

    def _check(self, position: int, size: int) -> None:
        if position + size > self.capacity:
            raise ValueError("a payload behind the end of its ring")


class SharedMemory:
    """The memory of a pair's two rings. The master creates it, the worker opens it; it is unmapped when nothing refers
    to it.

    Attributes:
        descriptor: the memory file.
        down, up: the rings from master to worker and back.
    """

    def __init__(self, descriptor: int) -> None:
        """Map a memory file. Use `create` or `open` instead.

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
        """Create the memory for two rings of `ring_bytes` each.

        Raises:
            OSError: there is no memory.
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
        """Map the memory that another process of this user has created.

        Args:
            pid: that process.
            descriptor: the memory file's descriptor there.

        Raises:
            OSError, ValueError: it cannot be opened or mapped.
        """
        own = os.open(f"/proc/{pid}/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
        try:
            return SharedMemory(own)
        except BaseException:
            os.close(own)
            raise

    def close_descriptor(self) -> None:
        """Close the file. What is mapped and reserved stays usable; nothing more can be reserved."""
        if self.descriptor >= 0:
            self.down.forget_descriptor()
            self.up.forget_descriptor()
            os.close(self.descriptor)
            self.descriptor = -1
