"""Messages between the supervisor and everybody else: rare, small, one msgpack map each, over its ROUTER socket.

Supervisor to master: worker {slot, incarnation, pid, standby}, switch {incarnations}, places {number},
stop {seconds, spread}, query {id, what, ...}, reopen_log {}.
Supervisor to worker: masters {epochs}, retire {}, end {}, stop {}, reopen_log {}.
Master to supervisor: hello {role}, ready {incarnation}, served {incarnation}, kill {incarnation, why}, stopped {},
answer {id, result}.
Worker to supervisor: hello {role, debugged, changed}, recycle {reason, why}.
The zwoole command to the supervisor: request {id, what, ...}; back: answer {id, result} or answer {id, error}.

What a request's fields may be is in supervisor/control_server.py:REQUESTS.
"""

from __future__ import annotations

from typing import Any

import msgpack

NO_MASTER = 0  # among the epochs of `masters`: a master that does not know the worker, and will never welcome it
MAX_MESSAGE_BYTES = 1 << 20
LONGEST_DRAIN_S = 86400
MAX_LISTED = 2000  # connections of one master in an answer, so that it fits a message


class ControlError(Exception):
    """A message that is not what this page says."""


def pack(kind: str, **fields: Any) -> bytes:
    """Return a message."""
    packed: bytes = msgpack.packb({"type": kind, **fields})
    return packed


def unpack(data: bytes) -> dict[str, Any]:
    """Return a message's fields; "type" says which it is.

    Raises:
        ControlError: it is no message.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise ControlError(f"a control message of {len(data)} bytes")
    try:
        message = msgpack.unpackb(data)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise ControlError(f"not a control message: {error}") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ControlError("not a control message: no type")
    return message
