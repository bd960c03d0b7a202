"""What this program asks of a transport, and how one changes hands.

The surface is :class:`StreamTransport` and nothing more, so that another transport than Twisted's
can take its place by providing just this.
"""

import contextlib
import fcntl
import os
import socket
import sys
import termios
from typing import Any, Protocol

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.tcp import Connection
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import implementer

from whatsproxy.networks import number_of
from whatsproxy.proxy_protocol import Ends

# A peer that has vanished is found within six minutes, at a packet each four minutes of silence:
# often enough for the usual NAT's memory, seldom enough for a phone's battery.
_KEEPALIVE_IDLE = 240
_KEEPALIVE_INTERVAL = 30
_KEEPALIVE_COUNT = 4


#: The state of a connection that is no more, in Linux's tcp_info.
_TCP_CLOSE = 7
#: Bytes that Twisted reads at a time, and that may wait before a producer is paused.
AMPLE: int = FileDescriptor.bufferSize
#: As many bytes as there may ever be.
ALL = sys.maxsize


class StreamTransport(Protocol):
    """The whole of what a transport must be able to do; on TCP the functions below ask for more."""

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

    # What a transport on the hub asks for besides.

    def seen(self, data: bytes) -> None:
        """Look at all that is there to be read (where the transport was asked to ``look``)."""

    def sink(self) -> tuple[Any, int] | None:
        """Return which transport is to get what arrives, unseen, and how many bytes of it at most.

        None: it is to come here.
        """
        return None

    def moved(self, size: int) -> None:
        """Hear of so many bytes that the sink has got; its producer is paused before, if it is."""


class SocketReader(StreamProtocol):
    """Who reads the socket itself: what a transport on the hub has shown is to be left there."""

    __slots__ = ()


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


def show_only(transport: Any) -> bool:
    """Let a transport show what arrives (``seen``) and leave it unread, where it can."""
    look = getattr(transport, "look", None)
    if look is None:
        return False
    look()
    return True


def is_bare(transport: Any) -> bool:
    """Whether a transport can be left for another one on the same socket (see ``surrender``)."""
    return getattr(transport, "surrender", None) is not None and not transport.unsent


def deliver(transport: Any, data: bytes) -> None:
    """Give bytes to whichever protocol receives a transport's data now."""
    wrapped = isinstance(transport, ProtocolWrapper)
    (transport.wrappedProtocol if wrapped else transport.protocol).dataReceived(data)


def unsent(transport: Any) -> int:
    """Return how many bytes a transport holds that the kernel has not taken yet."""
    waiting = 0
    while isinstance(transport, ProtocolWrapper):
        waiting += sum(map(len, getattr(transport, "_appSendBuffer", ())))
        transport = transport.transport
    if isinstance(transport, FileDescriptor):
        waiting += len(transport.dataBuffer) - transport.offset + transport._tempDataLen
        return waiting
    on_hub: int = getattr(transport, "unsent", 0)
    return waiting + on_hub


def broke_off(transport: Any) -> bool:
    """Tell whether a peer that seems to have ended its direction has broken off instead.

    Twisted takes an event of epoll without input for a FIN; in the middle of a reset there is one.
    """
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    if not isinstance(transport, Connection):
        return False  # the hub believes the socket only
    try:
        error: int = transport.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except (OSError, AttributeError):
        return False
    return error != 0


def is_silent(transport: Any) -> bool | None:
    """Tell whether nothing has arrived that was not read, not even an end.

    None: nobody can tell. That is so above a silent socket, too: TLS may be about to tell what it
    has read.
    """
    tcp = _tcp_below(transport)
    if isinstance(tcp, Connection):
        silent = _has_nothing(tcp)
    else:
        ask = getattr(tcp, "is_silent", None)  # some on the hub can tell
        if ask is None:
            return None
        silent = ask()
    return None if silent and tcp is not transport else silent


def _has_nothing(tcp: Any) -> bool:
    try:
        tcp.getHandle().recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except (OSError, AttributeError):  # of which the reactor will tell
        pass
    return False


def in_flight(transport: Any) -> int:
    """Return how many bytes the peer has not acknowledged yet; as far as the system tells, 0."""
    waiting = unsent(transport)
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    try:
        handle = transport.getHandle()
        queued = fcntl.ioctl(handle, termios.TIOCOUTQ, bytes(4))
        if handle.family != socket.AF_UNIX and hasattr(socket, "TCP_INFO"):
            # Where the peer has broken off already, what was queued is no longer on its way.
            state = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
            if state[0] == _TCP_CLOSE:
                return 0
    except (OSError, ValueError, AttributeError):
        return waiting
    return waiting + int.from_bytes(queued, sys.byteorder)


def set_buffer(transport: Any, size: int) -> None:
    """Let a transport read so many bytes at a time, and pause its producer when more wait."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    transport.bufferSize = size


def send_at_once(transport: Any) -> None:
    """Let a transport's small messages not wait for more. TCP, or above it."""
    if getattr(transport, "sends_at_once", False):  # on the hub all do
        return
    tcp = _tcp_below(transport)
    if isinstance(tcp, Connection):
        # A socket whose peer has just gone may refuse: whoever reads from it will hear of that.
        with contextlib.suppress(OSError):
            tcp.setTcpNoDelay(True)


def probe_silence(transport: Any) -> None:
    """Let the system probe a peer that is silent for long. TCP, or above it."""
    tcp = _tcp_below(transport)
    if not ITCPTransport.providedBy(tcp):
        return
    with contextlib.suppress(OSError):
        tcp.setTcpKeepAlive(True)
        if hasattr(socket, "TCP_KEEPIDLE"):  # Linux and the BSDs
            handle: socket.socket = tcp.getHandle()  # type: ignore[attr-defined]  # undeclared
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE)
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL)
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_COUNT)


def _tcp_below(transport: Any) -> Any:
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport


def number_at(address: IAddress) -> int | None:
    """Return the number of an address (see networks); None for a unix socket's."""
    host = getattr(address, "host", None)
    return None if host is None else number_of(host)


def ends_of(transport: Any) -> Ends | None:
    """Return both ends of a client's connection; None where they have no addresses."""
    peer, host = transport.getPeer(), transport.getHost()
    client, server = number_at(peer), number_at(host)
    if client is None or server is None:
        return None
    return Ends(client, peer.port, server, host.port)


def describe(address: IAddress) -> str:
    """Return an address as ``host:port`` or a path, for a log line."""
    if isinstance(address, UNIXAddress):
        return os.fsdecode(address.name or b"(unnamed)")
    host, port = address.host, address.port  # type: ignore[attr-defined]  # IPv4 or IPv6
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
