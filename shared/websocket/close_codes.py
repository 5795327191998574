"""Close codes of RFC 6455 section 7.4 and the IANA registry, and which of them may be sent."""

from __future__ import annotations

CLOSE_NORMAL = 1000
CLOSE_GOING_AWAY = 1001
CLOSE_PROTOCOL_ERROR = 1002
CLOSE_NO_STATUS = 1005
CLOSE_ABNORMAL = 1006
CLOSE_INVALID_DATA = 1007
CLOSE_POLICY_VIOLATION = 1008
CLOSE_MESSAGE_TOO_BIG = 1009
CLOSE_INTERNAL_ERROR = 1011
CLOSE_SERVICE_RESTART = 1012
CLOSE_TRY_AGAIN_LATER = 1013

# 1004, 1005, 1006 and 1015 are reserved and never sent (RFC 6455 section 7.4.1).
_REGISTERED = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})

MAX_REASON_BYTES = 123  # a control frame carries 125 bytes, two of them the code (RFC 6455 section 5.5)


def is_sendable(code: int) -> bool:
    """Return whether a close frame may carry `code`: registered codes, and 3000-4999 (RFC 6455 section 7.4.2)."""
    return code in _REGISTERED or 3000 <= code <= 4999


def check_close(code: int, reason: str) -> None:
    """Check a close code and reason before they are sent.

    Raises:
        ValueError: a close frame cannot carry them (RFC 6455 sections 5.5 and 7.4).
        TypeError: the reason is not a `str`.
    """
    if not isinstance(code, int) or not is_sendable(code):
        raise ValueError(f"{code!r} is no close code that may be sent: take 1000, 1001, 1008, 1011 or 3000-4999")
    if not isinstance(reason, str):
        raise TypeError(f"reason must be a str, not {type(reason).__name__}")
    if len(reason.encode()) > MAX_REASON_BYTES:
        raise ValueError(f"a reason has at most {MAX_REASON_BYTES} bytes")
