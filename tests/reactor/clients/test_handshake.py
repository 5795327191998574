"""The opening handshake, byte by byte: one test per rule of RFC 6455 section 4.2."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from zwoole.reactor.clients.handshake import (
    _FLAW,
    _FLAWLESS,
    Refused,
    Upgrade,
    early_refusal,
    find_head_end,
    parse_upgrade,
    refusal,
    request_target,
    switching_protocols,
)

# The sample of RFC 6455 section 1.3.
SAMPLE_KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
SAMPLE_ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

FIELDS = {
    b"Host": b"server.example.com",
    b"Upgrade": b"websocket",
    b"Connection": b"Upgrade",
    b"Sec-WebSocket-Key": SAMPLE_KEY,
    b"Sec-WebSocket-Version": b"13",
}


def head(
    *more: bytes, line: bytes = b"GET /chat HTTP/1.1", without: bytes = b"", replace: dict[bytes, bytes] | None = None
) -> bytes:
    """Return a valid request head, except for what is overridden; `more` are complete header lines."""
    fields = {**FIELDS, **(replace or {})}
    lines = [name + b": " + value for name, value in fields.items() if name != without]
    return b"\r\n".join([line, *lines, *more, b"", b""])


def refused(request: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        parse_upgrade(request)
    return caught.value


def parts(upgrade: Upgrade) -> dict[str, object]:
    return {name: getattr(upgrade, name) for name in Upgrade.__slots__}


class TestAccepted:
    def test_the_sample_of_the_rfc(self) -> None:
        request = (
            b"GET /chat HTTP/1.1\r\n"
            b"Host: server.example.com\r\n"
            b"Upgrade: websocket\r\n"
            b"Connection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Origin: http://example.com\r\n"
            b"Sec-WebSocket-Protocol: chat, superchat\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n"
        )
        assert parts(parse_upgrade(request)) == {
            "path": "/chat",
            "accept": SAMPLE_ACCEPT,
            "subprotocols": ("chat", "superchat"),
            "extensions": (),
            "host": "server.example.com",
            "origin": "http://example.com",
            "target": b"/chat",
            "headers": [
                (b"Host", b"server.example.com"),
                (b"Upgrade", b"websocket"),
                (b"Connection", b"Upgrade"),
                (b"Sec-WebSocket-Key", SAMPLE_KEY),
                (b"Origin", b"http://example.com"),
                (b"Sec-WebSocket-Protocol", b"chat, superchat"),
                (b"Sec-WebSocket-Version", b"13"),
            ],
        }

    def test_the_least_that_is_needed(self) -> None:
        upgrade = parse_upgrade(head())
        assert (upgrade.subprotocols, upgrade.extensions, upgrade.origin) == ((), (), None)

    @pytest.mark.parametrize(
        ("target", "path"),
        [
            (b"/", "/"),
            (b"/caf%C3%A9?x=%C3%A9", "/café"),
            (b"/%ff", "/\ufffd"),
            (b"ws://server.example.com/chat?a=1", "/chat"),
            (b"http://server.example.com", "/"),
            (b"wss://server.example.com?a=/b", "/"),
        ],
    )
    def test_targets(self, target: bytes, path: str) -> None:
        upgrade = parse_upgrade(head(line=b"GET " + target + b" HTTP/1.1"))
        assert (upgrade.target, upgrade.path) == (target, path)

    @pytest.mark.parametrize("value", [b"websocket", b"WebSocket", b"h2c, WEBSOCKET", b",websocket ,"])
    def test_upgrade_is_a_list_of_tokens(self, value: bytes) -> None:
        parse_upgrade(head(replace={b"Upgrade": value}))

    @pytest.mark.parametrize("value", [b"upgrade", b"keep-alive, Upgrade", b"UPGRADE\t,close"])
    def test_connection_is_a_list_of_tokens(self, value: bytes) -> None:
        parse_upgrade(head(replace={b"Connection": value}))

    def test_lists_may_span_lines(self) -> None:
        parse_upgrade(
            head(
                b"upgrade: websocket", b"connection: Upgrade", replace={b"Upgrade": b"x", b"Connection": b"keep-alive"}
            )
        )

    def test_subprotocols_may_span_lines(self) -> None:
        request = head(b"Sec-WebSocket-Protocol: b, , a", b"sec-websocket-protocol: v1.c~", b"Sec-WebSocket-Protocol:")
        assert parse_upgrade(request).subprotocols == ("b", "a", "v1.c~")

    def test_extensions_are_left_as_sent(self) -> None:
        request = head(b"Sec-WebSocket-Extensions: a; b=1, c", b"sec-websocket-extensions: d")
        assert parse_upgrade(request).extensions == ("a; b=1, c", "d")

    def test_white_space_around_values(self) -> None:
        upgrade = parse_upgrade(head(b"X: \t a\tb \t ", b"Y:", replace={b"Sec-WebSocket-Version": b" 13 \t"}))
        assert upgrade.headers[-2:] == [(b"X", b"a\tb"), (b"Y", b"")]

    def test_bytes_above_ascii_in_values(self) -> None:
        assert parse_upgrade(head(b"X: caf\xe9")).headers[-1] == (b"X", b"caf\xe9")

    @pytest.mark.parametrize("length", [b"0", b"00", b"0 ", b"0" * 5000], ids=len)
    def test_a_body_of_no_length(self, length: bytes) -> None:
        parse_upgrade(head(b"Content-Length: " + length))

    @pytest.mark.parametrize("empty_lines", [b"\r\n", b"\r\n\r\n\r\n"])
    def test_empty_lines_before_the_request_line(self, empty_lines: bytes) -> None:
        assert parts(parse_upgrade(empty_lines + head())) == parts(parse_upgrade(head()))


class TestMalformed:
    @pytest.mark.parametrize(
        ("request_line", "culprit"),
        [
            (b"hello", "the number of its spaces is 0, not 2"),
            (b"GET /", "the number of its spaces is 1, not 2"),
            (b"GET /a b HTTP/1.1", "the number of its spaces is 3, not 2"),
            (b"GET  / HTTP/1.1", "the number of its spaces is 3, not 2"),
            (b"GET  HTTP/1.1", "it has no path"),
            (b"GET / http/1.1", "it ends in 'http/1.1'"),
            (b"GET / HTTP/1.1 ", "the number of its spaces is 3, not 2"),
            (b"GET / HTTP/11.1", "it ends in 'HTTP/11.1'"),
            (b"GET / RTSP/1.0", "it ends in 'RTSP/1.0'"),
            (b"SOURCE / ICE/1.0", "it ends in 'ICE/1.0'"),
            (b"GET / ?a=b", "it ends in no version"),
            (b"G(T / HTTP/1.1", "it begins with something else than a method"),
            (b"HTTP/1.1 200 OK", "it begins with something else than a method"),
            (
                b"GET /\xc3\xa9 HTTP/1.1",
                r"its path '/\xc3\xa9' has other characters than visible ASCII: such characters",
            ),
            (b"GET /a\tb?c HTTP/1.1", r"its path '/a\tb' has other characters than visible ASCII: such characters"),
            (b"GET /a?caf\xc3\xa9 HTTP/1.1", "its query has other characters than visible ASCII: such characters"),
        ],
    )
    def test_request_line(self, request_line: bytes, culprit: str) -> None:
        error = refused(head(line=request_line))
        assert error.status == 400
        assert "request line" in error.reason
        assert culprit in error.reason

    @pytest.mark.parametrize(
        ("line", "culprit"),
        [
            (b"no colon", "line 7 must begin with the name of a header and a colon"),
            (b": no name", "line 7 must begin with the name of a header and a colon"),
            (
                b"X : space",
                "line 7 must begin with the name of a header and a colon, but white space follows the name 'X'",
            ),
            (b"Content-Length : 5", "white space follows the name 'Content-Length'"),
            (b"X(: no token", "line 7 must begin with the name of a header and a colon"),
            (b"X\xe9: no token", "line 7 must begin with the name of a header and a colon"),
            (b"Content-Length: x", "Content-Length"),
            (b"Content-Length: -1", "Content-Length"),
            (b"Content-Length: 99999999999999999999999", "Content-Length"),
            (
                b"X: folded\r\n line",
                "line 8 must begin with the name of a header and a colon, but it begins with white space",
            ),
            (
                b"X: folded\r\n\tline",
                "line 8 must begin with the name of a header and a colon, but it begins with white space",
            ),
            (b"X: a\nY: b", "0x0a in the header 'X'"),
            (b"X: a\rb", "0x0d in the header 'X'"),
            (b"X: a\r\rb", "0x0d in the header 'X'"),
            (b"X: a\r\n\rb", "0x0d in line 8"),
            (b"X: a\0b", "0x00 in the header 'X'"),
            (b"X: a\x1bb", "0x1b"),
            (b"X: a\x0bb", "0x0b"),
            (b"X: a\x7fb", "0x7f"),
        ],
    )
    def test_header_line(self, line: bytes, culprit: str) -> None:
        error = refused(head(line))
        assert error.status == 400
        assert error.reason.startswith("malformed HTTP: ")
        assert culprit in error.reason

    def test_lines_that_end_in_a_bare_lf(self) -> None:
        error = refused(head().replace(b"\r\n", b"\n"))
        assert (error.status, "0x0a" in error.reason) == (400, True)

    @pytest.mark.parametrize("target", [b"chat", b"host:80", b"1://x"])
    def test_target(self, target: bytes) -> None:
        error = refused(head(line=b"GET " + target + b" HTTP/1.1"))
        assert error.status == 400
        assert "url" in error.reason
        assert f"got the target '{target.decode()}'" in error.reason

    @pytest.mark.parametrize("request_bytes", [head()[:-2], b"GET / HTTP/1.1\r\n"])
    def test_no_empty_line(self, request_bytes: bytes) -> None:
        error = refused(request_bytes)
        assert (error.status, "empty line" in error.reason) == (400, True)

    @pytest.mark.parametrize("rest", [b"x", b"\r\n", b"\x81\x00", head()])
    def test_something_after_the_empty_line(self, rest: bytes) -> None:
        # A second request must not lend its headers to the first.
        error = refused(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + rest)
        assert error.status == 400

    @pytest.mark.parametrize("request_bytes", [b"", b"\r\n", b"\r\n\r\n"])
    def test_nothing(self, request_bytes: bytes) -> None:
        assert refused(request_bytes).status == 400

    def test_what_is_quoted_is_short_and_printable(self) -> None:
        error = refused(head(line=b"GET /\xe9" + b"A" * 10000 + b" HTTP/1.1"))
        assert len(error.reason) < 250
        assert r"'/\xe9AAA" in error.reason
        assert "...'" in error.reason
        assert error.reason.isascii()
        assert error.reason.isprintable()

    @pytest.mark.parametrize(
        "request_bytes",
        [
            *(
                head(line=line)
                for line in (
                    b"GET /a?t=SECRET#f HTTP/1.1",
                    b"GET /a#SECRET HTTP/1.1",
                    b"GET /a?t=SECRET\xe9 HTTP/1.1",
                    b"GET /a\xe9?t=SECRET HTTP/1.1",
                    b"GET /a?t=SECRET HTTP/1.1 ",
                    b"GET /a?t=SECRET\x00 HTTP/1.1",
                    b"GET /a?t=SECRET",
                    b"GET /a ?t=SECRET",
                    b"GET /a?t=SECRET HTTP/2.0",
                    b"GET a?t=SECRET HTTP/1.1",
                    b"GET *?t=SECRET HTTP/1.1",
                    b"GET a:SECRET@b HTTP/1.1",
                    b"GET ws://a:SECRET@b/#c HTTP/1.1",
                    b"POST /a?t=SECRET HTTP/1.1",
                    b"Cookie: SECRET",
                    b"/a?t=SECRET",
                    b"?t=SECRET",
                )
            ),
            *(
                head(*lines)
                for lines in (
                    (b"Cookie: a", b" SECRET"),
                    (b"Cookie: a", b"SECRET"),
                    (b"Cookie: a\nSECRET",),
                    (b"Cookie: SECRET\nb",),
                    (b"Authorization: Bearer SECRET\x00",),
                    (b"Authorization : Bearer SECRET",),
                    (b"Content-Length: SECRET",),
                    (b"Transfer-Encoding: SECRET",),
                    (b"Host: SECRET",),
                    (b"Sec-WebSocket-Protocol: a, SECRET, SECRET",),
                    (b"Sec-WebSocket-Protocol: SECRET b",),
                    (b"Origin: a", b"Origin: SECRET"),
                )
            ),
            *(
                head(replace={name: b"SECRET"})
                for name in (b"Upgrade", b"Connection", b"Sec-WebSocket-Key", b"Sec-WebSocket-Version")
            ),
        ],
    )
    def test_neither_the_query_nor_the_value_of_a_header_is_quoted(self, request_bytes: bytes) -> None:
        """Reasons are logged, and both may hold secrets."""
        assert "SECRET" not in refused(request_bytes).reason


class TestRules:
    @pytest.mark.parametrize("version", [b"1.0", b"1.1"])
    @pytest.mark.parametrize("method", [b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"get", b"BREW"])
    def test_method(self, method: bytes, version: bytes) -> None:
        error = refused(head(line=method + b" / HTTP/" + version))
        assert error.status == 405
        assert error.headers == (("Allow", "GET, HEAD"),)
        assert f"got '{method.decode()}'" in error.reason

    @pytest.mark.parametrize("version", [b"1.0", b"0.9", b"2.0", b"1.2"])
    def test_http_version(self, version: bytes) -> None:
        error = refused(head(line=b"GET / HTTP/" + version))
        assert error.status == 400
        assert f"must be HTTP/1.1, got HTTP/{version.decode()}" in error.reason

    @pytest.mark.parametrize("method", [b"GET", b"HEAD"])
    @pytest.mark.parametrize(
        "rest", [b"HTTP/1.1\r\nHost: a\r\n", b"HTTP/1.0\r\n", b"HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n"]
    )
    def test_a_plain_request_is_told_what_this_is(self, method: bytes, rest: bytes) -> None:
        """As proxies and load balancers send it to see whether the server is there."""
        error = refused(method + b" /health " + rest + b"\r\n")
        assert error.status == 426
        assert ("Upgrade", "websocket") in error.headers

    @pytest.mark.parametrize(
        ("request_bytes", "target"),
        [
            (b"", ""),
            (b"\r\nGET /chat?a=b HTTP/1.1\r\nHost: a\r\n", "/chat?a=b"),
            (b"GET /ch", "/ch"),
            (b"GE", "GE"),
            (b"Cookie: SECRET\r\n", ""),
            (b"Cookie:SECRET", ""),
            (b"\x16\x03\x01", "\x16\x03\x01"),
            (b"GET /" + b"x" * 5000, "/" + "x" * 199),
        ],
    )
    def test_what_was_asked_for_is_read_from_any_beginning(self, request_bytes: bytes, target: str) -> None:
        assert request_target(request_bytes) == target

    def test_a_repeated_host_is_refused_in_any_version(self) -> None:
        assert refused(b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n").status == 400

    @pytest.mark.parametrize("target", [b"/chat#part", b"/#", b"ws://server.example.com/chat#part"])
    def test_fragment(self, target: bytes) -> None:
        error = refused(head(line=b"GET " + target + b" HTTP/1.1"))
        assert error.status == 400
        assert f"fragment (#), got one behind '{target.decode().partition('#')[0]}'" in error.reason

    def test_asterisk_target(self) -> None:
        error = refused(head(line=b"GET * HTTP/1.1"))
        assert (error.status, "target" in error.reason, "'*'" in error.reason) == (400, True, True)

    @pytest.mark.parametrize("request_bytes", [head(without=b"Host"), head(replace={b"Host": b" "})])
    def test_host_missing(self, request_bytes: bytes) -> None:
        error = refused(request_bytes)
        assert (error.status, error.reason) == (400, "the Host header is missing or empty")

    def test_host_repeated(self) -> None:
        error = refused(head(b"host: other"))
        assert error.status == 400
        assert error.reason == "the Host header must not be repeated, got 2 of them"

    @pytest.mark.parametrize(
        ("line", "culprit"),
        [
            (b"Content-Length: 5", "Content-Length other than 0"),
            (b"Content-Length: 010", "Content-Length other than 0"),
            (b"Transfer-Encoding: chunked", "Transfer-Encoding"),
            (b"Transfer-Encoding: identity", "Transfer-Encoding"),
        ],
    )
    def test_body(self, line: bytes, culprit: str) -> None:
        error = refused(head(line))
        assert error.status == 400
        assert "must not have a body" in error.reason
        assert culprit in error.reason

    @pytest.mark.parametrize(
        "request_bytes",
        [
            b"GET / HTTP/1.1\r\nHost: server.example.com\r\n\r\n",
            head(without=b"Upgrade"),
            head(replace={b"Upgrade": b"h2c"}),
            head(replace={b"Upgrade": b"websockets"}),
            head(replace={b"Upgrade": b"websocket/13"}),
        ],
    )
    def test_no_upgrade(self, request_bytes: bytes) -> None:
        error = refused(request_bytes)
        assert error.status == 426
        assert "this is a WebSocket endpoint" in error.reason
        assert error.headers == (("Upgrade", "websocket"), ("Connection", "Upgrade"))

    @pytest.mark.parametrize(
        ("request_bytes", "reason"),
        [
            (head(without=b"Connection"), "the Connection header must include 'Upgrade', but it is missing"),
            (head(replace={b"Connection": b"keep-alive"}), "the Connection header must include 'Upgrade'"),
            (
                head(b"Connection: Upgraded", replace={b"Connection": b"close"}),
                "the Connection header must include 'Upgrade'",
            ),
        ],
    )
    def test_connection(self, request_bytes: bytes, reason: str) -> None:
        error = refused(request_bytes)
        assert error.status == 400
        assert error.reason == reason

    def test_version_missing(self) -> None:
        error = refused(head(without=b"Sec-WebSocket-Version"))
        assert (error.status, error.reason) == (400, "the Sec-WebSocket-Version header is missing")

    @pytest.mark.parametrize("version", [b"8", b"14", b"013", b"13, 8", b"13.0", b""])
    def test_version_other_than_13(self, version: bytes) -> None:
        error = refused(head(replace={b"Sec-WebSocket-Version": version}))
        assert error.status == 426
        assert error.reason == "Sec-WebSocket-Version must be 13"
        assert dict(error.headers)["Sec-WebSocket-Version"] == "13"
        assert dict(error.headers)["Upgrade"] == "websocket"

    @pytest.mark.parametrize("name", [b"Sec-WebSocket-Version", b"Sec-WebSocket-Key", b"Origin"])
    def test_repeated(self, name: bytes) -> None:
        error = refused(head(b"Origin: a", name + b": " + FIELDS.get(name, b"b")))
        assert error.status == 400
        assert error.reason.startswith(f"the {name.decode()} header must not be repeated")

    def test_key_missing(self) -> None:
        error = refused(head(without=b"Sec-WebSocket-Key"))
        assert (error.status, error.reason) == (400, "the Sec-WebSocket-Key header is missing")

    @pytest.mark.parametrize(
        "key",
        [
            b"",
            b"abc",
            base64.b64encode(b"x" * 15),
            base64.b64encode(b"x" * 17),
            SAMPLE_KEY[:-1],
            SAMPLE_KEY + b"=",
            SAMPLE_KEY[:-3] + b"R==",  # the same bytes, with unused bits set in the last character
            SAMPLE_KEY[:10] + b" " + SAMPLE_KEY[10:],
            b"_-" + SAMPLE_KEY[2:],  # the URL-safe alphabet
            b"====" + SAMPLE_KEY,
        ],
    )
    def test_key_malformed(self, key: bytes) -> None:
        error = refused(head(replace={b"Sec-WebSocket-Key": key}))
        assert error.status == 400
        assert error.reason == f"Sec-WebSocket-Key must be 16 bytes in base64, 24 characters in all; it has {len(key)}"

    def test_key_above_ascii(self) -> None:
        error = refused(head(replace={b"Sec-WebSocket-Key": b"\xe9" + SAMPLE_KEY[1:]}))
        assert error.status == 400
        assert error.reason == "Sec-WebSocket-Key must be 16 bytes in base64, 24 characters in all; it has 24"

    @pytest.mark.parametrize(
        ("value", "culprit"),
        [(b"chat room", 1), (b'a, "b"', 2), (b"a/b", 1), (b"\xe9", 1)],
    )
    def test_subprotocol_malformed(self, value: bytes, culprit: int) -> None:
        error = refused(head(b"Sec-WebSocket-Protocol: " + value))
        assert error.status == 400
        assert error.reason == f"Sec-WebSocket-Protocol must list tokens, but its element {culprit} is none"

    def test_subprotocol_twice(self) -> None:
        error = refused(head(b"Sec-WebSocket-Protocol: a, b", b"Sec-WebSocket-Protocol: a"))
        assert error.status == 400
        assert error.reason == "Sec-WebSocket-Protocol must not repeat a token, but its element 3 does"

    def test_subprotocols_differ_in_case(self) -> None:
        assert parse_upgrade(head(b"Sec-WebSocket-Protocol: a, A")).subprotocols == ("a", "A")

    @pytest.mark.parametrize(
        "request_bytes",
        [
            head(b"Sec-WebSocket-Protocol: " + b",".join(b"%x" % number for number in range(64_000))),
            head(*(b"%x:" % number for number in range(48_000))),
            head(line=b"GET /" + b"%41" * 80_000 + b" HTTP/1.1"),
            b"\r\n" * 128_000 + head(),
            head(b"Connection: " + b"," * 256_000),
        ],
        ids=["subprotocols", "headers", "target", "empty lines", "elements"],
    )
    def test_a_head_made_to_be_slow(self, request_bytes: bytes) -> None:
        # One thread of the reactor serves all clients, so nothing may be quadratic. At sixteen times the longest
        # allowed head, that would take a minute of this thread's CPU time; linear code takes a twentieth of a second.
        begin = time.thread_time()
        parse_upgrade(request_bytes)
        assert time.thread_time() - begin < 5


PIECES = (b"\r\n", b"\r", b"\n", b"A: b", b"A", b"B:", b" c", b"\t", b"\0", b"\x7f", b"\xe9", b"GET / HTTP/1.1")


class TestLines:
    @given(st.lists(st.sampled_from(PIECES), max_size=12))
    def test_what_is_flawless_has_no_flaw_and_the_other_way_round(self, pieces: list[bytes]) -> None:
        request = b"GET" + b"".join(pieces) + b"\r\n\r\n"
        if find_head_end(request, 0) == len(request):
            assert (_FLAWLESS.fullmatch(request) is not None) is (_FLAW.search(request) is None)


class TestHeadEnd:
    @pytest.mark.parametrize("before", [b"", b"\r\n", b"\r\n\r\n", b"\r\n\r\n\r\n"])
    @pytest.mark.parametrize("after", [b"", b"\x81\x00", b"\r\n\r\n"])
    def test_end(self, before: bytes, after: bytes) -> None:
        request = before + head()
        assert find_head_end(request + after, 0) == len(request)

    @pytest.mark.parametrize("buffer", [b"", b"\r\n\r\n", b"GET", head()[:-1], b"GET / HTTP/1.1\n\n"])
    def test_no_end(self, buffer: bytes) -> None:
        assert find_head_end(buffer, 0) == -1

    def test_one_byte_at_a_time(self) -> None:
        request = b"\r\n\r\n" + head()
        buffer = bytearray()
        for byte in request[:-1]:
            start = len(buffer)
            buffer.append(byte)
            assert find_head_end(buffer, start) == -1
        start = len(buffer)
        buffer += request[-1:] + b"\x81\x00"
        assert find_head_end(buffer, start) == len(request)

    def test_looks_back_no_further_than_it_must(self) -> None:
        assert find_head_end(b"GET\r\n\r\n", 6) == 7
        assert find_head_end(b"GET\r\n\r\n", 7) == -1


class TestEarlyRefusal:
    @pytest.mark.parametrize(
        ("prefix", "culprit"),
        [
            (bytes.fromhex("16030100f8010000f40303"), "TLS"),
            (b"\x16", "TLS"),
            (b"\r\n\x16\x03\x01", "TLS"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2"),
            (b"PRI * HTTP/2.0", "HTTP/2"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET / HTTP/1.1\r\n", "PROXY protocol"),
            (b"PROXY UNKNOWN\r\n", "PROXY protocol"),
            (b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c", "PROXY protocol"),
            (b"\x05\x01\x00", r"got '\x05'"),
            (b"\0" * 100, r"got '\x00'"),
            (b"\x81\x85", r"got '\x81'"),
            (b"{}", "got '{'"),
            (b" GET", "got ' '"),
            (b"\xc3\xa9", r"got '\xc3'"),
            (b"1", "got '1'"),
        ],
    )
    def test_no_http(self, prefix: bytes, culprit: str) -> None:
        for error in (early_refusal(prefix), early_refusal(bytearray(prefix)), refused(prefix + b"\r\n\r\n")):
            assert error is not None
            assert error.status == 400
            assert culprit in error.reason
            assert error.reason.isascii()
            assert error.reason.isprintable()

    @pytest.mark.parametrize("prefix", [b"", b"\r", b"\r\n", b"G", b"get", b"PRI * HTTP/", b"PRI", head()])
    def test_may_still_become_http(self, prefix: bytes) -> None:
        assert early_refusal(prefix) is None

    @given(st.binary(max_size=20), st.binary(max_size=20))
    def test_more_bytes_do_not_change_a_refusal(self, prefix: bytes, more: bytes) -> None:
        if early_refusal(prefix) is not None:
            assert early_refusal(prefix + more) is not None
            assert refused(prefix + more).status == 400


class TestSwitchingProtocols:
    def test_bytes(self) -> None:
        assert switching_protocols(parse_upgrade(head())) == (
            b"HTTP/1.1 101 Switching Protocols\r\n"
            b"Upgrade: websocket\r\n"
            b"Connection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )

    def test_subprotocol_and_headers(self) -> None:
        upgrade = parse_upgrade(head(b"Sec-WebSocket-Protocol: chat, superchat"))
        headers = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=\xe9")]
        assert switching_protocols(upgrade, "superchat", headers, "permessage-deflate").endswith(
            b"\r\nSec-WebSocket-Protocol: superchat\r\n"
            b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
            b"Set-Cookie: a=1\r\n"
            b"Set-Cookie: b=\xe9\r\n\r\n"
        )

    @pytest.mark.parametrize("subprotocol", ["other", "Chat", "", "chat\r\nX: y"])
    def test_subprotocol_not_offered(self, subprotocol: str) -> None:
        with pytest.raises(ValueError, match="not offered") as caught:
            switching_protocols(parse_upgrade(head(b"Sec-WebSocket-Protocol: chat, SECRET")), subprotocol)
        assert "SECRET" not in str(caught.value)

    def test_a_value_that_cannot_be_sent_is_not_quoted(self) -> None:
        with pytest.raises(ValueError) as caught:
            switching_protocols(parse_upgrade(head()), None, [("Set-Cookie", "SECRET\n")])
        assert str(caught.value) == "header Set-Cookie has a control character: 0x0a"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("X", "a\r\nY: b"),
            ("X", "a\nb"),
            ("X", "a\rb"),
            ("X", "a\0b"),
            ("X", "€"),
            ("X\r\nY", "a"),
            ("X:", "a"),
            ("", "a"),
            ("Ünï", "a"),
            ("Connection", "close"),
            ("upgrade", "h2c"),
            ("Sec-WebSocket-Accept", "x"),
            ("Sec-WebSocket-Protocol", "x"),
            ("Sec-WebSocket-Extensions", "permessage-deflate"),
            ("Content-Length", "0"),
            ("Transfer-Encoding", "chunked"),
        ],
    )
    def test_header_refused(self, name: str, value: str) -> None:
        with pytest.raises(ValueError):
            switching_protocols(parse_upgrade(head()), None, [(name, value)])


class TestRefusal:
    def test_bytes(self) -> None:
        assert refusal(Refused(404, "there is no café here")) == (
            b"HTTP/1.1 404 Not Found\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\n"
            b"Content-Length: 23\r\n"
            b"Connection: close\r\n\r\n"
            b"there is no caf\xc3\xa9 here\n"
        )

    def test_further_headers(self) -> None:
        response = refusal(Refused(503, "busy", [("Retry-After", "5")]))
        assert b"\r\nConnection: close\r\nRetry-After: 5\r\n\r\nbusy\n" in response

    def test_connection_options_share_one_header(self) -> None:
        response = refusal(refused(head(replace={b"Sec-WebSocket-Version": b"8"})))
        assert response.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
        assert response.count(b"Connection:") == 1
        assert b"\r\nConnection: close, Upgrade\r\n" in response
        assert b"\r\nUpgrade: websocket\r\n" in response
        assert b"\r\nSec-WebSocket-Version: 13\r\n" in response

    def test_a_status_without_a_name(self) -> None:
        assert refusal(Refused(499, "")).startswith(b"HTTP/1.1 499 \r\n")

    @pytest.mark.parametrize(
        ("name", "value"),
        [("X", "a\r\nY: b"), ("Connection", "a\r\n"), ("content-length", "1"), ("Transfer-Encoding", "chunked")],
    )
    def test_header_refused(self, name: str, value: str) -> None:
        with pytest.raises(ValueError):
            refusal(Refused(400, "no", [(name, value)]))

    def test_as_an_exception(self) -> None:
        assert str(Refused(400, "no")) == "400: no"
        assert Refused(400, "no").args == (400, "no", ())


class TestAgainstTheWebsocketsLibrary:
    """Requests from its client, answered by this server."""

    def client(self) -> ClientProtocol:
        return ClientProtocol(
            parse_uri("ws://example.com/chat?a=1"), subprotocols=[Subprotocol("chat"), Subprotocol("superchat")]
        )

    def request(self, client: ClientProtocol) -> bytes:
        client.send_request(client.connect())
        return b"".join(client.data_to_send())

    def test_our_101_is_accepted(self) -> None:
        client = self.client()
        upgrade = parse_upgrade(self.request(client))
        assert (upgrade.path, upgrade.target) == ("/chat", b"/chat?a=1")
        assert upgrade.subprotocols == ("chat", "superchat")
        client.receive_data(switching_protocols(upgrade, "superchat", [("Server", "zwoole")]) + b"\x81\x02hi")
        response, frame = client.events_received()
        assert isinstance(response, Response)
        assert client.handshake_exc is None
        assert client.state is State.OPEN
        assert client.subprotocol == "superchat"
        assert not isinstance(frame, Response)
        assert (getattr(frame, "opcode", None), getattr(frame, "data", None)) == (Opcode.TEXT, b"hi")

    def test_our_refusal_is_understood(self) -> None:
        client = self.client()
        self.request(client)
        client.receive_data(refusal(Refused(403, "not you")))
        client.receive_eof()
        (response,) = client.events_received()
        assert isinstance(response, Response)
        assert (response.status_code, response.body) == (403, b"not you\n")


class TestAnyBytes:
    @given(st.binary())
    def test_only_refused(self, request: bytes) -> None:
        self.check(request)

    @given(st.data())
    def test_only_refused_when_almost_right(self, data: st.DataObject) -> None:
        request = bytearray(head(b"Sec-WebSocket-Protocol: chat", b"Content-Length: 0"))
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(request) - 1))
            request[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        self.check(bytes(request))

    @given(
        st.lists(st.sampled_from([*FIELDS, b"Origin", b"Sec-WebSocket-Protocol", b"Content-Length"]), max_size=8),
        st.lists(st.binary(max_size=20), min_size=8, max_size=8),
    )
    def test_only_refused_with_any_values(self, names: list[bytes], values: list[bytes]) -> None:
        lines = [name + b": " + value for name, value in zip(names, values, strict=False)]
        self.check(head(*lines))

    def check(self, request: bytes) -> None:
        try:
            upgrade = parse_upgrade(request)
        except Refused as error:
            assert error.status in (400, 405, 426)
            assert error.reason.isascii()
            assert error.reason.isprintable()
            assert len(error.reason) < 500
            response = refusal(error)
            assert response.endswith(b"\n")
        else:
            assert switching_protocols(upgrade).endswith(b"\r\n\r\n")
