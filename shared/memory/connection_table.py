"""The connection table: which connections exist, and how many bytes are queued for each.

It is unnamed memory that one master maps for writing and every worker maps for reading, so that `exists`,
`is_established` and `buffered_amount` cost no message. The supervisor creates one for each reactor, and all processes
inherit its descriptor. So it outlives its master, and nothing can remove it.

Layout: a head of 64 bytes; then two aligned words of 8 bytes per slot, fd * 4 + state and the queued bytes; then one
word per worker id: 0 if there is no such worker, else 1 + the bytes of messages from other workers queued for it. A
connection's slot is its sequence number modulo the capacity; the fd in the slot says which connection it belongs to. An
aligned word is written at once, so a reader never sees half of one. There are at least two slots per allowed
connection, so a table takes 32 to 64 bytes for each, all reserved when it is created.
"""

from __future__ import annotations

import os

from zwoole.shared.ids import next_block
from zwoole.shared.memory.mapping import PIECE, mapped, reserve

FREE = 0
HANDSHAKE = 1  # accepted, not a WebSocket yet
ESTABLISHED = 2
CLOSING = 3  # a close frame was sent
_FREE = FREE  # a C integer in the compiled module

_MAGIC = 0x7A776F6F6C650001
_WORD_BYTES = 8
_HEAD_WORDS = 8
_SLOT_WORDS = 2
_WORKER_WORDS = 2048  # more than the largest worker_num, for workers that `zwoole workers +1` adds
# A slot's first word.
_STATE_BITS = 2
_STATE = (1 << _STATE_BITS) - 1
# Where the head has its words.
_AT_CAPACITY = 1
_AT_SEQUENCE = 2  # sequence number of the newest connection + 1; survives the master
_AT_REACTOR_NUM = 3
_AT_LIMIT = 4


class ConnectionTable:
    """One reactor's table. `create` makes it writable for its master; the constructor opens it for readers."""

    __slots__ = ("_mask", "_reactor_num", "_words", "capacity", "limit")

    def __init__(self, descriptor: int) -> None:
        """Map an existing table.

        Raises:
            OSError: it cannot be mapped.
            ValueError: the memory is not a connection table, or is incomplete.
        """
        head = os.pread(descriptor, _WORD_BYTES * _HEAD_WORDS, 0)
        if head_word(head, 0) != _MAGIC:
            raise ValueError("not a connection table")
        self.capacity = head_word(head, _AT_CAPACITY)
        self._words = memoryview(mapped(descriptor, size_of(self.capacity))).cast("Q")
        self._mask = self.capacity - 1
        self._reactor_num = int(self._words[_AT_REACTOR_NUM])
        self.limit = int(self._words[_AT_LIMIT])

    @staticmethod
    def create(descriptor: int, capacity: int, reactor_num: int) -> ConnectionTable:
        """Create an empty table, or clear the one that a previous master left and continue its numbering.

        Args:
            descriptor: the memory, new or left by a previous master.
            capacity: number of connections it must have room for.
            reactor_num: number of reactors that share the fds.

        Raises:
            OSError: there is not enough memory.
        """
        slots = 1 << max(capacity * 2 - 1, 1).bit_length()
        sequence = read_sequence(descriptor)
        there = os.fstat(descriptor).st_size
        if there < size_of(slots):
            reserve(descriptor, there, size_of(slots) - there)
        for start in range(_WORD_BYTES * _HEAD_WORDS, there, PIECE):
            os.pwrite(descriptor, bytes(min(PIECE, there - start)), start)
        for word, value in enumerate((_MAGIC, slots, sequence, reactor_num, capacity)):
            os.pwrite(descriptor, value.to_bytes(_WORD_BYTES, "little"), _WORD_BYTES * word)
        return ConnectionTable(descriptor)

    def next_sequence(self) -> int:
        """Return the next sequence number whose slot is free. There always is one: the table has more slots than
        connections.
        """
        words = self._words
        sequence = words[_AT_SEQUENCE]
        while words[_HEAD_WORDS + _SLOT_WORDS * (sequence & self._mask)]:
            sequence += 1
        words[_AT_SEQUENCE] = sequence + 1
        return sequence

    def slot(self, fd: int) -> int:
        """Return the index of the slot that `fd` belongs to."""
        return ((fd - 1) // self._reactor_num) & self._mask

    def set_state(self, fd: int, state: int) -> None:
        """Set the state of a connection; FREE releases its slot."""
        at = _HEAD_WORDS + _SLOT_WORDS * self.slot(fd)
        words = self._words
        if state == _FREE:
            words[at] = 0
            words[at + 1] = 0
        else:
            words[at] = fd << _STATE_BITS | state

    def set_queued(self, fd: int, size: int) -> None:
        """Set the number of bytes queued for a connection."""
        self._words[_HEAD_WORDS + _SLOT_WORDS * self.slot(fd) + 1] = size

    def state(self, fd: int) -> int:
        """Return the state of a connection; FREE if it is gone or never existed."""
        if fd < 1:
            return _FREE
        word = self._words[_HEAD_WORDS + _SLOT_WORDS * self.slot(fd)]
        return word & _STATE if word >> _STATE_BITS == fd else _FREE

    def queued(self, fd: int) -> int:
        """Return the number of bytes queued for a connection; 0 if it is gone."""
        return self._words[_HEAD_WORDS + _SLOT_WORDS * self.slot(fd) + 1] if self.state(fd) != _FREE else 0

    def set_waiting(self, worker: int, size: int) -> None:
        """Set the bytes of messages from other workers that are queued for a worker; -1: there is no such worker."""
        if worker < _WORKER_WORDS:
            self._words[_HEAD_WORDS + _SLOT_WORDS * self.capacity + worker] = 1 + size

    def waiting(self, worker: int) -> int:
        """Return the bytes of messages from other workers that are queued for a worker; -1 if there is no such
        worker.
        """
        if not 0 <= worker < _WORKER_WORDS:
            return -1
        return int(self._words[_HEAD_WORDS + _SLOT_WORDS * self.capacity + worker]) - 1


def size_of(slots: int) -> int:
    """Return the size in bytes of a table with that many slots."""
    return _WORD_BYTES * (_HEAD_WORDS + _SLOT_WORDS * slots + _WORKER_WORDS)


def read_sequence(descriptor: int) -> int:
    """Return the first sequence number for a new master: 0, or one after all numbers that previous masters used."""
    head = os.pread(descriptor, _WORD_BYTES * _HEAD_WORDS, 0)
    if not head:
        return 0
    return next_block(head_word(head, _AT_SEQUENCE))


def head_word(head: bytes, at: int) -> int:
    """Return a word of a table's head."""
    return int.from_bytes(head[_WORD_BYTES * at : _WORD_BYTES * (at + 1)], "little")
