"""Contents of messages: each is unique, masked when sent, and recognised when it returns."""

from __future__ import annotations

from collections import Counter

import pytest

from zwoole.bench.loadtest.content import Content, Contents, frame_header, masked_frame


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("size", [0, 1, 8, 15, 16, 17, 24, 125, 126, 65535, 65536])
def test_frames_are_masked_and_recognised(size: int, binary: bool) -> None:
    content = Content(size, binary)
    keys = set()
    for number, sequence in [(0, 0), (0, 1), (7, 5), (2**24 - 1, 2**40 - 1)]:
        frame = bytearray(b"?" * (content.frame_bytes + 3))
        content.write_frame(frame, 3, number, sequence)
        header_bytes = content.frame_bytes - size - 4
        key = frame[3 + header_bytes : 3 + header_bytes + 4]
        payload = bytearray(byte ^ key[i & 3] for i, byte in enumerate(frame[3 + header_bytes + 4 :]))
        assert frame[:3] == b"???"
        assert frame[3] == (0x82 if binary else 0x81)
        assert frame[4] == 0x80 | (size if size < 126 else 126 if size < 65536 else 127)
        assert payload == content.payload(number, sequence)
        assert content.is_payload(payload, 0, number, sequence)
        assert content.is_payload(bytearray(b"??") + payload, 2, number, sequence)
        if size:
            assert not content.is_payload(payload, 0, number, sequence ^ 1)
        if size >= 16:
            assert not content.is_payload(payload, 0, number ^ 1, sequence)
            assert payload[:16] == b"%06x%010x" % (number, sequence)
        if not binary:
            assert payload.isascii()
        keys.add(bytes(key))
    assert len(keys) == 4
    assert bytes(4) not in keys


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 125, 126, 70_000])
def test_a_frame_of_any_payload_is_masked(length: int) -> None:
    payload = bytes(index & 0xFF for index in range(length))
    frame = masked_frame(0x8A, payload)
    header = frame_header(0x8A, length, 0x80)
    key, masked = frame[len(header) : len(header) + 4], frame[len(header) + 4 :]
    assert frame.startswith(header)
    assert bytes(byte ^ key[index & 3] for index, byte in enumerate(masked)) == payload


def test_a_mix_gives_each_size_its_share() -> None:
    contents = Contents(((64, 80), (4096, 19), (100_000, 1)))
    counted = Counter(contents.of(3, sequence).size for sequence in range(40_930))
    assert {size: round(count / 409.3) for size, count in counted.items()} == {64: 80, 4096: 19, 100_000: 1}
    assert [contents.of(3, sequence).size for sequence in range(50)] == [
        contents.of(3, sequence).size for sequence in range(50)
    ]


def test_buffers_have_to_hold_the_longest_message_of_a_mix() -> None:
    contents = Contents(((10, 1), (300, 1)))
    assert (contents.most_reply_bytes, contents.most_frame_bytes) == (304, 308)
    assert contents.sizes == {10, 300}
