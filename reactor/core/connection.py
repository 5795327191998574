"""One client as the master holds it: its socket, its protocol state, its place in the flow, its output queue.

It knows no policy. Reading belongs to inbound.py, the order of messages to router.py, the end to closing.py;
they change the fields below.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from zwoole.reactor.core.output import Output
from zwoole.reactor.core.stages import AFTER, NAMES, STAGE_HANDSHAKE
from zwoole.reactor.core.transport import PLAIN, Transport
from zwoole.shared.websocket.deflate import Deflater
from zwoole.shared.websocket.protocol import Protocol

_AFTER = bytearray(sum(1 << stage for stage in after) for _, after in sorted(AFTER.items()))  # a bit for each stage


class Connection:
    """A client's connection.

    Attributes:
        fd: its public id.
        descriptor: its socket, -1 once closed.
        transport: how bytes come and go.
        output: what waits to be sent.
        stage: one of the constants of stages.py; `enter` changes it.
        remote_addr, remote_port: the peer's address.
        accepted_at: when it was accepted, in monotonic seconds.
        head: the HTTP head as far as it has arrived, in HANDSHAKE.
        protocol: its RFC 6455 state, from OPEN on.
        handler: whether a coroutine handler serves it.
        state: what callbacks keep with it, packed; handed over with it.
        worker: the worker worker it belongs to, from OPEN on.
        owner: the link of the worker that was told of it, and is to be told the rest; None between two workers.
        adopting: whether it stands in its worker's line of those to be handed over.
        replays: how often in a row its messages went to a worker that died before it began them.
        outstanding, outstanding_bytes: events with its worker that have not finished.
        parked: (opcode, data) of messages accepted but not yet sent down, or None.
        parked_bytes: their size.
        unread: bytes read from the socket behind the last parked message, not yet parsed.
        waiting: whether it stands in its worker's line of those that the window stopped.
        interest: the epoll mask it is registered with.
        close_code, close_reason, close_initiator: how it ends, for the `close` callback.
        closed_down: whether the worker was told.
        eof: whether the client sent FIN.
        half_closed: whether we did.
        deflater: compresses its messages if permessage-deflate was agreed on, else None.
        rereading: whether it stands in the loop's line of those to be looked at again.
        dirty: whether it stands in the line to be flushed at the end of the turn.
        heard: when it last gave a sign of life, on the loop's clock.
        pinged: when it was last pinged.
        late_pong: the pong that waits until the client has caught up, or b"".
        throttled: whether it is not read because it sent more than a rate allows.
        message_bucket, byte_bucket, control_bucket: when these will be full again.
        partial: bytes of a message that is not whole, as the account of all connections has them.
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
        # What it may send, and whether it is there.
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
        """Go on to another stage.

        Raises:
            RuntimeError: the stage cannot follow this one (`stages.AFTER`), which is a fault of the caller.
        """
        if not _AFTER[self.stage] >> stage & 1:
            raise RuntimeError(f"connection {self.fd} cannot go from {NAMES[self.stage]} to {NAMES[stage]}")
        self.stage = stage
