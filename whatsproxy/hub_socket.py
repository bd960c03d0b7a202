"""A connected TCP socket on the hub: what is sent by it, how it ends, what it is asked for.

How it is read is up to its two kinds, HubTransport and HubTls.
"""

import contextlib
import errno
import socket
import struct
from _socket import socket as Socket  # noqa: N812  # a class; the standard one has twice the size
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHalfCloseableProtocol, ITCPTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from whatsproxy.hub import Hub
from whatsproxy.hub_state import (
    ABORTED,
    BROKEN,
    CLOSING,
    CONNECTION_ABORTED,
    CONNECTION_DONE,
    CONNECTION_LOST,
    DEAD,
    DEAF,
    ENDED,
    ENDING,
    EOF,
    ERR,
    FOLLOWED,
    GONE,
    LOSING,
    MUTE,
    OVER,
    PARTED,
    PAUSED,
    READY,
    RESET,
    STOPPED,
)
from whatsproxy.splice import Pipe
from whatsproxy.transport import AMPLE, StreamProtocol

#: The kernel has no room for what is to be sent, and will not tell when it has.
_NO_MEMORY = (errno.ENOBUFS, errno.ENOMEM)
#: In place of an address that is not to be had any more.
NOBODY = IPv4Address("TCP", "0.0.0.0", 0)  # noqa: S104  # nosec B104  # nothing is bound to it
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@implementer(ITCPTransport)
class HubSocket:
    """Owns a socket that is registered with the hub under its descriptor."""

    __slots__ = ("_hub", "_limit", "_out", "_pipe", "_producer", "_socket", "_state", "protocol")

    #: Small messages do not wait for more: hub_port and hub_connector have set it so.
    sends_at_once = True

    def __init__(self, hub: Hub, connected: Socket, protocol: Any) -> None:
        self._hub = hub
        self._socket = connected
        self.protocol = protocol
        self._state = 0
        self._limit = AMPLE
        #: What the kernel has not taken yet: first what is in the pipe, then what is in the buffer.
        self._pipe: Pipe | None = None
        self._out: bytearray | None = None
        self._producer: Any = None

    # -- what happens

    def _is_broken(self) -> bool:
        """Ask the kernel, which tells of an error once."""
        if not self._state & BROKEN and self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._state |= BROKEN
        return bool(self._state & BROKEN)

    def _broken(self) -> None:
        """Nothing can be sent any more, but perhaps something be read."""
        if self._state & EOF or (self._state & DEAF and self.unsent):
            self._die(RESET)
        else:
            self._drop_unsent()

    def _flush(self) -> None:
        """Send what waits, as far as the kernel takes it."""
        try:
            if self._pipe is not None:
                if not self._pipe.empty(self._socket.fileno()):
                    return
                pipe, self._pipe = self._pipe, None
                self._hub.pipes.give_back(pipe)
            out = self._out
            if out is not None:
                sent = self._socket.send(out)
                if sent < len(out):
                    del out[:sent]
                    return
                self._out = None
        except BlockingIOError:
            return
        except OSError as e:
            if e.errno in _NO_MEMORY:
                self._rearm()
            else:
                self._unsendable()
            return
        state = self._state
        if state & STOPPED:
            self._state = state & ~STOPPED
            self._producer.resumeProducing()
        if self._state & FOLLOWED and not self.unsent:
            self.settle()

    def _peer_ended(self, events: int) -> None:
        if (events & ERR or self._state & BROKEN) and self._is_broken():
            self._die(RESET)
            return
        self._state |= EOF
        protocol = self.protocol
        if isinstance(protocol, StreamProtocol):
            protocol.readConnectionLost()
            return
        half_closeable: Any = IHalfCloseableProtocol(protocol, None)
        if half_closeable is None:
            self._die(0)
        else:
            half_closeable.readConnectionLost()

    def _unsendable(self) -> None:
        """The peer has broken off; what it sent before that is read first, where that is wanted."""
        self._state |= BROKEN
        self._drop_unsent()
        if self._state & DEAF:
            self._die(RESET)
        else:
            self._rearm()

    # -- what the protocol asks for (StreamTransport)

    def write(self, data: bytes) -> None:
        """Send, or buffer and pause the registered producer."""
        if self._state & MUTE or not data:
            return
        if self._out is not None:
            self._out += data
        elif self._pipe is not None:
            self._out = bytearray(data)
        else:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as e:
                if e.errno not in _NO_MEMORY:
                    self._unsendable()
                    return
                sent = 0
                self._rearm()
            if sent == len(data):
                return
            self._out = bytearray(memoryview(data)[sent:])
        if len(self._out) > self._limit:
            self._stop_producer()

    def writeSequence(self, iovec: Any) -> None:
        """Send all of it."""
        self.write(b"".join(iovec))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Name who is to be paused while the buffer is full."""
        if self._producer is not None:
            raise RuntimeError(f"{self._producer} is registered already, not {producer}")
        if self._state & OVER:
            producer.stopProducing()
            return
        self._producer = producer
        if not streaming:
            raise RuntimeError("only a producer that pushes can be registered here")

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self._producer = None
        self._state &= ~STOPPED

    def pauseProducing(self) -> None:
        """Stop reading."""
        self._state |= PAUSED

    def resumeProducing(self) -> None:
        """Read again."""
        state = self._state
        if state & PAUSED and not state & CLOSING:
            self._state = state & ~PAUSED
            if state & READY:
                self._rearm()

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    def loseWriteConnection(self) -> None:
        """Send what is buffered, then end this direction (FIN)."""
        state = self._state
        if not state & MUTE:
            self._state = state | ENDING
            if self._out is None and self._pipe is None:
                self._hub.settle_later(self)

    def loseConnection(self) -> None:
        """Send what is buffered, then close."""
        state = self._state
        if not state & CLOSING:
            self._state = state | LOSING
            if self._out is None and self._pipe is None:
                self._hub.settle_later(self)

    def abortConnection(self) -> None:
        """Close at once (RST)."""
        self._die(ABORTED)

    def getPeer(self) -> IPv4Address | IPv6Address:
        """Return the other side's address; nobody's, once the kernel has forgotten it."""
        try:
            return address_of(self._socket.getpeername())
        except OSError:
            return NOBODY

    def getHost(self) -> IPv4Address | IPv6Address:
        """Return this side's address; nobody's, once it is closed."""
        try:
            return address_of(self._socket.getsockname())
        except OSError:
            return NOBODY

    # -- what this program asks for besides

    @property
    def unsent(self) -> int:
        """Bytes that the kernel has not taken yet."""
        waiting = 0 if self._out is None else len(self._out)
        return waiting if self._pipe is None else waiting + self._pipe.held

    @property
    def producerPaused(self) -> bool:
        """Whether the producer waits for the buffer to be empty (by Twisted's name)."""
        return bool(self._state & STOPPED)

    @property
    def bufferSize(self) -> int:
        """Bytes that are read at a time, and may wait before the producer is paused."""
        return self._limit

    @bufferSize.setter
    def bufferSize(self, size: int) -> None:
        self._limit = size

    @property
    def connected(self) -> bool:
        """Whether the socket is open."""
        return not self._state & GONE

    @property
    def disconnecting(self) -> bool:
        """Whether it closes as soon as the buffer is empty."""
        return bool(self._state & LOSING)

    def getHandle(self) -> Any:
        """Return the socket."""
        return self._socket

    def getTcpNoDelay(self) -> bool:
        """Tell whether small messages are sent at once."""
        return bool(self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Send small messages at once, or collect them."""
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)

    def getTcpKeepAlive(self) -> bool:
        """Tell whether a silent peer is probed."""
        return bool(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Probe a silent peer, or not."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)

    # -- the end

    def fail(self, failure: Failure) -> None:
        """End for an error of ours (called by the hub)."""
        self._close(failure)

    def settle(self) -> None:
        """Do what was put off until nobody is in the middle of anything (called by the hub).

        It may be called once more than there is something to do.
        """
        state = self._state
        if state & OVER:
            if state & ABORTED:
                self._close(CONNECTION_ABORTED)
            else:
                self._close(CONNECTION_LOST if state & RESET else CONNECTION_DONE)
        elif self._out is None and self._pipe is None:
            if state & ENDING:
                self._end()
                state = self._state
            if state & LOSING and not state & DEAD:
                self._close(CONNECTION_LOST if state & BROKEN else CONNECTION_DONE)

    def _end(self) -> None:
        """End our direction: everything is out."""
        state = self._state
        self._state = state & ~ENDING | ENDED
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:  # the peer has gone already
            if state & DEAF:
                self._die(RESET)
                return
        protocol = self.protocol
        if not isinstance(protocol, StreamProtocol):
            protocol = IHalfCloseableProtocol(protocol, None)
        if protocol is not None:
            protocol.writeConnectionLost()

    def _stop_producer(self) -> None:
        if self._producer is not None and not self._state & STOPPED:
            self._state |= STOPPED
            self._producer.pauseProducing()

    def _rearm(self) -> None:
        self._state &= ~READY
        self._hub.rearm(self._socket.fileno())

    def _die(self, why: int) -> None:
        """Close, and tell, when nobody is in the middle of anything."""
        if not self._state & OVER:
            self._state |= DEAD | why
            self._drop_unsent()
            self._hub.settle_later(self)

    def _close(self, why: Failure) -> None:
        state = self._state
        if state & GONE:
            return
        self._state = state | GONE
        if self._out is not None or self._pipe is not None:
            self._drop_unsent()
        if why is CONNECTION_ABORTED:
            with contextlib.suppress(OSError):  # then there is nobody to be told
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        elif not state & PARTED:
            # Where something is unread, to close is to break off: the peer is to read an end first.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        connected = self._socket
        self._hub.forget(connected.fileno())
        connected.close()
        protocol, self.protocol = self.protocol, None
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        if protocol is not None:  # it came so far
            protocol.connectionLost(why)

    def _drop_unsent(self) -> None:
        self._out = None
        if self._pipe is not None:
            pipe, self._pipe = self._pipe, None
            self._hub.pipes.give_back(pipe)


def address_of(name: Any) -> IPv4Address | IPv6Address:
    """Return what a socket says of an end as Twisted has it."""
    if len(name) == 2:
        return IPv4Address("TCP", *name)
    return IPv6Address("TCP", *name)
