"""What this program asks of a transport, and how one changes hands.

The surface is :class:`StreamTransport` and nothing more, so that another transport than Twisted's
can take its place by providing just this.
"""

import contextlib
import os
import socket
from typing import Any, Protocol

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    ITCPTransport,
)
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import implementer

# A peer that has vanished is found within six minutes, at a packet each four minutes of silence:
# often enough for the usual NAT's memory, seldom enough for a phone's battery.
_KEEPALIVE_IDLE = 240
_KEEPALIVE_INTERVAL = 30
_KEEPALIVE_COUNT = 4


class StreamTransport(Protocol):
    """The whole of what a transport must be able to do; on TCP :func:`tune` asks for more."""

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

    def getPeer(self) -> IAddress:
        """Name the other side (for a SOCKS client's factory)."""


@implementer(IProtocol, IHalfCloseableProtocol)
class StreamProtocol:
    """A protocol with nothing in it: small, half-closeable, without Twisted's Protocol's dict."""

    __slots__ = ("transport",)

    transport: StreamTransport

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
    transport: Any = old.transport  # who receives its data is Twisted's own matter
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
    """Send small messages at once; ``keepalive`` also probes a silent peer. TCP, or above it."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
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


def describe(address: IAddress) -> str:
    """Return an address as ``host:port`` or a path, for a log line."""
    if isinstance(address, UNIXAddress):
        return os.fsdecode(address.name or b"(unnamed)")
    host, port = address.host, address.port  # type: ignore[attr-defined]  # IPv4 or IPv6
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
