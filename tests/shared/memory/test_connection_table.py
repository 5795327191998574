"""The connection table, written by its master and read by workers through separate mappings."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from zwoole.shared.ids import BLOCK, fd_of
from zwoole.shared.memory.connection_table import CLOSING, ESTABLISHED, FREE, HANDSHAKE, ConnectionTable, read_sequence
from zwoole.shared.memory.mapping import anonymous


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[int]:
    """Return the descriptor of new memory for a table."""
    descriptor = anonymous("table", tmp_path)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("state", [HANDSHAKE, ESTABLISHED, CLOSING])
def test_a_reader_sees_what_the_master_writes(memory: int, state: int) -> None:
    master = ConnectionTable.create(memory, 100, 1)
    reader = ConnectionTable(memory)
    assert (reader.state(5), reader.queued(5)) == (FREE, 0)
    master.set_state(5, state)
    master.set_queued(5, 1 << 40)
    assert (reader.state(5), reader.queued(5)) == (state, 1 << 40)
    master.set_state(5, FREE)
    assert (reader.state(5), reader.queued(5)) == (FREE, 0)


def test_a_new_state_leaves_the_queued_bytes_alone(memory: int) -> None:
    table = ConnectionTable.create(memory, 100, 1)
    table.set_state(5, ESTABLISHED)
    table.set_queued(5, 1000)
    table.set_state(5, CLOSING)
    assert table.queued(5) == 1000


def test_a_connection_starts_with_nothing_queued_where_another_was(memory: int) -> None:
    table = ConnectionTable.create(memory, 1, 1)
    table.set_state(1, ESTABLISHED)
    table.set_queued(1, 1000)
    table.set_state(1, FREE)
    table.set_state(1 + table.capacity, ESTABLISHED)
    assert table.queued(1 + table.capacity) == 0


def test_a_fd_that_is_gone_is_not_taken_for_the_one_in_its_slot(memory: int) -> None:
    table = ConnectionTable.create(memory, 10, 1)
    old, new = 3, 3 + table.capacity
    assert table.slot(old) == table.slot(new)
    table.set_state(new, ESTABLISHED)
    table.set_queued(new, 7)
    assert (table.state(old), table.queued(old)) == (FREE, 0)
    assert (table.state(new), table.queued(new)) == (ESTABLISHED, 7)


@pytest.mark.parametrize("fd", [0, 1, (1 << 53) - 1])
def test_a_fd_that_never_was_is_free(memory: int, fd: int) -> None:
    table = ConnectionTable.create(memory, 10, 1)
    assert (table.state(fd), table.queued(fd)) == (FREE, 0)


def test_the_largest_fd_has_a_state(memory: int) -> None:
    table = ConnectionTable.create(memory, 10, 3)
    table.set_state((1 << 53) - 1, ESTABLISHED)
    assert ConnectionTable(memory).state((1 << 53) - 1) == ESTABLISHED


@pytest.mark.parametrize(("capacity", "slots"), [(1, 2), (2, 4), (3, 8), (4, 8), (5, 16), (15000, 32768)])
def test_there_are_at_least_twice_as_many_slots_as_connections(memory: int, capacity: int, slots: int) -> None:
    assert ConnectionTable.create(memory, capacity, 1).capacity == slots
    assert ConnectionTable(memory).capacity == slots


@pytest.mark.parametrize("reactor_num", [1, 2, 7])
def test_the_connections_of_one_reactor_lie_slot_by_slot(memory: int, reactor_num: int) -> None:
    table = ConnectionTable.create(memory, 10, reactor_num)
    for reactor in range(reactor_num):
        slots = [table.slot(fd_of(sequence, reactor, reactor_num)) for sequence in range(2 * table.capacity)]
        assert slots == [*range(table.capacity)] * 2


def test_sequence_numbers_are_taken_in_turn(memory: int) -> None:
    table = ConnectionTable.create(memory, 10, 1)
    assert [table.next_sequence() for _ in range(5)] == [0, 1, 2, 3, 4]


def test_a_sequence_number_whose_slot_is_taken_is_skipped_for_good(memory: int) -> None:
    table = ConnectionTable.create(memory, 2, 1)
    lasting = table.next_sequence()
    table.set_state(lasting + 1, ESTABLISHED)
    assert [table.next_sequence() for _ in range(7)] == [1, 2, 3, 5, 6, 7, 9]


@pytest.mark.parametrize("reactor_num", [1, 3])
def test_no_fd_is_given_twice_and_none_is_lost_while_connections_come_and_go(memory: int, reactor_num: int) -> None:
    table = ConnectionTable.create(memory, 8, reactor_num)
    reader = ConnectionTable(memory)
    chance = random.Random(reactor_num)
    open_fds: list[int] = []
    given: set[int] = set()
    for _ in range(500):
        if len(open_fds) < 8 and chance.random() < 0.6:
            fd = fd_of(table.next_sequence(), 0, reactor_num)
            assert fd not in given
            given.add(fd)
            open_fds.append(fd)
            table.set_state(fd, ESTABLISHED)
        elif open_fds:
            table.set_state(open_fds.pop(chance.randrange(len(open_fds))), FREE)
        assert {fd for fd in given if reader.state(fd)} == set(open_fds)


def test_a_new_master_numbers_from_the_next_block_in_an_empty_table(memory: int) -> None:
    first = ConnectionTable.create(memory, 10, 1)
    assert first.next_sequence() == 0
    first.set_state(1, ESTABLISHED)
    second = ConnectionTable.create(memory, 10, 1)
    assert second.state(1) == FREE
    assert second.next_sequence() == BLOCK
    third = ConnectionTable.create(memory, 10, 1)
    assert third.next_sequence() == 2 * BLOCK


def test_numbering_goes_on_behind_a_master_that_gave_out_more_than_a_block(memory: int) -> None:
    first = ConnectionTable.create(memory, 1, 1)
    for sequence in range(BLOCK + 1):
        assert first.next_sequence() == sequence
    assert read_sequence(memory) == 2 * BLOCK


def test_readers_see_that_a_new_master_has_emptied_the_table(memory: int) -> None:
    first = ConnectionTable.create(memory, 10, 1)
    reader = ConnectionTable(memory)
    first.set_state(5, ESTABLISHED)
    first.set_queued(5, 7)
    first.set_waiting(3, 100)
    second = ConnectionTable.create(memory, 10, 1)
    assert (reader.state(5), reader.queued(5), reader.waiting(3)) == (FREE, 0, -1)
    second.set_state(6, ESTABLISHED)
    assert reader.state(6) == ESTABLISHED


def test_a_new_master_may_have_room_for_more(memory: int) -> None:
    ConnectionTable.create(memory, 10, 1).set_state(5, ESTABLISHED)
    table = ConnectionTable.create(memory, 1000, 1)
    assert table.capacity == 2048
    assert {table.state(fd) for fd in range(1, 2049)} == {FREE}


def test_numbering_begins_at_nothing_where_no_master_was(memory: int) -> None:
    assert read_sequence(memory) == 0


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 100, b"\0" * 4096], ids=len)
def test_a_file_that_is_no_table_cannot_be_opened(memory: int, content: bytes) -> None:
    os.pwrite(memory, content, 0)
    with pytest.raises(ValueError):
        ConnectionTable(memory)


def test_a_table_that_is_not_whole_cannot_be_opened(tmp_path: Path) -> None:
    """Otherwise a reader of its missing end would be killed by SIGBUS."""
    with (tmp_path / "table").open("w+b") as file:
        ConnectionTable.create(file.fileno(), 1000, 1)
        file.truncate(20_000)
        with pytest.raises(ValueError, match="20000 bytes"):
            ConnectionTable(file.fileno())


def test_the_memory_of_a_table_is_there_from_the_start(memory: int) -> None:
    ConnectionTable.create(memory, 1000, 1)
    status = os.fstat(memory)
    assert status.st_blocks * 512 >= status.st_size == 8 * (8 + 2 * 2048 + 2048)


def test_where_there_is_no_memory_a_table_cannot_be_made(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(OSError, match="No space left"):
        ConnectionTable.create(memory, 1000, 1)
