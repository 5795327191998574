"""Names of Swoole that zwoole does not have, and what to use instead: for the errors that people see who port an
app.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from zwoole.shared.suggest import did_you_mean

_TASKS = "zwoole has no task workers; a job goes to a thread or process pool, see docs/programming.md"
_HTTP = "zwoole does not answer plain HTTP requests"
_TCP = "zwoole has no raw TCP or UDP ports"
_TLS = "zwoole does not speak TLS; let a proxy such as nginx do it, see docs/deployment.md"
_TIMERS = "zwoole has no timers; use asyncio or a thread, see docs/recipes.md"
_ONE_PORT = "a server has one port"
_COROUTINES = "a callback is a coroutine if it is `async def`"
_DISPATCH = "a connection stays with one worker, which is chosen by zwoole"
_PINGS = "zwoole sends pings; see `ping_interval` and `heartbeat_idle_time`"
_LOG = "see `log_file`, `log_format` and `log_level`"
_LIMIT = "see `socket_buffer_size`"
_CONTROL = "`zwoole.Control` does that, from another process"

SETTINGS = {
    **dict.fromkeys(("task_worker_num", "task_max_request", "task_ipc_mode", "task_tmpdir", "task_object"), _TASKS),
    **dict.fromkeys(("task_enable_coroutine", "task_max_request_grace", "message_queue_key"), _TASKS),
    **dict.fromkeys(("enable_coroutine", "max_coroutine", "max_coro_num", "hook_flags", "send_yield"), _COROUTINES),
    **dict.fromkeys(("dispatch_mode", "dispatch_func", "enable_unsafe_event", "discard_timeout_request"), _DISPATCH),
    **dict.fromkeys(("heartbeat_check_interval", "max_idle_time"), _PINGS),
    **dict.fromkeys(("open_websocket_ping_frame", "open_websocket_pong_frame"), _PINGS),
    **dict.fromkeys(("log_rotation", "log_date_format", "log_date_with_microseconds", "display_errors"), _LOG),
    **dict.fromkeys(("buffer_output_size", "output_buffer_size", "kernel_socket_send_buffer_size"), _LIMIT),
    **dict.fromkeys(("buffer_input_size", "input_buffer_size"), "see `package_max_length`"),
    **dict.fromkeys(("enable_static_handler", "document_root", "static_handler_locations", "http_autoindex"), _HTTP),
    **dict.fromkeys(("http_index_files", "url_rewrite_rules", "upload_tmp_dir", "upload_max_filesize"), _HTTP),
    **dict.fromkeys(("http_parse_post", "http_parse_cookie", "http_parse_files", "http_compression"), _HTTP),
    **dict.fromkeys(("open_http_protocol", "open_http2_protocol", "max_concurrency"), _HTTP),
    **dict.fromkeys(("open_eof_check", "open_length_check", "package_eof", "open_tcp_keepalive"), _TCP),
    **dict.fromkeys(("open_tcp_nodelay", "open_websocket_protocol"), "that is always on"),
    "open_websocket_close_frame": "the `close` callback is given the code and the reason",
    "enable_reuse_port": "see `reactor_num`",
    "max_conn": "the setting is named `max_connection`",
    "max_request_grace": "`max_request` varies by 10 % from worker to worker",
    "reload_async": "a reload always starts new workers beside the old ones",
    "single_thread": "see `reactor_num`",
    "websocket_subprotocol": "the setting is named `subprotocols`, and is a list",
    "websocket_mask": "a server must not mask what it sends (RFC 6455 section 5.1)",
    "max_queued_bytes": "see `connection_window_bytes` and `parked_bytes`",
    "stats_file": "`server.stats()` and `zwoole status --json` have the numbers",
    "admin_server": "see `admin_port`",
    "chroot": "see `user` and `group`",
}

EVENTS = {
    **dict.fromkeys(("task", "finish"), _TASKS),
    "request": _HTTP,
    **dict.fromkeys(("receive", "packet"), _TCP),
    **dict.fromkeys(("connect", "disconnect"), "`open` and `close` report every WebSocket connection"),
    "worker_exit": "the event is named `retire`",
    **dict.fromkeys(("manager_start", "manager_stop"), "there is no manager process; see `start` and `shutdown`"),
    **dict.fromkeys(("before_reload", "after_reload"), "see `worker_start` and `retire`, which run in each worker"),
    "before_handshake_response": "`handshake` can return Accept(headers=...)",
}

METHODS = {
    **dict.fromkeys(("task", "taskwait", "task_co", "task_wait_multi", "finish"), _TASKS),
    **dict.fromkeys(("tick", "after", "defer", "clear_timer"), _TIMERS),
    **dict.fromkeys(("listen", "add_listener", "addlistener"), _ONE_PORT),
    **dict.fromkeys(("send", "sendto", "sendfile", "sendwait", "get_socket"), _TCP),
    **dict.fromkeys(
        ("pause", "resume", "confirm"), "zwoole reads from a client as fast as its worker handles the messages"
    ),
    **dict.fromkeys(("reload", "shutdown", "stop"), _CONTROL),
    **dict.fromkeys(("protect", "heartbeat"), _PINGS),
    **dict.fromkeys(("connections", "get_client_list"), "`zwoole connections` lists the connections"),
    "get_client_info": "the request that `open`, `adopt` and a handler receive has the address, path and headers",
    **dict.fromkeys(("add_process", "add_command", "command"), "zwoole runs masters and workers only"),
    **dict.fromkeys(("pack", "unpack"), "`push` makes the frame"),
    **dict.fromkeys(("get_worker_id", "worker_pid", "get_worker_pid"), "see `worker_id`, and `os.getpid()`"),
    **dict.fromkeys(("master_pid", "manager_pid", "get_master_pid", "get_manager_pid"), "`zwoole status` has them"),
    "bind": "keep the user's id with `set_state`",
    "exist": "the method is named `exists`",
    "close": "the method is named `disconnect`",
    "get_last_error": "a command returns False, or raises",
}


def snake(name: str) -> str:
    """Return a name in zwoole's spelling: workerStart becomes worker_start."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def camel(name: str) -> str:
    """Return a name in Swoole's spelling: worker_start becomes workerStart."""
    return re.sub(r"_([a-z])", lambda found: found.group(1).upper(), name)


def explain(name: str, swooles: dict[str, str], ours: Iterable[str]) -> str:
    """Return what to append to the error about an unknown name; "" if there is nothing to say.

    Args:
        name: the name, in zwoole's or in Swoole's spelling.
        swooles: one of the tables above.
        ours: the names that zwoole has.
    """
    if snake(name) in ours:
        return f": it is named {snake(name)!r}"
    if snake(name) in swooles or (snake(name).startswith("ssl_") and swooles is SETTINGS):
        return f", which Swoole has: {swooles.get(snake(name), _TLS)}"
    return did_you_mean(snake(name), ours)
