"""Coroutines on uvloop, if the app asks for it: what callbacks and handlers do is the same."""

from __future__ import annotations

import os
import signal

import pytest

from tests.process.conftest import Serve
from tests.process.server_process import ServerProcess
from tests.process.waiting import PATIENCE_S, wait_for

pytest.importorskip("uvloop")

APP = """
    import asyncio
    import contextvars
    import os
    from zwoole import Server

    server = Server(loop="uvloop")
    variable = contextvars.ContextVar("variable", default="unset")

    @server.on("worker_start")
    async def on_worker_start(server, worker_id):
        await asyncio.sleep(0)
        print(type(asyncio.get_running_loop()).__module__, flush=True)

    @server.on("message")
    async def on_message(server, frame):
        if frame.data == "fork":
            never = asyncio.get_running_loop().create_future()
            if os.fork() == 0:
                await never
            os.wait()
        if frame.data == "exit":
            asyncio.get_running_loop().create_task(leave())
        if frame.data == "timeout":
            try:
                await asyncio.wait_for(asyncio.Event().wait(), 0.01)
            except asyncio.TimeoutError:
                pass
        before = variable.get()
        variable.set(frame.data)
        await asyncio.sleep(0)
        assert asyncio.current_task() is not None
        server.push(frame.fd, f"{before} {variable.get()} {os.getpid()}")

    async def leave():
        raise SystemExit

    @server.handler("/handler")
    async def handler(ws):
        async for message in ws:
            await ws.send(message)

    @server.on("worker_stop")
    async def on_worker_stop(server, worker_id):
        await asyncio.sleep(0)
        print("worker_stop", flush=True)

    server.start()
"""


def test_callbacks_and_handlers_run_on_uvloop(serve: Serve) -> None:
    server = serve(APP)
    server.wait_line("uvloop")
    with server.connect() as client, server.connect("/handler") as handled:
        for _ in range(3):
            for data in ("a", "timeout", "b"):
                client.send(data)
            assert [str(client.recv(PATIENCE_S)).split()[:2] for _ in range(3)] == [
                ["unset", data] for data in ("a", "timeout", "b")
            ]
            for data in "cde":
                handled.send(data)
            assert [handled.recv(PATIENCE_S) for _ in range(3)] == ["c", "d", "e"]
    server.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    assert "worker_stop" in server.lines()


@pytest.mark.parametrize("how", ["task", "signal"])
def test_a_worker_is_replaced_on_uvloop_too(serve: Serve, how: str) -> None:
    server = serve(APP)
    with server.connect() as client:
        (first,) = server.pids("worker")
        if how == "task":
            client.send("exit")
            client.recv(PATIENCE_S)
        else:
            os.kill(first, signal.SIGTERM)

        def replaced() -> bool:
            client.send("a")
            return str(client.recv(PATIENCE_S)).split()[-1] != str(first)

        wait_for(replaced, "the successor on the same connection")
    server.wait_line("worker_stop")
    assert "exited with code" not in server.log()


def test_a_forked_child_that_awaits_ends_on_uvloop_too(serve: Serve) -> None:
    server = serve(APP)
    with server.connect() as client:
        client.send("fork")
        assert str(client.recv(PATIENCE_S)).split()[:2] == ["unset", "fork"]
        client.send("a")
        assert str(client.recv(PATIENCE_S)).split()[:2] == ["unset", "a"]
    assert "cannot await anything" in server.log()


def test_an_app_without_coroutines_has_no_loop_whatever_the_setting() -> None:
    app = """
        import asyncio
        from zwoole import Server

        server = Server(loop="uvloop")

        @server.on("message")
        def on_message(server, frame):
            try:
                asyncio.get_running_loop()
            except RuntimeError as error:
                server.push(frame.fd, str(error))

        server.start()
    """
    with ServerProcess(app) as server:
        server.start()
        server.wait_ready()
        with server.connect() as client:
            client.send("a")
            assert client.recv(PATIENCE_S) == "no running event loop"
