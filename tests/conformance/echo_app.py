"""The server under conformance test: it sends every message back unchanged, text as text and binary as binary."""

from zwoole import Server
from zwoole.workers.invocation.received_frame import Frame

server = Server()


@server.on("message")
def echo(server: Server, frame: Frame) -> None:
    server.push(frame.fd, frame.data)


server.start()
