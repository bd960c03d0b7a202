"""Slow-loris clients: thousands that never finish saying what they want, and come again when cut.

    python -m tests.chaos.loris PORT COUNT PAUSE

It dials COUNT connections, RATE a second at the most, says "all in", and goes on until its standard
input ends; each client sends a byte every PAUSE seconds. Then it says in JSON how many were opened,
cut and refused.
"""

import contextlib
import heapq
import itertools
import json
import select
import socket
import sys
import time
from dataclasses import dataclass

from tests.builders import INTROS, python_hello
from tests.integration.programs import LOOPBACK

#: What they say, each a byte at a time: all of these need more, and more, to be understood.
WORDS = (
    python_hello("proxy.test"),
    b"GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\nX-Slow: " + b"a" * 2000,
    b"POST /upload HTTP/1.1\r\nHost: origin.test\r\n" + b"X-A: b\r\n" * 200,
    b"CONNECT origin.test:443 HTTP/1.1\r\n" + b"X-A: b\r\n" * 200,
    b" " * 2000,
    b"ED\x00\x01\x00\xff\xff" + bytes(2000),
    b"<?xml version='1.0'?>" + b" " * 2000,
    INTROS[0][:2],
)
#: New connections a second: those who are cut come back as fast as all of them are cut.
RATE = 600.0
#: Seconds between two looks at who is to be dialled.
TICK = 0.005


@dataclass(slots=True, eq=False)
class Loris:
    """One of them: what it says, and how much of that it has said."""

    socket: socket.socket
    words: bytes
    said: int = 0


class Crowd:
    """All of them, on one epoll."""

    def __init__(self, port: int, count: int, pause: float) -> None:
        self.opened = self.cut = self.refused = 0
        self._address = (LOOPBACK, port)
        self._pause = pause
        self._epoll = select.epoll()
        self._clients: dict[int, Loris] = {}
        #: Who speaks next, and when.
        self._due: list[tuple[float, int, Loris]] = []
        self._tickets = itertools.count()
        self._missing = count
        self._dialling_since = time.monotonic()

    def full(self) -> bool:
        """Whether everybody is in, or was let in and cut since."""
        return not self._missing

    def turn(self) -> None:
        """Let come who is missing, speak who is due, and see who was cut."""
        now = time.monotonic()
        while self._missing and self.opened < (now - self._dialling_since) * RATE:
            self._dial(now)
        while self._due and self._due[0][0] <= now:
            _, _, client = heapq.heappop(self._due)
            self._speak(client, now)
        for fd, _ in self._epoll.poll(TICK, 1024):
            client = self._clients[fd]
            with contextlib.suppress(OSError):
                if client.socket.recv(4096):
                    continue
            self._forget(client)

    def _dial(self, now: float) -> None:
        connection = socket.socket()
        connection.settimeout(5)
        try:
            connection.connect(self._address)
        except OSError:
            connection.close()
            self.refused += 1
            return
        connection.setblocking(False)
        self._missing -= 1
        self.opened += 1
        client = Loris(connection, WORDS[self.opened % len(WORDS)])
        self._clients[connection.fileno()] = client
        self._epoll.register(connection.fileno(), select.EPOLLIN | select.EPOLLRDHUP)
        self._speak(client, now)

    def _speak(self, client: Loris, now: float) -> None:
        if client.socket.fileno() < 0:
            return  # it was cut meanwhile
        try:
            client.said += client.socket.send(client.words[client.said : client.said + 1])
        except OSError:
            self._forget(client)
            return
        heapq.heappush(self._due, (now + self._pause, next(self._tickets), client))

    def _forget(self, client: Loris) -> None:
        del self._clients[client.socket.fileno()]
        client.socket.close()
        self.cut += 1
        self._missing += 1


def main() -> None:
    """Read the command line, and go on until nobody listens."""
    port, count, pause = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    crowd = Crowd(port, count, pause)
    while not crowd.full():
        crowd.turn()
    print("all in", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        crowd.turn()
    print(json.dumps({"opened": crowd.opened, "cut": crowd.cut, "refused": crowd.refused}))


if __name__ == "__main__":
    main()
