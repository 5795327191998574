"""A client that reads slowly or pauses: what its worker is told, what it receives, and that nobody else waits."""

from __future__ import annotations

import pytest

from tests.process.conftest import Serve
from tests.process.raw_client import BINARY, TEXT, RawClient, ServerFrame
from tests.process.server_process import ServerProcess
from tests.process.waiting import wait_for

MIB = 1 << 20
PIECE = 65536
SLOW = {"receive_buffer": 4096, "segment": 536}  # the kernels in between hold almost nothing

CALLBACKS = f"""
    from zwoole import Server

    server = Server()

    @server.on("open")
    def on_open(server, request):
        print("open", request.fd, server.worker_id)

    @server.on("message")
    def on_message(server, frame):
        fd, first, last = map(int, frame.data.split())
        for number in range(first, last):
            server.push(fd, number.to_bytes(4, "big") * ({PIECE} // 4))
        print("pushed", last)

    @server.on("buffer_full")
    def on_buffer_full(server, fd):
        print("full", fd, server.worker_id, server.buffered_amount(fd) >= {2 * MIB})

    @server.on("buffer_empty")
    def on_buffer_empty(server, fd):
        print("empty", fd, server.worker_id, server.buffered_amount(fd))

    server.start()
"""

HANDLER = f"""
    from zwoole import Server

    server = Server()

    @server.handler("/")
    async def serve(ws):
        async for message in ws:
            for number in range(int(message)):
                await ws.send(number.to_bytes(4, "big") * ({PIECE} // 4))
                if number % 10 == 0:
                    print("sent", number)
            await ws.send("done")

    server.start()
"""


def piece(number: int) -> ServerFrame:
    return ServerFrame(BINARY, number.to_bytes(4, "big") * (PIECE // 4))


def opened(server: ServerProcess, client: RawClient) -> tuple[str, str]:
    """Let a client connect; return its fd and its worker."""
    before = len(server.lines())
    client.upgrade()
    line = wait_for(lambda: server.lines()[before:], "the open callback")[0]
    _, fd, worker = line.split()
    return fd, worker


def push(server: ServerProcess, by: RawClient, fd: str, first: int, last: int) -> None:
    """Push numbered pieces to a connection, and wait until the callback has finished."""
    by.send_frame(TEXT, f"{fd} {first} {last}".encode())
    server.wait_line(f"pushed {last}")


def marks(server: ServerProcess, count: int) -> list[list[str]]:
    """Return the full and empty buffer events as soon as there are that many."""
    told: list[list[str]] = []

    def are_there() -> bool:
        told[:] = [line.split() for line in server.lines() if line.startswith(("full", "empty"))]
        return len(told) >= count

    wait_for(are_there, f"{count} crossings of a mark")
    return told


def queued(server: ServerProcess) -> int:
    return int(server.status()["masters"][0]["queued_bytes"])


def test_full_and_empty_run_in_turn_once_per_crossing_in_the_worker_that_has_the_connection(serve: Serve) -> None:
    server = serve(
        CALLBACKS, workers=2, socket_buffer_size=16 * MIB, buffer_high_watermark=2 * MIB, buffer_low_watermark=PIECE
    )
    with RawClient(server.port, **SLOW) as reader, RawClient(server.port) as pusher:
        fd, worker = opened(server, reader)
        assert opened(server, pusher)[1] != worker
        for turn in range(3):
            push(server, pusher, fd, 128 * turn, 128 * (turn + 1))
            assert len(marks(server, 2 * turn + 1)) == 2 * turn + 1
            for number in range(128 * turn, 128 * (turn + 1)):
                assert reader.read_frame() == piece(number)
            assert len(marks(server, 2 * turn + 2)) == 2 * turn + 2
    told = marks(server, 6)
    assert [line[:3] for line in told] == [["full", fd, worker], ["empty", fd, worker]] * 3
    assert all(line[3] == "True" for line in told[::2])
    assert all(int(line[3]) <= PIECE for line in told[1::2])


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest"])
def test_a_drop_policy_leaves_out_whole_messages_counts_them_and_keeps_the_connection(
    serve: Serve, policy: str
) -> None:
    server = serve(CALLBACKS, slow_reader=policy, socket_buffer_size=2 * MIB)
    with RawClient(server.port, **SLOW) as reader, RawClient(server.port) as pusher:
        fd, _ = opened(server, reader)
        own_fd, _ = opened(server, pusher)
        push(server, pusher, fd, 0, 200)
        push(server, pusher, own_fd, 200, 201)
        assert pusher.read_frame() == piece(200), "behind all the others"
        dropped = server.status()["masters"][0]["messages_dropped"]
        got = []
        for _ in range(200 - dropped):
            frame = reader.read_frame()
            got.append(int.from_bytes(frame.payload[:4], "big"))
            assert frame == piece(got[-1])
        assert dropped > 0
        assert got == sorted(set(got))
        if policy == "drop_newest":
            assert got[:31] == list(range(31)), "what had found room stays"
        else:
            assert got[-1] == 199
            assert got[:31] != list(range(31)), "what is behind is let go of"
        push(server, pusher, fd, 300, 301)
        assert reader.read_frame() == piece(300)


def test_send_waits_for_a_client_that_reads_slowly_and_all_arrives(serve: Serve) -> None:
    """Many times what may be queued for it, with the default limits."""
    server = serve(HANDLER)
    with RawClient(server.port, receive_buffer=65536) as client:
        client.upgrade()
        client.send_frame(TEXT, b"1000")
        for number in range(1000):
            assert client.read_frame() == piece(number)
        assert client.read_frame() == ServerFrame(TEXT, b"done")
    assert server.status()["masters"][0]["slow_readers_closed"] == 0


def test_send_suspends_while_a_client_does_not_read_and_holds_up_no_other(serve: Serve) -> None:
    server = serve(HANDLER)
    with RawClient(server.port, **SLOW) as silent, RawClient(server.port) as quick:
        silent.upgrade()
        quick.upgrade()
        silent.send_frame(TEXT, b"200")
        wait_for(lambda: queued(server) > 256 * 1024, "the buffer to fill")
        for _ in range(20):
            quick.send_frame(TEXT, b"1")
            assert quick.read_frame() == piece(0)
            assert quick.read_frame() == ServerFrame(TEXT, b"done")
        assert queued(server) < MIB, "far below the limit, where the client would be closed"
        assert "sent 100" not in server.lines()
        for number in range(200):
            assert silent.read_frame() == piece(number)
        assert silent.read_frame() == ServerFrame(TEXT, b"done")
