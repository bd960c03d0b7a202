"""What this program asks of a transport, how one changes hands, and how one is let go.

The surface is :class:`StreamTransport` and nothing more, so that another transport than Twisted's
can take its place by providing just this.
"""

import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import implementer

#: Seconds that a parting peer is given to say goodbye too, once it was sent everything.
LINGER = 5.0
#: Bytes read and dropped meanwhile; after that the peer may wait.
DROP_LIMIT = 256 * 1024

# A peer that has vanished is found within six minutes, at a packet each four minutes of silence:
# often enough for the usual NAT's memory, seldom enough for a phone's battery.
_KEEPALIVE_IDLE = 240
_KEEPALIVE_INTERVAL = 30
_KEEPALIVE_COUNT = 4


class StreamTransport(Protocol):
    """The whole of what a transport must be able to do."""

    def write(self, data: bytes) -> None:
        """Send, or buffer and pause the registered producer."""

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """Name who is to be paused while the buffer is full."""

    def unregisterProducer(self) -> None:
        """Forget the producer."""

    def pauseProducing(self) -> None:
        """Stop reading."""

    def resumeProducing(self) -> None:
        """Read again."""

    def loseWriteConnection(self) -> None:
        """Send what is buffered, then end this direction (FIN)."""

    def loseConnection(self) -> None:
        """Send what is buffered, then close."""

    def abortConnection(self) -> None:
        """Close at once (RST)."""


@implementer(IProtocol, IHalfCloseableProtocol)
class StreamProtocol:
    """A protocol with nothing in it: small, half-closeable, without Twisted's Protocol's dict."""

    __slots__ = ("transport",)

    transport: Any

    def makeConnection(self, transport: Any) -> None:
        """Take the transport."""
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        """Begin; the transport is there."""

    def dataReceived(self, data: bytes) -> None:
        """Take what arrived."""

    def readConnectionLost(self) -> None:
        """Hear that the peer has ended its direction (FIN)."""

    def writeConnectionLost(self) -> None:
        """Hear that our direction has ended: all is sent."""

    def connectionLost(self, reason: Failure) -> None:
        """Hear that nothing is left of the connection."""


@implementer(IProtocolFactory)
class SingleProtocolFactory:
    """Gives one protocol to the one connection that an endpoint makes, and forgets it.

    Twisted's client transports keep their factory for as long as they live.
    """

    def __init__(self, protocol: IProtocol) -> None:
        self._protocol: IProtocol | None = protocol

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:
        """Return it, once."""
        protocol, self._protocol = self._protocol, None
        return protocol

    def doStart(self) -> None:
        """Nothing is to be prepared."""

    def doStop(self) -> None:
        """Nothing is to be put away."""


def hand_over(old: StreamProtocol, new: IProtocol, pending: bytes = b"") -> None:
    """Make ``new`` the protocol of ``old``'s transport and replay what ``old`` had buffered.

    ``old`` never hears of the connection's end: it has cancelled its timers before. ``new`` may
    close or hand over itself in ``connectionMade``; the bytes go to whoever holds it after that.
    """
    transport = old.transport
    # A ProtocolWrapper (TLS, haproxy:) passes its data to wrappedProtocol, not to protocol.
    if isinstance(transport, ProtocolWrapper):
        transport.wrappedProtocol = new
    else:
        transport.protocol = new
    new.makeConnection(transport)
    if pending:
        deliver(transport, pending)


def deliver(transport: Any, data: bytes) -> None:
    """Give bytes to whichever protocol receives a transport's data now."""
    wrapped = isinstance(transport, ProtocolWrapper)
    (transport.wrappedProtocol if wrapped else transport.protocol).dataReceived(data)


def tune(transport: Any, keepalive: bool) -> None:
    """Send small messages at once; ``keepalive`` also probes a silent peer. TCP only."""
    if not ITCPTransport.providedBy(transport):
        return
    # A socket whose peer has just gone may refuse: whoever reads from it will hear of that.
    with contextlib.suppress(OSError):
        transport.setTcpNoDelay(True)
        if keepalive:
            transport.setTcpKeepAlive(True)
        if keepalive and hasattr(socket, "TCP_KEEPIDLE"):  # Linux and the BSDs
            handle: socket.socket = transport.getHandle()  # type: ignore[attr-defined]  # undeclared
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE)
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL)
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_COUNT)


class LingeringClose(StreamProtocol):
    """The last protocol of a connection that must not lose what is on its way.

    It ends our direction once the transport's buffer is sent, then reads and drops what still comes
    until the peer has ended too: closing with unread data would make the kernel reset the
    connection and destroy what the peer has not read yet. Whoever goes on sending is not read for
    ever: after DROP_LIMIT bytes it has to wait, and after ``linger`` seconds the connection closes.

    ``flush`` is the time in seconds for the transport's buffer; when it is over the connection is
    aborted and ``stalled`` called. ``linger`` is what the peer then gets to read what the kernel
    holds for it. ``gone`` is called once, when nothing is left of the connection.
    """

    __slots__ = (
        "_clock",
        "_dropped",
        "_flush",
        "_gone",
        "_linger",
        "_peer_ended",
        "_stalled",
        "_timer",
    )

    def __init__(
        self,
        clock: IReactorTime,
        gone: Callable[[], None],
        *,
        flush: float = LINGER,
        linger: float = LINGER,
        stalled: Callable[[], None] | None = None,
        peer_ended: bool = False,
    ) -> None:
        self._clock = clock
        self._gone = gone
        self._flush = flush
        self._linger = linger
        self._stalled = stalled
        self._peer_ended = peer_ended
        self._dropped = 0
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Begin to end."""
        self._timer = self._clock.callLater(self._flush, self._stall)
        if self._peer_ended:
            self.transport.loseConnection()
        else:
            self.transport.resumeProducing()
            self.transport.loseWriteConnection()

    def dataReceived(self, data: bytes) -> None:
        """Drop it, within reason."""
        self._dropped += len(data)
        if self._dropped > DROP_LIMIT:
            self.transport.pauseProducing()

    def writeConnectionLost(self) -> None:
        """All is sent, FIN too; wait for the peer's, but not for ever."""
        self._cancel_timer()
        self._timer = self._clock.callLater(self._linger, self.transport.loseConnection)

    def readConnectionLost(self) -> None:
        """The peer has ended as well."""
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure) -> None:
        """Nothing is left."""
        self._cancel_timer()
        self._gone()

    def _stall(self) -> None:
        if self._stalled is not None:
            self._stalled()
        self.transport.abortConnection()

    def _cancel_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()


def describe(address: IAddress) -> str:
    """Return an address as ``host:port`` or a path, for a log line."""
    if isinstance(address, UNIXAddress):
        return os.fsdecode(address.name or b"(unnamed)")
    host, port = address.host, address.port  # type: ignore[attr-defined]  # IPv4 or IPv6
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
