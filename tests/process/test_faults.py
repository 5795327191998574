"""Any fault of a client's socket, at any system call: the client gets everything or an end, and the others are
served.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.client_frames import client_frame
from tests.process.fault_plan import ERRNO, NOTHING, SHORT, TRICKLE, FaultPlan
from tests.process.raw_client import BINARY, CLOSE, PING, PONG, TEXT, RawClient
from tests.process.server_process import ServerProcess
from tests.process.waiting import wait_for

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="faults are injected by a library of C: needs cc")

APP = """
from zwoole import Server

server = Server()

@server.on("open")
def on_open(server, request):
    print("open", request.fd)

@server.on("message")
def on_message(server, frame):
    server.push(frame.fd, frame.data)

@server.on("close")
def on_close(server, fd):
    print("close", fd)

server.start()
"""
LARGE = bytes(range(256)) * 800
LEAST_CALLS = 10  # of a session, even if everything arrives at once
IDLE_S = 0.5


class Rig:
    """A server, and the plan of faults for one of its clients."""

    def __init__(self, server: ServerProcess, plan: FaultPlan) -> None:
        self.server = server
        self.plan = plan
        self.master = psutil.Process(server.pids("master")[0])
        self.descriptors = self.master.num_fds()

    def session(self) -> None:
        """Act as a client that uses every feature; raises OSError or AssertionError if it does not get what it
        should.
        """
        with RawClient(self.server.port) as client:
            client.upgrade()
            client.send_frame(TEXT, b"small")
            assert client.read_frame().payload == b"small"
            client.send_frame(BINARY, LARGE)
            assert client.read_frame().payload == LARGE
            client.send(client_frame(TEXT, b"frag", fin=False), client_frame(PING, b"?"), client_frame(0, b"ments"))
            answers = {client.read_frame(), client.read_frame()}
            assert {(frame.opcode, frame.payload) for frame in answers} == {(PONG, b"?"), (TEXT, b"fragments")}
            client.send_frame(CLOSE, b"\x03\xe8")
            assert client.read_frame().close_code == 1000
            assert client.at_end()

    def settle(self) -> None:
        """Wait until the client of the plan is gone and its callbacks have run."""
        wait_for(lambda: self.plan.is_closed, "the faulty socket to be closed")
        wait_for(lambda: self.unclosed() == 0, "a close for every open")

    def unclosed(self) -> int:
        """Return how many connections opened and did not close; each may close once."""
        lines = self.server.lines()
        assert len(set(lines)) == len(lines)
        return sum(line.startswith("open") for line in lines) - sum(line.startswith("close") for line in lines)

    def calls_of_a_session(self) -> int:
        """Return how many of the master's system calls a session takes."""
        self.plan.arm(NOTHING)
        self.session()
        self.settle()
        return self.plan.calls

    def is_calm(self) -> bool:
        """Return whether the master sleeps while nothing arrives."""
        before = sum(self.master.cpu_times()[:2])
        with pytest.raises(psutil.TimeoutExpired):
            self.master.wait(IDLE_S)
        return sum(self.master.cpu_times()[:2]) - before < IDLE_S / 5


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder: Path = tmp_path_factory.mktemp("faults")
    plan = FaultPlan(folder)
    with ServerProcess(APP) as server:
        server.start(plan.environment)
        server.wait_ready()
        yield Rig(server, plan)
        assert server.stop() == 0
        assert "Traceback" not in server.log()


@pytest.fixture(autouse=True)
def nothing_is_left(rig: Rig) -> Iterator[None]:
    """After every test the master has its former number of descriptors, sleeps, and serves."""
    yield
    rig.session()
    wait_for(lambda: rig.master.num_fds() == rig.descriptors, "no more descriptors than without a client")
    assert rig.is_calm()


@pytest.mark.parametrize(
    ("fault", "number"),
    [(SHORT, 0), (ERRNO, errno.EAGAIN), (ERRNO, errno.EINTR)],
    ids=["short", "EAGAIN", "EINTR"],
)
def test_what_passes_is_not_noticed(rig: Rig, fault: int, number: int) -> None:
    calls = rig.calls_of_a_session()
    assert calls >= LEAST_CALLS
    for at in range(1, calls + 1):
        rig.plan.arm(fault, at, number)
        rig.session()
        rig.settle()
        assert rig.plan.fired == (at <= rig.plan.calls), "how many calls a session takes is the kernels' choice"


def test_a_socket_that_trickles(rig: Rig) -> None:
    rig.plan.arm(TRICKLE)
    rig.session()
    rig.settle()
    assert rig.plan.fired > 100


@pytest.mark.parametrize(
    "number", [errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT], ids=["ECONNRESET", "EPIPE", "ETIMEDOUT"]
)
def test_what_breaks_a_connection_ends_it_and_nothing_else(rig: Rig, number: int) -> None:
    calls = rig.calls_of_a_session()
    for at in range(1, calls + 1):
        with RawClient(rig.server.port).upgrade() as other:
            rig.plan.arm(ERRNO, at, number)
            try:
                rig.session()
                completed = True
            except (OSError, AssertionError):
                completed = False
            wait_for(lambda: rig.plan.is_closed, "the broken socket to be closed")
            assert rig.plan.fired == (at <= rig.plan.calls)
            assert not completed or not rig.plan.fired or at > LEAST_CALLS, "it cannot have got all that it is due"
            other.send_frame(TEXT, b"still here")
            assert other.read_frame().payload == b"still here"
        rig.settle()


@pytest.mark.parametrize(
    "number",
    [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ECONNABORTED, errno.EINTR],
    ids=["EMFILE", "ENFILE", "ENOBUFS", "ECONNABORTED", "EINTR"],
)
def test_accepting_goes_on_by_itself(rig: Rig, number: int) -> None:
    rig.plan.fail_accepting(number, 4)
    rig.session()
    assert rig.plan.accepting_fails == 0
