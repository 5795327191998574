"""What a `handshake` callback may answer."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from zwoole.shared.answers import Accept, Refuse, answer_of, unpack_accept, unpack_refuse


@pytest.mark.parametrize("result", [None, True])
def test_nothing_and_true_accept(result: object) -> None:
    answer = answer_of(result)
    assert isinstance(answer, Accept)
    assert unpack_accept(answer.pack()) == (None, [])


def test_false_refuses() -> None:
    answer = answer_of(False)
    assert isinstance(answer, Refuse)
    assert unpack_refuse(answer.pack()) == (403, "refused", [])


@pytest.mark.parametrize("headers", [{"Set-Cookie": "a=1"}, [("Set-Cookie", "a=1")], (("Set-Cookie", "a=1"),)])
def test_an_answer_arrives_as_it_was_given(headers: Any) -> None:
    accept, refuse = Accept(headers, "chat"), Refuse(401, "who are you?", headers)
    assert answer_of(accept) is accept
    assert unpack_accept(accept.pack()) == ("chat", [("Set-Cookie", "a=1")])
    assert unpack_refuse(refuse.pack()) == (401, "who are you?", [("Set-Cookie", "a=1")])


@pytest.mark.parametrize("result", [0, 1, "yes", 403, {"status": 403}])
def test_any_other_result_is_an_error(result: object) -> None:
    with pytest.raises(TypeError, match="returns True, False"):
        answer_of(result)


@pytest.mark.parametrize("status", [0, 101, 200, 299, 304, 600, "no", None, 403.0])
def test_a_status_that_refuses_nothing_is_an_error(status: Any) -> None:
    with pytest.raises(ValueError, match=f"from 300 to 599, other than 304, not {status!r}"):
        Refuse(status)


def test_headers_are_text() -> None:
    with pytest.raises(TypeError):
        Accept({"X-Number": 1})  # type: ignore[dict-item]


@pytest.mark.parametrize("packed", [b"", b"\xc1", msgpack.packb(None), msgpack.packb([1]), msgpack.packb(["a", 1, 2])])
def test_what_is_no_answer_is_said_so(packed: bytes) -> None:
    for unpack in (unpack_accept, unpack_refuse):
        with pytest.raises(ValueError):
            unpack(packed)


@pytest.mark.parametrize("status", [200, 600, -1, float("inf"), "403", None])
def test_a_refusal_has_a_status_of_one(status: object) -> None:
    with pytest.raises(ValueError):
        unpack_refuse(msgpack.packb([status, "", []]))
