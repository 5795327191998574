"""permessage-deflate: negotiation, and both directions compared with the `websockets` library and zlib."""

from __future__ import annotations

import os
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from zwoole.shared.websocket.deflate import (
    RSV1,
    SLICE,
    TAIL,
    Agreement,
    Deflater,
    Inflater,
    Job,
    MalformedOffer,
    Wishes,
    agree,
    finish,
    new_compressor,
)
from zwoole.shared.websocket.frames import OP_BINARY

PLAIN = Wishes(window_bits=15, context_takeover=False)
KEEPING = Wishes(window_bits=15, context_takeover=True)
SMALL = Wishes(window_bits=10, context_takeover=True)
BOTH = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

PAYLOADS = st.one_of(st.binary(max_size=200), st.sampled_from([b"", b"Hello", b"a" * 70_000, bytes(range(256)) * 300]))


# Negotiation.


@pytest.mark.parametrize(
    ("headers", "wishes", "response"),
    [
        ([], PLAIN, None),
        (["permessage-deflate"], PLAIN, BOTH),
        (["permessage-deflate"], KEEPING, "permessage-deflate"),
        (["Permessage-Deflate"], KEEPING, None),
        (["permessage-deflate"], SMALL, "permessage-deflate; server_max_window_bits=10"),
        (
            ["permessage-deflate; client_max_window_bits"],
            SMALL,
            "permessage-deflate; server_max_window_bits=10; client_max_window_bits=10",
        ),
        (["permessage-deflate; client_max_window_bits=9"], KEEPING, "permessage-deflate; client_max_window_bits=9"),
        (["permessage-deflate; client_max_window_bits=8"], KEEPING, "permessage-deflate; client_max_window_bits=8"),
        (["permessage-deflate; client_max_window_bits"], KEEPING, "permessage-deflate"),
        (["permessage-deflate; server_max_window_bits=12"], SMALL, "permessage-deflate; server_max_window_bits=10"),
        (["permessage-deflate; server_max_window_bits=9"], SMALL, "permessage-deflate; server_max_window_bits=9"),
        (['permessage-deflate; server_max_window_bits="9"'], SMALL, "permessage-deflate; server_max_window_bits=9"),
        (["permessage-deflate ;server_no_context_takeover"], KEEPING, BOTH.rpartition(";")[0]),
        (
            ["permessage-deflate; client_no_context_takeover"],
            KEEPING,
            "permessage-deflate; client_no_context_takeover",
        ),
        # Declined, so that the next offer is considered.
        (["permessage-deflate; server_max_window_bits=8"], KEEPING, None),
        (["permessage-deflate; server_max_window_bits=8, permessage-deflate"], KEEPING, "permessage-deflate"),
        (["permessage-deflate; server_max_window_bits=8", "permessage-deflate"], KEEPING, "permessage-deflate"),
        (["x-webkit-deflate-frame, permessage-deflate"], KEEPING, "permessage-deflate"),
        (['x-other; a="b, permessage-deflate; c", permessage-deflate'], KEEPING, "permessage-deflate"),
        (["permessage-deflate; unknown"], KEEPING, None),
        (["permessage-deflate; server_no_context_takeover=1"], KEEPING, None),
        (["permessage-deflate; server_no_context_takeover; server_no_context_takeover"], KEEPING, None),
        (["permessage-deflate; server_max_window_bits"], KEEPING, None),
        (["permessage-deflate; server_max_window_bits=7"], KEEPING, None),
        (["permessage-deflate; server_max_window_bits=16"], KEEPING, None),
        (["permessage-deflate; server_max_window_bits=09"], KEEPING, None),
        (["permessage-deflate; client_max_window_bits=x"], KEEPING, None),
        ([", ,permessage-deflate,,"], KEEPING, "permessage-deflate"),
    ],
)
def test_the_first_offer_that_can_be_met_is(headers: list[str], wishes: Wishes, response: str | None) -> None:
    agreement = agree(headers, wishes)
    assert (None if agreement is None else agreement.response) == response


@pytest.mark.parametrize(
    "header",
    ["permessage deflate", ";", "a=b", "a;", "a; b=", 'a; b="', "a; =b", "a; b c", "\x00", "a, ;b", "é"],
)
def test_what_is_no_list_of_extensions_fails_the_handshake(header: str) -> None:
    with pytest.raises(MalformedOffer):
        agree([header], PLAIN)


@given(st.text('apermessage-deflate;=," \t89_\\x', max_size=60))
def test_nothing_else_is_ever_raised(header: str) -> None:
    try:
        agree([header], KEEPING)
    except MalformedOffer:
        pass


def test_the_agreement_says_what_each_side_does() -> None:
    offer = "permessage-deflate; server_no_context_takeover; server_max_window_bits=11; client_max_window_bits=12"
    agreement = agree([offer], KEEPING)
    assert agreement is not None
    assert (agreement.server_bits, agreement.client_bits) == (11, 12)
    assert (agreement.server_takeover, agreement.client_takeover) == (False, True)


# Both directions against another implementation.

AGREEMENTS = [
    Agreement("", server_bits, client_bits, server_takeover, client_takeover)
    for server_bits, client_bits in ((15, 15), (9, 10))
    for server_takeover in (False, True)
    for client_takeover in (False, True)
]


def their_end(agreement: Agreement) -> PerMessageDeflate:
    """Return a client's extension."""
    return PerMessageDeflate(
        remote_no_context_takeover=not agreement.server_takeover,
        local_no_context_takeover=not agreement.client_takeover,
        remote_max_window_bits=agreement.server_bits,
        local_max_window_bits=agreement.client_bits,
    )


@pytest.mark.parametrize("agreement", AGREEMENTS)
@given(payloads=st.lists(PAYLOADS, max_size=5), data=st.data())
def test_what_a_client_deflates_is_inflated(agreement: Agreement, payloads: list[bytes], data: st.DataObject) -> None:
    client = their_end(agreement)
    inflater = Inflater(agreement.client_bits, agreement.client_takeover)
    for payload in payloads:
        deflated = bytes(client.encode(Frame(Opcode.BINARY, payload)).data) + TAIL
        limit = max(data.draw(st.sampled_from([1, 100, 65536])), len(payload) // 50)
        cut = data.draw(st.integers(0, len(deflated)))
        out = b""
        for piece in (deflated[:cut], deflated[cut:]):
            while True:
                step = inflater.inflate(piece, limit)
                assert len(step) <= limit
                out += step
                piece = inflater.rest
                if not piece and len(step) < limit:
                    break
        inflater.end_message()
        assert out == payload


@pytest.mark.parametrize("agreement", AGREEMENTS)
@given(messages=st.lists(st.tuples(PAYLOADS, st.booleans()), max_size=6))
def test_what_we_deflate_is_inflated_by_a_client(agreement: Agreement, messages: list[tuple[bytes, bool]]) -> None:
    """Isolated messages and the connection's own messages in any order."""
    client = their_end(agreement)
    deflater = Deflater(agreement.server_bits, agreement.server_takeover, 1)
    for payload, isolated in messages:
        compressor = new_compressor(agreement.server_bits, 1) if isolated else deflater.compressor()
        deflated = compressor.compress(payload) + finish(compressor)
        if isolated:
            deflater.forget()
        assert bytes(client.decode(Frame(Opcode.BINARY, deflated, rsv1=True)).data) == payload


def test_a_window_that_outlasts_its_message_makes_the_next_smaller() -> None:
    payload = os.urandom(500)
    for takeover, smaller in ((False, False), (True, True)):
        deflater = Deflater(15, takeover, 6)
        sizes = []
        for _ in range(2):
            compressor = deflater.compressor()
            sizes.append(len(compressor.compress(payload) + finish(compressor)))
        assert (sizes[1] < 50) is smaller


def test_a_block_that_says_it_is_the_last_is_not() -> None:
    """The example of RFC 7692 section 7.2.3.4, twice in one message and once more in the next."""
    inflater = Inflater(15, True)
    final = bytes.fromhex("f348cdc9c90700")
    for _ in range(2):
        out, data = b"", final + final + b"\x00" + TAIL
        while data:
            out += inflater.inflate(data, 1000)
            data = inflater.rest
        assert out == b"HelloHello"
        inflater.end_message()


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_what_is_behind_a_last_block_refers_to_nothing_before_it_however_it_arrives(size: int) -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=b"Hello")
    data = bytes.fromhex("f348cdc9c90700") + compressor.compress(b"Hello") + compressor.flush(zlib.Z_SYNC_FLUSH)
    inflater = Inflater(15, True)
    with pytest.raises(zlib.error, match="too far back"):
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            while piece:
                inflater.inflate(piece, 1000)
                piece = inflater.rest


# Blocks of the type that RFC 1951 section 3.2.3 reserves, the last one behind a stored block.
@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x07", b"\x00\x05\x00\xfa\xffHello" + b"\xff" * 10])
def test_what_is_not_deflated_is_an_error(data: bytes) -> None:
    with pytest.raises(zlib.error):
        for _ in range(3):
            Inflater(15, False).inflate(data, 1000)


def test_a_bomb_gives_no_more_than_the_limit_at_a_time() -> None:
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = bomb.compress(bytes(100 << 20)) + bomb.flush(zlib.Z_SYNC_FLUSH)
    inflater = Inflater(15, False)
    for _ in range(10):
        assert len(inflater.inflate(data, 65536)) == 65536
        data = inflater.rest


# Jobs.


@pytest.mark.parametrize("size", [0, 1, SLICE - 1, SLICE, SLICE + 1, 5 * SLICE])
def test_a_job_is_done_in_slices(size: int) -> None:
    payload = os.urandom(size)
    job = Job(OP_BINARY, payload, new_compressor(15, 1), True)
    steps = 0
    while job.frame is None:
        job.step()
        steps += 1
    assert steps == max(1, -(-size // SLICE))
    assert job.frame[0] == 0x80 | RSV1 | OP_BINARY
    head = 2 if job.frame[1] < 126 else 4 if job.frame[1] == 126 else 10
    inflater = Inflater(15, False)
    assert inflater.inflate(job.frame[head:] + TAIL, size + 1) == payload


def test_a_job_without_a_compressor_is_ready() -> None:
    job = Job(0, b"as it is", None, False)
    job.step()
    assert job.frame == b"as it is"


def test_the_other_implementation_reads_fragments_too() -> None:
    """Verifies the reference above: the other implementation inflates continuations too."""
    client = their_end(AGREEMENTS[0])
    compressor = new_compressor(15, 1)
    deflated = compressor.compress(b"Hello" * 100) + finish(compressor)
    first = client.decode(Frame(Opcode.BINARY, deflated[:5], fin=False, rsv1=True))
    rest = client.decode(Frame(Opcode.CONT, deflated[5:]))
    assert bytes(first.data) + bytes(rest.data) == b"Hello" * 100
