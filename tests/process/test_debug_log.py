"""`zwoole run --log-level debug`: both ends of the wire show what they send and receive."""

from __future__ import annotations

import re

from tests.process.conftest import Serve
from tests.process.waiting import wait_for

APP = """
    from zwoole import Server

    server = Server()

    @server.on("message")
    def on_message(server, frame):
        server.push(frame.fd, frame.data)

    server.start()
"""

SHOWN = (
    r"master 0\] DEBUG fd 1: open, from 127\.0\.0\.1:\d+\n",
    r"master 0\] DEBUG fd 1: frame, opcode 1, 8 bytes\n",
    r"master 0\] DEBUG fd 1: message, opcode 1, 8 bytes",
    r"master 0\] DEBUG to worker 0 \(incarnation \d+\): batch \d+, credit \d+: #\d+ MESSAGE 1 \(8 bytes of text\)",
    r"worker 0\] DEBUG from master incarnation \d+: batch \d+, credit \d+: #\d+ MESSAGE 1 \(8 bytes of text\)",
    r"worker 0\] DEBUG to master incarnation \d+: batch \d+, credit \d+: PUSH 1 \(8 bytes of text\), ACK",
    r"master 0\] DEBUG from worker 0 \(incarnation \d+\): batch \d+, credit \d+: PUSH 1 \(8 bytes of text\), ACK",
    r"master 0\] DEBUG fd 1: 10 bytes sent, 0 queued",
)


def test_a_message_is_shown_by_both_processes_and_its_payload_by_none(serve: Serve) -> None:
    server = serve(APP, log_level="debug")
    with server.connect() as client:
        client.send("a secret")
        assert client.recv() == "a secret"
    for line in SHOWN:
        wait_for(lambda line=line: re.search(line, server.log()) is not None, line)
    assert "a secret" not in server.log()
