"""Say hello to a server, with Python's standard library alone: python examples/client.py [HOST:PORT[/PATH]]"""

import os
import socket
import sys

address, _, path = (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8080").removeprefix("ws://").partition("/")
host, _, port = address.partition(":")
text = b"Hello, server!"
CLOSE = 8

try:
    connection = socket.create_connection((host, int(port or 80)), timeout=5)
except ConnectionRefusedError:
    sys.exit(f"nothing listens on {host}:{port}: `make run` starts a server")

with connection:
    connection.sendall(
        b"GET /%b HTTP/1.1\r\nHost: %b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        % (path.encode(), host.encode())
    )
    stream = connection.makefile("rb")
    status = stream.readline().decode().strip()
    print("<", status)
    while stream.readline().strip():
        pass
    if " 101 " not in status:
        sys.exit(stream.read().decode().strip())
    key = os.urandom(4)
    masked = bytes(byte ^ key[i % 4] for i, byte in enumerate(text))
    connection.sendall(bytes([0x81, 0x80 | len(text)]) + key + masked)
    print(">", text.decode())
    first, length = stream.read(2)
    payload = stream.read(length)
    if first & 0x0F == CLOSE:
        sys.exit(f"closed with {int.from_bytes(payload[:2], 'big')}: {payload[2:].decode()}")
    print("<", payload.decode())
    connection.sendall(bytes([0x88, 0x82]) + key + bytes([0x03 ^ key[0], 0xE8 ^ key[1]]))
