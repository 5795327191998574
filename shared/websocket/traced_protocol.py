"""The protocol, with every frame shown that arrives: for the debug log only, since it reads each header twice."""

from __future__ import annotations

from collections.abc import Callable

from zwoole.shared.websocket.deflate import Inflater
from zwoole.shared.websocket.frames import FrameHeader, read_header
from zwoole.shared.websocket.protocol import Protocol

_NO_LIMIT = (1 << 64) - 1

_HEADER = FrameHeader()  # as in protocol.py


class TracedProtocol(Protocol):
    """See Protocol."""

    __slots__ = ("_trace",)

    def __init__(
        self,
        trace: Callable[[FrameHeader], None],
        max_message: int,
        max_fragments: int,
        inflater: Inflater | None = None,
    ) -> None:
        """Start after the handshake.

        Args:
            trace: called with the header of every frame that was accepted, before its event. The header is valid until
                the next call.
            max_message: see Protocol; likewise the other arguments.
        """
        super().__init__(max_message, max_fragments, inflater)
        self._trace = trace

    def _begin_frame(self) -> int:
        buffer = self._buffer
        start = self._position
        end = self._end
        event = Protocol._begin_frame(self)
        # The position stays if the header or a control frame is incomplete, and after a header that was refused.
        if buffer is not None and self._position > start:
            read_header(_HEADER, buffer, start, end, _NO_LIMIT, True)
            self._trace(_HEADER)
        return event
