"""Every setting: its name (Swoole's, where Swoole has it), its default, its bounds and what it means."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from zwoole.shared import cpus, swoole_names
from zwoole.shared.errors import SettingsError
from zwoole.shared.origins import as_sent
from zwoole.shared.request import TOKEN

KIB = 1024
MIB = 1024 * KIB

MAX_WORKERS = 1024
FINISH_SHARE = 0.7  # of `max_wait_time`, for finishing accepted messages; then they are cut short

SECRETS = ("admin_token",)  # settings whose values are shown nowhere
PATHS = ("log_file", "pid_file")
LOG_FORMATS = ("text", "json")
LOOPS = ("asyncio", "uvloop")
LOG_LEVELS = ("debug", "info", "warning", "error")
RATE_LIMIT_POLICY = ("slow", "close")
SLOW_READER = ("close", "drop_newest", "drop_oldest")


def _token(text: str) -> str:
    """Return a subprotocol.

    Raises:
        ValueError: it is no token, so no client can offer it.
    """
    if not re.fullmatch(TOKEN, text):
        raise ValueError("is no token: letters, digits and !#$%&'*+.^_`|~- only")
    return text


def _host(text: str) -> str:
    """Return a host.

    Raises:
        ValueError: it is a URL, or has a port.
    """
    bare = re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://", "", text).partition("/")[0]
    if bare.startswith("["):  # an IPv6 address, as URLs have it
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    if bare != text:
        bare = bare or "0.0.0.0"  # ":8080" has no host: elsewhere that stands for all addresses
        raise ValueError(f"is a name or an address, without scheme and port: write {bare!r}, not {text!r}")
    return text


def _setting(
    default: Any,
    doc: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
    each: Callable[[str], str] | None = None,
) -> Any:
    metadata = {"doc": doc, "low": low, "high": high, "choices": choices, "each": each}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective settings of a server. `update` checks what it is given."""

    host: str = _setting(
        "127.0.0.1",
        "address to listen on: an IPv4 or IPv6 address, or a host name. `0.0.0.0`: all IPv4 addresses; `::`: all IPv6"
        " and IPv4 addresses",
        each=_host,
    )
    port: int = _setting(8080, "TCP port to listen on; 0: a free port", 0, 65535)
    worker_num: int = _setting(min(cpus.usable(), MAX_WORKERS), "number of worker processes", 1, MAX_WORKERS)
    reactor_num: int = _setting(1, "number of master processes, each with its own reactor", 1, 64)
    backlog: int = _setting(4096, "connections that the kernel queues until the master accepts them", 1, 65535)
    max_connection: int = _setting(
        0, "connections at a time, at most; 0: as many as the file descriptors allow", 0, 1 << 20
    )
    max_connection_per_ip: int = _setting(
        0, "connections at a time from one IP address, at most; 0: no limit", 0, 1 << 20
    )
    accept_rate: int = _setting(
        0, "connections accepted in a second, at most; further ones wait in the kernel; 0: no limit", 0, 1 << 20
    )
    websocket_compression: bool = _setting(
        False,
        "True: compress messages (permessage-deflate) for clients that offer it; this costs CPU and memory",
    )
    compression_level: int = _setting(1, "level of compression: 1 is the fastest, 9 gives the smallest messages", 1, 9)
    compression_threshold: int = _setting(256, "size in bytes below which a message is not compressed", 0, 1 << 30)
    compression_window_bits: int = _setting(
        15,
        "size of the compression windows, 2^bits bytes: for messages that are sent, and the largest that clients are"
        " asked to use",
        9,
        15,
    )
    compression_context_takeover: bool = _setting(
        False,
        "True: keep the compression windows from message to message; messages become smaller, but each connection takes"
        " up to 300 KiB",
    )
    package_max_length: int = _setting(MIB, "largest message from a client, in bytes", 125, 1 << 30)
    http_head_max_length: int = _setting(16 * KIB, "largest head of a handshake request, in bytes", 256, MIB)
    handshake_timeout: float = _setting(
        10.0, "seconds that a client has to send the whole head of its handshake request", 0.05, 3600
    )
    allowed_origins: tuple[str, ...] = _setting(
        (),
        "origins of pages that may connect, such as `https://example.com` or `https://*.example.com`, or `*` for any;"
        " empty: only pages of the host that they connect to",
        each=as_sent,
    )
    subprotocols: tuple[str, ...] = _setting(
        (),
        "subprotocols that the app speaks, in its order of preference; the first one that the client offers is used",
        each=_token,
    )
    ping_interval: float = _setting(20.0, "seconds between pings to a client; 0: none", 0, 86400)
    ping_timeout: float = _setting(
        20.0, "seconds that a client has to answer a ping; any data counts as an answer; 0: no limit", 0, 86400
    )
    heartbeat_idle_time: float = _setting(
        0.0, "seconds after which a client is closed if it sends nothing, not even a pong; 0: never", 0, 1e9
    )
    rate_limit_messages: int = _setting(0, "messages a second from one client; 0: no limit", 0, 1 << 30)
    rate_limit_bytes: int = _setting(0, "bytes a second from one client; 0: no limit", 0, 1 << 40)
    rate_limit_policy: str = _setting(
        "slow",
        "policy for a client over these rates. slow: the master does not read from it for a while; close: the client is"
        " closed with 1008",
        choices=RATE_LIMIT_POLICY,
    )
    control_frames_per_second: int = _setting(
        100, "pings and pongs a second over which a client is closed; 0: no limit", 0, 1 << 30
    )
    close_timeout: float = _setting(
        10.0,
        "seconds that a client has to answer a close frame, and then as many to end its TCP connection",
        0.05,
        3600,
    )
    handover_timeout: float = _setting(
        30.0,
        "seconds over which a replaced worker closes the connections of its handlers with 1012, one after the other, so"
        " that their clients do not all reconnect at once; only the last connection has the whole time",
        0.1,
        3600,
    )
    adopt_timeout: float = _setting(
        2.0, "seconds that a worker may be missing; then the other workers adopt its connections", 0.05, 3600
    )
    max_request: int = _setting(
        0, "number of events after which a worker is replaced, 10 % more or less; 0: never", 0, 1 << 40
    )
    max_age: float = _setting(0.0, "seconds after which a worker is replaced, 10 % more or less; 0: never", 0, 1e9)
    max_memory: int = _setting(0, "bytes of resident memory over which a worker is replaced; 0: never", 0, 1 << 44)
    max_wait_time: float = _setting(10.0, "seconds that a graceful stop may take", 0.1, 3600)
    socket_buffer_size: int = _setting(
        0,
        "bytes that may be queued for one client; no message may be larger; 0: the larger of 2 MiB and 2 x"
        " package_max_length",
        0,
        1 << 31,
    )
    slow_reader: str = _setting(
        "close",
        "policy for a push beyond socket_buffer_size. close: the client is closed with 1013; drop_newest, drop_oldest:"
        " messages are dropped",
        choices=SLOW_READER,
    )
    buffer_high_watermark: int = _setting(
        0, "bytes queued for a client at which buffer_full runs; 0: 80 % of the limit for one client", 0, 1 << 31
    )
    buffer_low_watermark: int = _setting(0, "bytes queued for a client at which buffer_empty runs", 0, 1 << 31)
    output_total_bytes: int = _setting(
        256 * MIB,
        "memory for output queued for all clients; beyond it, the clients with the most queued output are cut off",
        MIB,
        1 << 40,
    )
    window_events: int = _setting(4096, "unfinished events that one worker may have", 1, 8192)
    window_bytes: int = _setting(
        16 * MIB,
        "bytes of the master's memory for the unfinished messages of one worker. A message of n bytes counts 2 n: the"
        " master keeps a copy, to send it again if the worker dies",
        KIB,
        1 << 31,
    )
    connection_window_events: int = _setting(64, "unfinished events that one connection may have", 1, 8192)
    connection_window_bytes: int = _setting(
        MIB, "bytes of unfinished messages that one connection may have", KIB, 1 << 31
    )
    parked_messages: int = _setting(
        32, "messages of one connection that may be parked, waiting for its worker", 1, 65536
    )
    parked_bytes: int = _setting(
        64 * KIB, "bytes of one connection that may be parked, waiting for its worker", KIB, 1 << 31
    )
    parked_total_bytes: int = _setting(256 * MIB, "memory for the parked messages of all connections", MIB, 1 << 40)
    partial_total_bytes: int = _setting(256 * MIB, "bytes of incomplete messages of all connections", MIB, 1 << 40)
    up_window_bytes: int = _setting(
        8 * MIB, "bytes that one worker may push before the master has taken them", KIB, 1 << 31
    )
    payload_ring_bytes: int = _setting(
        4 * MIB, "shared memory between a master and a worker for large payloads, each way; 0: none", 0, 1 << 30
    )
    pipe_queue_bytes: int = _setting(
        4 * MIB, "bytes of messages from other workers that may wait for one worker", KIB, 1 << 31
    )
    worker_timeout: float = _setting(
        60.0,
        "seconds that one callback may block its worker, or that a master may be stuck; then the stacks of the process"
        " are logged, and it is killed and replaced. Less than 3 counts as 3; 0: no limit",
        0,
        86400,
    )
    boot_timeout: float = _setting(
        60.0,
        "seconds that a new worker has to import the app and to run worker_start, before it is killed; 0: no limit",
        0,
        86400,
    )
    orphan_timeout: float = _setting(
        5.0,
        "seconds that processes which a worker has left behind have to end after SIGTERM, before they are killed",
        0,
        3600,
    )
    debug: bool = _setting(
        False, "True: workers read the terminal's input, so that `breakpoint()` works; `zwoole run --debug` sets it"
    )
    busy_poll_us: int = _setting(
        0,
        "microseconds that a master polls before it sleeps, while traffic is light: a lone message is answered sooner,"
        " but the master takes a core for it, so there should be more cores than busy processes; 0: no polling",
        0,
        100_000,
    )
    loop: str = _setting(
        "asyncio",
        "event loop of a worker whose app has coroutines: asyncio's own, or uvloop, which must be installed",
        choices=LOOPS,
    )
    slow_callback_s: float = _setting(1.0, "seconds after which a def callback is reported as slow; 0: never", 0, 3600)
    admin_port: int = _setting(0, "TCP port of the admin listener: /metrics, /healthz, /readyz; 0: none", 0, 65535)
    admin_host: str = _setting(
        "127.0.0.1",
        "IP address of the admin listener; an address that other machines can reach requires admin_token",
        each=_host,
    )
    admin_token: str = _setting(
        "", "token that requests to the admin listener must send as `Authorization: Bearer TOKEN`; empty: none"
    )
    log_level: str = _setting(
        "info",
        "lowest level that is logged, for zwoole and for the app unless it configures logging itself",
        choices=LOG_LEVELS,
    )
    log_format: str = _setting("text", "text: lines for people; json: one JSON object a line", choices=LOG_FORMATS)
    log_file: str = _setting(
        "", "file for the log and the output of workers; SIGRTMIN makes the server open it again; empty: none"
    )
    access_log: bool = _setting(
        False, "True: a line for every connection that opens or ends, and for every client that is refused"
    )
    pid_file: str = _setting("", "file that holds the supervisor's process id while the server runs; empty: none")
    daemonize: bool = _setting(
        False, "True: serve in the background; the command ends when the server is ready. Requires log_file"
    )
    user: str = _setting("", "user that the server runs as when the port is open, by name or number; empty: no change")
    group: str = _setting("", "group that the server runs as, by name or number; empty: the group of that user")

    @property
    def output_limit(self) -> int:
        """Bytes that may wait to be sent to one client."""
        return self.socket_buffer_size or max(2 * MIB, 2 * self.package_max_length)

    @property
    def high_watermark(self) -> int:
        """Bytes queued for a client at which `buffer_full` runs."""
        return self.buffer_high_watermark or self.output_limit * 8 // 10

    @property
    def max_fragments(self) -> int:
        """Frames that one message may come in."""
        return max(1024, self.package_max_length // 16)

    def update(self, given: Mapping[str, Any]) -> Settings:
        """Return these settings with others in their place.

        Raises:
            SettingsError: a name that is no setting, or a value that one cannot have.
        """
        known = {f.name: f for f in fields(self)}
        checked = {}
        for name, value in given.items():
            if not isinstance(name, str):
                raise SettingsError(f"a setting's name must be a string, not {name!r}")
            if name not in known:
                raise SettingsError(
                    f"unknown setting {name!r}{swoole_names.explain(name, swoole_names.SETTINGS, known)}"
                )
            checked[name] = _check(name, value, type(getattr(self, name)), known[name].metadata)
        return replace(self, **checked)

    def check_watermarks(self) -> None:
        """Check that an output queue can pass both watermarks, so that `buffer_full` and `buffer_empty` take turns.

        Raises:
            SettingsError: it cannot.
        """
        if self.high_watermark > self.output_limit:
            raise SettingsError(
                f"buffer_high_watermark ({self.high_watermark}) must not be above the {self.output_limit} bytes that"
                " may be queued for one client (socket_buffer_size): buffer_full would never run"
            )
        if self.buffer_low_watermark >= self.high_watermark:
            raise SettingsError(
                f"buffer_low_watermark ({self.buffer_low_watermark}) must be below the {self.high_watermark} bytes at"
                " which buffer_full runs (buffer_high_watermark)"
            )

    def changes(self, other: Settings, but: Collection[str]) -> list[str]:
        """Return in words what others have in the place of these: "worker_num 2 -> 4"; of a secret only the name.

        Args:
            other: the others.
            but: names that are left out.
        """
        found = []
        for each in fields(self):
            before, now = getattr(self, each.name), getattr(other, each.name)
            if each.name in PATHS:
                before, now = (value and str(Path(value).absolute()) for value in (before, now))
            if each.name in but or before == now:
                continue
            values = "has another value" if each.name in SECRETS else f"{before!r:.80} -> {now!r:.80}"
            found.append(f"{each.name} {values}")
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return all of them as plain values, as they travel between processes."""
        return asdict(self)


def _check(name: str, value: Any, kind: type, metadata: Mapping[str, Any]) -> Any:
    """Return the value as its setting's type."""
    if kind is tuple:
        return _check_list(name, value, metadata["each"])
    accepted: tuple[type, ...] = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or isinstance(value, bool) is not (kind is bool):
        raise SettingsError(f"{name} must be {_article(kind)}, not {value!r}")
    low, high = metadata["low"], metadata["high"]
    if low is not None and not low <= value <= high:
        raise SettingsError(f"{name} must be from {low} to {high}, not {value!r}")
    choices = metadata["choices"]
    if choices is not None and value not in choices:
        raise SettingsError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    if metadata["each"] is not None:
        try:
            return metadata["each"](value)
        except ValueError as error:
            raise SettingsError(f"{name} {error}") from None
    return kind(value)


def _check_list(name: str, value: Any, each: Callable[[str], str]) -> tuple[str, ...]:
    """Return a list of text; one text with commas in it, as a command line gives it, is a list too."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) and item.strip() for item in items):
        raise SettingsError(f"{name} must be a list of strings, not {value!r}")
    checked = []
    for item in items:
        try:
            checked.append(each(item.strip()))
        except ValueError as error:
            raise SettingsError(f"{name}: {item.strip()!r} {error}") from None
    return tuple(checked)


def _article(kind: type) -> str:
    return {int: "an integer", float: "a number", str: "a string", bool: "True or False"}[kind]
