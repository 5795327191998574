"""The messages between supervisor and everybody else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from zwoole.control_client import ControlFailed, request
from zwoole.shared import control
from zwoole.shared.rundir import control_address

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(kind=st.text(), fields=st.dictionaries(st.text().filter(lambda name: name not in ("type", "kind")), VALUES))
def test_a_message_comes_back_as_it_was_packed(kind: str, fields: dict[str, Any]) -> None:
    assert control.unpack(control.pack(kind, **fields)) == {"type": kind, **fields}


@given(st.binary(max_size=100))
def test_whatever_arrives_is_a_message_or_a_control_error(data: bytes) -> None:
    try:
        assert isinstance(control.unpack(data)["type"], str)
    except control.ControlError:
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
        control.pack("stop", data=b"x" * control.MAX_MESSAGE_BYTES),
    ],
)
def test_what_is_no_message_is_an_error(data: bytes) -> None:
    with pytest.raises(control.ControlError):
        control.unpack(data)


class Supervisor:
    """Answers one request."""

    def __init__(self, run_dir: Path, **answer: Any) -> None:
        self.asked: list[dict[str, Any]] = []
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
            self.asked.append(control.unpack(message))
            self._socket.send_multipart([sender, control.pack("answer", id=1, **self._answer)])

    def close(self) -> None:
        self._thread.join()
        self._socket.close()
        self._context.term()


@pytest.fixture
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("r")


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
