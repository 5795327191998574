"""Says hello to a server from Python's standard library alone: python examples/client.py [HOST:PORT]"""

import os
import socket
import sys

host, _, port = (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8080").partition(":")
text = b"Hello, server!"

try:
    connection = socket.create_connection((host, int(port)), timeout=5)
except ConnectionRefusedError:
    sys.exit(f"nothing listens on {host}:{port}: `make run` starts a server")

with connection:
    connection.sendall(
        b"GET / HTTP/1.1\r\nHost: %b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n" % host.encode()
    )
    stream = connection.makefile("rb")
    print("<", stream.readline().decode().strip())
    while stream.readline().strip():
        pass
    key = os.urandom(4)
    masked = bytes(byte ^ key[i % 4] for i, byte in enumerate(text))
    connection.sendall(bytes([0x81, 0x80 | len(text)]) + key + masked)
    print(">", text.decode())
    opcode, length = stream.read(2)
    print("<", stream.read(length).decode())
    connection.sendall(bytes([0x88, 0x82]) + key + bytes([0x03 ^ key[0], 0xE8 ^ key[1]]))
