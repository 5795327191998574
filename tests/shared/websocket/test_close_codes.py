"""Which close codes may be sent."""

from __future__ import annotations

from typing import Any

import pytest
from websockets.exceptions import ProtocolError
from websockets.frames import Close

from zwoole.shared.websocket import close_codes
from zwoole.shared.websocket.close_codes import check_close, is_sendable


def accepted_by_websockets(code: int) -> bool:
    try:
        Close(code, "").check()
    except ProtocolError:
        return False
    return True


def test_the_registered_and_the_free_codes_may_be_sent_and_no_other() -> None:
    registered = {1000, 1001, 1002, 1003, *range(1007, 1015)}
    assert {code for code in range(65536) if is_sendable(code)} == registered | set(range(3000, 5000))


def test_an_independent_library_accepts_the_same_codes() -> None:
    assert [is_sendable(code) for code in range(5001)] == [accepted_by_websockets(code) for code in range(5001)]


@pytest.mark.parametrize("code", [close_codes.CLOSE_NO_STATUS, close_codes.CLOSE_ABNORMAL])
def test_codes_that_only_describe_an_end_are_never_sent(code: int) -> None:
    assert not is_sendable(code)


def test_a_reason_and_its_code_fill_a_control_frame() -> None:
    assert close_codes.MAX_REASON_BYTES + 2 == 125


@pytest.mark.parametrize(
    ("code", "reason", "error", "words"),
    [
        (1005, "", ValueError, "1005 is no close code that may be sent: take 1000, 1001, 1008, 1011 or 3000-4999"),
        ("1000", "", ValueError, "'1000' is no close code that may be sent"),
        (1000, b"bytes", TypeError, "reason must be a str, not bytes"),
        (1000, "\u00e9" * 62, ValueError, "a reason has at most 123 bytes"),
    ],
)
def test_what_a_close_frame_cannot_carry_is_said(code: Any, reason: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=f"^{words}"):
        check_close(code, reason)
    check_close(1000, "\u00e9" * 61 + "e")
