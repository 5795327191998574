"""Which clients may connect, and with which subprotocol."""

from __future__ import annotations

from typing import Any

import pytest

from zwoole.reactor.clients.handshake import Refused, parse_upgrade
from zwoole.reactor.clients.policy import Policy, host_name
from zwoole.shared.settings import Settings

HEAD = (
    "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
)


def judge(settings: dict[str, Any], host: str = "example.com", **headers: str) -> str | None:
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    upgrade = parse_upgrade(HEAD.format(host=host, more=more).encode())
    return Policy(Settings().update(settings)).judge(upgrade)


@pytest.mark.parametrize(
    ("host", "origin", "allowed"),
    [
        ("example.com", "https://example.com", True),
        ("example.com:8080", "http://example.com:3000", True),
        ("Example.COM", "HTTPS://example.com", True),
        ("[::1]:8080", "http://[::1]", True),
        ("example.com", "https://evil.com", False),
        ("example.com", "https://example.com.evil.com", False),
        ("example.com", "https://notexample.com", False),
        ("example.com", "https://example.com@evil.com", False),
        ("example.com", "null", False),
        ("example.com", "http://[", False),
        ("[", "http://[", False),
    ],
)
def test_without_a_list_a_page_must_come_from_the_host(host: str, origin: str, allowed: bool) -> None:
    if allowed:
        assert judge({}, host, Origin=origin) is None
        return
    with pytest.raises(Refused) as caught:
        judge({}, host, Origin=origin)
    assert caught.value.status == 403
    assert "allowed_origins" in caught.value.reason


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        (["https://a.com"], "https://a.com", True),
        (["https://a.com"], "http://a.com", False),
        (["https://a.com"], "https://a.com:444", False),
        (["https://a.com"], "https://example.com", False),
        (["https://*.a.com"], "https://b.a.com", True),
        (["https://*.a.com"], "https://a.com", False),
        (["https://*.a.com"], "https://ba.com", False),
        (["http://[::1]:3000"], "http://[::1]:3000", True),
        (["https://*.a.com"], "https://evil.com/x.a.com", False),
        (["*"], "https://anything", True),
        (["null", "https://a.com"], "null", True),
        (["https://A.com:443/"], "https://a.com", True),
        (["http://localhost:*"], "http://localhost:3000", True),
    ],
)
def test_with_a_list_a_page_must_be_on_it(origins: list[str], origin: str, allowed: bool) -> None:
    if allowed:
        assert judge({"allowed_origins": origins}, Origin=origin) is None
        return
    with pytest.raises(Refused):
        judge({"allowed_origins": origins}, Origin=origin)


@pytest.mark.parametrize(
    ("origin", "quoted"),
    [
        ("https://evil.example:1", "'https://evil.example:1'"),
        ("null", "'null'"),
        ("https://a:SECRET@b", "a malformed origin"),
        ("https://a.com/?SECRET", "a malformed origin"),
        ("SECRET", "a malformed origin"),
    ],
)
def test_only_what_reads_like_an_origin_is_quoted(origin: str, quoted: str) -> None:
    with pytest.raises(Refused) as caught:
        judge({"allowed_origins": ["https://a.com"]}, Origin=origin)
    assert caught.value.reason.startswith(f"pages of {quoted} may not connect here; ")


def test_who_sends_no_origin_is_no_browser() -> None:
    assert judge({"allowed_origins": ["https://a.com"]}) is None


@pytest.mark.parametrize(
    ("ours", "offered", "chosen"),
    [
        ([], "chat", None),
        (["chat"], "chat", "chat"),
        (["chat.v2", "chat.v1"], "chat.v1, chat.v2", "chat.v2"),
        (["chat"], "secret-token, chat", "chat"),
        (["chat"], "secret-token", None),
        (["chat"], "CHAT", None),
    ],
)
def test_the_first_of_ours_that_was_offered_is_taken(ours: list[str], offered: str, chosen: str | None) -> None:
    assert judge({"subprotocols": ours}, Sec_WebSocket_Protocol=offered) == chosen


def test_a_host_without_a_name() -> None:
    assert host_name("//") is None
    assert host_name("null") is None
