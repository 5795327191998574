"""Worker processes as their master sees them, with problems in the run directory."""

from __future__ import annotations

import errno
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import pytest
import zmq

from tests.process.waiting import PATIENCE_S, wait_for
from tests.reactor.reactor_parts import Reactor
from zwoole.reactor.pool.endpoint import Endpoint
from zwoole.reactor.pool.pool import BOOT_S, HANDSHAKE_S, LEAVE_S
from zwoole.reactor.sending.outbound import EVENTS_PER_TURN
from zwoole.shared.process.run_files import endpoint, endpoint_path, progress_path
from zwoole.shared.wire.batches import BatchWriter
from zwoole.shared.wire.events import BYE, HELLO, PROTOCOL_VERSION, PUSH
from zwoole.shared.wire.zmtp import GREETING


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[bytes]]:
    """Return a process that stands for a booting worker."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def peer(worker: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[zmq.Socket[bytes]]:
    """Return a DEALER of libzmq that speaks for that process."""
    monkeypatch.setattr("zwoole.reactor.pool.endpoint.peer_of", lambda _: (worker.pid, os.geteuid()))
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.setsockopt(zmq.LINGER, 0)
        yield peer


class Rig:
    """A reactor with a pool."""

    def __init__(self, reactor: Reactor, run_dir: Path) -> None:
        self.reactor = reactor
        self.run_dir = run_dir
        self.pool = reactor.pool

    @property
    def kills(self) -> list[tuple[int, str]]:
        """What the supervisor was asked for."""
        return [(fields["incarnation"], fields["why"]) for kind, fields in self.reactor.told if kind == "kill"]

    def has_endpoint(self) -> bool:
        return endpoint_path(self.run_dir, 7, 1).exists() and progress_path(self.run_dir, 7, 1).exists()

    def turned(self) -> bool:
        self.reactor.loop.turn()
        return True

    def look(self) -> None:
        self.reactor.pass_time(BOOT_S + 0.1)


@pytest.fixture
def run_dir(rig: Rig) -> Path:
    rig.run_dir.mkdir()
    return rig.run_dir


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Reactor(run_dir=tmp_path / "run") as reactor:
        yield Rig(reactor, tmp_path / "run")


def test_an_endpoint_is_made_as_soon_as_the_run_directory_is_there(
    rig: Rig, worker: subprocess.Popen[bytes], log: pytest.LogCaptureFixture
) -> None:
    rig.pool.expect(0, 7, worker.pid, standby=False)
    rig.look()
    assert rig.pool.links == []
    rig.run_dir.mkdir()
    rig.look()
    assert [link.pid for link in rig.pool.links] == [worker.pid]
    assert rig.has_endpoint()
    assert log.text.count("cannot make an endpoint for worker 0") == 1


def test_an_endpoint_that_cannot_be_bound_leaves_no_progress_map(
    rig: Rig, worker: subprocess.Popen[bytes], log: pytest.LogCaptureFixture
) -> None:
    rig.run_dir.mkdir()
    endpoint_path(rig.run_dir, 7, 1).mkdir()
    rig.pool.expect(0, 7, worker.pid, standby=False)
    assert not progress_path(rig.run_dir, 7, 1).exists()
    assert "cannot make an endpoint for worker 0" in log.text
    endpoint_path(rig.run_dir, 7, 1).rmdir()
    rig.look()
    assert rig.has_endpoint()


def test_a_worker_that_ended_meanwhile_gets_none(rig: Rig, worker: subprocess.Popen[bytes]) -> None:
    rig.pool.expect(0, 7, worker.pid, standby=False)
    worker.kill()
    worker.wait()
    rig.run_dir.mkdir()
    rig.look()
    assert rig.pool.links == []
    assert list(rig.run_dir.iterdir()) == []


@pytest.mark.parametrize("path", [endpoint_path, progress_path])
def test_a_worker_that_will_not_find_what_it_needs_is_ended(
    rig: Rig, worker: subprocess.Popen[bytes], path: Callable[[Path, int, int], Path], log: pytest.LogCaptureFixture
) -> None:
    rig.run_dir.mkdir()
    rig.pool.expect(0, 7, worker.pid, standby=False)
    rig.look()
    assert rig.kills == []
    path(rig.run_dir, 7, 1).unlink()
    rig.look()
    rig.look()
    assert rig.kills == [(7, "its files were removed from the run directory")]
    assert log.text.count(f"killing worker 0 (pid {worker.pid}): its files were removed from the run directory") == 1


def test_a_worker_that_sends_what_is_no_batch_is_ended_by_the_supervisor_and_not_read_any_more(
    rig: Rig,
    worker: subprocess.Popen[bytes],
    peer: zmq.Socket[bytes],
    run_dir: Path,
    log: pytest.LogCaptureFixture,
) -> None:
    """The supervisor can distinguish the process from a later one with the same pid, and knows the reason."""
    rig.pool.expect(0, 7, worker.pid, standby=False)
    link = rig.pool.links[0]
    peer.connect(endpoint(rig.run_dir, 7, 1))
    for _ in range(2):
        peer.send(b"no batch")
    wait_for(lambda: rig.turned() and rig.kills, "the master to complain")
    assert [incarnation for incarnation, _ in rig.kills] == [7]
    assert log.text.count(f"killing worker 0 (pid {worker.pid}): {rig.kills[0][1]}") == 1
    peer.send(b"no batch")
    assert link.wire is not None
    readable = select.poll()
    readable.register(link.wire.descriptor, select.POLLIN)
    assert readable.poll(1000 * PATIENCE_S)
    assert link.receive() is None
    rig.pool.serve(link)
    rig.turned()
    assert worker.poll() is None, "the master sends no signals: the number may be another process's"
    assert len(rig.kills) == 1


def test_a_worker_that_leaves_its_wire_is_ended_unless_it_ends_by_itself(
    rig: Rig, worker: subprocess.Popen[bytes], peer: zmq.Socket[bytes], run_dir: Path
) -> None:
    rig.pool.expect(0, 7, worker.pid, standby=False)
    exit_state = rig.pool._exit_states[7]
    peer.connect(endpoint(rig.run_dir, 7, 1))
    wait_for(lambda: rig.turned() and exit_state.connected_at, "the connection")
    peer.close()
    wait_for(lambda: rig.turned() and exit_state.left_at, "the disconnect")
    assert rig.kills == []
    rig.reactor.pass_time(LEAVE_S + 0.1)
    assert rig.kills == [(7, "it has closed its connection to the master")]
    rig.reactor.pass_time(LEAVE_S + 0.1)
    assert len(rig.kills) == 1


def test_a_replaced_worker_that_has_said_goodbye_may_wait_for_its_threads(
    rig: Rig, worker: subprocess.Popen[bytes], peer: zmq.Socket[bytes], run_dir: Path
) -> None:
    rig.pool.expect(0, 7, worker.pid, standby=False)
    link = rig.pool.links[0]
    link.retiring = True
    peer.connect(endpoint(rig.run_dir, 7, 1))
    writer = BatchWriter()
    writer.add(BYE, 0)
    peer.send(bytes(writer.take(0, 0)[0]))
    wait_for(lambda: rig.turned() and link.drained, "its goodbye to be read")
    peer.close()
    wait_for(lambda: rig.turned() and link.wire is not None and link.wire.ended, "the disconnect")
    rig.reactor.pass_time(LEAVE_S + 0.1)
    assert rig.kills == []


def test_the_last_batch_of_a_dead_worker_is_carried_out_in_several_turns_before_it_is_judged(
    rig: Rig, worker: subprocess.Popen[bytes], peer: zmq.Socket[bytes], run_dir: Path
) -> None:
    """The end of its connection is not waited for: a child that it has forked may hold it open."""
    rig.pool.expect(0, 7, worker.pid, standby=False)
    writer = BatchWriter()
    count = 5 * EVENTS_PER_TURN // 2
    for _ in range(count):
        writer.add_text(PUSH, 77, b"to nobody")
    peer.connect(endpoint(rig.run_dir, 7, 1))
    peer.send_multipart(writer.take(0, 0))
    wait_for(lambda: rig.turned() and rig.reactor.outbound.dropped, "the batch")
    worker.kill()
    steps = [rig.reactor.outbound.dropped]

    def is_buried() -> bool:
        before = rig.reactor.outbound.dropped
        rig.turned()
        steps.append(rig.reactor.outbound.dropped - before)
        return not rig.pool.links

    wait_for(is_buried, "the verdict")
    assert sum(steps) == count
    assert max(steps) == EVENTS_PER_TURN


def test_another_process_cannot_take_a_workers_place(
    rig: Rig, worker: subprocess.Popen[bytes], run_dir: Path, log: pytest.LogCaptureFixture
) -> None:
    rig.pool.expect(0, 7, worker.pid, standby=False)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(endpoint_path(run_dir, 7, 1)))
        rig.turned()
        assert stranger.recv(100) == b""
    assert rig.pool.links[0].wire is None
    assert f"a process (pid {os.getpid()}, user {os.geteuid()}) has connected in place of pid {worker.pid}" in log.text
    assert rig.has_endpoint(), "the worker may still come"


def test_an_endpoint_serves_one_connection(
    rig: Rig, worker: subprocess.Popen[bytes], peer: zmq.Socket[bytes], run_dir: Path
) -> None:
    rig.pool.expect(0, 7, worker.pid, standby=False)
    peer.connect(endpoint(rig.run_dir, 7, 1))
    wait_for(lambda: rig.turned() and rig.pool.links[0].wire, "the connection")
    assert not endpoint_path(run_dir, 7, 1).exists()
    rig.look()
    assert rig.kills == [], "its file is not missed"


@pytest.mark.parametrize("sent", [b"", GREETING[:10], GREETING], ids=["nothing", "a part", "no READY"])
def test_a_worker_that_does_not_finish_the_handshake_is_ended(
    rig: Rig, worker: subprocess.Popen[bytes], peer: zmq.Socket[bytes], run_dir: Path, sent: bytes
) -> None:
    rig.pool.expect(0, 7, worker.pid, standby=False)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(endpoint_path(run_dir, 7, 1)))
        silent.send(sent)
        rig.reactor.pass_time(HANDSHAKE_S - 1.0)
        assert rig.kills == []
        rig.reactor.pass_time(3.0)
        assert rig.kills == [(7, "it has connected to the master and not finished ZeroMQ's handshake")]


def test_a_connection_that_finds_no_descriptor_is_accepted_later(
    rig: Rig,
    worker: subprocess.Popen[bytes],
    peer: zmq.Socket[bytes],
    run_dir: Path,
    log: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    rig.pool.expect(0, 7, worker.pid, standby=False)
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(str(endpoint_path(run_dir, 7, 1)))
        with monkeypatch.context() as full:
            full.setattr(Endpoint, "accept", fail)
            rig.reactor.turn()
        assert log.text.count("cannot accept worker 0's connection, will try again: Too many open files") == 1
        assert rig.pool.links[0].wire is None
        rig.look()
        assert rig.pool.links[0].wire is not None


@pytest.mark.parametrize("standby", [False, True], ids=["active", "on standby"])
def test_clients_are_accepted_when_an_active_worker_has_said_what_the_app_serves(
    worker: subprocess.Popen[bytes], peer: zmq.Socket[bytes], tmp_path: Path, standby: bool
) -> None:
    """A master that was replaced during a reload may hear first from a worker on standby, and refuses no path then."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        Reactor(run_dir=tmp_path, sockets=[listening]) as reactor,
        socket.create_connection(listening.getsockname()),
    ):
        reactor.pool.expect(0, 7, worker.pid, standby)
        peer.connect(endpoint(tmp_path, 7, 1))
        writer = BatchWriter()
        body = msgpack.packb({"callbacks": True, "handlers": [], "handshake": False})
        writer.add_bytes(HELLO, PROTOCOL_VERSION, body)
        peer.send(bytes(writer.take(0, 0)[0]))

        def is_ready() -> bool:
            reactor.turn()
            return ("ready", {"incarnation": 7}) in reactor.told

        wait_for(is_ready, "the hello")
        reactor.turn()
        assert reactor.listener.accepted == (0 if standby else 1)
        reactor.pool.switch([7])
        reactor.turn()
        assert reactor.listener.accepted == 1
        assert reactor.opening.routes.serves("/anything")
