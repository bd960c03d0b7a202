"""A connected TCP socket on the hub: Twisted's transport, as far as this program needs one.

What a protocol sees is what Twisted's own transport shows it (tests/test_conformance.py compares
them), but that data is sent at once, not in the reactor's next turn.
"""

import contextlib
import socket
import struct
from _socket import socket as Socket  # noqa: N812  # a class; the standard one has twice the size
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IHalfCloseableProtocol, ITCPTransport
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from whatsproxy.hub import Hub, Hubbed
from whatsproxy.splice import Pipe
from whatsproxy.transport import AMPLE, StreamProtocol

#: Bytes read at first: a message. Whoever fills that gets the larger amounts.
SMALL = 4096
#: Bytes that one socket may move in a turn before the others have theirs.
BUDGET = 256 * 1024
#: Bytes that may be looked at before they are read.
LOOK = 17 * 1024  # a PROXY header, and as much as is ever sniffed

# What a state is made of.
_PAUSED = 1  # its protocol does not want to read
_EOF = 2  # the peer's FIN was read
_ENDING = 4  # our direction ends behind what is buffered
_ENDED = 8  # our FIN is out
_LOSING = 16  # closes behind what is buffered
_DEAD = 32  # to be closed at once
_GONE = 64  # closed
_LOOKING = 128  # shows what arrives and leaves it in the kernel
_READY = 256  # there may be something to be read, of which no event will tell
_QUEUED = 512  # is going to settle
_STOPPED = 1024  # the producer is paused
_BULK = 2048  # the last read filled what it was given
_RESET = 4096  # dead, because the peer has broken off
_ABORTED = 8192  # dead, because we have
_BROKEN = 16384  # the peer has broken off; what it sent before that may still be there

_DEAF = _PAUSED | _EOF | _LOSING | _DEAD | _GONE
_MUTE = _ENDING | _ENDED | _LOSING | _DEAD | _GONE

# select's, as numbers: a name of a module is looked up anew each time.
_IN_ERR_HUP_RDHUP = 0x1 | 0x2 | 0x8 | 0x10 | 0x2000
_OUT_ERR_HUP = 0x4 | 0x8 | 0x10
_ERR = 0x8
_PRI = 0x2  # urgent data (tcp(7)): a read ends in front of it, whatever is behind it
_NO_MORE_TO_COME = 0x8 | 0x10 | 0x2000

_CONNECTION_ABORTED = Failure(ConnectionAborted())
_CONNECTION_DONE = Failure(CONNECTION_DONE)
_CONNECTION_LOST = Failure(CONNECTION_LOST)
#: In place of an address that is not to be had any more.
NOBODY = IPv4Address("TCP", "0.0.0.0", 0)  # noqa: S104  # nothing is bound to it
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

log = Logger()


@implementer(ITCPTransport)
class HubTransport:
    """Owns a socket that is registered with the hub under its descriptor."""

    __slots__ = ("_hub", "_limit", "_out", "_pipe", "_producer", "_socket", "_state", "protocol")

    #: Small messages do not wait for more: hub_reactor has set it so.
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

    def happened(self, events: int) -> None:
        """Look at the socket (called by the hub)."""
        # First what has come: a peer that breaks off an upload may have said why.
        if events & _IN_ERR_HUP_RDHUP:
            state = self._state
            if state & _PAUSED:
                self._state = state | _READY
            elif not state & _DEAF:
                if state & _LOOKING:
                    self._look(events)
                else:
                    self._read(events)
            if events & _ERR and not self._state & (_DEAD | _GONE) and self._is_broken():
                self._broken()
        if events & _OUT_ERR_HUP and (self._out is not None or self._pipe is not None):
            self._flush()

    def _is_broken(self) -> bool:
        """Ask the kernel, which tells of an error once."""
        if not self._state & _BROKEN and self._socket.getsockopt(
            socket.SOL_SOCKET, socket.SO_ERROR
        ):
            self._state |= _BROKEN
        return bool(self._state & _BROKEN)

    def _broken(self) -> None:
        """Nothing can be sent any more, but perhaps something be read."""
        if self._state & _EOF or (self._state & _DEAF and self.unsent):
            self._die(_RESET)
        else:
            self._drop_unsent()

    def _read(self, events: int) -> None:
        budget = BUDGET
        limit = self._limit
        size = limit if self._state & _BULK else min(SMALL, limit)
        while True:
            if size == limit and size > SMALL:
                # More than a message: perhaps it need not come up here at all.
                sink = self.protocol.sink() if isinstance(self.protocol, StreamProtocol) else None
                if sink is not None and self._splice(*sink, events):
                    return
            try:
                data = self._socket.recv(size)
            except BlockingIOError:
                return
            except OSError:
                self._die(_RESET)
                return
            if not data:
                self._peer_ended(events)
                return
            self.protocol.dataReceived(data)
            got = len(data)
            if got < size:
                # The queue is empty, then; unless there is an end to be found behind it.
                if not events & (_NO_MORE_TO_COME | _PRI):
                    self._state &= ~_BULK
                    return
            else:
                self._state |= _BULK
            if not self._may_read_on():
                return
            budget -= got
            if budget <= 0:
                self._rearm()
                return
            limit = self._limit
            size = limit

    def _look(self, events: int) -> None:
        try:
            data = self._socket.recv(LOOK, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            self._die(_RESET)
            return
        ending = events & _NO_MORE_TO_COME
        if data:
            self.protocol.seen(data)
            state = self._state
            if not state & _LOOKING and (ending or len(data) == LOOK):
                self._find_rest()  # which may have gone unseen
            if not ending or state & (_LOOKING | _DEAF) != _LOOKING:
                return
        self._peer_ended(events)

    def _find_rest(self) -> None:
        self._state |= _READY
        if not self._state & _DEAF:
            self._rearm()

    def _splice(self, sink: Any, most: int, events: int) -> bool:
        """Move what there is by way of a pipe, if there is one and nothing else is in its way.

        Not a byte beyond ``most`` is touched. The answer is whether nothing is to be read for now.
        """
        if (
            type(sink) is not HubTransport
            or events & _PRI  # splice(2) does not get past urgent data
            or sink._state & _MUTE
            or sink._out is not None
            or sink._pipe is not None
            or sink._limit < AMPLE
        ):
            return False
        pools = self._hub.pipes
        pipe = pools.borrow()
        if pipe is None:
            return False
        number, sink_number = self._socket.fileno(), sink._socket.fileno()
        moved = 0
        broken = False
        unsure = False  # whether it is the end, which only a read can tell
        try:
            while moved < BUDGET:
                try:
                    got = pipe.fill(number, most - moved)
                except BlockingIOError:
                    break
                except OSError as e:
                    if moved or not pools.is_refusal(e):
                        self._die(_RESET)
                    else:
                        unsure = True
                    break
                if not got:
                    unsure = True
                    break
                moved += got
                if not pipe.empty(sink_number):
                    if pools.scarce:
                        sink._out = pipe.rest()
                    else:
                        sink._pipe, pipe = pipe, None
                    break
                if moved == most:
                    break
        except OSError:
            broken = True
            sink._unsendable()
        if pipe is not None:
            pools.give_back(pipe)
        self._state = self._state | _BULK if moved > SMALL else self._state & ~_BULK
        full = sink._pipe is not None or sink._out is not None
        if full:
            self._state |= _READY
            sink._stop_producer()
        self.protocol.moved(moved)
        if full:
            pass  # who is paused now is resumed
        elif broken or moved >= BUDGET:
            self._rearm()
        elif unsure or moved == most:
            return not self._may_read_on()
        return True

    def _may_read_on(self) -> bool:
        """Tell whether what may be there is wanted; note it where it is not."""
        state = self._state
        if not state & (_DEAF | _LOOKING):
            return True
        self._state = state | _READY
        if state & _LOOKING:
            self._rearm()
        return False

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
        except OSError:
            self._unsendable()
            return
        state = self._state
        if state & _STOPPED:
            self._state = state & ~_STOPPED
            self._producer.resumeProducing()
        if self._state & (_ENDING | _LOSING) and not self.unsent:
            self.settle()

    def _peer_ended(self, events: int) -> None:
        if (events & _ERR or self._state & _BROKEN) and self._is_broken():
            self._die(_RESET)
            return
        self._state |= _EOF
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
        self._state |= _BROKEN
        self._drop_unsent()
        if self._state & _DEAF:
            self._die(_RESET)
        else:
            self._rearm()

    # -- what the protocol asks for (StreamTransport)

    def write(self, data: bytes) -> None:
        """Send, or buffer and pause the registered producer."""
        if self._state & _MUTE or not data:
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
            except OSError:
                self._unsendable()
                return
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
        if self._state & (_DEAD | _GONE):
            producer.stopProducing()
            return
        self._producer = producer
        if not streaming:
            raise RuntimeError("only a producer that pushes can be registered here")

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self._producer = None
        self._state &= ~_STOPPED

    def pauseProducing(self) -> None:
        """Stop reading."""
        self._state |= _PAUSED

    def resumeProducing(self) -> None:
        """Read again."""
        state = self._state
        if state & _PAUSED and not state & (_LOSING | _DEAD | _GONE):
            self._state = state & ~_PAUSED
            if state & _READY:
                self._rearm()

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    def loseWriteConnection(self) -> None:
        """Send what is buffered, then end this direction (FIN)."""
        if not self._state & _MUTE:
            self._state |= _ENDING
            if not self.unsent:
                self._settle_later()

    def loseConnection(self) -> None:
        """Send what is buffered, then close."""
        if not self._state & (_LOSING | _DEAD | _GONE):
            self._state |= _LOSING
            if not self.unsent:
                self._settle_later()

    def abortConnection(self) -> None:
        """Close at once (RST)."""
        self._die(_ABORTED)

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
        """Whether the producer waits for the buffer to be empty (as Twisted's transports say it)."""
        return bool(self._state & _STOPPED)

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
        return not self._state & _GONE

    @property
    def disconnecting(self) -> bool:
        """Whether it closes as soon as the buffer is empty."""
        return bool(self._state & _LOSING)

    def look(self) -> None:
        """Show the protocol what arrives (``seen``), all of it each time, and leave it unread."""
        self._state |= _LOOKING

    @property
    def showing(self) -> bool:
        """Whether what arrives is left unread."""
        return bool(self._state & _LOOKING)

    def take(self, size: int, *, rest: bool = True) -> None:
        """Read what was shown, so many bytes of it, and look no more.

        ``rest`` says that there is more of it, which is to come as data.
        """
        self._state &= ~_LOOKING
        try:
            while size > 0:
                got = len(self._socket.recv(size))
                size -= got or size
        except OSError:
            self._die(_RESET)
        if rest:
            self._find_rest()

    def surrender(self, heir: Hubbed) -> tuple[Hub, Socket, int]:
        """Leave the socket, and all that is unread in it, to another owner.

        The answer is what that needs: the hub, the socket, and the size of buffers. Nothing may be
        unsent. This transport is no more; what still comes by it is the heir's.
        """
        self._state |= _GONE
        self.protocol = heir
        self._hub.replace(self._socket.fileno(), heir)
        return self._hub, self._socket, self._limit

    def is_silent(self) -> bool:
        """Tell whether nothing has arrived that was not read, not even an end."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:  # of which an event will tell
            pass
        return False

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
        if self._state & _GONE and self.protocol is not None:
            self.protocol.fail(failure)  # see surrender
        else:
            self._close(failure)

    def settle(self) -> None:
        """Do what was put off until nobody is in the middle of anything (called by the hub)."""
        state = self._state = self._state & ~_QUEUED
        if state & (_DEAD | _GONE):
            if state & _ABORTED:
                self._close(_CONNECTION_ABORTED)
            else:
                self._close(_CONNECTION_LOST if state & _RESET else _CONNECTION_DONE)
        elif self._out is None and self._pipe is None:
            if state & _ENDING:
                self._end()
                state = self._state
            if state & (_LOSING | _DEAD) == _LOSING:
                self._close(_CONNECTION_LOST if state & _BROKEN else _CONNECTION_DONE)

    def _end(self) -> None:
        """End our direction: everything is out."""
        state = self._state
        self._state = state & ~_ENDING | _ENDED
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:  # the peer has gone already
            if state & _DEAF:
                self._die(_RESET)
                return
        protocol = self.protocol
        if not isinstance(protocol, StreamProtocol):
            protocol = IHalfCloseableProtocol(protocol, None)
        if protocol is not None:
            protocol.writeConnectionLost()

    def _stop_producer(self) -> None:
        if self._producer is not None and not self._state & _STOPPED:
            self._state |= _STOPPED
            self._producer.pauseProducing()

    def _rearm(self) -> None:
        self._state &= ~_READY
        self._hub.rearm(self._socket.fileno())

    def _settle_later(self) -> None:
        if not self._state & _QUEUED:
            self._state |= _QUEUED
            self._hub.settle_later(self)

    def _die(self, why: int) -> None:
        """Close, and tell, when nobody is in the middle of anything."""
        if not self._state & (_DEAD | _GONE):
            self._state |= _DEAD | why
            self._drop_unsent()
            self._settle_later()

    def _close(self, why: Failure) -> None:
        state = self._state
        if state & _GONE:
            return
        self._state = state | _GONE
        if self._out is not None or self._pipe is not None:
            self._drop_unsent()
        if why is _CONNECTION_ABORTED:
            with contextlib.suppress(OSError):  # then there is nobody to be told
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        elif not state & (_ENDED | _EOF | _RESET):
            # Where something is unread, to close is to break off: the peer is to read an end first.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._hub.forget(self._socket.fileno())
        self._socket.close()
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
