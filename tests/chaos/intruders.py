"""Clients that misbehave: they send garbage, do not read, flood the server, or only use up descriptors."""

from __future__ import annotations

import asyncio
import random
import resource
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack

import psutil
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.chaos.account import Account
from tests.chaos.clients import NO_CLOSE_FRAME, Client
from tests.chaos.ledger import Closing, Post
from tests.process.server_process import ServerProcess

GARBAGE = (b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00" * 64, b"GET / HT")
NUMBERS = range(200, 256)  # numbers of clients that inject one fault
FLOODING = 12
FLOOD = (24, 64 * 1024)  # messages of each, and their bytes: less than may be queued for one client
WINDOW_BYTES = 1 << 20  # of the flooded servers; each message takes twice its size
STALLING = 2
CROWD = 64  # with two masters, far more than the spare descriptors come to either
SPARE_DESCRIPTORS = 8  # that a master has left when the crowd connects
PATIENCE_S = 60.0


class Intruders:
    """They run one kind at a time, and leave."""

    def __init__(self, server: ServerProcess, account: Account, post: Post, chance: random.Random) -> None:
        self._server = server
        self._account = account
        self._post = post
        self._random = chance

    async def garbage(self) -> None:
        """Send bytes that are no handshake, and leave."""
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
            writer.write(self._random.choice(GARBAGE))
            await writer.drain()
            writer.close()
        except OSError:
            pass

    async def flood(self) -> None:
        """Fill a window while the workers are stopped; when they continue, everything is answered in order."""
        workers = [psutil.Process(pid) for pid in await asyncio.to_thread(self._server.pids, "worker")]
        ledger, port = self._account.ledger, self._server.port
        clients = [Client(number, port, ledger, self._post, flood=FLOOD) for number in NUMBERS[:FLOODING]]
        for worker in workers:
            worker.send_signal(signal.SIGSTOP)
        try:
            flooding = asyncio.gather(*(client.run() for client in clients))
            await self._wait(self._is_full, "the window of a stopped worker to be full")
        finally:
            for worker in workers:
                worker.send_signal(signal.SIGCONT)
        await flooding

    def _is_full(self) -> bool:
        masters = self._server.report()["masters"]
        windows = [worker["outstanding_bytes"] for master in masters for worker in master["workers"]]
        return max(windows) > WINDOW_BYTES // 2 - 2 * FLOOD[1] and any(master["parked_bytes"] for master in masters)

    async def stall(self) -> None:
        """Request much output without reading: closed with 1013, since it would take unbounded memory."""
        await self._wait(self._all_answer, "all masters to tell how many they have closed")
        kicked = await asyncio.to_thread(self._kicked)  # before the first of them connects: later it may be gone again
        await asyncio.gather(*(self._stall(number, kicked + STALLING) for number in NUMBERS[:STALLING]))

    async def _stall(self, number: int, kicked: int) -> None:
        """Act as one client that does not read.

        Args:
            number: the client's number.
            kicked: how many connections the server will have closed when all are; only then may one read.
        """
        code = 0
        try:
            async with connect(
                f"ws://127.0.0.1:{self._server.port}/",
                compression=None,
                ping_interval=None,
                proxy=None,
                max_queue=1,
                open_timeout=PATIENCE_S,
            ) as connection:
                await connection.send(f"{number}:0:much")
                await self._wait(lambda: self._kicked() >= kicked, "the clients that do not read to be closed")
                while True:
                    await connection.recv()
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else NO_CLOSE_FRAME
        self._account.ledger.closings.append(Closing(number, code, 0))
        if code != 1013:
            self._account.broken.append(f"a client that did not read was closed with {code}")

    def _all_answer(self) -> bool:
        return len(self._server.report()["masters"]) == self._server.reactors

    def _kicked(self) -> int:
        return sum(int(master["slow_readers_closed"]) for master in self._server.report()["masters"])

    async def crowd(self) -> None:
        """Use up all descriptors that a master has left: further connections are dropped, existing ones are still
        served.
        """
        master = psutil.Process(self._random.choice(await asyncio.to_thread(self._server.pids, "master")))
        soft, hard = master.rlimit(resource.RLIMIT_NOFILE)
        with ExitStack() as crowd:
            master.rlimit(resource.RLIMIT_NOFILE, (master.num_fds() + SPARE_DESCRIPTORS, hard))
            crowd.callback(master.rlimit, resource.RLIMIT_NOFILE, (soft, hard))
            ends = []
            for _ in range(CROWD):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
                crowd.callback(writer.close)
                ends.append(asyncio.ensure_future(_end(reader)))
            await asyncio.wait(ends, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
            answered = self._account.ledger.answered
            await self._wait(
                lambda: self._account.ledger.answered > answered, "anybody to be served while there are no descriptors"
            )
            dropped = sum(end.done() for end in ends)
        await asyncio.gather(*ends)
        if not 0 < dropped < CROWD:
            self._account.broken.append(f"{dropped} of {CROWD} were dropped when there were no descriptors")

    async def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not await asyncio.to_thread(condition):
            if time.monotonic() > deadline:
                self._account.broken.append(f"waited in vain for {what}")
                return
            await asyncio.sleep(0.02)


async def _end(reader: asyncio.StreamReader) -> None:
    """Return when the server or the client has ended the connection."""
    try:
        await reader.read(1)
    except OSError:
        pass
