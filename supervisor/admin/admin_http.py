"""The admin listener: /metrics, /healthz and /readyz over HTTP, in threads of the supervisor. Off unless configured.

It asks no other process: metrics are read from the snapshots, so a master or worker that is stuck does not block it.
"""

from __future__ import annotations

import hmac
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import Any

from zwoole.shared.errors import StartError
from zwoole.shared.process.log import get_logger
from zwoole.shared.request import path_only
from zwoole.supervisor.system.listening import explain

METHODS = ("GET", "HEAD")
MAX_CONNECTIONS = 8  # one more closes the oldest, so that silent clients do not block others
IDLE_S = 5.0  # after so long without a byte in or out a connection is closed
WHOLE_S = 15.0  # after so long a connection is closed in any case
POLL_S = 0.1  # within so long the thread notices that it is to end

Readiness = Callable[[], tuple[bool, str]]  # whether clients should be sent here; the same in words

log = get_logger("admin")


class AdminListener:
    """Serves metrics and health checks."""

    def __init__(self, address: tuple[str, int], token: str, run_dir: Path, readiness: Readiness) -> None:
        """Open the socket.

        Args:
            address: the host and the port to listen on.
            token: what clients must know, "" for nothing.
            run_dir: the run directory.
            readiness: returns whether clients should be sent here, and in words why not; called in other threads.

        Raises:
            StartError: the address cannot be listened on, or needs a token.
        """
        host, port = address
        if not token and not is_loopback(host):
            raise StartError(f"admin_host {host} can be reached from other machines: set admin_token too")
        try:
            self._server = _HttpServer(address, token, run_dir, readiness)
        except OSError as error:
            raise StartError(f"cannot listen on {host}:{port} (admin_port): {explain(error)}") from None
        except TypeError:  # the encoding of names refuses it
            raise StartError(f"cannot listen on {host!r} (admin_port): no host has such a name") from None
        self._thread = threading.Thread(target=self._serve, name="admin", daemon=True)
        self._url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> None:
        """Begin to answer requests."""
        self._thread.start()
        log.info("admin listener on %s: /metrics, /healthz, /readyz", self._url)

    def close(self) -> None:
        """Close the socket. A request that is being answered is cut off when the process ends."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()

    def abandon(self) -> None:
        """Close the socket in a forked child, which has no thread that serves it."""
        self._server.server_close()

    def _serve(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for the supervisor's own thread
        self._server.serve_forever(POLL_S)


class _HttpServer(ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128  # connections that the kernel queues: more in a burst than this thread accepts at once

    def __init__(self, address: tuple[str, int], token: str, run_dir: Path, readiness: Readiness) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.token = token
        self.run_dir = run_dir
        self.readiness = readiness
        self._clients: dict[socket.socket, None] = {}  # the oldest first
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            if len(self._clients) >= MAX_CONNECTIONS:
                oldest = next(iter(self._clients))
                del self._clients[oldest]
                cut_off(oldest)
            self._clients[request] = None
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread can be started
            self._forget(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def _forget(self, request: socket.socket) -> None:
        with self._lock:
            self._clients.pop(request, None)

    def handle_error(self, request: object, client_address: object) -> None:
        log.debug("a request to the admin listener failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _HttpServer
    timeout = IDLE_S

    def version_string(self) -> str:
        """Return the value of the header `Server`: without versions, which would help to choose an attack."""
        return "zwoole"

    def parse_request(self) -> bool:
        """Read the head of a request; answer it if its method is not one of METHODS."""
        if not super().parse_request():
            return False
        if self.command in METHODS:
            return True
        self._answer(405, f"there are {' and '.join(METHODS)}\n", Allow=", ".join(METHODS))
        return False

    def handle(self) -> None:
        """Answer one request, in bounded time whatever the client does."""
        limit = threading.Timer(WHOLE_S, cut_off, [self.connection])
        limit.daemon = True
        limit.start()
        try:
            super().handle()
        finally:
            limit.cancel()

    def do_GET(self) -> None:
        if not self._may_enter():
            self._answer(401, "a token is needed: Authorization: Bearer ...\n", WWW_Authenticate="Bearer")
        elif self.path == "/metrics":
            from zwoole.supervisor.admin.metrics import CONTENT_TYPE, render  # imported at the first request only

            self._answer(200, render(self.server.run_dir), Content_Type=CONTENT_TYPE)
        elif self.path == "/healthz":
            self._answer(200, "ok\n")
        elif self.path == "/readyz":
            ready, words = self.server.readiness()
            self._answer(200 if ready else 503, f"{words}\n")
        else:
            self._answer(404, "there are /metrics, /healthz and /readyz\n")

    do_HEAD = do_GET  # _answer leaves the body out

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log an answer with the path of the request, without its query: that may hold a secret."""
        path = path_only(self.path) if self.command else "(malformed)"
        log.debug("%s %s: %d", self.command or "-", path, code)

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing: this method gets what `log_request` has logged already, with the whole line of the request."""

    def _may_enter(self) -> bool:
        token = self.server.token
        given = self.headers.get("Authorization", "")
        return not token or hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {token}".encode())

    def _answer(self, status: int, text: str, **headers: str) -> None:
        body = text.encode()
        self.send_response(status)
        headers = {"Content_Type": "text/plain; charset=utf-8", "Content_Length": str(len(body)), **headers}
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def cut_off(client: socket.socket) -> None:
    """End a connection, and with it whatever its thread is waiting for."""
    try:
        client.shutdown(socket.SHUT_RDWR)
    except OSError:  # the client has closed it already
        pass


def is_loopback(host: str) -> bool:
    """Tell whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
