"""The apps that the chaos suite serves. Each echoes; a client can ask it to raise, or to end its process."""

from __future__ import annotations

_HEAD = """
import asyncio
import os
import random
import time

from zwoole import Server

server = Server(worker_num=2)


def mischief(data):
    if data.endswith(":raise"):
        raise RuntimeError("asked to")
    if data.endswith(":exit"):
        os._exit(7)

"""

INSTANT = (
    _HEAD
    + """
@server.on("message")
def on_message(server, frame):
    mischief(frame.data)
    server.push(frame.fd, frame.data)

server.start()
"""
)

ONE_MS = (
    _HEAD
    + """
@server.on("message")
def on_message(server, frame):
    end = time.perf_counter() + 0.001
    while time.perf_counter() < end:
        pass
    mischief(frame.data)
    server.push(frame.fd, frame.data)

server.start()
"""
)

AWAITING = (
    _HEAD
    + """
@server.on("message")
async def on_message(server, frame):
    if random.random() < 0.5:
        await asyncio.sleep(random.uniform(0, 0.002))
    mischief(frame.data)
    server.push(frame.fd, frame.data)

server.start()
"""
)

HANDLER = (
    _HEAD
    + """
@server.handler("/")
async def echo(ws):
    async for message in ws:
        mischief(message)
        await ws.send(message)

server.start()
"""
)

APPS = {"instant": INSTANT, "1 ms": ONE_MS, "awaiting": AWAITING, "handler": HANDLER}
