"""What the crowds of the benchmarks have in common: many connections on one epoll, in phases."""

import contextlib
import errno
import select
import socket
import ssl
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

#: Bytes a read.
CHUNK = 1 << 17
_READ, _WRITE = select.EPOLLIN, select.EPOLLIN | select.EPOLLOUT


@dataclass(slots=True, eq=False)
class Connection:
    """One connection, and whether the phase waits for it."""

    socket: socket.socket
    busy: bool = field(default=True, kw_only=True)
    writing: bool = field(default=True, kw_only=True)


Client = TypeVar("Client", bound=Connection)


class Clients(ABC, Generic[Client]):
    """Connections to one address, going together from phase to phase.

    ``limit`` is in seconds, for each phase: a connection that is not done then is an error.
    ``beside`` is done in each turn; with it they never sleep (see pairs).
    """

    def __init__(
        self,
        address: tuple[str, int],
        limit: float,
        beside: Callable[[], object] | None = None,
    ) -> None:
        self.errors: Counter[str] = Counter()
        self._address = address
        self._limit = limit
        self._beside = beside
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}
        self._busy = 0

    def __len__(self) -> int:
        return len(self._clients)

    def leave(self) -> None:
        """Drop everything, counting nothing: the measurement is over or has failed."""
        for client in list(self._clients.values()):
            self.forget(client)
        self._epoll.close()

    @abstractmethod
    def send(self, client: Client) -> None:
        """Send what is to be sent: there is room."""

    @abstractmethod
    def receive(self, client: Client) -> None:
        """Receive: there are bytes, or the end."""

    def connection(self) -> socket.socket:
        """Return a socket that is being connected; a failure comes as an event."""
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.connect_ex(self._address)
        return connection

    def add(self, client: Client) -> None:
        """Take a new client, busy with its connection, into the crowd."""
        self._busy += 1
        self._clients[client.socket.fileno()] = client
        self._epoll.register(client.socket.fileno(), _WRITE)

    def turn(self, began: float) -> bool:
        """Handle what has happened; False when the phase has used up its time."""
        left = began + self._limit - time.monotonic()
        if left <= 0:
            for client in [client for client in self._clients.values() if client.busy]:
                self.fail(client, "time limit")
            return False
        if self._beside is not None:
            self._beside()
            left = 0
        for fd, events in self._epoll.poll(left, 1024):
            if fd not in self._clients:
                continue
            client = self._clients[fd]
            try:
                if events & select.EPOLLOUT and client.writing:
                    self.send(client)
                if events & ~select.EPOLLOUT:
                    self.receive(client)
            except BlockingIOError:
                pass
            except OSError as e:
                self.lost(client, name_of(e))
        return True

    def finish(self, began: float) -> None:
        """Go on until every client is done, or the time is used up."""
        while self._busy and self.turn(began):
            pass

    def work(self, client: Client) -> None:
        """Let the phase wait for this client."""
        client.busy = True
        self._busy += 1

    def rest(self, client: Client) -> None:
        """Let the phase not wait for it any more."""
        client.busy = False
        self._busy -= 1

    def start(self, client: Client) -> None:
        """Send at once, and the rest when there is room."""
        try:
            self.send(client)
        except BlockingIOError:
            self.watch(client, writing=True)
        except OSError as e:
            self.lost(client, name_of(e))

    def watch(self, client: Client, *, writing: bool) -> None:
        """Wait for room to write, too, or for bytes only."""
        if writing != client.writing:
            client.writing = writing
            self._epoll.modify(client.socket.fileno(), _WRITE if writing else _READ)

    def lost(self, client: Client, why: str) -> None:
        """Handle the failure of a connection."""
        self.fail(client, why)

    def fail(self, client: Client, why: str) -> None:
        """Count an error and drop the connection."""
        self.errors[why] += 1
        if client.busy:
            self.rest(client)
        self.forget(client)

    def forget(self, client: Client) -> None:
        """Close the connection; the client is gone."""
        del self._clients[client.socket.fileno()]
        with contextlib.suppress(OSError):
            self._epoll.unregister(client.socket.fileno())
        client.socket.close()


def name_of(error: OSError) -> str:
    """Return the symbol of an error, or what it says."""
    if isinstance(error, ssl.SSLError):  # whose numbers are others
        return error.reason or str(error)
    return errno.errorcode.get(error.errno or 0, str(error))


def connect_head(to: str) -> bytes:
    """Return the request for a tunnel to a host and port."""
    return f"CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n".encode()


def granted(answer: bytes) -> bool:
    """Tell whether this is a yes to CONNECT."""
    return b" 200" in answer[:12]
