"""The apps that the chaos suite serves. Each echoes; a message may also carry an order for the callback.

A message is "client:number:order". Every connection first receives its fd. A file that outlives the worker, the
journal, records when the callbacks of a client's last messages began and ended, in which process, and on which
connection.
"""

from __future__ import annotations

JOURNAL_CLIENTS = 256
JOURNAL_MESSAGES = 16  # per client
JOURNAL_WORDS = 4  # per message: when its callback began and ended, the worker's pid, the fd

_HEAD = f"""
MESSAGES = {JOURNAL_MESSAGES}
WORDS = {JOURNAL_WORDS}
"""
_HEAD += """
import asyncio
import mmap
import os
import random
import time

from zwoole import Server

server = Server()

with open("journal", "r+b") as file:
    journal = memoryview(mmap.mmap(file.fileno(), 0)).cast("d")


def begin(fd, data):
    client, number, _ = data.split(":", 2)
    place = (int(client) * MESSAGES + int(number) % MESSAGES) * WORDS
    journal[place] = time.monotonic()
    journal[place + 2] = os.getpid()
    journal[place + 3] = fd
    return place


def end(place):
    journal[place + 1] = time.monotonic()


def obey(fd, data):
    order, _, rest = data.split(":", 2)[2].partition(" ")
    if order == "raise":
        raise RuntimeError("asked to")
    elif order == "exit":
        os._exit(7)
    elif order == "push":
        server.push(int(rest.partition(" ")[0]), f"note {rest}")
    elif order == "much":
        for _ in range(64):
            server.push(fd, "x" * 262144)

"""

_CALLBACKS = """
@server.on("open")
{kind} on_open(server, request):
    server.push(request.fd, f"fd {{request.fd}}")


@server.on("message")
{kind} on_message(server, frame):
    place = begin(frame.fd, frame.data)
    {work}
    obey(frame.fd, frame.data)
    server.push(frame.fd, frame.data)
    end(place)


server.start()
"""

_HANDLER = """
@server.handler("/")
async def echo(ws):
    await ws.send(f"fd {ws.fd}")
    async for message in ws:
        place = begin(ws.fd, message)
        obey(ws.fd, message)
        await ws.send(message)
        end(place)


server.start()
"""

_BUSY = """
    while time.monotonic() < journal[place] + 0.001:
        pass
"""

_AWAIT = """
    if random.random() < 0.5:
        await asyncio.sleep(random.uniform(0, 0.002))
"""

APPS = {
    "instant": _HEAD + _CALLBACKS.format(kind="def", work=""),
    "1 ms": _HEAD + _CALLBACKS.format(kind="def", work=_BUSY.strip()),
    "awaiting": _HEAD + _CALLBACKS.format(kind="async def", work=_AWAIT.strip()),
    "handler": _HEAD + _HANDLER,
}
