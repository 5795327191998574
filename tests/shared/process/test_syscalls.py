"""System calls on sockets: results instead of exceptions. What reads, writes and sends is tested with its callers."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from zwoole.shared.process.syscalls import accept


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "127.0.0.1")]
)
def test_accept_returns_a_socket_that_does_not_block_and_the_clients_address(
    family: socket.AddressFamily, address: str
) -> None:
    listening = socket.create_server(
        ("" if family == socket.AF_INET6 else address, 0),
        family=family,
        dualstack_ipv6=family == socket.AF_INET6,
    )
    with listening, socket.create_connection((address, listening.getsockname()[1])) as client:
        descriptor, remote_addr, remote_port = accept(listening.fileno())
        with socket.socket(fileno=descriptor) as accepted:
            assert (remote_addr, remote_port) == accepted.getpeername()[:2]
            assert remote_port == client.getsockname()[1]
            assert not os.get_blocking(descriptor)
            assert not os.get_inheritable(descriptor)


def test_accept_returns_an_errno_if_there_is_nothing_to_accept() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        assert accept(listening.fileno()) == (-errno.EAGAIN, "", 0)
    with socket.socket() as other:
        assert accept(other.fileno()) == (-errno.EINVAL, "", 0)
