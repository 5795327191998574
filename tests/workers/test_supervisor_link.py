"""The worker's end of the control socket."""

from __future__ import annotations

import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from tests.process.waiting import PATIENCE_S, wait_for
from zwoole.shared.process import control_messages
from zwoole.shared.process.control_messages import ControlError
from zwoole.shared.process.run_files import control_address
from zwoole.workers.supervisor_link import SupervisorLink

Ends = tuple[SupervisorLink, "zmq.Socket[bytes]"]


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.RCVTIMEO, int(1000 * PATIENCE_S))
    router.bind(control_address(tmp_path))
    link = SupervisorLink(context, tmp_path, 7)
    yield link, router
    link.close()
    router.close(linger=0)
    context.term()


def told(link: SupervisorLink) -> dict[str, Any] | None:
    """Return the next message, as if the descriptor had reported one."""
    link.readable = True
    return link.receive()


def test_a_message_is_looked_for_only_if_the_descriptor_reports_one_or_something_was_sent(ends: Ends) -> None:
    link, router = ends
    link.say_hello(False, [])
    identity, _ = router.recv_multipart()
    assert link.readable
    assert link.receive() is None
    assert not link.readable
    router.send_multipart([identity, control_messages.pack("retire")])
    descriptor = select.poll()
    descriptor.register(link.descriptor, select.POLLIN)
    assert descriptor.poll(1000 * PATIENCE_S)
    assert link.receive() is None
    assert wait_for(lambda: told(link), "the message") == {"type": "retire"}
    link.ask_for_successor("max_request", "it has run 5 events")
    assert link.readable


def test_a_worker_says_hello_and_asks_for_a_successor_under_its_incarnation(ends: Ends) -> None:
    link, router = ends
    link.say_hello(False, ["port"])
    link.ask_for_successor("max_request", "it has run 5 events")
    for fields in (
        {"type": "hello", "role": "worker", "debugged": False, "changed": ["port"]},
        {"type": "recycle", "reason": "max_request", "why": "it has run 5 events"},
    ):
        identity, body = router.recv_multipart()
        assert identity == b"worker-7"
        assert control_messages.unpack(body) == fields


def test_messages_come_one_by_one_and_malformed_ones_raise(ends: Ends) -> None:
    link, router = ends
    assert link.receive() is None
    link.say_hello(False, [])
    identity, _ = router.recv_multipart()
    router.send_multipart([identity, control_messages.pack("retire")])
    router.send_multipart([identity, b"malformed"])
    assert wait_for(lambda: told(link), "a message") == {"type": "retire"}
    with pytest.raises(ControlError):
        wait_for(lambda: told(link), "a message")
