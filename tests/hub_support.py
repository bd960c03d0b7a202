"""What the tests of the hub share: connections on a hub, and bare sockets at their other ends."""

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.peers import LOOPBACK, Listener, Peer, reactor
from whatsproxy.hub_reactor import HubReactor


class Planted(Exception):
    """What a protocol of a test raises."""


class Dialler(ClientFactory):
    """Makes one connection, and keeps what came of it."""

    noisy = False

    def __init__(self, build: Callable[[], Any] = Peer) -> None:
        self.peer = build()
        self.failed: Failure | None = None
        self.heard: list[str] = []

    def startedConnecting(self, connector: Any) -> None:
        self.heard.append("started")

    def buildProtocol(self, addr: Any) -> Any:
        self.address = addr
        return self.peer

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self.heard.append("failed")
        self.failed = reason

    def doStop(self) -> None:
        self.heard.append("stopped")


@implementer(IPushProducer)
class Producer:
    """Keeps what it is told."""

    def __init__(self, heard: list[str]) -> None:
        self.heard = heard

    def pauseProducing(self) -> None:
        self.heard.append("pause")

    def resumeProducing(self) -> None:
        self.heard.append("resume")

    def stopProducing(self) -> None:
        self.heard.append("stop")


class HubCase(TestCase):
    """Connections on a hub; when a test ends, the hub has to be empty."""

    timeout = 30

    def setUp(self) -> None:
        self.fast = HubReactor(reactor)
        self.bare: list[socket.socket] = []
        self.ports: list[Any] = []

    async def tearDown(self) -> None:
        for port in self.ports:
            await port.stopListening()
        for bare in self.bare:
            bare.close()
        for owner in self.fast.hub.owners:
            owner.fail(Failure(Planted()))
        self.assertEqual(self.fast.hub.owners, [])
        self.assertNotIn(self.fast.hub, reactor.getReaders())
        self.assertEqual(self.flushLoggedErrors(), [])

    def listen(self, build: Callable[[], Any] = Peer) -> Listener:
        """Accept on the hub."""
        listener = Listener(build)
        port = self.fast.listenTCP(0, listener, interface=LOOPBACK)
        self.ports.append(port)
        listener.port = port.getHost().port
        return listener

    def dial(self, port: int) -> socket.socket:
        """Connect a bare socket."""
        bare = socket.create_connection((LOOPBACK, port))
        bare.setblocking(False)
        self.bare.append(bare)
        return bare

    async def pair(self, build: Callable[[], Any] = Peer) -> tuple[Any, socket.socket]:
        """Return a protocol on the hub, and the bare socket at its other end."""
        listener = self.listen(build)
        bare = self.dial(listener.port)
        return await listener.accepted(), bare

    def all_of(self, bare: socket.socket) -> bytes:
        """Return what a bare socket can read now."""
        data = b""
        with contextlib.suppress(BlockingIOError):
            while piece := bare.recv(1 << 20):
                data += piece
        return data


def fail() -> None:
    """Raise, where a factory is to build."""
    raise Planted


def is_over(bare: socket.socket) -> bool:
    """Tell whether a bare socket has read the end."""
    try:
        return bare.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
