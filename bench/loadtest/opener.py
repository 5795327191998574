"""Opens connections: TCP, TLS, upgrade, many at the same time in an epoll loop.

A ``Dialer`` knows how to reach a server. An ``Attempt`` is one connection that is being opened: a chain of steps, each
of which goes as far as it can without waiting. An ``Opener`` drives many attempts. ``find_address()`` tries the server
once before the run, so that an unreachable server is reported once and immediately.
"""

import errno
import os
import select
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from zwoole.bench.loadtest.content import masked_frame
from zwoole.bench.loadtest.handshake import (
    HEAD_END,
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    Deflate,
    HandshakeError,
    Upgrade,
    is_body_complete,
    refusal,
    status_of,
)
from zwoole.bench.loadtest.plan import Plan

AT_ONCE = 64  # below the backlog of asyncio's servers, 100
TIMEOUT_S = 30.0
BODY_TIMEOUT_S = 1.0  # for the rest of a refusal whose status has arrived
POLL_S = 0.05  # how late a deadline may be noticed if nothing arrives
REPORT_S = 0.1
CLOSE_FRAME = masked_frame(0x88, (1000).to_bytes(2, "big"))

_CLOSE_WAIT_S = 1.0  # how long find_address() waits for the end of its connection
_IP_BIND_ADDRESS_NO_PORT = 24  # from linux/in.h: choose the port on connect, so that destinations share it


@dataclass(frozen=True)
class Address:
    """The address of a server."""

    family: int
    sockaddr: tuple[Any, ...]


class Dialer:
    """How to reach a server: its address, TLS, the upgrade, and the source addresses."""

    def __init__(self, plan: Plan, address: Address, timeout_s: float = TIMEOUT_S) -> None:
        self.upgrade = Upgrade(plan)
        self.timeout_s = timeout_s
        self._address = address
        self._host = plan.target.host
        self._tls = _tls_context(plan.insecure) if plan.target.secure else None
        self._sources = [f"127.0.0.{index}" for index in range(1, plan.sources + 1)]

    @property
    def secure(self) -> bool:
        """Whether TLS precedes the upgrade."""
        return self._tls is not None

    def connect(self, number: int) -> socket.socket:
        """Return a nonblocking socket that is being connected; ``number`` selects its source address.

        Raises:
            OSError: the connection cannot be started.
        """
        sock = socket.socket(self._address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._sources:
                sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind((self._sources[number % len(self._sources)], 0))
            code = sock.connect_ex(self._address.sockaddr)
            if code == errno.EADDRNOTAVAIL:
                raise OSError(code, f"{os.strerror(code)} (no free port: --sources takes more addresses)")
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
        except BaseException:
            sock.close()
            raise
        return sock

    def wrap(self, sock: socket.socket) -> ssl.SSLSocket:
        """Return a connected socket wrapped in TLS, before the TLS handshake."""
        assert self._tls is not None
        return self._tls.wrap_socket(sock, server_hostname=self._host, do_handshake_on_connect=False)


def _tls_context(insecure: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


Step = Callable[[], "Step | None"]  # returns the next step; None at the end


class Attempt:
    """One connection that is being opened. At the end ``error`` says why it failed; None if it is open."""

    def __init__(self, dialer: Dialer, number: int) -> None:
        """Start to connect; ``number`` is the connection's number in the run."""
        self.number = number
        self.began_ns = time.monotonic_ns()
        self.deadline_ns = self.began_ns + int(dialer.timeout_s * 1e9)
        self.wants = select.EPOLLOUT  # what to wait for after proceed() returned False
        self.error: HandshakeError | None = None
        self.received = b""  # at the end: data that followed the response
        self.deflate: Deflate | None = None
        self._dialer = dialer
        self._outgoing, self._accept = dialer.upgrade.request()
        self._head = b""
        self._step: Step | None = self._start_tls if dialer.secure else self._send_request
        try:
            self.sock = dialer.connect(number)
        except OSError as error:
            self.sock = socket.socket()
            self._fail(HandshakeError("refused", error.strerror or str(error)))

    def proceed(self) -> bool:
        """Continue as far as possible without waiting; return whether the attempt has ended, successfully or not."""
        try:
            while self._step:
                self._step = self._step()
        except BlockingIOError:
            return False
        except ssl.SSLWantReadError:
            self.wants = select.EPOLLIN
            return False
        except ssl.SSLWantWriteError:
            self.wants = select.EPOLLOUT
            return False
        except HandshakeError as error:
            self._fail(error)
        except ssl.SSLError as error:
            self._fail(HandshakeError("tls", _tls_reason(error)))
        except OSError as error:
            self._fail(HandshakeError("refused", error.strerror or str(error)))
        return True

    def expire(self) -> None:
        """End the attempt because its time is over."""
        if self._head:
            self._fail(refusal(self._head, self.received))
        else:
            self._fail(HandshakeError("timeout", f"not upgraded within {self._dialer.timeout_s:g} s"))

    def _fail(self, error: HandshakeError) -> None:
        self.error = error
        self._step = None
        self.sock.close()

    # The steps.

    def _start_tls(self) -> Step:
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        try:
            self.sock.getpeername()
        except OSError:  # it is not connected yet
            raise BlockingIOError from None
        self.sock = self._dialer.wrap(self.sock)
        return self._tls_handshake

    def _tls_handshake(self) -> Step:
        assert isinstance(self.sock, ssl.SSLSocket)
        self.sock.do_handshake()
        return self._send_request

    def _send_request(self) -> Step:
        self.wants = select.EPOLLOUT
        while self._outgoing:
            self._outgoing = self._outgoing[self.sock.send(self._outgoing) :]
        return self._read_response

    def _read_response(self) -> Step | None:
        self.wants = select.EPOLLIN
        while HEAD_END not in self.received:
            more = self.sock.recv(4096)
            if not more:
                raise HandshakeError("refused", "connection closed in the opening handshake")
            self.received += more
            if len(self.received) > MAX_HEAD_BYTES:
                raise HandshakeError("accept", f"response longer than {MAX_HEAD_BYTES} bytes")
        head, _, self.received = self.received.partition(HEAD_END)
        if status_of(head).startswith("101"):
            self.deflate = self._dialer.upgrade.check(head, self._accept)
            return self._opened()
        self._head = head
        self.deadline_ns = time.monotonic_ns() + int(BODY_TIMEOUT_S * 1e9)
        return self._read_refusal

    def _read_refusal(self) -> Step | None:
        while len(self.received) < MAX_BODY_BYTES and not is_body_complete(self._head, self.received):
            more = self.sock.recv(4096)
            if not more:
                break
            self.received += more
        raise refusal(self._head, self.received)

    def _opened(self) -> Step | None:
        """Return the step after the handshake; there is none here."""
        return None


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: certificate not accepted: {error.verify_message} (--insecure does not verify it)"
    return f"TLS: {(error.reason or str(error)).lower().replace('_', ' ')}"


class Opener:
    """Drives attempts."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._attempts: dict[int, tuple[Attempt, int]] = {}  # descriptor -> attempt, and the event that epoll waits for
        self._ended: list[Attempt] = []
        self._next_look_ns = 0

    def __len__(self) -> int:
        return len(self._attempts) + len(self._ended)

    def add(self, attempt: Attempt) -> None:
        """Take over an attempt that has just started."""
        self._advance(attempt, 0)

    def turn(self, timeout_s: float = POLL_S) -> list[Attempt]:
        """Wait ``timeout_s`` at most; return the attempts that have ended."""
        for fd, _ in self._epoll.poll(0 if self._ended else timeout_s):
            self._advance(*self._attempts[fd])
        now_ns = time.monotonic_ns()
        if now_ns >= self._next_look_ns:
            self._next_look_ns = now_ns + int(POLL_S * 1e9)
            self._expire(now_ns)
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        """Abandon all attempts."""
        for attempt, _ in self._attempts.values():
            attempt.sock.close()
        self._epoll.close()

    def _advance(self, attempt: Attempt, asked: int) -> None:
        fd = attempt.sock.fileno()
        ended = attempt.proceed()
        if ended:
            if asked:
                self._forget(fd, attempt)
            self._ended.append(attempt)
            return
        fd = attempt.sock.fileno()
        if not asked:
            self._epoll.register(fd, attempt.wants)
        elif asked != attempt.wants:
            self._epoll.modify(fd, attempt.wants)
        self._attempts[fd] = attempt, attempt.wants

    def _forget(self, fd: int, attempt: Attempt) -> None:
        del self._attempts[fd]
        if attempt.sock.fileno() >= 0:  # epoll removes closed descriptors by itself
            self._epoll.unregister(fd)

    def _expire(self, now_ns: int) -> None:
        for fd, (attempt, _) in list(self._attempts.items()):
            if now_ns >= attempt.deadline_ns:
                attempt.expire()
                self._forget(fd, attempt)
                self._ended.append(attempt)


@dataclass
class Opened:
    """The result of open_connections()."""

    attempts: list[Attempt] = field(default_factory=list)
    """Successful attempts by number; their sockets are nonblocking, SSLSockets for wss."""
    errors: Counter[str] = field(default_factory=Counter)
    """Counts by handshake.ERROR_KINDS."""
    first_error: str = ""
    began_ns: int = 0
    ended_ns: int = 0


def open_connections(
    dialer: Dialer, count: int, first: int = 0, report: Callable[[int, "Counter[str]"], None] | None = None
) -> Opened:
    """Open connections; failures are counted, not raised.

    Args:
        dialer: the server.
        count: number of connections.
        first: number of the first connection.
        report: called now and then with the number of open connections and the failures so far.
    """
    opener = Opener()
    opened = Opened(began_ns=time.monotonic_ns())
    numbers = iter(range(first, first + count))
    next_report_ns = 0
    waiting = count
    while waiting or len(opener):
        while waiting and len(opener) < AT_ONCE:
            opener.add(Attempt(dialer, next(numbers)))
            waiting -= 1
        for attempt in opener.turn():
            if attempt.error:
                opened.errors[attempt.error.kind] += 1
                opened.first_error = opened.first_error or str(attempt.error)
            else:
                opened.attempts.append(attempt)
        if report and time.monotonic_ns() >= next_report_ns:
            next_report_ns = time.monotonic_ns() + int(REPORT_S * 1e9)
            report(len(opened.attempts), opened.errors)
    opener.close()
    opened.ended_ns = time.monotonic_ns()
    opened.attempts.sort(key=lambda attempt: attempt.number)
    return opened


def find_address(plan: Plan) -> Address:
    """Return the first address of the plan's host where a connection can be opened ("localhost" may have two).

    Raises:
        HandshakeError: there is none.
    """
    target = plan.target
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as unknown:
        raise HandshakeError("refused", unknown.strerror or str(unknown)) from None
    addresses = [Address(family, sockaddr) for family, _, _, _, sockaddr in found]
    if plan.sources:
        addresses = [address for address in addresses if str(address.sockaddr[0]).startswith("127.")]
    error = HandshakeError("refused", "--sources uses 127.0.0.x, and the server has no address there")
    for address in addresses:
        opened = _try_out(Dialer(plan, address))
        if opened is None:
            return address
        error = opened
    raise error


def _try_out(dialer: Dialer) -> HandshakeError | None:
    """Open a connection and close it again; return the error, None if there was none."""
    opener = Opener()
    opener.add(Attempt(dialer, 0))
    ended: list[Attempt] = []
    while not ended:
        ended = opener.turn()
    opener.close()
    attempt = ended[0]
    if attempt.error is None:
        attempt.sock.settimeout(_CLOSE_WAIT_S)
        try:
            attempt.sock.sendall(CLOSE_FRAME)
            while attempt.sock.recv(4096):
                pass
        except OSError:
            pass
        attempt.sock.close()
    return attempt.error
