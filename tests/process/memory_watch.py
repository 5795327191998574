"""How much memory the processes of a server take, watched all along, and clients that take no heed of it."""

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
NOISE = 2 * MIB  # code that runs for the first time, pages that the allocator rounds up to
SEND_BUFFER = 65536  # of a client that floods: what the kernels hold between us is of no interest
QUIET_LOOKS = 5  # in which a master that turns has read nothing more


def resident(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * PAGE


class MemoryWatch:
    """Watches every process of a server from `with` to its end; what each had before is its baseline."""

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
        """Return by how many bytes a process of this role has grown at most."""
        return max(self._highest[pid] - self._before[pid] for pid in self._pids[role])

    def assert_within(self, freed: int = 0, **limits: int) -> None:
        """Assert that no process has grown by more than the limits that apply to its role, and a fifth.

        Args:
            freed: bytes that those with a limit may have on top, because they keep what they have freed.
            limits: bytes, by role.
        """
        for role in self._pids:
            grown, limit = self.grown(role), limits.get(role, 0)
            print(f"{role}: {grown / MIB:.1f} MiB of {limit / MIB:.1f}")
            allowed = TOLERANCE * limit + (freed if limit else 0) + NOISE
            assert grown <= allowed, f"{role}: {grown / MIB:.1f} MiB of {limit / MIB:.1f}"


class Flood:
    """Clients that send one message again and again, as fast as the server lets them, and read nothing."""

    def __init__(self, server: ServerProcess, clients: int, size: int, first: str = "", parts: bool = False) -> None:
        """Connect.

        Args:
            server: where to.
            clients: how many.
            size: bytes of one message.
            first: a text that each of them sends before.
            parts: whether no message is sent to its end.
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
        """Send no more."""
        self._ended = True
        self._thread.join()

    def wait_stopped(self) -> None:
        """Wait until backpressure has stopped all clients: no more went off between several answers of the master."""
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
        except OSError:  # it is full, or cut off
            return
        self._sent[to] += count


class Audience:
    """Clients that read all they are sent as fast as they can, and look at none of it; or that never read."""

    def __init__(self, port: int, clients: int, reads: bool = True) -> None:
        """Connect so many clients."""
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
        """Have the first client send a text."""
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
