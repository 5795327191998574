"""What the tests of a connection's end share."""

from __future__ import annotations

from typing import Any

from tests.client_frames import client_frame
from tests.reactor.reactor_parts import Client, Reactor, Worker
from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.connection_stages import STAGE_GONE
from zwoole.shared.websocket.frames import build_frame
from zwoole.shared.wire.events import CLOSE, PUSH

CLOSE_TIMEOUT = 7.0


def violate(client: Client) -> None:
    client.send(client_frame(3, b"an opcode that does not exist"))


def close_frame(code: int, reason: str = "") -> bytes:
    return build_frame(8, code.to_bytes(2, "big") + reason.encode())


def told(worker: Worker) -> list[Any]:
    """Return the only close that the worker was told of, which must be the last event."""
    worker.take()
    assert [event.kind for event in worker.received].count(CLOSE) == 1
    assert worker.received[-1].kind == CLOSE
    return worker.end_of(worker.received[-1])


def not_told(worker: Worker) -> bool:
    worker.take()
    return all(event.kind != CLOSE for event in worker.received)


def push(worker: Worker, connection: Connection, payload: bytes) -> None:
    worker.writer.add_bytes(PUSH, connection.fd, payload)


def is_gone(reactor: Reactor, connection: Connection) -> bool:
    return (
        connection.stage == STAGE_GONE
        and connection.descriptor == -1
        and reactor.registry.find(connection.fd) is None
        and reactor.table.state(connection.fd) == 0
        and len(reactor.registry) == 0
    )
