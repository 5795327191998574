"""One client's connection in the master: socket, protocol state, flow control, output queue.

It is data without policy. clients/inbound.py reads it, routing/router.py keeps its messages in order,
clients/closing.py ends it; they change the fields below.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from zwoole.reactor.core.connection_stages import AFTER, NAMES, STAGE_HANDSHAKE
from zwoole.reactor.core.output import Output
from zwoole.reactor.core.transport import PLAIN, Transport
from zwoole.shared.websocket.deflate import Deflater
from zwoole.shared.websocket.protocol import Protocol

_AFTER = bytearray(sum(1 << stage for stage in after) for _, after in sorted(AFTER.items()))  # stages as sets of bits


class Connection:
    """A client's connection.

    Attributes:
        fd: its public id.
        descriptor: the descriptor of its socket; -1 once the socket is closed.
        transport: reads and writes its socket.
        output: its output queue.
        stage: one of the constants of connection_stages.py; only `enter` changes it.
        remote_addr, remote_port: the client's address.
        accepted_at: when it was accepted, in seconds of the monotonic clock.
        head: in HANDSHAKE, the part of the HTTP head that has arrived; None otherwise.
        protocol: its RFC 6455 state; None before OPEN.
        record: the request, packed for workers; b"" before the handshake's head is complete.
        handler: whether a coroutine handler serves it.
        state: the app's `Request.state`, packed; handed over with the connection.
        worker: the Worker it belongs to; None before a worker is chosen.
        owner: the WorkerLink whose process has heard of it and gets its events; None between two incarnations.
        adopting: whether it is in its worker's queue of connections to be handed over.
        replays: how many workers in a row died before they began its messages.
        outstanding: events that were sent to its owner and have not finished.
        outstanding_bytes: the size of their payloads.
        parked: (event, data) of the messages that were accepted and not yet sent down, in order; None if there are
            none.
        parked_bytes: the size of their data.
        unread: bytes that were read from the socket and not yet parsed, because the connection had to wait.
        waiting: whether it is in its owner's queue of connections that the worker's window has stopped.
        interest: the epoll mask it is registered with.
        close_code, close_reason, close_initiator: how it ends, for the `close` callback.
        closed_down: whether the master is done telling workers of it: `close` is sent or queued, or will never be sent.
        eof: whether the client sent FIN.
        half_closed: whether the master sent FIN.
        deflater: compresses its messages if permessage-deflate was agreed on, else None.
        rereading: whether it is in the loop's queue of connections with data that was read earlier.
        dirty: whether it is in the loop's queue of connections to be flushed at the end of the turn.
        heard: when the client last gave a sign of life, in seconds of the loop's clock.
        pinged: when it was last pinged, likewise.
        late_pong: the pong that is held until the client has read its output, or b"".
        throttled: whether it is not read because its client exceeded a rate.
        message_bucket, byte_bucket, control_bucket: when each token bucket will be full again, on the loop's clock.
        partial: bytes of its incomplete message that are counted in `Limits.partial_bytes`.
    """

    __slots__ = (
        "accepted_at",
        "adopting",
        "byte_bucket",
        "close_code",
        "close_initiator",
        "close_reason",
        "closed_down",
        "control_bucket",
        "deflater",
        "descriptor",
        "dirty",
        "eof",
        "fd",
        "half_closed",
        "handler",
        "head",
        "heard",
        "interest",
        "late_pong",
        "message_bucket",
        "output",
        "outstanding",
        "outstanding_bytes",
        "owner",
        "parked",
        "parked_bytes",
        "partial",
        "pinged",
        "protocol",
        "record",
        "remote_addr",
        "remote_port",
        "replays",
        "rereading",
        "stage",
        "state",
        "throttled",
        "transport",
        "unread",
        "waiting",
        "worker",
    )

    def __init__(self, fd: int, descriptor: int, remote_addr: str, remote_port: int) -> None:
        self.fd = fd
        self.descriptor = descriptor
        self.remote_addr = remote_addr
        self.remote_port = remote_port
        self.accepted_at = time.monotonic()
        self.stage = STAGE_HANDSHAKE
        self.transport: Transport = PLAIN
        self.output = Output()
        self.head: bytearray | None = None
        self.protocol: Protocol | None = None
        self.record = b""
        self.handler = False
        # Way down.
        self.state = b""
        self.worker: Any = None  # a Worker, which this module does not know
        self.owner: Any = None  # a WorkerLink
        self.adopting = False
        self.replays = 0
        self.outstanding = 0
        self.outstanding_bytes = 0
        self.parked: deque[tuple[int, bytes]] | None = None
        self.parked_bytes = 0
        self.unread = b""
        self.waiting = False
        self.interest = 0
        # Rates and signs of life.
        self.heard = 0.0
        self.pinged = 0.0
        self.late_pong = b""
        self.throttled = False
        self.message_bucket = 0.0
        self.byte_bucket = 0.0
        self.control_bucket = 0.0
        self.partial = 0
        # The end.
        self.close_code = 0
        self.close_reason = ""
        self.close_initiator = ""
        self.closed_down = False
        self.eof = False
        self.half_closed = False
        # Way out.
        self.dirty = False
        self.deflater: Deflater | None = None
        self.rereading = False

    def enter(self, stage: int) -> None:
        """Change the stage.

        Raises:
            RuntimeError: the new stage cannot follow the present one (`connection_stages.AFTER`); the caller has a bug.
        """
        if not _AFTER[self.stage] >> stage & 1:
            raise RuntimeError(f"connection {self.fd} cannot go from {NAMES[self.stage]} to {NAMES[stage]}")
        self.stage = stage
