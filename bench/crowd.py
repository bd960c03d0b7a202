"""The clients of the benchmarks: thousands of connections on one epoll, every byte checked."""

import contextlib
import errno
import select
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from traffic import PATTERN, place

#: Bytes a read.
CHUNK = 1 << 17
_READ, _WRITE = select.EPOLLIN, select.EPOLLIN | select.EPOLLOUT


@dataclass(slots=True, eq=False)
class Client:
    """One connection, and the exchange that it is in: ``text[begin:end]``, out and back."""

    number: int
    kind: str
    socket: socket.socket
    text: bytes
    started: float
    begin: int = 0
    end: int = 0
    #: Positions in ``text``: what is sent, and what has come back.
    sent: int = 0
    got: int = 0
    #: How often the exchange is still to be done, this time included.
    times: int = 1
    #: In an exchange or closing; the phase waits for it.
    busy: bool = True
    writing: bool = True
    answered: bool = False
    closing: bool = False


class Crowd:
    """Connections to one address, going together from phase to phase.

    ``limit`` is in seconds, for each phase: a connection that is not done then is an error.
    """

    def __init__(self, address: tuple[str, int], limit: float) -> None:
        self.errors: Counter[str] = Counter()
        self.completed = 0
        #: Seconds from dialling to the first byte that came back.
        self.first_bytes: list[float] = []
        self._address = address
        self._limit = limit
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}
        self._busy = 0
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._clients)

    def open(self, count: int, openings: Iterator[tuple[str, bytes]], dialling: int) -> float:
        """Open ``count`` more, ``dialling`` at a time; each is done when its opening came back.

        Like all phases it returns the seconds that it took.
        """
        left = count
        began = time.monotonic()
        while left or self._busy:
            while left and self._busy < dialling:
                left -= 1
                self._dial(*next(openings))
            if not self._turn(began):
                break
        return time.monotonic() - began

    def exchange(self, kinds: Iterable[str], size: int, times: int) -> tuple[int, float]:
        """Let the clients of these kinds send ``size`` bytes and await their return, ``times``.

        Returns how many did, and the seconds.
        """
        kinds = tuple(kinds)
        taking_part = [client for client in self._clients.values() if client.kind in kinds]
        began = time.monotonic()
        for client in taking_part:
            client.text = PATTERN
            client.begin = place(client.number)
            client.end = client.begin + size
            client.times = times
            self._begin(client)
        self._finish(began)
        return len(taking_part), time.monotonic() - began

    def close(self) -> float:
        """End our direction of every connection and await the end of the other."""
        began = time.monotonic()
        for client in list(self._clients.values()):
            client.closing = client.busy = True
            self._busy += 1
            try:
                client.socket.shutdown(socket.SHUT_WR)
            except OSError as e:
                self._fail(client, _name(e))
        self._finish(began)
        return time.monotonic() - began

    def leave(self) -> None:
        """Drop everything, counting nothing: the measurement is over or has failed."""
        for client in list(self._clients.values()):
            self._forget(client)
        self._epoll.close()

    def _finish(self, began: float) -> None:
        while self._busy and self._turn(began):
            pass

    def _turn(self, began: float) -> bool:
        """Handle what has happened; False when the phase has used up its time."""
        left = began + self._limit - time.monotonic()
        if left <= 0:
            for client in [client for client in self._clients.values() if client.busy]:
                self._fail(client, "time limit")
            return False
        for fd, events in self._epoll.poll(left, 1024):
            if fd not in self._clients:
                continue
            client = self._clients[fd]
            try:
                if events & select.EPOLLOUT and client.writing:
                    self._send(client)
                if events & ~select.EPOLLOUT:
                    self._receive(client)
            except BlockingIOError:
                pass
            except OSError as e:
                self._fail(client, _name(e))
        return True

    def _dial(self, kind: str, opening: bytes) -> None:
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = Client(
            self._numbers, kind, connection, opening, time.monotonic(), end=len(opening)
        )
        self._numbers += 1
        self._busy += 1
        self._clients[connection.fileno()] = client
        connection.connect_ex(self._address)  # a failure comes as an event
        self._epoll.register(connection.fileno(), _WRITE)

    def _begin(self, client: Client) -> None:
        client.busy = True
        self._busy += 1
        client.sent = client.got = client.begin
        try:
            self._send(client)
        except BlockingIOError:
            self._watch(client, writing=True)
        except OSError as e:
            self._fail(client, _name(e))

    def _send(self, client: Client) -> None:
        with memoryview(client.text) as text:
            client.sent += client.socket.send(text[client.sent : client.end])
        self._watch(client, writing=client.sent < client.end)

    def _watch(self, client: Client, *, writing: bool) -> None:
        if writing != client.writing:
            client.writing = writing
            self._epoll.modify(client.socket.fileno(), _WRITE if writing else _READ)

    def _receive(self, client: Client) -> None:
        data = client.socket.recv(CHUNK)
        if not data:
            if client.closing:
                self._rest(client)
                self._forget(client)
                self.completed += 1
            else:
                self._fail(client, "ended early")
            return
        if not client.answered:
            client.answered = True
            self.first_bytes.append(time.monotonic() - client.started)
        # startswith compares in place, where a slice would be copied first.
        if len(data) > client.sent - client.got or not client.text.startswith(data, client.got):
            self._fail(client, "wrong bytes")
            return
        client.got += len(data)
        if client.got == client.end:
            self._rest(client)
            client.times -= 1
            if client.times > 0:
                self._begin(client)

    def _rest(self, client: Client) -> None:
        client.busy = False
        self._busy -= 1

    def _fail(self, client: Client, why: str) -> None:
        self.errors[why] += 1
        if client.busy:
            self._rest(client)
        self._forget(client)

    def _forget(self, client: Client) -> None:
        del self._clients[client.socket.fileno()]
        with contextlib.suppress(OSError):
            self._epoll.unregister(client.socket.fileno())
        client.socket.close()


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error))
