"""More bytes than buffers hold: fast senders, readers that stall, and a look into the buffers."""

import random
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from tests.peers import Peer, settled, until
from whatsproxy.transport import AMPLE, set_buffer, unsent

#: Its length is prime to every buffer size, so that a lost or repeated piece shows.
_BLOCK = random.Random(1928).randbytes(1_000_003)
_TWICE = _BLOCK + _BLOCK[: 1 << 20]
PIECE = 64 * 1024


def pattern(start: int, size: int) -> bytes:
    """Return ``size`` (at most 1 MiB) of the endless stream that floods are made of."""
    offset = start % len(_BLOCK)
    return _TWICE[offset : offset + size]


def buffered(transport: Any) -> int:
    """Return how many bytes a transport holds that the kernel has not taken yet."""
    return unsent(transport)


class Slow(Peer):
    """Reads nothing until told, and then compares instead of keeping."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.watch: Callable[[], None] = lambda: None

    def connectionMade(self) -> None:
        super().connectionMade()
        self.stall()

    def stall(self) -> None:
        """Read no more, and let the kernel take little."""
        self.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
        self.transport.pauseProducing()

    def go_on(self) -> None:
        """Read as fast as can be from now on."""
        self.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        if data != pattern(self.count, len(data)):
            raise AssertionError(f"other bytes than those sent, from {self.count} on")
        self.count += len(data)
        self.watch()

    async def counted(self, size: int) -> None:
        """Wait until so many bytes, all of them right, have arrived."""
        await until(lambda: self.count >= size or self.lost, f"not {size} bytes", 20)
        if self.count != size:
            raise AssertionError(f"{self.count} bytes arrived of {size}")


def slow_down(peer: Peer) -> Slow:
    """Put a Slow in a peer's place."""
    slow = Slow()
    peer.transport.protocol = slow
    slow.makeConnection(peer.transport)
    return slow


@implementer(IPushProducer)
class Flood:
    """Sends so many bytes as fast as the transport takes them, then FIN."""

    def __init__(self, peer: Peer, size: int) -> None:
        self.sent = 0
        self._size = size
        self._transport = peer.transport
        self._paused = False
        self._transport.registerProducer(self, True)
        self.resumeProducing()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        while not self._paused and self.sent < self._size:
            piece = pattern(self.sent, min(PIECE, self._size - self.sent))
            self.sent += len(piece)
            self._transport.write(piece)
        if self.sent == self._size:
            self._transport.unregisterProducer()
            self._transport.loseWriteConnection()

    def stopProducing(self) -> None:
        self._size = self.sent


async def fill(
    sender: Peer,
    through: Any,
    moved: Callable[[], int],
    nudge: Callable[[], None] = lambda: None,
) -> int:
    """Send until the proxy's transport ``through`` holds a lot, but not so much that it pauses.

    ``moved`` counts what the proxy has taken from the sender; the answer is what was sent.
    ``nudge`` makes the reader send something: its kernel acknowledges at once, not 40 ms later.
    """
    sent = 0
    # A pipe would pause the sender at once: as in times of scarcity, there is none.
    set_buffer(through, AMPLE - 1)
    # Fixed, the kernel's own buffer does not grow later on.
    through.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE)
    while buffered(through) < PIECE // 2:
        piece = pattern(sent, PIECE // 4)
        sender.write(piece)
        sent += len(piece)
        await until(lambda sent=sent: moved() >= sent, "the proxy takes no more")
        nudge()
        await settled(lambda: buffered(through), 3)
    set_buffer(through, AMPLE)
    return sent
