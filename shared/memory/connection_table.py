"""The connection table: which connections there are and how much waits to be sent to each.

Memory without a name that one master maps for writing and every worker for reading, so that `exists`,
`is_established` and `buffered_amount` cost no message. The supervisor makes it, one for each reactor, and all processes
inherit its descriptor; so it outlives its master, and nothing can remove it.

After a head of 64 bytes each slot has two aligned words of 8 bytes, fd * 4 + state and queued bytes; a slot is found by
the connection's sequence number modulo the capacity, and the fd in it says whose it is. Behind them each worker's place
has a word: 0 where there is no such place, else 1 + the bytes of messages from other workers that wait for it. One
aligned word is written in one go, so a reader never sees half. There are at least two slots for each connection that
there may be, so a table takes 32 to 64 bytes for each, and all of them from the start.
"""

from __future__ import annotations

import os

from zwoole.shared.ids import next_block
from zwoole.shared.memory.mapping import PIECE, mapped, reserve

FREE = 0
HANDSHAKE = 1  # accepted, not yet a WebSocket
ESTABLISHED = 2
CLOSING = 3  # a close frame was sent

_MAGIC = 0x7A776F6F6C650001
_HEAD_WORDS = 8
_WORKER_WORDS = 2048  # more workers than worker_num may be, for those that `zwoole workers +1` adds
_AT_CAPACITY = 1
_AT_SEQUENCE = 2  # sequence number of the newest connection + 1; outlives the master
_AT_REACTOR_NUM = 3
_AT_LIMIT = 4


class ConnectionTable:
    """One reactor's table; `create` for its master, `open` for readers."""

    __slots__ = ("_mask", "_reactor_num", "_words", "capacity", "limit")

    def __init__(self, descriptor: int) -> None:
        """Map a table that is there, for reading.

        Raises:
            OSError: it cannot be mapped.
            ValueError: it is no connection table, or not a whole one.
        """
        head = os.pread(descriptor, 8 * _HEAD_WORDS, 0)
        if int.from_bytes(head[:8], "little") != _MAGIC:
            raise ValueError("not a connection table")
        self.capacity = int.from_bytes(head[8 * _AT_CAPACITY : 8 * _AT_CAPACITY + 8], "little")
        self._words = memoryview(mapped(descriptor, size_of(self.capacity))).cast("Q")
        self._mask = self.capacity - 1
        self._reactor_num = int(self._words[_AT_REACTOR_NUM])
        self.limit = int(self._words[_AT_LIMIT])

    @staticmethod
    def create(descriptor: int, capacity: int, reactor_num: int) -> ConnectionTable:
        """Make an empty table, or empty the one that a predecessor left, whose numbering goes on.

        Args:
            descriptor: the memory: new, or a predecessor's.
            capacity: how many connections it must have room for.
            reactor_num: how many reactors number their connections in turn.

        Raises:
            OSError: there is not so much memory.
        """
        slots = 1 << max(capacity * 2 - 1, 1).bit_length()
        sequence = read_sequence(descriptor)
        there = os.fstat(descriptor).st_size
        if there < size_of(slots):
            reserve(descriptor, there, size_of(slots) - there)
        for start in range(8 * _HEAD_WORDS, there, PIECE):
            os.pwrite(descriptor, bytes(min(PIECE, there - start)), start)
        for word, value in enumerate((_MAGIC, slots, sequence, reactor_num, capacity)):
            os.pwrite(descriptor, value.to_bytes(8, "little"), 8 * word)
        return ConnectionTable(descriptor)

    def next_sequence(self) -> int:
        """Take the next number whose slot is free; the table has more slots than connections may exist."""
        words = self._words
        sequence = words[2]
        while words[8 + 2 * (sequence & self._mask)]:
            sequence += 1
        words[2] = sequence + 1
        return sequence

    def slot(self, fd: int) -> int:
        """Return the index of the slot where `fd` would be."""
        return ((fd - 1) // self._reactor_num) & self._mask

    def set_state(self, fd: int, state: int) -> None:
        """Write the state of a connection; FREE gives its slot back."""
        at = 8 + 2 * self.slot(fd)
        words = self._words
        if state == 0:
            words[at] = 0
            words[at + 1] = 0
        else:
            words[at] = fd << 2 | state

    def set_queued(self, fd: int, size: int) -> None:
        """Write how many bytes wait to be sent to a connection."""
        self._words[8 + 2 * self.slot(fd) + 1] = size

    def state(self, fd: int) -> int:
        """Return the state of a connection, FREE where it is gone or never was."""
        if fd < 1:
            return 0
        word = self._words[8 + 2 * self.slot(fd)]
        return word & 3 if word >> 2 == fd else 0

    def queued(self, fd: int) -> int:
        """Return how many bytes wait to be sent to a connection, 0 where it is gone."""
        return self._words[8 + 2 * self.slot(fd) + 1] if self.state(fd) else 0

    def set_waiting(self, worker: int, size: int) -> None:
        """Write how many bytes of messages from other workers wait for a worker; -1: there is no such place."""
        if worker < _WORKER_WORDS:
            self._words[8 + 2 * self.capacity + worker] = 1 + size

    def waiting(self, worker: int) -> int:
        """Return how many bytes of messages from other workers wait for a worker, -1 where there is no such place."""
        if not 0 <= worker < _WORKER_WORDS:
            return -1
        return int(self._words[8 + 2 * self.capacity + worker]) - 1


def size_of(slots: int) -> int:
    """Return how many bytes a table with so many slots has."""
    return 8 * (_HEAD_WORDS + 2 * slots + _WORKER_WORDS)


def read_sequence(descriptor: int) -> int:
    """Return where numbering begins for a new master: 0, or behind every number its predecessor gave out."""
    head = os.pread(descriptor, 8 * _HEAD_WORDS, 0)
    if not head:
        return 0
    last = int.from_bytes(head[8 * _AT_SEQUENCE : 8 * _AT_SEQUENCE + 8], "little")
    return next_block(last)
