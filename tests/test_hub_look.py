"""Bytes that the hub shows and leaves in the kernel, for whoever reads the descriptor itself."""

import socket

from twisted.python.failure import Failure

from tests.hub_support import HubCase
from tests.peers import settled, until
from whatsproxy.transport import StreamProtocol


class Looking(StreamProtocol):
    """Looks at what arrives, until told to take some of it."""

    def __init__(self) -> None:
        self.shown: list[bytes] = []
        self.received = b""
        self.take = 0
        self.heard: list[str] = []

    def connectionMade(self) -> None:
        self.transport.look()

    def seen(self, data: bytes) -> None:
        self.shown.append(data)
        if self.take:
            self.transport.take(self.take)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def readConnectionLost(self) -> None:
        self.heard.append("end")

    def connectionLost(self, reason: Failure) -> None:
        self.heard.append(reason.type.__name__)


class LookTests(HubCase):
    """Bytes are shown and left in the kernel, for whoever reads the descriptor itself."""

    async def looking(self) -> tuple[Looking, socket.socket]:
        listener = self.listen(Looking)
        bare = self.dial(listener.port)
        await until(lambda: listener.peers)
        return listener.peers[0], bare

    async def test_shown_again(self) -> None:
        """All of it each time, and only when there is more."""
        looking, bare = await self.looking()
        bare.sendall(b"one")
        await until(lambda: looking.shown == [b"one"])
        await settled(lambda: len(looking.shown))
        bare.sendall(b" two")
        await until(lambda: len(looking.shown) > 1)
        await settled(lambda: len(looking.shown))
        self.assertEqual(looking.shown, [b"one", b"one two"])
        self.assertEqual(looking.transport.getHandle().recv(100), b"one two")

    async def test_taken(self) -> None:
        """What is taken is gone; the rest comes as data, without another event."""
        looking, bare = await self.looking()
        looking.take = 3
        bare.sendall(b"one two")
        await until(lambda: looking.received)
        self.assertEqual((looking.shown, looking.received), ([b"one two"], b" two"))
        bare.sendall(b" three")
        await until(lambda: looking.received == b" two three")

    async def test_taken_whole(self) -> None:
        looking, bare = await self.looking()
        looking.take = 3
        bare.sendall(b"one")
        await until(lambda: looking.shown)
        bare.sendall(b"two")
        await until(lambda: looking.received == b"two")
        self.assertEqual(looking.shown, [b"one"])

    async def test_the_end(self) -> None:
        """A FIN behind what is shown is heard of, and what was shown is still there."""
        looking, bare = await self.looking()
        bare.sendall(b"one")
        bare.shutdown(socket.SHUT_WR)
        await until(lambda: looking.heard)
        self.assertEqual((looking.shown[-1], looking.heard), (b"one", ["end"]))
        self.assertEqual(looking.transport.getHandle().recv(100), b"one")
        looking.transport.abortConnection()
        await until(lambda: len(looking.heard) > 1)

    async def test_the_end_behind_what_is_taken(self) -> None:
        looking, bare = await self.looking()
        looking.take = 1
        bare.sendall(b"one")
        bare.shutdown(socket.SHUT_WR)
        await until(lambda: looking.heard)
        self.assertEqual((looking.received, looking.heard), (b"ne", ["end"]))

    async def test_an_end_alone(self) -> None:
        looking, bare = await self.looking()
        bare.shutdown(socket.SHUT_WR)
        await until(lambda: looking.heard)
        self.assertEqual((looking.shown, looking.heard), ([], ["end"]))

    async def test_reset(self) -> None:
        looking, bare = await self.looking()
        bare.sendall(b"one")
        await until(lambda: looking.shown)
        bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        bare.close()
        await until(lambda: looking.heard)
        self.assertEqual(looking.heard, ["ConnectionLost"])
