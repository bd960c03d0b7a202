"""The clients of the HTTP benchmarks: keep-alive where the proxy does, every answer checked."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clients import CHUNK, Clients, Connection, connect_head, granted
from http_response import Response, WrongAnswerError
from http_traffic import PLAIN, Request


@dataclass(slots=True, eq=False)
class Client(Connection):
    """One connection and the request that is under way on it."""

    request: Request
    response: Response
    #: Bytes of the head and of the upload that are sent.
    sent: int = 0
    #: Whether an answer came on this connection before.
    used: bool = False
    #: The answer to CONNECT, as far as it has come; None where there is none, or no more of it.
    tunnel: bytes | None = None


class HttpCrowd(Clients[Client]):
    """Some clients of an HTTP proxy that go on asking until so many answers have come.

    With ``connect``, a host and port, each of them asks what is there, through a tunnel.
    """

    def __init__(
        self,
        address: tuple[str, int],
        limit: float,
        connect: str = "",
        beside: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(address, limit, beside)
        self._connect = connect_head(connect) if connect else b""
        self.completed = 0
        #: Connections made; requests sent again because the proxy had closed one that was idle.
        self.dialled = 0
        self.repeated = 0
        #: How the answers were framed.
        self.framings: Counter[str] = Counter()
        self._requests: Sequence[Request] = ()
        self._left = 0

    def ask(self, requests: Sequence[Request], times: int, clients: int) -> float:
        """Make ``times`` requests, ``clients`` at a time; return the seconds that it took."""
        began = time.monotonic()
        self._requests = requests
        self._left = times
        while self._left or self._busy:
            while self._left and self._busy < clients:
                self._dial(self._next())
            if not self.turn(began):
                self.errors["not asked"] += self._left
                break
        return time.monotonic() - began

    def send(self, client: Client) -> None:
        """Send what is left of head and upload, as much as there is room for."""
        if client.tunnel is not None:
            client.sent += client.socket.send(self._connect[client.sent :])
            self.watch(client, writing=client.sent < len(self._connect))
            return
        request = client.request
        whole = len(request.head) + request.upload
        if client.sent < len(request.head):
            client.sent += client.socket.send(request.head[client.sent :])
        if len(request.head) <= client.sent < whole:
            at = client.sent - len(request.head)
            with PLAIN.piece(request.at + at, request.upload - at) as piece:
                client.sent += client.socket.send(piece)
        self.watch(client, writing=client.sent < whole)

    def receive(self, client: Client) -> None:
        """Take a part of the answer, or the connection's end."""
        data = client.socket.recv(CHUNK)
        if data and client.tunnel is not None:
            self._tunnelled(client, client.tunnel + data)
            return
        response = client.response
        if not data:
            if response.end():
                self._answered(client)
            else:
                self.lost(client, "ended early")
            return
        try:
            if response.feed(data):
                self._answered(client)
        except WrongAnswerError as e:
            self.fail(client, str(e))

    def lost(self, client: Client, why: str) -> None:
        """Ask again where an idle connection was closed, which HTTP lets a server do any time."""
        if client.used and not client.response.begun:
            self.repeated += 1
            self.rest(client)
            self.forget(client)
            self._dial(client.request)
        else:
            self.fail(client, why)

    def _next(self) -> Request:
        self._left -= 1
        return self._requests[self._left % len(self._requests)]

    def _dial(self, request: Request) -> None:
        self.dialled += 1
        tunnel = b"" if self._connect else None
        self.add(Client(self.connection(), request, Response(request), tunnel=tunnel))

    def _tunnelled(self, client: Client, answer: bytes) -> None:
        """Go on to the request once the proxy has said yes; nobody else speaks before that."""
        if not answer.endswith(b"\r\n\r\n"):
            client.tunnel = answer
        elif not granted(answer):
            self.fail(client, f"answer to CONNECT: {answer[:40]!r}")
        else:
            client.tunnel = None
            client.sent = 0
            self.start(client)

    def _answered(self, client: Client) -> None:
        self.completed += 1
        self.framings[client.response.framing] += 1
        if client.response.closing or not self._left:
            self.rest(client)
            self.forget(client)
            return
        client.request = self._next()
        client.response = Response(client.request)
        client.sent = 0
        client.used = True
        self.start(client)
