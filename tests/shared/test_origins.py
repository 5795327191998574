"""Allowed origins: equivalent forms are normalised, and origins that no browser sends are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zwoole.shared.errors import SettingsError
from zwoole.shared.origins import as_sent
from zwoole.shared.settings import Settings


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("https://example.com", "https://example.com"),
        ("https://example.com/", "https://example.com"),
        ("HTTPS://Example.COM", "https://example.com"),
        ("https://example.com:443", "https://example.com"),
        ("https://example.com:443/", "https://example.com"),
        ("http://example.com:80", "http://example.com"),
        ("http://example.com:443", "http://example.com:443"),
        ("http://example.com:08080", "http://example.com:8080"),
        ("https://example.com:" + "0" * 5000 + "8080", "https://example.com:8080"),
        ("https://example.com:", "https://example.com"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("http://[0:0:0:0:0:0:0:1]:80", "http://[::1]"),
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example"),
        ("https://*.example.com", "https://*.example.com"),
        ("http://localhost:*", "http://localhost:*"),
        ("*://example.com", "*://example.com"),
        ("*", "*"),
        ("null", "null"),
        ("file://", "file://"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
    ],
)
def test_an_origin_is_written_as_browsers_send_it(given: str, sent: str) -> None:
    assert as_sent(given) == sent
    assert Settings().update({"allowed_origins": [given]}).allowed_origins == (sent,)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("example.com", "has no scheme: write https://example.com, or http://"),
        ("*.example.com", "has no scheme"),
        ("localhost:3000", "has no scheme"),
        ("wss://example.com", "is not a page's origin: write https://example.com"),
        ("ws://example.com:81", "is not a page's origin: write http://example.com:81"),
        ("https://example.com/app", "has more than scheme, host and port: write https://example.com"),
        ("https://example.com?a", "has more than scheme, host and port: write https://example.com"),
        ("https://example.com/#a", "has more than scheme, host and port: write https://example.com"),
        ("https://", "does not have the form"),
        ("https:///", "does not have the form"),
        ("://example.com", "does not have the form"),
        ("https://me@example.com", "does not have the form"),
        ("https://a b", "does not have the form"),
        ("https://example.com:http", "does not have the form"),
        ("https://::1", "does not have the form"),
        ("https://example.com:65536", "has a port above 65535"),
        ("https://example.com:" + "9" * 5000, "has a port above 65535"),
        ("https://[::1::]", "has an invalid host"),
        ("https://" + "\u00fc" * 70 + ".com", "has an invalid host"),
    ],
)
def test_what_no_browser_sends_is_refused_with_what_to_write(given: str, why: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings().update({"allowed_origins": [given]})
    assert str(caught.value).startswith(f"allowed_origins: {given!r} {why}")


@given(st.one_of(st.text(max_size=30), st.from_regex(r"https?://[a-z0-9.:/\[\]@*]{0,12}", fullmatch=True)))
def test_nothing_else_is_raised_and_what_is_written_so_stays_as_it_is(text: str) -> None:
    try:
        sent = as_sent(text)
    except ValueError:
        return
    assert as_sent(sent) == sent


@pytest.mark.parametrize("given", ["chat v1", "a,b", "caf\u00e9", 'a"b'])
def test_a_subprotocol_that_no_client_can_offer_is_refused(given: str) -> None:
    with pytest.raises(SettingsError, match="is no token"):
        Settings().update({"subprotocols": [given]})
