"""What `log_level=debug` shows of the master: messages, batches, hand-overs and verdicts, by their ids."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from tests.client_frames import client_frame
from tests.reactor.reactor_parts import Reactor
from zwoole.shared.memory.progress_map import STARTED
from zwoole.shared.websocket.deflate import Inflater
from zwoole.shared.wire.events import PUSH


@pytest.fixture
def reactor(log: pytest.LogCaptureFixture) -> Iterator[Reactor]:
    log.set_level(logging.DEBUG, "zwoole")
    with Reactor() as reactor:
        yield reactor


def lines_of(log: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines of level debug since the last call."""
    lines = [record.getMessage() for record in log.records if record.levelno == logging.DEBUG]
    log.clear()
    return lines


def test_a_message_is_shown_on_its_way_there_and_back(reactor: Reactor, log: pytest.LogCaptureFixture) -> None:
    worker = reactor.worker()
    client = reactor.open_client()
    fd = client.connection.fd
    worker.finish(*worker.take())
    lines_of(log)
    client.send_message(b"secret")
    assert lines_of(log) == [
        f"fd {fd}: frame, opcode 1, 6 bytes",
        f"fd {fd}: message, opcode 1, 6 bytes",
        f"to worker 0 (incarnation 1): batch 1, credit {worker.link.settled}: #1 MESSAGE {fd} (6 bytes of text)",
    ]
    worker.writer.add_text(PUSH, fd, b"answer")
    worker.finish(*worker.take())
    assert lines_of(log) == [
        f"from worker 0 (incarnation 1): batch 1, credit 0: PUSH {fd} (6 bytes of text), ACK 1 (1)",
        f"fd {fd}: 8 bytes sent, 0 queued",
    ]


def test_fragments_are_shown_as_they_come(reactor: Reactor, log: pytest.LogCaptureFixture) -> None:
    worker = reactor.worker()
    client = reactor.open_client()
    worker.finish(*worker.take())
    lines_of(log)
    client.send(client_frame(1, b"one", fin=False))
    client.send(client_frame(0, b"two", fin=False))
    client.send(client_frame(0, b"three"))
    fd = client.connection.fd
    assert [line for line in lines_of(log) if line.startswith(f"fd {fd}")] == [
        f"fd {fd}: frame, opcode 1, 3 bytes, more fragments follow",
        f"fd {fd}: a message that is not complete yet, 3 bytes so far",
        f"fd {fd}: frame, opcode 0, 3 bytes, more fragments follow",
        f"fd {fd}: a message that is not complete yet, 6 bytes so far",
        f"fd {fd}: frame, opcode 0, 5 bytes",
        f"fd {fd}: message, opcode 1, 11 bytes",
    ]


def test_a_compressed_frame_is_shown_as_such(reactor: Reactor, log: pytest.LogCaptureFixture) -> None:
    client = reactor.open_client()
    fd = client.connection.fd
    client.connection.protocol = reactor.opening.new_protocol(client.connection, Inflater(15, False))
    lines_of(log)
    hello = bytes.fromhex("f248cdc9c90700")  # RFC 7692 section 7.2.3.1
    client.send(client_frame(1, hello, reserved=0x40))
    assert lines_of(log)[:2] == [
        f"fd {fd}: frame, opcode 1, 7 bytes, compressed",
        f"fd {fd}: message, opcode 1, 5 bytes",
    ]


@pytest.mark.parametrize(
    ("frame", "line"),
    [
        (client_frame(9, b"abc"), "ping, 3 bytes"),
        (client_frame(10, b""), "pong, 0 bytes"),
        (client_frame(8, b"\x03\xe8bye"), "close, code 1000 'bye'"),
        (b"\x83\x80\0\0\0\0", "violation, code 1002 "),
    ],
)
def test_control_frames_and_violations_are_shown(
    reactor: Reactor, log: pytest.LogCaptureFixture, frame: bytes, line: str
) -> None:
    reactor.worker()
    client = reactor.open_client()
    client.send(frame)
    assert [found for found in lines_of(log) if f"fd {client.connection.fd}: {line}" in found]


def test_a_death_shows_each_event_and_the_verdict_and_the_hand_over(
    reactor: Reactor, log: pytest.LogCaptureFixture
) -> None:
    first = reactor.worker()
    begun, waiting = reactor.open_client(), reactor.open_client()
    first.finish(*first.take())
    for client in (begun, waiting):
        client.send_message(b"message")
    first.link.progress.mark(first.take()[0].sequence, STARTED)
    lines_of(log)
    link = first.link
    verdict = reactor.handover.judge(link)
    ended = "worker 0 (incarnation 1) has ended"
    assert lines_of(log) == [
        f"{ended}: event 2, MESSAGE of fd {begun.connection.fd}, begun",
        f"{ended}: event 3, MESSAGE of fd {waiting.connection.fd}, not begun",
        f"{ended}: sent to the next one: 1 of fd {waiting.connection.fd}; "
        f"closed with 1011: fd {begun.connection.fd}; close runs in the next one: none",
    ]
    link.close()
    reactor.loop.remove_link(link)
    reactor.handover.bury(link, verdict)
    assert f"fd {begun.connection.fd}: ends, code 1011 'the server process died' by the server" in lines_of(log)
    second = reactor.worker(ready=False)
    second.link.ready = True
    reactor.handover.activate(second.link)
    reactor.turn()
    lines = lines_of(log)
    assert f"worker 0 (incarnation 2, pid {os.getpid()}) is active" in lines
    assert f"fd {waiting.connection.fd}: handed over to worker 0 (incarnation 2)" in lines


def test_a_worker_that_has_ended_in_order_is_shown_in_one_line(reactor: Reactor, log: pytest.LogCaptureFixture) -> None:
    worker = reactor.worker()
    reactor.open_client()
    worker.finish(*worker.take())
    lines_of(log)
    reactor.handover.judge(worker.link)
    assert lines_of(log) == ["worker 0 (incarnation 1) has ended, and has finished everything"]


def test_nothing_of_it_is_shown_at_level_info(log: pytest.LogCaptureFixture) -> None:
    with Reactor() as reactor:
        worker = reactor.worker()
        reactor.open_client().send_message(b"message")
        worker.finish(*worker.take())
    assert log.records == []
