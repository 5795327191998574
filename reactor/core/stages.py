"""The stages of a connection's life, and which of them may follow which.

    HANDSHAKE ──> OPEN ──> ENDING ──> LINGERING ──> GONE
                    └────> CLOSING ──────┘

A refused client goes from HANDSHAKE to LINGERING. A connection whose socket breaks, or whose time is up, is GONE at
once, from whichever stage. `Connection.enter` is the only code that changes the stage, and it obeys AFTER.
"""

from __future__ import annotations

STAGE_HANDSHAKE = 0  # its HTTP head is arriving, or its worker is asked whether it may connect
STAGE_OPEN = 1  # messages go both ways
STAGE_ENDING = 2  # no more messages will be read; those accepted are being finished before the close frame goes out
STAGE_CLOSING = 3  # our close frame is queued; the peer's is awaited
STAGE_LINGERING = 4  # both close frames are through (or none will be): half-closed, waiting for the peer to go
STAGE_GONE = 5  # the socket is closed

NAMES = ("handshake", "open", "ending", "closing", "lingering", "gone")

AFTER = {
    STAGE_HANDSHAKE: (STAGE_OPEN, STAGE_LINGERING, STAGE_GONE),
    STAGE_OPEN: (STAGE_ENDING, STAGE_CLOSING, STAGE_GONE),
    STAGE_ENDING: (STAGE_LINGERING, STAGE_GONE),
    STAGE_CLOSING: (STAGE_LINGERING, STAGE_GONE),
    STAGE_LINGERING: (STAGE_GONE,),
    STAGE_GONE: (),
}
