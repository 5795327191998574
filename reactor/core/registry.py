"""All connections of one reactor: by fd, by descriptor, and in the shared connection table."""

from __future__ import annotations

from collections.abc import Iterator

from zwoole.reactor.core.connection import Connection
from zwoole.shared.ids import fd_of
from zwoole.shared.memory.connection_table import FREE, HANDSHAKE, ConnectionTable


class Registry:
    """Finds connections.

    Attributes:
        table: the shared connection table.
        by_descriptor: the connections whose sockets are open, by descriptor.
        limit: the maximum number of connections.
    """

    __slots__ = (
        "_by_address",
        "_finishing",
        "_places_taken",
        "_reactor",
        "_reactor_num",
        "_slots",
        "by_descriptor",
        "limit",
        "table",
    )

    def __init__(self, table: ConnectionTable, reactor: int, reactor_num: int) -> None:
        self.table = table
        self.limit = table.limit
        self.by_descriptor: dict[int, Connection] = {}
        self._finishing: dict[int, Connection] = {}  # by fd: socket closed, but a worker still has its events
        self._by_address: dict[str, int] = {}
        self._places_taken = 0
        self._slots: list[Connection | None] = [None] * table.capacity
        self._reactor = reactor
        self._reactor_num = reactor_num

    def __len__(self) -> int:
        return len(self.by_descriptor)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self.by_descriptor.values()))

    @property
    def full(self) -> bool:
        """Whether the limit is reached; connections whose socket is closed, but which are not gone, count too."""
        return self._places_taken >= self.limit

    def count_from(self, address: str) -> int:
        """Return the number of open sockets from an IP address."""
        return self._by_address.get(address, 0)

    def all(self) -> list[Connection]:
        """Return every connection, also those whose socket is closed while a worker finishes their messages.

        It takes 10 ns per connection. Free entries of the table, of which there may be two million, cost nothing.
        """
        return [*self.by_descriptor.values(), *self._finishing.values()]

    def add(self, descriptor: int, remote_addr: str, remote_port: int) -> Connection:
        """Create the connection of an accepted socket: give it an fd and enter it in all tables."""
        fd = fd_of(self.table.next_sequence(), self._reactor, self._reactor_num)
        connection = Connection(fd, descriptor, remote_addr, remote_port)
        self._slots[self.table.slot(fd)] = connection
        self._places_taken += 1
        self.by_descriptor[descriptor] = connection
        self._by_address[remote_addr] = self._by_address.get(remote_addr, 0) + 1
        self.table.set_state(fd, HANDSHAKE)
        return connection

    def find(self, fd: int) -> Connection | None:
        """Return the connection with this fd; None if it is gone or never existed."""
        if fd < 1:
            return None
        connection = self._slots[self.table.slot(fd)]
        if connection is None or connection.fd != fd:
            return None
        return connection

    def forget_socket(self, connection: Connection) -> None:
        """Remove the socket's descriptor, which is about to be closed: the kernel may reuse it at once."""
        self.by_descriptor.pop(connection.descriptor, None)
        connection.descriptor = -1
        self._finishing[connection.fd] = connection
        count = self._by_address.pop(connection.remote_addr, 0)
        if count > 1:
            self._by_address[connection.remote_addr] = count - 1

    def remove(self, connection: Connection) -> None:
        """Remove a connection whose socket is closed; `find` no longer returns it."""
        self._slots[self.table.slot(connection.fd)] = None
        self._finishing.pop(connection.fd, None)
        self._places_taken -= 1
        self.table.set_state(connection.fd, FREE)
