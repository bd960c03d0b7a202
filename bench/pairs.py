"""Both ends of relayed connections in one process: as little load as Python can do for a message.

The client's end and the origin's share one epoll and one CPU, so that what is measured, on another,
has as much to do as it can. They never sleep: to wake somebody is dear, on loopback it is the
sender who pays, and only a program that is slower than its load would have to; real peers are
elsewhere. Small payload is compared in full; of bulk every byte is counted and one read in a few
compared.
"""

import contextlib
import select
import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass

from clients import name_of
from http_traffic import Cycle
from origin import CHUNK
from traffic import PATTERN, openings, place

#: Bytes of a read of bulk that is only counted: MSG_TRUNC copies nothing.
_COUNTED = 1 << 20
#: One read of bulk in so many is compared.
_COMPARED = 16
#: Bulk is this over and over: large enough for any buffer, small enough for the cache.
_BULK = Cycle(PATTERN[: 1 << 20])
_ABORT = struct.pack("ii", 1, 0)


@dataclass(slots=True, eq=False)
class End:
    """One end of a connection: the client's, which has an opening, or the origin's."""

    socket: socket.socket
    #: What the client is still to send, and what is to come back for it.
    opening: bytes = b""
    awaited: bytes = b""
    got: bytes = b""
    #: Of bulk: bytes sent, bytes received, and reads.
    sent: int = 0
    received: int = 0
    reads: int = 0


class Pairs:
    """Connections to ``address``, whose other ends arrive at ``listening``.

    ``limit`` is in seconds, for each phase; what is not done then is an error. All phases return
    the seconds that they took.
    """

    #: What is raised where a socket has nothing to be read, or no room.
    not_yet: tuple[type[OSError], ...] = (BlockingIOError,)
    #: What a client waits for then, before its opening.
    waiting = select.EPOLLIN | select.EPOLLOUT

    def __init__(self, address: tuple[str, int], listening: socket.socket, limit: float) -> None:
        self.errors: Counter[str] = Counter()
        self.completed = 0
        self._address = address
        self._listening = listening
        self._limit = limit
        self._epoll = select.epoll()
        self._epoll.register(listening.fileno(), select.EPOLLIN)
        self._first = openings(("whatsapp",))
        self._clients: dict[int, End] = {}
        self._origins: dict[int, End] = {}
        #: Clients whose opening has not come back yet, and those that are still to be dialled.
        self._busy = 0
        self._left = 0

    def __len__(self) -> int:
        return len(self._clients)

    def check(self) -> None:
        """See that there is a reply."""
        self.churn(1, 1)

    def open(self, count: int, at_once: int) -> float:
        """Open ``count`` more and hold them: each says its intro and awaits the origin's reply."""
        return self._dial_all(count, at_once, keep=True)

    def churn(self, count: int, at_once: int) -> float:
        """Open as many, each closed by the client when its reply has come."""
        return self._dial_all(count, at_once, keep=False)

    def ping_pong(self, size: int, count: int) -> float:
        """Let ``count`` messages go there and back, on each connection one after the other."""
        began = time.monotonic()
        end = began + self._limit
        # In this loop every instruction counts: what it costs, the proxy stands idle.
        ends = {fd: (one.socket.recv, one.socket.send, b"") for fd, one in self._origins.items()}
        for number, (fd, one) in enumerate(self._clients.items()):
            message = PATTERN[place(number) : place(number) + size]
            ends[fd] = (one.socket.recv, one.socket.send, message)
            one.socket.send(message)
        unsent = count - len(self._clients)
        back = 0
        poll = self._epoll.poll
        parts: dict[int, bytes] = {}
        while back < count:
            if time.monotonic() > end:
                self.errors["time limit"] += count - back
                break
            for fd, _ in poll(0, 256):
                try:
                    receive, send, message = ends[fd]
                    data = receive(4096)
                    if not message:
                        send(data)
                        continue
                except OSError as e:
                    self.errors[name_of(e)] += 1
                    return time.monotonic() - began
                if data != message:
                    data = parts.pop(fd, b"") + data
                    if not data or not message.startswith(data):
                        self.errors["wrong bytes" if data else "ended early"] += 1
                        return time.monotonic() - began
                    if data != message:
                        parts[fd] = data
                        continue
                back += 1
                if unsent > 0:
                    unsent -= 1
                    send(message)
        self.completed += back
        return time.monotonic() - began

    def move(self, up: int, down: int) -> float:
        """Let each client send ``up`` bytes and each origin ``down``, all at once."""
        began = time.monotonic()
        stop = began + self._limit
        ends = {**self._clients, **self._origins}
        busy = set()
        for fd, one in ends.items():
            one.sent = one.received = 0
            events = select.EPOLLIN
            if up if fd in self._clients else down:
                events |= select.EPOLLOUT
            self._epoll.modify(fd, events)
            busy.add(fd)
        while busy:
            if time.monotonic() > stop:
                self.errors["time limit"] += len(busy)
                break
            for fd, events in self._epoll.poll(0, 256):
                if fd not in ends:  # a connection that nobody awaits, or one that failed just now
                    self._accept()
                    continue
                one = ends[fd]
                send, receive = (up, down) if fd in self._clients else (down, up)
                try:
                    if events & select.EPOLLOUT:
                        with _BULK.piece(one.sent, send - one.sent) as piece:
                            one.sent += one.socket.send(piece)
                        if one.sent == send:
                            self._epoll.modify(fd, select.EPOLLIN)
                    if events & ~select.EPOLLOUT:
                        self.read(one, receive)
                except self.not_yet:
                    pass
                except OSError as e:
                    self.errors[name_of(e)] += 1
                    busy.discard(fd)
                    del ends[fd], (self._clients if fd in self._clients else self._origins)[fd]
                    one.socket.close()
                    continue
                if one.sent == send and one.received == receive:
                    busy.discard(fd)
        self.completed += sum(one.received for one in ends.values())
        return time.monotonic() - began

    def connection(self) -> socket.socket:
        """Return a client's socket that is being connected."""
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        connection.connect_ex(self._address)
        return connection

    def say(self, client: End) -> None:
        """Say the opening; what is in ``not_yet`` is raised when it is too early for that."""
        client.socket.send(client.opening)

    def hang_up(self, client: End) -> None:
        """Close a connection as clients do."""
        client.socket.close()

    def read(self, one: End, expected: int) -> None:
        """Count what came of bulk, and compare it now and then."""
        one.reads += 1
        if one.reads % _COMPARED == 0:
            self.compare(one, one.socket.recv(CHUNK), expected)
        else:
            got = one.socket.recv_into(_nowhere, _COUNTED, socket.MSG_TRUNC)
            self._count(one, got, expected)

    def compare(self, one: End, data: bytes, expected: int) -> None:
        """Compare what came of bulk, and count it."""
        if not _BULK.matches(data, one.received):
            raise ConnectionAbortedError("wrong bytes")
        self._count(one, len(data), expected)

    def leave(self) -> None:
        """Reset what is still open, so that no port waits."""
        for one in (*self._clients.values(), *self._origins.values()):
            with contextlib.suppress(OSError):
                one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            one.socket.close()
        self._clients.clear()
        self._origins.clear()
        self._epoll.close()

    def _dial_all(self, count: int, at_once: int, *, keep: bool) -> float:
        began = time.monotonic()
        end = began + self._limit
        self._left = count
        # When nothing is kept, the origin's ends go, too: only then has the proxy done its work.
        ends = len(self._origins)
        while self._left or self._busy or (not keep and len(self._origins) > ends):
            while self._left and self._busy < at_once:
                self._dial()
            if time.monotonic() > end:
                self.errors["time limit"] += self._left + self._busy
                break
            for fd, _ in self._epoll.poll(0, 1024):
                if (client := self._clients.get(fd)) is not None:
                    try:
                        if self._ready(client):
                            self._busy -= 1
                            self.completed += 1
                            if not keep:
                                del self._clients[fd]
                                self.hang_up(client)
                    except self.not_yet:
                        pass
                    except OSError as e:
                        self._fail(client, name_of(e))
                elif (origin := self._origins.get(fd)) is not None:
                    self._answer(fd, origin)
                else:
                    self._accept()
        return time.monotonic() - began

    def _dial(self) -> None:
        self._left -= 1
        self._busy += 1
        connection = self.connection()
        _, opening = next(self._first)
        client = End(connection, opening, opening)
        self._clients[connection.fileno()] = client
        try:
            self._say(client)
        except self.not_yet:
            self._epoll.register(connection.fileno(), self.waiting)
        except OSError as e:
            self._fail(client, name_of(e))
        else:
            self._epoll.register(connection.fileno(), select.EPOLLIN)

    def _say(self, client: End) -> None:
        self.say(client)
        client.opening = b""

    def _ready(self, client: End) -> bool:
        """Go on with a client; True when its reply is complete."""
        if client.opening:
            self._say(client)
            if self.waiting != select.EPOLLIN:
                self._epoll.modify(client.socket.fileno(), select.EPOLLIN)
            return False
        return self._replied(client, client.socket.recv(4096))

    def _replied(self, client: End, data: bytes) -> bool:
        client.got += data
        if client.got == client.awaited and data:
            client.awaited = client.got = b""
            return True
        if not data or not client.awaited.startswith(client.got):
            self._fail(client, "wrong bytes" if data else "ended early")
        return False

    def _fail(self, client: End, why: str) -> None:
        self.errors[why] += 1
        if client.awaited:
            self._busy -= 1
        del self._clients[client.socket.fileno()]
        client.socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = self._listening.accept()
                connection.setblocking(False)
                self._origins[connection.fileno()] = End(connection)
                self._epoll.register(connection.fileno(), select.EPOLLIN)

    def _answer(self, fd: int, origin: End) -> None:
        """Send what came back, which is small, or close when the client has."""
        try:
            if data := origin.socket.recv(4096):
                origin.socket.send(data)
                return
        except BlockingIOError:
            return
        except OSError:  # the client's end counts it
            pass
        del self._origins[fd]
        origin.socket.close()

    def _count(self, one: End, got: int, expected: int) -> None:
        one.received += got
        if not got or one.received > expected:
            raise ConnectionAbortedError("too much" if got else "ended early")


#: MSG_TRUNC writes nothing there, but wants to see that there is room.
_nowhere = bytearray(_COUNTED)
