"""Requests to the supervisor."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from tests.process.waiting import PATIENCE_S
from zwoole import Control, control_client
from zwoole.control_client import ControlFailed, request
from zwoole.shared.process import control_messages
from zwoole.shared.process.run_files import control_address
from zwoole.supervisor.system.run_directory import RunDirectory

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(kind=st.text(), fields=st.dictionaries(st.text().filter(lambda name: name not in ("type", "kind")), VALUES))
def test_a_message_comes_back_as_it_was_packed(kind: str, fields: dict[str, Any]) -> None:
    assert control_messages.unpack(control_messages.pack(kind, **fields)) == {"type": kind, **fields}


@given(st.binary(max_size=100))
def test_whatever_arrives_is_a_message_or_a_control_error(data: bytes) -> None:
    try:
        assert isinstance(control_messages.unpack(data)["type"], str)
    except control_messages.ControlError:
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x91" * 5000,
        msgpack.packb([]),
        msgpack.packb({"type": 5}),
        msgpack.packb({"kind": "stop"}),
        msgpack.packb({"type": "stop"}) + b"\0",
        control_messages.pack("stop", data=b"x" * control_messages.MAX_MESSAGE_BYTES),
    ],
)
def test_what_is_no_message_is_an_error(data: bytes) -> None:
    with pytest.raises(control_messages.ControlError):
        control_messages.unpack(data)


class Supervisor:
    """Answers one request, or does something else instead."""

    def __init__(self, run_dir: Path, instead: Callable[[], None] | None = None, **answer: Any) -> None:
        self.asked: list[dict[str, Any]] = []
        self._instead = instead
        self._answer = answer
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 500)
        self._socket.bind(control_address(run_dir))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        if self._socket.poll(60_000):
            sender, message = self._socket.recv_multipart()
            self.asked.append(control_messages.unpack(message))
            if self._instead is not None:
                self._instead()
                return
            self._socket.send_multipart([sender, control_messages.pack("answer", id=1, **self._answer)])

    def close(self) -> None:
        self._thread.join()
        self._socket.close()
        self._context.term()


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunDirectory]:
    """Hold a run directory as a running server does."""
    held = RunDirectory(tmp_path_factory.mktemp("r"))
    yield held
    if held.path.exists():
        held.remove()


@pytest.fixture
def run_dir(directory: RunDirectory) -> Path:
    return directory.path


def test_a_request_is_answered(run_dir: Path) -> None:
    supervisor = Supervisor(run_dir, result={"pid": 5})
    assert request(run_dir, "status", timeout_s=60, more=1) == {"pid": 5}
    supervisor.close()
    assert supervisor.asked == [{"type": "request", "id": 1, "what": "status", "more": 1}]


def test_an_error_is_said(run_dir: Path) -> None:
    supervisor = Supervisor(run_dir, error="unknown request 'x'")
    with pytest.raises(ControlFailed, match="unknown request"):
        request(run_dir, "x", timeout_s=60)
    supervisor.close()


@pytest.mark.parametrize("value", [1 << 80, "\udcff", object()])
def test_what_cannot_be_packed_is_said(run_dir: Path, value: Any) -> None:
    with pytest.raises(ControlFailed, match="this cannot be sent to a server: "):
        request(run_dir, "push", data=value)


def test_no_answer_is_said_in_time(run_dir: Path) -> None:
    with pytest.raises(ControlFailed, match="did not answer"):
        request(run_dir, "status", timeout_s=0.05)


ENDED = "the server in {} has ended before it answered"
METHODS: dict[str, Callable[[Control], object]] = {
    "status": lambda control: control.status(),
    "reload": lambda control: control.reload(),
    "workers": lambda control: control.workers(by=1),
    "stop": lambda control: control.stop(),
    "connections": lambda control: control.connections(),
    "kick": lambda control: control.kick(1),
    "push": lambda control: control.push(1, "x"),
    "broadcast": lambda control: control.broadcast("x"),
}
methods = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def ask(method: Callable[[Control], object], run_dir: Path) -> tuple[str, int]:
    """Ask a server that does not do as asked; return the message and the exit code."""
    server = Control(run_dir)
    with pytest.raises(ControlFailed) as caught:
        method(server)
    return str(caught.value), caught.value.exit_code


@methods
@pytest.mark.parametrize(
    ("left", "said", "exit_code"),
    [(0, "", 1), (None, "", 1), (3, ", with exit code 3; its log says why", 3)],
    ids=["in order", "killed", "failed"],
)
def test_the_end_of_the_server_ends_the_wait_for_its_answer(
    directory: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    method: Callable[[Control], object],
    left: int | None,
    said: str,
    exit_code: int,
) -> None:
    """Otherwise a reload would wait for two minutes."""

    def end() -> None:
        if left is not None:
            directory.note_end(left)
        directory.remove()

    monkeypatch.setattr(control_client, "TIMEOUT_S", PATIENCE_S)
    supervisor = Supervisor(directory.path, end)
    assert ask(method, directory.path) == (ENDED.format(directory.path) + said, exit_code)
    supervisor.close()


def test_the_last_word_of_a_server_is_heard(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to `stop` may arrive together with the end."""

    class End(control_client.End):
        """The end, which has come by the time of the first check after the request."""

        looks = 0

        def has_come(self) -> bool:
            self.looks += 1
            if self.looks == 2:
                supervisor.close()
                directory.remove()
            return super().has_come()

    monkeypatch.setattr(control_client, "End", End)
    supervisor = Supervisor(directory.path, result="the last word")
    assert request(directory.path, "stop", timeout_s=PATIENCE_S) == "the last word"


@methods
def test_a_server_that_has_ended_before_it_is_asked_is_said(
    directory: RunDirectory, method: Callable[[Control], object]
) -> None:
    def asked_too_late(server: Control) -> object:
        directory.remove()
        return method(server)

    assert ask(asked_too_late, directory.path) == (f"no server is running in {directory.path}", 1)


@methods
def test_an_error_of_the_server_is_raised(run_dir: Path, method: Callable[[Control], object]) -> None:
    supervisor = Supervisor(run_dir, error="why not")
    assert ask(method, run_dir) == ("why not", 1)
    supervisor.close()


@methods
def test_an_answer_without_a_result_is_said(run_dir: Path, method: Callable[[Control], object]) -> None:
    """As a server of another version might send it."""
    supervisor = Supervisor(run_dir)
    said = f"the answer of the server in {run_dir} could not be understood: it has no result"
    assert ask(method, run_dir) == (said, 1)
    supervisor.close()


@pytest.mark.parametrize("result", [None, {}, {"workers": "x", "pid": None}], ids=str)
@pytest.mark.parametrize(
    ("name", "field"),
    [
        *(("reload", "workers"), ("workers", "worker_num"), ("stop", "pid")),
        *((name, "clients") for name in ("kick", "push", "broadcast")),
    ],
)
def test_an_answer_without_its_number_is_said(run_dir: Path, name: str, field: str, result: Any) -> None:
    supervisor = Supervisor(run_dir, result=result)
    said = f"the answer of the server in {run_dir} could not be understood: it has no {field}"
    assert ask(METHODS[name], run_dir) == (said, 1)
    supervisor.close()


@methods
def test_a_path_that_is_too_long_for_a_socket_is_said(
    run_dir: Path, tmp_path: Path, method: Callable[[Control], object]
) -> None:
    """A link to the run directory may have any name."""
    link = tmp_path / ("x" * 150)
    link.symlink_to(run_dir)
    assert ask(method, link) == (f"the server in {link} cannot be asked: File name too long", 1)


@methods
def test_a_path_that_is_not_utf_8_is_said(run_dir: Path, tmp_path: Path, method: Callable[[Control], object]) -> None:
    link = tmp_path / "\udcff"
    link.symlink_to(run_dir)
    assert ask(method, link) == (f"the run directory's path must be UTF-8, not '{tmp_path}/\\udcff'", 1)


@pytest.mark.parametrize("name", ["push", "kick", "broadcast", "workers", "connections", "stop"])
def test_a_value_that_cannot_be_sent_is_said(run_dir: Path, name: str) -> None:
    with pytest.raises(ControlFailed, match="this cannot be sent to a server: ") as caught:
        call(Control(run_dir), name, 1 << 80)
    assert caught.value.exit_code == 1


def call(server: Control, name: str, value: Any) -> object:
    return server.push(1, value) if name == "push" else getattr(server, name)(value)
