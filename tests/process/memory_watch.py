"""Measures the memory of a server's processes continuously, and clients that load it without regard."""

from __future__ import annotations

import os
import selectors
import socket
import sys
import threading
from pathlib import Path
from types import TracebackType

from tests.client_frames import client_frame
from tests.process.raw_client import BINARY, TEXT, RawClient
from tests.process.server_process import ServerProcess
from tests.process.waiting import wait_for

MIB = 1 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")
SAMPLE_S = 0.01
TOLERANCE = 1.2
NOISE = 2 * MIB  # first runs of code, and pages that the allocator rounds up to
SEND_BUFFER = 65536  # of a flooding client: keeps what the kernels hold between us small
QUIET_LOOKS = 5  # looks in which a live master has read nothing more


def resident(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * PAGE


class MemoryWatch:
    """Watches every process of a server during the `with` block; its memory at the start is the baseline."""

    def __init__(self, server: ServerProcess) -> None:
        self._pids = {
            "supervisor": [server.process.pid],
            "master": server.pids("master"),
            "worker": server.pids("worker"),
        }
        self._before = {pid: resident(pid) for pids in self._pids.values() for pid in pids}
        self._highest = dict(self._before)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            for pid in self._before:
                self._highest[pid] = max(self._highest[pid], resident(pid))

    def grown(self, role: str) -> int:
        """Return the largest growth of a process of this role, in bytes."""
        return max(self._highest[pid] - self._before[pid] for pid in self._pids[role])

    def assert_within(self, freed: int = 0, **limits: int) -> None:
        """Assert that no process has grown by more than the limits for its role, plus a fifth.

        Args:
            freed: additional bytes for roles with a limit, because they keep freed memory.
            limits: bytes, by role.
        """
        for role in self._pids:
            grown, limit = self.grown(role), limits.get(role, 0)
            print(f"{role}: {grown / MIB:.1f} MiB of {limit / MIB:.1f}")
            allowed = TOLERANCE * limit + (freed if limit else 0) + NOISE
            assert grown <= allowed, f"{role}: {grown / MIB:.1f} MiB of {limit / MIB:.1f}"


class Flood:
    """Clients that send one message again and again, as fast as the server allows, and read nothing."""

    def __init__(self, server: ServerProcess, clients: int, size: int, first: str = "", parts: bool = False) -> None:
        """Connect.

        Args:
            server: the server.
            clients: number of clients.
            size: bytes per message.
            first: a text that each of them sends before.
            parts: whether messages stay incomplete.
        """
        frame = client_frame(BINARY, b"x" * size)
        self._frames = frame[:-1] if parts else frame * max(1, 65536 // len(frame))
        self._most = len(self._frames) if parts else sys.maxsize
        self._server = server
        self.clients = [RawClient(server.port).upgrade() for _ in range(clients)]
        for client in self.clients:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            if first:
                client.send_frame(TEXT, first.encode())
        self._sent = dict.fromkeys((client.socket for client in self.clients), 0)
        self._ended = False
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> Flood:
        for client in self.clients:
            client.socket.setblocking(False)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop()
        for client in self.clients:
            client.socket.close()

    def stop(self) -> None:
        """Stop sending."""
        self._ended = True
        self._thread.join()

    def wait_stopped(self) -> None:
        """Wait until backpressure has stopped all clients: nothing more was sent between several answers of the
        master.
        """
        seen: list[tuple[int, int]] = []

        def are_stopped() -> bool:
            masters = self._server.status()["masters"]
            seen.append((masters[0]["bytes_in"] if masters else -len(seen), sum(self._sent.values())))
            return len(seen) > QUIET_LOOKS and len(set(seen[-QUIET_LOOKS:])) == 1

        wait_for(are_stopped, "the clients to be stopped")

    def _send(self) -> None:
        selector = selectors.DefaultSelector()
        for each in self._sent:
            selector.register(each, selectors.EVENT_WRITE)
        while not self._ended:
            for key, _ in selector.select(0.05):
                self._send_some(key.fileobj)  # type: ignore[arg-type]
        selector.close()

    def _send_some(self, to: socket.socket) -> None:
        begin = self._sent[to] % len(self._frames)
        if self._sent[to] == self._most:
            return
        try:
            count = to.send(memoryview(self._frames)[begin:])
        except OSError:  # it is full, or the connection is broken
            return
        self._sent[to] += count


class Audience:
    """Clients that read everything as fast as they can without looking at it, or that never read."""

    def __init__(self, port: int, clients: int, reads: bool = True) -> None:
        """Connect that many clients."""
        small = {} if reads else {"receive_buffer": 4096, "segment": 536}
        self.clients = [RawClient(port, **small).upgrade() for _ in range(clients)]
        self._ended = not reads
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Audience:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._ended = True
        self._thread.join()
        for client in self.clients:
            client.socket.close()

    def command(self, text: str) -> None:
        """Let the first client send a text."""
        self.clients[0].send_frame(TEXT, text.encode())

    def _read(self) -> None:
        selector = selectors.DefaultSelector()
        for client in self.clients:
            selector.register(client.socket, selectors.EVENT_READ)
        buffer = bytearray(MIB)
        while not self._ended and selector.get_map():
            for key, _ in selector.select(0.05):
                each: socket.socket = key.fileobj  # type: ignore[assignment]
                if not each.recv_into(buffer):
                    selector.unregister(each)
        selector.close()
