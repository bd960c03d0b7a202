"""Peers on real loopback connections, a scripted SOCKS server, and waiting without sleeping."""

import contextlib
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.socks5_attempt import GRANTED

reactor: Any = installed
LOOPBACK = "127.0.0.1"


async def turn() -> None:
    """Let the reactor go round once."""
    await deferLater(reactor, 0)


async def until(condition: Callable[[], object], what: str = "", seconds: float = 10.0) -> None:
    """Let the reactor go round until a condition holds; fail when that takes too long."""
    deadline = reactor.seconds() + seconds
    while not condition():
        if reactor.seconds() > deadline:
            raise AssertionError(f"still not so after {seconds} s: {what or condition}")
        await turn()


async def settled(value: Callable[[], object], turns: int = 50) -> Any:
    """Return a value that has stood still for so many turns of the reactor."""
    last, still = value(), 0
    while still < turns:
        await turn()
        now = value()
        last, still = (now, 0) if now != last else (last, still + 1)
    return last


@implementer(IHalfCloseableProtocol)
class Peer(Protocol):
    """One end of a connection under a test's control; it records and does nothing by itself."""

    transport: Any

    def __init__(self) -> None:
        self.received = bytearray()
        self.eof = False
        self._ended = False
        self.lost: Failure | None = None

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def readConnectionLost(self) -> None:
        self.eof = True
        if self._ended:
            self.close()  # Twisted leaves it open

    def writeConnectionLost(self) -> None:
        self._ended = True
        if self.eof:
            self.close()

    def connectionLost(self, reason: Failure) -> None:
        self.lost = reason

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def end(self) -> None:
        """End our direction (FIN)."""
        self.transport.loseWriteConnection()

    def close(self) -> None:
        self.transport.loseConnection()

    def reset(self) -> None:
        """Break off (RST)."""
        self.transport.abortConnection()

    async def got(self, data: bytes) -> None:
        """Wait until exactly this has been received in all."""
        with contextlib.suppress(AssertionError):
            await until(lambda: len(self.received) >= len(data) or self.lost)
        if self.received != data:
            raise AssertionError(f"{bytes(self.received[:200])!r} received, not {data[:200]!r}")

    async def ended(self) -> None:
        """Wait for the other side's FIN."""
        await until(lambda: self.eof or self.lost, "no end of the other's direction")

    async def gone(self) -> Failure:
        """Wait for the end of the connection and return its reason."""
        await until(lambda: self.lost, "the connection is still there")
        assert self.lost is not None
        return self.lost


class UnixPeer(Peer):
    """One end of a connection over a unix socket."""

    def connectionMade(self) -> None:
        """Set no option of TCP's."""


class Listener(Factory):
    """Keeps the peers that it has accepted."""

    noisy = False

    def __init__(self, build: Callable[[], Any] = Peer) -> None:
        self.build = build
        self.peers: list[Any] = []
        self.port = 0

    def buildProtocol(self, addr: IAddress | None) -> Any:
        peer = self.build()
        self.peers.append(peer)
        return peer

    async def accepted(self, count: int = 1) -> Any:
        """Wait for the connection of this number and return its peer."""
        await until(
            lambda: len(self.peers) >= count and self.peers[count - 1].transport is not None,
            f"connection {count} never came",
        )
        return self.peers[count - 1]


class FakeSocks(Peer):
    """A SOCKS5 server that takes anyone, and then is the upstream itself; it keeps the request."""

    #: The reply to CONNECT, and what is sent in the same segment.
    reply = GRANTED
    behind = b""

    def __init__(self) -> None:
        super().__init__()
        self.heard = bytearray()
        self.request = b""

    def dataReceived(self, data: bytes) -> None:
        if self.request:
            self.received += data
            return
        greeted = len(self.heard) > 0
        self.heard += data
        if not greeted:
            self.write(b"\x05\x00")
        elif len(self.heard) > 3:
            self.request = bytes(self.heard[3:])
            self.write(self.reply + self.behind)


def by_name(host: str, port: int) -> bytes:
    """Return the CONNECT request for a name (RFC 1928 4)."""
    return b"\x05\x01\x00\x03" + bytes([len(host)]) + host.encode() + port.to_bytes(2, "big")
