"""The messages of the control socket, between the supervisor and all others: rare, small, each a msgpack map.

Supervisor to master: worker {worker_id, incarnation, pid, standby}, switch {incarnations}, worker_num {number},
stop {seconds, spread}, query {id, what, ...}, reopen_log {}.
Supervisor to worker: masters {incarnations}, retire {}, end {}, stop {}, reopen_log {}.
Master to supervisor: hello {role}, ready {incarnation}, served {incarnation}, kill {incarnation, why}, stopped {},
answer {id, result}.
Worker to supervisor: hello {role, debugged, changed}, recycle {reason, why}.
The zwoole command to the supervisor: request {id, what, ...}; back: answer {id, result} or answer {id, error}.

The parts of the supervisor that act on a request or report say which fields it may have: `requests()`, `reports()`.
"""

from __future__ import annotations

from typing import Any

import msgpack

NO_MASTER = 0  # in `incarnations` of `masters`: a master that does not know the worker and never will
MAX_MESSAGE_BYTES = 1 << 20
LONGEST_DRAIN_S = 86400
MAX_LISTED = 2000  # connections of one master in an answer, so that the answer fits a message


class ControlError(Exception):
    """A control message that is malformed or too long."""


def pack(kind: str, **fields: Any) -> bytes:
    """Return an encoded message of that type."""
    packed: bytes = msgpack.packb({"type": kind, **fields})
    return packed


def unpack(data: bytes) -> dict[str, Any]:
    """Decode a message.

    Returns:
        The message's fields; "type" is its type.

    Raises:
        ControlError: the bytes are not a message, or more than MAX_MESSAGE_BYTES.
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
