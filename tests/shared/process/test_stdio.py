"""Non-blocking output to stdout and stderr, with a real pipe that is read, not read, or closed."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import select
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.waiting import PATIENCE_S, wait_for
from zwoole.shared.process import stdio
from zwoole.shared.process.stdio import QUEUED_BYTES, QUEUED_WRITES, StdioStream, StdioWriter

PIPE_BYTES = 4096
LINE = b"0123456789abcde\n"


class Pipe:
    """A pipe with as little room as possible; `write_end` is what a writer writes to."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._writers: list[StdioWriter] = []

    def writer(self, at_once: bool = True) -> StdioWriter:
        """Return a writer to the pipe."""
        writer = StdioWriter(self.write_end, at_once)
        self._writers.append(writer)
        return writer

    def fill(self) -> int:
        """Write until nothing more fits, and return the number of bytes."""
        poll = select.poll()
        poll.register(self.write_end, select.POLLOUT)
        filled = 0
        while poll.poll(0):
            filled += os.write(self.write_end, b"." * PIPE_BYTES)
        return filled

    def read(self, count: int) -> bytes:
        """Read that many bytes."""
        data = b""
        while len(data) < count:
            data += os.read(self.read_end, count - len(data))
        return data

    def close_read_end(self) -> None:
        os.close(self.read_end)
        self.read_end = -1

    def close(self) -> None:
        """Close the pipe. Queued data is dropped first, so that no thread writes it to a later descriptor of this
        number.
        """
        if self.read_end >= 0:
            self.close_read_end()
        for writer in self._writers:
            assert writer.drain(PATIENCE_S)
        if self.write_end >= 0:
            os.close(self.write_end)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture(params=["opened again", "polled"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Allow that the descriptor is opened a second time, or not."""
    if request.param == "polled":
        monkeypatch.setattr(stdio, "reopen_nonblocking", lambda descriptor, mode: None)
    return str(request.param)


def test_what_is_written_is_there_when_write_returns(pipe: Pipe, way: str) -> None:
    writer = pipe.writer()
    assert writer.write(LINE)
    assert pipe.read(len(LINE)) == LINE
    assert writer.lost == 0
    assert writer._thread is None


def test_a_pipe_that_nobody_reads_holds_nobody_up(pipe: Pipe, way: str) -> None:
    writer = pipe.writer()
    filled = pipe.fill()
    assert writer.write(LINE)
    assert not writer.drain(0)
    assert pipe.read(filled) == b"." * filled
    assert pipe.read(len(LINE)) == LINE
    assert writer.drain(PATIENCE_S)
    assert writer.lost == 0


def test_order_is_kept_when_it_flows_again(pipe: Pipe, way: str) -> None:
    writer = pipe.writer()
    lines = [b"%d\n" % number for number in range(5000)]
    expected = b"".join(lines)
    for line in lines:
        assert writer.write(line)
    assert pipe.read(len(expected)) == expected
    assert writer.drain(PATIENCE_S)
    assert writer.write(LINE)
    assert pipe.read(len(LINE)) == LINE


def test_a_write_that_fits_in_part_is_finished_later(pipe: Pipe, way: str) -> None:
    writer = pipe.writer()
    data = os.urandom(10 * PIPE_BYTES)
    assert writer.write(data)
    assert pipe.read(len(data)) == data


def test_a_pipe_takes_whole_lines_only(pipe: Pipe, way: str) -> None:
    """So whatever another process writes is between them."""
    writer = pipe.writer()
    filled = pipe.fill()
    text = b"".join(b"line %d of a text that is longer than the pipe\n" % number for number in range(1000))
    assert writer.write(text)
    pipe.read(filled)
    taken = b""
    while len(taken) < len(text):
        taken += os.read(pipe.read_end, 10 * PIPE_BYTES)
        assert taken.endswith(b"\n")
    assert taken == text


def test_what_two_processes_write_to_a_pipe_is_not_torn(pipe: Pipe, way: str) -> None:
    writers = [pipe.writer(), pipe.writer()]
    filled = pipe.fill()
    for number in range(1000):
        for name, writer in enumerate(writers):
            assert writer.write(b"%d: %d\n    with a second line\n" % (name, number))
    count = sum(len(b"".join(writer._waiting)) for writer in writers)
    lines = pipe.read(filled + count)[filled:].splitlines()
    assert set(lines[1::2]) == {b"    with a second line"}
    for name in range(2):
        own = [line for line in lines[::2] if line.startswith(b"%d: " % name)]
        assert own == [b"%d: %d" % (name, number) for number in range(1000)]


def test_a_line_that_no_atomic_write_can_take_is_written_in_pieces(pipe: Pipe, way: str) -> None:
    writer = pipe.writer()
    data = LINE + b"x" * (3 * PIPE_BYTES) + b"\n" + LINE
    assert writer.write(data)
    assert pipe.read(len(data)) == data
    assert writer.drain(PATIENCE_S)
    assert writer.lost == 0


def test_a_file_takes_many_lines_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    write = os.write

    def noting(descriptor: int, data: bytes) -> int:
        sizes.append(len(data))
        return write(descriptor, data)

    file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        writer = StdioWriter(file, at_once=False)
        monkeypatch.setattr(os, "write", noting)
        with writer._changed:  # its thread waits until all lines are there
            for _ in range(1000):
                assert writer.write(LINE)
        assert writer.drain(PATIENCE_S)
        assert sizes == [1000 * len(LINE)]
    finally:
        os.close(file)


@pytest.mark.parametrize("size", [16, 64 * 1024], ids=["many", "large"])
def test_the_queue_is_bounded_and_what_is_lost_is_counted(pipe: Pipe, size: int) -> None:
    writer = pipe.writer()
    pipe.fill()
    line = b"x" * (size - 1) + b"\n"
    fit = 0
    while writer.write(line):
        fit += 1
    assert fit == min(QUEUED_WRITES, QUEUED_BYTES // size)
    assert not writer.write(b"one\ntwo\n")
    assert (writer.lost, writer.unreported) == (3, 3)


def test_nothing_waits_in_the_caller_where_even_a_disk_may_not_hold_it_up(pipe: Pipe) -> None:
    writer = pipe.writer(at_once=False)
    assert writer.write(LINE)
    assert pipe.read(len(LINE)) == LINE


@pytest.mark.parametrize("at_once", [True, False])
def test_a_closed_pipe_costs_the_lines_and_nothing_else(pipe: Pipe, at_once: bool) -> None:
    writer = pipe.writer(at_once)
    pipe.close_read_end()
    assert writer.write(LINE) is not at_once
    assert writer.drain(PATIENCE_S)
    assert writer.lost == 1


def test_a_pipe_that_closes_while_lines_wait(pipe: Pipe, way: str) -> None:
    writer = pipe.writer()
    pipe.fill()
    for _ in range(3):
        writer.write(LINE)
    pipe.close_read_end()
    assert writer.drain(PATIENCE_S)
    assert writer.lost == 3


def test_a_terminal_that_hangs_up() -> None:
    controller, terminal = pty.openpty()
    try:
        writer = StdioWriter(terminal)
        assert writer.write(LINE)
        os.close(controller)
        assert not writer.write(LINE)
        assert writer.lost == 1
    finally:
        os.close(terminal)


def test_a_full_disk() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        writer = StdioWriter(descriptor)
        assert not writer.write(LINE)
        assert writer.lost == 1
    finally:
        os.close(descriptor)


def test_a_descriptor_that_is_closed(pipe: Pipe) -> None:
    writer = pipe.writer()
    os.close(pipe.write_end)
    pipe.write_end = -1
    assert not writer.write(LINE)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_descriptor_that_leads_elsewhere_is_followed(pipe: Pipe, tmp_path: Path, at_once: bool) -> None:
    writer = pipe.writer(at_once)
    file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(file, pipe.write_end)
    os.close(file)
    writer.write(LINE)
    assert writer.drain(PATIENCE_S)
    assert (tmp_path / "log").read_bytes() == LINE


def test_a_descriptor_that_leads_elsewhere_ends_the_wait_for_a_pipe_that_nobody_reads(
    pipe: Pipe, tmp_path: Path, way: str
) -> None:
    writer = pipe.writer()
    pipe.fill()
    writer.write(LINE)
    file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(file, pipe.write_end)
    os.close(file)
    assert writer.drain(PATIENCE_S)
    assert (tmp_path / "log").read_bytes() == LINE


def test_a_descriptor_that_was_told_not_to_wait(pipe: Pipe, way: str) -> None:
    """As after another program made a shared terminal non-blocking."""
    os.set_blocking(pipe.write_end, False)
    writer = pipe.writer()
    data = os.urandom(10 * PIPE_BYTES)
    assert writer.write(data)
    assert pipe.read(len(data)) == data


def test_a_forked_child_writes_and_leaves_to_the_parent_what_waits(pipe: Pipe, tmp_path: Path) -> None:
    writer = pipe.writer()
    stdio._writers[pipe.write_end] = writer
    try:
        filled = pipe.fill()
        writer.write(b"of the parent\n")
        child = os.fork()
        if child == 0:
            file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
            os.dup2(file, pipe.write_end)
            os._exit(0 if writer.write(b"of the child\n") and writer.drain(0) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert (tmp_path / "log").read_bytes() == b"of the child\n"
        assert pipe.read(filled + len(b"of the parent\n")).endswith(b".of the parent\n")
    finally:
        del stdio._writers[pipe.write_end]


def test_a_forked_child_uses_no_lock_that_was_held(pipe: Pipe) -> None:
    """Another thread of the parent was writing when it forked."""
    writer = pipe.writer()
    stdio._writers[pipe.write_end] = writer
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with writer._changed:
            held.set()
            let_go.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        held.wait()
        child = os.fork()
        if child == 0:
            os._exit(0 if writer.write(LINE) else 1)
        status: list[int] = []
        wait_for(lambda: status.extend(os.waitpid(child, os.WNOHANG)) or status[-2], "the child's end")
        assert os.waitstatus_to_exitcode(status[-1]) == 0
        assert pipe.read(len(LINE)) == LINE
    finally:
        let_go.set()
        holder.join()
        del stdio._writers[pipe.write_end]


def test_many_threads_may_write(pipe: Pipe, way: str) -> None:
    writer = pipe.writer()
    threads = [
        threading.Thread(target=lambda name=name: [writer.write(b"%d\n" % name) for _ in range(500)])  # type: ignore[misc]
        for name in range(4)
    ]
    for thread in threads:
        thread.start()
    lines = pipe.read(4 * 500 * 2).split()
    for thread in threads:
        thread.join()
    assert sorted(lines) == sorted(b"%d" % name for name in range(4) for _ in range(500))


def test_a_stream_is_written_line_by_line(pipe: Pipe) -> None:
    writer = pipe.writer()
    raw = StdioStream(writer, pipe.write_end, "<stdout>")
    stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", line_buffering=True)
    print("one", "é", file=stream)
    assert pipe.read(7) == "one é\n".encode()
    assert stream.fileno() == pipe.write_end
    assert not stream.isatty()
    assert stream.name == "<stdout>"
    pipe.close_read_end()
    print("lost", file=stream)
    assert writer.lost == 1
    stream.close()
    os.fstat(pipe.write_end)


def test_the_streams_of_this_process_stay_what_they_were_if_they_lead_elsewhere() -> None:
    from zwoole.shared.process.log import writer_stream

    assert writer_stream(sys.stdout, 1) is sys.stdout
