"""The request as callbacks see it: headers, cookies, targets, and the packed record."""

from __future__ import annotations

import contextlib
import copy
import pickle
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zwoole.shared.request import (
    Headers,
    Request,
    list_elements,
    pack_request,
    parse_cookies,
    path_only,
    request_of,
    split_target,
    unpack_request,
)

# What a browser sends.
BROWSER_HEADERS = [
    (b"Host", b"chat.example.com:8080"),
    (b"Connection", b"Upgrade"),
    (b"Pragma", b"no-cache"),
    (b"Cache-Control", b"no-cache"),
    (b"User-Agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0"),
    (b"Upgrade", b"websocket"),
    (b"Origin", b"https://chat.example.com"),
    (b"Sec-WebSocket-Version", b"13"),
    (b"Accept-Encoding", b"gzip, deflate, br, zstd"),
    (b"Accept-Language", b"en-US,en;q=0.9"),
    (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    (b"Sec-WebSocket-Extensions", b"permessage-deflate; client_max_window_bits"),
]

field_names = st.text("!#$%&'*+-.^_`|~0123456789ABCXYZabcxyz", min_size=1, max_size=20).map(str.encode)
field_values = st.binary(max_size=60)


def reopened(target: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> Request:
    return unpack_request(7, pack_request(target, headers or [], "192.0.2.1", 40000, None))


class TestHeaders:
    def test_names_ignore_case(self) -> None:
        headers = Headers([("X-Room", "7")])
        assert headers["x-room"] == headers["X-ROOM"] == "7"
        assert "x-rOOm" in headers

    def test_a_missing_name(self) -> None:
        headers = Headers()
        assert "Host" not in headers
        assert headers.get("Host") is None
        assert headers.get_all("Host") == []
        with pytest.raises(KeyError):
            headers["Host"]

    def test_only_text_is_a_name(self) -> None:
        number: object = 1
        assert number not in Headers([("1", "one")])

    def test_repeated_fields_are_joined_with_a_comma(self) -> None:
        headers = Headers([("Via", "a"), ("X", "-"), ("via", "b, c")])
        assert headers["Via"] == "a, b, c"
        assert headers.get_all("VIA") == ["a", "b, c"]

    def test_repeated_cookies_are_joined_with_a_semicolon(self) -> None:
        headers = Headers([("Cookie", "a=1"), ("cookie", "b=2")])
        assert headers["Cookie"] == "a=1; b=2"

    def test_iteration_gives_each_name_once_as_first_spelled(self) -> None:
        headers = Headers([("x-B", "1"), ("A", "2"), ("X-b", "3")])
        assert list(headers) == ["x-B", "A"]
        assert len(headers) == 2
        assert dict(headers) == {"x-B": "1, 3", "A": "2"}

    def test_get_all_gives_a_list_of_its_own(self) -> None:
        headers = Headers([("A", "1")])
        headers.get_all("A").append("2")
        assert headers.get_all("A") == ["1"]

    def test_equality_ignores_the_case_of_names(self) -> None:
        assert Headers([("Host", "a")]) == Headers([("host", "a")]) == {"HOST": "a"}
        assert Headers([("Host", "a")]) != Headers([("Host", "A")])
        assert Headers() != []
        with pytest.raises(TypeError):
            hash(Headers())

    def test_read_only(self) -> None:
        headers: Any = Headers([("A", "1")])
        with pytest.raises(TypeError):
            headers["A"] = "2"

    def test_repr(self) -> None:
        assert repr(Headers([("Host", "a"), ("X", "1"), ("x", "2")])) == "Headers({'Host': 'a', 'X': '1, 2'})"


class TestTarget:
    @pytest.mark.parametrize(
        ("target", "path", "query"),
        [
            ("/", "/", ""),
            ("/chat", "/chat", ""),
            ("/chat?", "/chat", ""),
            ("/chat?a=1?b", "/chat", "a=1?b"),
            ("/?next=http://h/x", "/", "next=http://h/x"),
            ("//two", "//two", ""),
            ("/a://b", "/a://b", ""),
            ("ws://host/chat?a=1", "/chat", "a=1"),
            ("ws://host:80", "/", ""),
            ("http://host?a=/b", "/", "a=/b"),
            ("wss://user@[::1]:8/x://y", "/x://y", ""),
            ("*", "*", ""),
            ("", "", ""),
        ],
    )
    def test_split(self, target: str, path: str, query: str) -> None:
        assert split_target(target) == (path, query)

    @pytest.mark.parametrize(
        ("target", "path"),
        [
            (b"/a%20b", "/a b"),
            (b"/caf%C3%A9", "/café"),
            (b"/%2Fa", "//a"),
            (b"/%3Fa", "/?a"),
            (b"/a+b", "/a+b"),
            (b"/%ff%C3", "/\ufffd\ufffd"),
            (b"/%", "/%"),
            (b"/%zz", "/%zz"),
            (b"/\xff", "/ÿ"),
        ],
    )
    def test_path_is_decoded_and_never_fails(self, target: bytes, path: str) -> None:
        request = reopened(target)
        assert request.path == path
        assert request.raw_path == target.decode("latin-1")

    @pytest.mark.parametrize(
        ("query_string", "query"),
        [
            ("", {}),
            ("a=1&b=2", {"a": "1", "b": "2"}),
            ("a=1&a=2", {"a": "2"}),
            ("a=&b", {"a": "", "b": ""}),
            ("a=%C3%A9+x", {"a": "é x"}),
            ("a=%ff", {"a": "\ufffd"}),
            ("&&=&a=b=c", {"": "", "a": "b=c"}),
            ("a=1;b=2", {"a": "1;b=2"}),
        ],
    )
    def test_query(self, query_string: str, query: dict[str, str]) -> None:
        request = reopened(b"/x?" + query_string.encode())
        assert request.query_string == query_string
        assert request.query == query
        assert request.query is request.query


class TestCookies:
    @pytest.mark.parametrize(
        ("value", "cookies"),
        [
            ("", {}),
            ("a=1", {"a": "1"}),
            ("a=1; b=2", {"a": "1", "b": "2"}),
            ("a=1;b=2;", {"a": "1", "b": "2"}),
            (" a = 1 ;\tb=2", {"a": "1", "b": "2"}),
            ('a="1"; b=""; c="', {"a": "1", "b": "", "c": '"'}),
            ('a="1; b=2', {"a": '"1', "b": "2"}),
            ("a=b=c", {"a": "b=c"}),
            ("a=", {"a": ""}),
            ("nonsense; =nameless; ;; a=1", {"a": "1"}),
            ("a=1; a=2", {"a": "1"}),
            ("A=1; a=2", {"A": "1", "a": "2"}),
            ("user[id]=1; x:y=%41", {"user[id]": "1", "x:y": "%41"}),
        ],
    )
    def test_parse(self, value: str, cookies: dict[str, str]) -> None:
        assert parse_cookies(value) == cookies

    @given(st.text())
    def test_never_fails(self, value: str) -> None:
        parse_cookies(value)

    def test_of_a_request(self) -> None:
        request = reopened(b"/", [(b"Cookie", b"a=1"), (b"cookie", b"b=2")])
        assert request.cookies == {"a": "1", "b": "2"}
        assert request.cookies is request.cookies
        assert reopened(b"/").cookies == {}


class TestRequest:
    def test_every_field(self) -> None:
        headers = [(b"Host", b"h"), (b"Sec-WebSocket-Protocol", b"chat, "), (b"sec-websocket-protocol", b"superchat")]
        request = unpack_request(5, pack_request(b"/chat?a=1", headers, "2001:db8::1", 65535, "superchat"))
        assert request.fd == 5
        assert (request.path, request.raw_path, request.query_string) == ("/chat", "/chat", "a=1")
        assert (request.remote_addr, request.remote_port) == ("2001:db8::1", 65535)
        assert request.subprotocols == ("chat", "superchat")
        assert request.subprotocol == "superchat"
        assert request.headers == {"Host": "h", "Sec-WebSocket-Protocol": "chat, , superchat"}
        assert request.headers is request.headers
        assert repr(request) == "<Request fd=5 path='/chat' from 2001:db8::1 port 65535>"

    def test_header_values_are_latin_1(self) -> None:
        assert reopened(b"/", [(b"X", b"caf\xe9")]).headers["X"] == "café"

    def test_nothing_offered(self) -> None:
        request = reopened(b"/")
        assert request.subprotocols == ()
        assert request.subprotocol is None

    def test_can_be_made_by_hand(self) -> None:
        request = Request(1, "/ünicode?a=ü", [("Cookie", "a=1")])
        assert (request.path, request.query, request.cookies) == ("/ünicode", {"a": "ü"}, {"a": "1"})


@pytest.mark.parametrize(
    ("value", "elements"),
    [("", []), ("a", ["a"]), ("a,b", ["a", "b"]), (" a ,\tb , ,", ["a", "b"]), ("a b", ["a b"])],
)
def test_list_elements(value: str, elements: list[str]) -> None:
    assert list_elements(value) == elements


class TestRecord:
    def test_names_that_browsers_send_cost_one_byte(self) -> None:
        fixed = len(pack_request(b"/", [], "192.0.2.1", 40000, None))
        record = pack_request(b"/", [(b"Sec-WebSocket-Extensions", b"x")], "192.0.2.1", 40000, None)
        assert len(record) == fixed + 1 + 2

    def test_a_browser_fits_the_budget_of_an_idle_connection(self) -> None:
        record = pack_request(b"/chat?room=1", BROWSER_HEADERS, "192.0.2.1", 40000, "chat")
        assert len(record) < 450 < sum(len(name) + len(value) + 4 for name, value in BROWSER_HEADERS)

    def test_spelling_of_names_is_kept(self) -> None:
        headers = [(b"host", b"a"), (b"Upgrade", b"b"), (b"UPGRADE", b"c"), (b"0", b"d")]
        assert list(reopened(b"/", headers).headers) == ["host", "Upgrade", "0"]

    @given(
        st.binary(max_size=100),
        st.lists(st.tuples(field_names, field_values), max_size=8),
        st.text(st.characters(codec="utf-8"), max_size=40),
        st.integers(0, 65535),
        st.none() | st.text(st.characters(codec="ascii"), max_size=20),
    )
    def test_round_trip(
        self,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        remote_addr: str,
        remote_port: int,
        subprotocol: str | None,
    ) -> None:
        request = unpack_request(9, pack_request(target, headers, remote_addr, remote_port, subprotocol))
        fields = [(name.decode(), value.decode("latin-1")) for name, value in headers]
        assert (request.raw_path, request.query_string) == split_target(target.decode("latin-1"))
        assert request.headers == Headers(fields)
        assert list(request.headers) == list(Headers(fields))
        assert (request.remote_addr, request.remote_port) == (remote_addr, remote_port)
        assert request.subprotocol == subprotocol

    @pytest.mark.parametrize("count", [0, 5, 6, 32_765, 32_766, 40_000])
    def test_any_number_of_headers(self, count: int) -> None:
        headers = [(b"X", b"%d" % number) for number in range(count)]
        request = unpack_request(9, pack_request(b"/", headers, "192.0.2.1", 1, None))
        assert request.headers.get_all("X") == [str(number) for number in range(count)]

    @given(st.binary())
    def test_arbitrary_bytes(self, record: bytes) -> None:
        with contextlib.suppress(ValueError):
            unpack_request(1, record)

    @given(st.lists(st.none() | st.booleans() | st.integers(-5, 70000) | st.floats() | st.text() | st.binary()))
    def test_arbitrary_scalars(self, scalars: list[object]) -> None:
        try:
            request = unpack_request(1, b"".join(map(msgpack.packb, scalars)))
        except ValueError:
            return
        assert [request.remote_addr, request.remote_port, request.subprotocol] == scalars[1:4]
        assert all(isinstance(value, str) for value in request.headers.values())

    @pytest.mark.parametrize("cut", [1, 2, 5, 20])
    def test_cut_short(self, cut: int) -> None:
        record = pack_request(b"/", [(b"Host", b"localhost")], "192.0.2.1", 1, None)
        with pytest.raises(ValueError, match="request record"):
            unpack_request(1, record[:-cut])

    @pytest.mark.parametrize(
        ("scalars", "culprit"),
        [
            ([], "early"),
            (["/", "a", 1], "early"),
            ([b"/", "a", 1, None], "target"),
            (["/", None, 1, None], "address"),
            (["/", "a", -1, None], "-1"),
            (["/", "a", 65536, None], "65536"),
            (["/", "a", True, None], "True"),
            (["/", "a", "1", None], "'1'"),
            (["/", "a", 1, 5], "subprotocol"),
            (["/", "a", 1, None, "Host"], "without a value"),
            (["/", "a", 1, None, 255, "x"], "header"),
            (["/", "a", 1, None, -1, "x"], "header"),
            (["/", "a", 1, None, False, "x"], "header"),
            (["/", "a", 1, None, "X", b"x"], "header"),
            (["/", "a", 1, None, "X", 0], "header"),
            (["/", "a", 1, None, "X", []], "header"),
            (["/", "a", 1, None, "X", {}], "header"),
        ],
    )
    def test_wrong_types(self, scalars: list[object], culprit: str) -> None:
        with pytest.raises(ValueError, match=culprit):
            unpack_request(1, b"".join(map(msgpack.packb, scalars)))

    @pytest.mark.parametrize(
        "record",
        [
            b"\xdd\xff\xff\xff\xff",  # an array of 2^32 - 1 items
            b"\xdf\xff\xff\xff\xff",  # a map of the same size
            b"\xc9\xff\xff\xff\xff\x01",  # an extension of 4 GiB
            b"\xdb\xff\xff\xff\xff",  # a text of 4 GiB
            b"\xc6\xff\xff\xff\xff",  # bytes of 4 GiB
            b"\x91" * 65536,  # nested arrays
            b"\xdc\xff\xff" * 20000,  # nested arrays that are also long
            b"\x81" * 65536,  # nested maps
        ],
    )
    def test_decoding_is_bounded(self, record: bytes) -> None:
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="malformed request record"):
                unpack_request(1, record)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()


RECORD = pack_request(b"/a%20b?c=d", [(b"Cookie", b"e=f"), (b"Host", b"g")], "192.0.2.1", 80, "chat")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("path", "/a b"),
        ("raw_path", "/a%20b"),
        ("query_string", "c=d"),
        ("query", {"c": "d"}),
        ("cookies", {"e": "f"}),
        ("headers", {"Cookie": "e=f", "Host": "g"}),
        ("remote_addr", "192.0.2.1"),
        ("remote_port", 80),
        ("subprotocol", "chat"),
    ],
)
def test_a_request_of_a_record_is_decoded_by_whatever_is_read_first(name: str, value: object) -> None:
    request = request_of(7, RECORD, "state")
    assert getattr(request, name) == value
    assert (request.fd, request.state) == (7, "state")
    assert repr(request) == repr(unpack_request(7, RECORD))


def test_a_request_of_a_record_is_not_decoded_before() -> None:
    request = request_of(7, b"malformed", "state")
    request.state = request.fd
    assert request.state == 7
    assert not hasattr(request, "user")
    with pytest.raises(ValueError, match="malformed request record"):
        assert request.path


@pytest.mark.parametrize("first", ["query_string", "headers"])
def test_what_the_app_assigns_before_the_first_read_stays(first: str) -> None:
    request = request_of(7, RECORD)
    request.path = "/normalized"
    request.remote_addr = "192.0.2.9"
    assert getattr(request, first)
    assert (request.path, request.remote_addr, request.raw_path) == ("/normalized", "192.0.2.9", "/a%20b")


def test_a_request_of_a_record_can_be_copied_and_pickled() -> None:
    for copied in (copy.copy(request_of(7, RECORD, [1])), pickle.loads(pickle.dumps(request_of(7, RECORD, [1])))):
        assert (copied.fd, copied.state, copied.path) == (7, [1], "/a b")


@pytest.mark.parametrize("made", [Request(1, "/"), request_of(1, RECORD), unpack_request(1, RECORD)])
def test_a_request_keeps_what_the_app_puts_into_its_state_and_nothing_else(made: Request) -> None:
    assert type(made) is Request
    made.state = "anna"
    assert made.state == "anna"
    with pytest.raises(AttributeError, match=r"no 'user'.* keep a value in `request\.state`"):
        made.user = "anna"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a/b?c#d", "/a/b"),
        ("/a#b?c", "/a"),
        ("/a@b:c", "/a@b:c"),
        ("ws://host/a?b", "ws://host/a"),
        ("ws://user:password@host:1/a@b", "ws://host:1/a@b"),
        ("user:password@host", "host"),
        ("?a", ""),
        ("", ""),
    ],
)
def test_what_may_be_logged_of_a_target(target: str, path: str) -> None:
    assert path_only(target) == path
