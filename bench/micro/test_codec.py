"""Frames in both directions: from a client's bytes to messages, and back."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.client_frames import KEY, client_frame
from zwoole.shared.websocket.frames import build_frame
from zwoole.shared.websocket.mask import is_utf8, unmask
from zwoole.shared.websocket.protocol import HEADROOM, MESSAGE, Protocol

SIZES = (64, 16 << 10)
FRAMES = 100
TEXT = 1


@pytest.mark.parametrize("size", SIZES)
def test_unmask(benchmark: BenchmarkFixture, size: int) -> None:
    """One payload."""
    masked = bytearray(client_frame(TEXT, b"x" * size)[-size:])
    key = int.from_bytes(KEY, "big")
    assert benchmark(unmask, masked, 0, size, key, 0) == b"x" * size


@pytest.mark.parametrize("text", ["x" * 16384, "é" * 8192], ids=["ascii", "two bytes a character"])
def test_is_utf8(benchmark: BenchmarkFixture, text: str) -> None:
    """16 KiB of text."""
    assert benchmark(is_utf8, text.encode())


@pytest.mark.parametrize("size", SIZES)
def test_messages_out_of_bytes(benchmark: BenchmarkFixture, size: int) -> None:
    """A hundred text frames in one buffer."""
    buffer = bytearray(HEADROOM) + client_frame(TEXT, b"x" * size) * FRAMES
    protocol = Protocol(1 << 20, 16)

    def receive() -> int:
        messages = 0
        protocol.receive_data(buffer, HEADROOM, len(buffer))
        while protocol.next_event() == MESSAGE:
            messages += 1
        return messages

    assert benchmark(receive) == FRAMES


@pytest.mark.parametrize("size", SIZES)
def test_frame_of_a_message(benchmark: BenchmarkFixture, size: int) -> None:
    """One frame to a client."""
    assert benchmark(build_frame, TEXT, b"x" * size).endswith(b"x" * size)
