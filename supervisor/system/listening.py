"""Opening the listening sockets. The supervisor keeps them, so that a master can be replaced without closing them."""

from __future__ import annotations

import errno
import os
import re
import socket
from pathlib import Path
from typing import Any

from zwoole.shared.errors import StartError
from zwoole.shared.process.log import get_logger
from zwoole.shared.settings import Settings

SOMAXCONN = Path("/proc/sys/net/core/somaxconn")
PORT_TRIES = 20  # how many free ports of one address are tried at the others
FIRST_PASSED = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)

log = get_logger("supervisor")


def listen(settings: Settings) -> list[list[socket.socket]]:
    """Open the listening sockets: for each reactor, one for each address of the host.

    They are bound without SO_REUSEPORT first, which fails if the port is in use. With it, a second server would share
    the port without notice.

    Raises:
        StartError: the address cannot be listened on; the message says why.
    """
    if passed := passed_sockets():
        log.info("listening on sockets of the service manager: host and port in the settings are ignored")
        return [passed, *([listening.dup() for listening in passed] for _ in range(settings.reactor_num - 1))]
    check_backlog(settings.backlog, SOMAXCONN)
    addresses = resolve(settings.host, settings.port)
    first = bind_alike(addresses, settings.port, settings.backlog)
    if settings.reactor_num == 1:
        return [first]
    bound = [(listening.family, listening.getsockname()) for listening in first]
    for listening in first:
        listening.close()
    return [
        [bind(family, address, settings.backlog, shared=True) for family, address in bound]
        for _ in range(settings.reactor_num)
    ]


def check_backlog(wanted: int, limit: Path) -> None:
    """Warn if the kernel keeps fewer connections than were asked for: it reduces the number without notice.

    Args:
        wanted: how many connections may wait until they are accepted.
        limit: the file with the kernel's limit.
    """
    try:
        allowed = int(limit.read_text())
    except (OSError, ValueError):  # not shown to this process
        return
    if allowed < wanted:
        log.warning(
            "backlog is %d, but the kernel keeps %d: raise net.core.somaxconn, or lower backlog", wanted, allowed
        )


def passed_sockets() -> list[socket.socket]:
    """Return the listening sockets that a service manager has opened for this process, see sd_listen_fds(3).

    Raises:
        StartError: one of them is not a listening TCP socket.
    """
    meant, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if not all(re.fullmatch("[0-9]{1,10}", number) for number in (meant, count)):
        return []
    if int(meant) != os.getpid():
        log.warning("the service manager passed sockets to process %s, not to this one: start it with `exec`", meant)
        return []
    passed = []
    for descriptor in range(FIRST_PASSED, FIRST_PASSED + int(count)):
        try:
            os.set_inheritable(descriptor, False)
            listening = socket.socket(fileno=descriptor)
            listens = listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError:
            listens = 0
        if not listens or listening.family not in (socket.AF_INET, socket.AF_INET6):
            raise StartError(f"the service manager passed a descriptor ({descriptor}) that is no TCP listener")
        passed.append(listening)
    return passed


Address = tuple[int, tuple[Any, ...]]  # family; host, port, and for IPv6 flow information and interface


class Unavailable(StartError):
    """This machine does not have that address, or that kind of address."""


def bind_all(addresses: list[Address], backlog: int) -> list[socket.socket]:
    """Bind to those of the addresses that this machine has: "localhost" may be ::1 even if there is no IPv6.

    Raises:
        StartError: one of them cannot be listened on, or this machine has none of them.
    """
    bound: list[socket.socket] = []
    missing: list[Unavailable] = []
    for family, address in addresses:
        try:
            bound.append(bind(family, address, backlog, shared=False))
        except Unavailable as error:
            missing.append(error)
        except StartError:
            for listening in bound:
                listening.close()
            raise
    if not bound:
        raise missing[0]
    return bound


def resolve(host: str, port: int) -> list[Address]:
    """Return the family and address of each address of a host; "::" stands for all of IPv6 and IPv4."""
    if host == "::":
        return [(socket.AF_INET6, ("::", port)), (socket.AF_INET, ("0.0.0.0", port))]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError:  # two dots in a row, or a part of more than 63 characters
        raise StartError(f"cannot listen on {host!r}: no host has such a name") from None
    except OSError as error:
        raise StartError(f"cannot listen on {host!r}: {explain(error)}") from None
    return list(dict.fromkeys((family, address) for family, *_, address in found))


def bind_alike(addresses: list[Address], port: int, backlog: int) -> list[socket.socket]:
    """Bind to all addresses with the same port. If the port is 0, several free ports are tried: one that is free at one
    address may be in use at another.

    Raises:
        StartError: as in `bind_all`.
    """
    if port or len(addresses) == 1:
        return bind_all(addresses, backlog)
    tries = 0
    while True:
        probes = bind_all(addresses, backlog)
        free = probes[0].getsockname()[1]
        for probe in probes:
            probe.close()
        try:
            return bind_all([(family, (address[0], free, *address[2:])) for family, address in addresses], backlog)
        except StartError:
            tries += 1
            if tries == PORT_TRIES:
                raise


def bind(family: int, address: tuple[Any, ...], backlog: int, shared: bool) -> socket.socket:
    """Return a listening socket."""
    try:
        listening = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise Unavailable(f"cannot listen on {address[0]}: {error.strerror}") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
        listening.listen(backlog)
    except OSError as error:
        listening.close()
        kind = Unavailable if error.errno == errno.EADDRNOTAVAIL else StartError
        raise kind(f"cannot listen on {address[0]}:{address[1]}: {explain(error)}") from None
    return listening


def explain(error: OSError) -> str:
    """Return why a bind or the search for an address has failed, and what to do."""
    if isinstance(error, socket.gaierror):
        if error.errno == socket.EAI_NONAME:
            return (
                "Name or service not known; take 127.0.0.1, 0.0.0.0 for all IPv4 addresses, or one that `ip address`"
                " shows"
            )
        return error.strerror or str(error)
    if error.errno == errno.EADDRINUSE:
        return "the port is in use: stop the program that uses it, or take another port"
    if error.errno == errno.EACCES:
        return "ports below 1024 need privileges; take another port"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address"
    if error.errno == errno.EINVAL:  # the kernel refuses nothing else of what getaddrinfo gives
        return "an address that begins with fe80 needs its interface, as in fe80::1%eth0"
    return error.strerror or str(error)


def where(listening: socket.socket) -> str:
    """Return "host:port" of a listening socket, "[host]:port" for IPv6; "closed" once it is."""
    if listening.fileno() < 0:
        return "closed"
    host, port, *_, interface = (*listening.getsockname(), 0)[:4]
    zone = f"%{socket.if_indextoname(interface)}" if interface else ""  # of an address of one interface only
    return f"[{host}{zone}]:{port}" if listening.family == socket.AF_INET6 else f"{host}:{port}"
