"""The clients of the benchmarks: thousands of connections on one epoll, every byte checked."""

import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from clients import CHUNK, Clients, Connection, connect_head, granted, name_of
from traffic import PATTERN, place


@dataclass(slots=True, eq=False)
class Client(Connection):
    """One connection, and the exchange that it is in: ``text[begin:end]``, out and back."""

    number: int
    kind: str
    text: bytes
    started: float
    begin: int = 0
    end: int = 0
    #: Positions in ``text``: what is sent, and what has come back.
    sent: int = 0
    got: int = 0
    #: How often the exchange is still to be done, this time included.
    times: int = 1
    answered: bool = False
    closing: bool = False
    #: What is said once CONNECT is answered, and the answer so far; None where there is no CONNECT.
    opening: bytes = b""
    head: bytes | None = None


class Crowd(Clients[Client]):
    """Connections to one address, going together from phase to phase.

    ``limit`` is in seconds, for each phase: a connection that is not done then is an error. With
    ``connect``, a host and port, each connection first asks an HTTP proxy for a tunnel there.
    """

    def __init__(self, address: tuple[str, int], limit: float, connect: str = "") -> None:
        super().__init__(address, limit)
        self.completed = 0
        #: Seconds from dialling to the first byte that came back.
        self.first_bytes: list[float] = []
        self._connect = connect_head(connect) if connect else b""
        self._numbers = 0

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
            if not self.turn(began):
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
        self.finish(began)
        return len(taking_part), time.monotonic() - began

    def close(self) -> float:
        """End our direction of every connection and await the end of the other."""
        began = time.monotonic()
        for client in list(self._clients.values()):
            client.closing = True
            self.work(client)
            try:
                client.socket.shutdown(socket.SHUT_WR)
            except OSError as e:
                self.fail(client, name_of(e))
        self.finish(began)
        return time.monotonic() - began

    def send(self, client: Client) -> None:
        """Send what is left of the exchange."""
        with memoryview(client.text) as text:
            client.sent += client.socket.send(text[client.sent : client.end])
        self.watch(client, writing=client.sent < client.end)

    def receive(self, client: Client) -> None:
        """Compare what came back; begin again when all of it has."""
        data = client.socket.recv(CHUNK)
        if not data:
            if client.closing:
                self.rest(client)
                self.forget(client)
                self.completed += 1
            else:
                self.fail(client, "ended early")
            return
        if client.head is not None:
            self._tunnelled(client, client.head + data)
            return
        if not client.answered:
            client.answered = True
            self.first_bytes.append(time.monotonic() - client.started)
        # startswith compares in place, where a slice would be copied first.
        if len(data) > client.sent - client.got or not client.text.startswith(data, client.got):
            self.fail(client, "wrong bytes")
            return
        client.got += len(data)
        if client.got == client.end:
            self.rest(client)
            client.times -= 1
            if client.times > 0:
                self._begin(client)

    def _dial(self, kind: str, opening: bytes) -> None:
        first = self._connect or opening
        client = Client(
            self.connection(),
            self._numbers,
            kind,
            first,
            time.monotonic(),
            end=len(first),
            opening=opening,
            head=b"" if self._connect else None,
        )
        self._numbers += 1
        self.add(client)

    def _tunnelled(self, client: Client, head: bytes) -> None:
        """Go on to the opening once the proxy has said yes; nobody else speaks before that."""
        client.head = head
        if not head.endswith(b"\r\n\r\n"):
            return
        if not granted(head):
            self.fail(client, f"answer to CONNECT: {head[:40]!r}")
            return
        client.head = None
        client.text, client.end = client.opening, len(client.opening)
        client.sent = client.got = 0
        self.start(client)

    def _begin(self, client: Client) -> None:
        self.work(client)
        client.sent = client.got = client.begin
        self.start(client)
