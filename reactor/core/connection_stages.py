"""The stages of a connection's life, and which stages may follow each.

    HANDSHAKE ──> OPEN ──> ENDING ──> LINGERING ──> GONE
                    └────> CLOSING ──────┘

A refused client goes from HANDSHAKE to LINGERING. From any stage, a connection can become GONE at once: if its socket
breaks or its time is up. Only `Connection.enter` changes the stage, and it enforces AFTER.
"""

from __future__ import annotations

STAGE_HANDSHAKE = 0  # its HTTP head is arriving, or a worker decides whether the client may connect
STAGE_OPEN = 1  # messages go both ways
STAGE_ENDING = 2  # nothing more is read; when the accepted messages are finished, our close frame is sent
STAGE_CLOSING = 3  # our close frame is queued; the client's is awaited
STAGE_LINGERING = 4  # no close frame is awaited any more: output leaves, then FIN, and the client is to close TCP
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
