"""Which close codes may be sent."""

from __future__ import annotations

import pytest
from websockets.exceptions import ProtocolError
from websockets.frames import Close

from zwoole.shared.websocket import close_codes
from zwoole.shared.websocket.close_codes import is_sendable


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
