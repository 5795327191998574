"""The listening sockets: their addresses, sharing them, and the error if one cannot be opened."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zwoole.shared.errors import StartError
from zwoole.shared.settings import Settings
from zwoole.supervisor.system import listening
from zwoole.supervisor.system.listening import PORT_TRIES, Address, bind, bind_all, listen, resolve

BACKLOG = 16
LOOPBACK: Address = (socket.AF_INET, ("127.0.0.1", 0))
NOT_OURS: Address = (socket.AF_INET, ("192.0.2.1", 0))


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    sockets: list[socket.socket] = []
    yield sockets
    for each in sockets:
        each.close()


def open_all(opened: list[socket.socket], **settings: object) -> list[list[socket.socket]]:
    groups = listen(Settings().update({"host": "127.0.0.1", "port": 0, **settings}))
    opened += [each for group in groups for each in group]
    return groups


def test_a_free_port_is_taken_and_listened_on(opened: list[socket.socket]) -> None:
    ((listening_socket,),) = open_all(opened)
    host, port = listening_socket.getsockname()
    assert host == "127.0.0.1"
    socket.create_connection((host, port)).close()
    assert not listening_socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)


def test_each_reactor_has_a_socket_of_its_own_on_the_same_port(opened: list[socket.socket]) -> None:
    groups = open_all(opened, reactor_num=3)
    assert len(groups) == 3
    assert len({each.getsockname() for group in groups for each in group}) == 1
    assert all(each.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) for group in groups for each in group)


@pytest.mark.parametrize(("limit", "said"), [("4096\n", False), ("128\n", True), ("", False), (None, False)])
def test_a_backlog_that_the_kernel_cuts_down_is_said(
    tmp_path: Path, log: pytest.LogCaptureFixture, limit: str | None, said: bool
) -> None:
    if limit is not None:
        (tmp_path / "somaxconn").write_text(limit)
    listening.check_backlog(4096, tmp_path / "somaxconn")
    message = "backlog is 4096, but the kernel keeps 128: raise net.core.somaxconn, or lower backlog"
    assert log.messages == [message] * said


@pytest.mark.parametrize("reactor_num", [1, 2])
def test_a_port_in_use_is_found_and_said(opened: list[socket.socket], reactor_num: int) -> None:
    groups = open_all(opened, reactor_num=reactor_num)
    port = groups[0][0].getsockname()[1]
    with pytest.raises(StartError, match=f"127.0.0.1:{port}: the port is in use"):
        open_all(opened, port=port, reactor_num=reactor_num)


@pytest.mark.parametrize("reactor_num", [1, 2])
def test_two_colons_are_all_addresses_of_both_kinds(opened: list[socket.socket], reactor_num: int) -> None:
    assert resolve("::", 80) == [(socket.AF_INET6, ("::", 80)), (socket.AF_INET, ("0.0.0.0", 80))]
    groups = open_all(opened, host="::", reactor_num=reactor_num)
    families = {each.family for group in groups for each in group}
    assert families == {socket.AF_INET, *({socket.AF_INET6} if has_ipv6() else ())}
    (port,) = {each.getsockname()[1] for group in groups for each in group}
    for family in families:
        host = "127.0.0.1" if family == socket.AF_INET else "::1"
        with socket.create_connection((host, port)) as client:
            assert client.getpeername()[0] == host


@pytest.mark.parametrize("taken", [1, PORT_TRIES - 1, PORT_TRIES])
def test_a_free_port_that_is_taken_at_the_other_address_is_passed_over(
    opened: list[socket.socket], monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    left = taken

    def bind_or_fail(family: int, address: tuple[Any, ...], backlog: int, shared: bool) -> socket.socket:
        nonlocal left
        if address[0] == "0.0.0.0" and address[1] and left:
            left -= 1
            raise StartError("the port is in use")
        return bind(family, address, backlog, shared)

    monkeypatch.setattr(listening, "bind", bind_or_fail)
    if taken == PORT_TRIES:
        with pytest.raises(StartError, match="in use"):
            open_all(opened, host="::")
        return
    (group,) = open_all(opened, host="::")
    assert len({each.getsockname()[1] for each in group}) == 1


def has_ipv6() -> bool:
    try:
        socket.create_server(("::", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_an_address_of_another_machine_is_said() -> None:
    with pytest.raises(StartError, match="does not have that address"):
        listen(Settings().update({"host": "192.0.2.1", "port": 0}))


def test_a_host_without_an_address_is_said() -> None:
    with pytest.raises(StartError, match="cannot listen on"):
        resolve("no such host.invalid", 80)


def test_a_name_that_nobody_knows_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "in other words elsewhere")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    with pytest.raises(StartError, match=r"^cannot listen on 'host': Name or service not known; take 127\.0"):
        resolve("host", 80)


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".invalid"])
def test_what_can_be_no_name_is_said(host: str) -> None:
    with pytest.raises(StartError) as caught:
        resolve(host, 80)
    assert str(caught.value) == f"cannot listen on {host!r}: no host has such a name"


def test_an_address_of_one_interface_is_bound_there(opened: list[socket.socket]) -> None:
    """Link-local addresses: without the interface, the kernel reports an invalid address."""
    address = (socket.AF_INET6, ("fe80::1", 80, 0, socket.if_nametoindex("lo")))
    assert resolve("fe80::1%lo", 80) == [address]
    with pytest.raises(StartError, match="cannot listen on fe80::1:80: this machine does not have that address"):
        bind_all([address], BACKLOG)


def test_an_address_that_this_machine_does_not_have_is_left_out(opened: list[socket.socket]) -> None:
    for addresses in ([NOT_OURS, LOOPBACK], [LOOPBACK, NOT_OURS]):
        bound = bind_all(addresses, BACKLOG)
        opened += bound
        assert [each.getsockname()[0] for each in bound] == ["127.0.0.1"]
    with pytest.raises(StartError, match=r"192\.0\.2\.1"):
        bind_all([NOT_OURS, NOT_OURS], BACKLOG)


def test_a_kind_of_address_that_the_kernel_does_not_know_is_left_out(opened: list[socket.socket]) -> None:
    bound = bind_all([(socket.AF_APPLETALK + 1000, ("?", 0)), LOOPBACK], BACKLOG)
    opened += bound
    assert len(bound) == 1


def test_a_port_in_use_on_one_address_closes_the_others(
    opened: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    opened.append(taken)
    bound: list[socket.socket] = []
    real = listening.bind

    def bind(family: int, address: tuple[str, int], backlog: int, shared: bool) -> socket.socket:
        bound.append(real(family, address, backlog, shared))
        return bound[-1]

    monkeypatch.setattr(listening, "bind", bind)
    with pytest.raises(StartError):
        bind_all([LOOPBACK, (socket.AF_INET, taken.getsockname())], BACKLOG)
    assert [each.fileno() for each in bound] == [-1]


def test_all_addresses_of_a_host_get_the_same_port(
    opened: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses: list[Address] = [LOOPBACK, (socket.AF_INET, ("127.0.0.2", 0))]
    monkeypatch.setattr(listening, "resolve", lambda host, port: addresses)
    ((first, second),) = open_all(opened)
    assert first.getsockname()[1] == second.getsockname()[1]
    assert [each.getsockname()[0] for each in (first, second)] == ["127.0.0.1", "127.0.0.2"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "privileges"),
        (errno.EADDRINUSE, "in use"),
        (errno.EINVAL, "interface"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_errors_are_explained(number: int, words: str) -> None:
    assert words in listening.explain(OSError(number, os.strerror(number)))


PASSED = """
import os, socket, sys
from zwoole.supervisor.start.daemon import detach
from zwoole.supervisor.system.listening import passed_sockets
from zwoole.supervisor.system.notify import READY, Notifier
kind = sys.argv[1]
made = socket.socketpair()[0] if kind == "pair" else socket.create_server(("127.0.0.1", 0))
os.dup2(made.fileno(), 3)
pid = {"other": "1", "nonsense": "x", "huge": "9" * 5000}.get(kind, str(os.getpid()))
count = {"none": "", "odd": "\u00b2\u00b3", "too many": "9" * 5000}.get(kind, "1")
os.environ.update(LISTEN_FDS=count, LISTEN_PID=pid)
if kind == "daemon":
    detach("")
found = passed_sockets()
print([listening.getsockname() == made.getsockname() for listening in found], "LISTEN_FDS" in os.environ, flush=True)
Notifier().send(READY)
"""
NOT_OURS_EITHER = "the service manager passed sockets to process 1, not to this one: start it with `exec`"


@pytest.mark.parametrize(
    ("kind", "printed", "said"),
    [
        ("ours", "[True] False\n", ""),
        ("other", "[] False\n", NOT_OURS_EITHER),
        ("nonsense", "[] False\n", ""),
        ("none", "[] False\n", ""),
        *((kind, "[] False\n", "") for kind in ("huge", "odd", "too many")),
        ("daemon", "[True] False\n", "serving in the background"),
    ],
)
def test_sockets_that_a_service_manager_passed_are_taken_where_they_are_ours(
    kind: str, printed: str, said: str
) -> None:
    run = subprocess.run([sys.executable, "-c", PASSED, kind], capture_output=True, text=True, check=True)
    assert run.stdout == printed
    assert said in run.stderr
    assert bool(said) is bool(run.stderr)


def test_a_passed_descriptor_that_does_not_listen_is_refused() -> None:
    run = subprocess.run([sys.executable, "-c", PASSED, "pair"], capture_output=True, text=True)
    assert run.stderr.endswith("zwoole: the service manager passed a descriptor (3) that is no TCP listener\n")
