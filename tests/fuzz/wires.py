"""Connections as their peers see them, and the sockets that the proxy has of them: a small kernel.

No more is made up than matters: segments, FIN, RST, a buffer that fills, and what is reported of
them.
"""

import contextlib
import errno
import socket
from collections import deque
from typing import Any

from OpenSSL import SSL

from tests.fuzz.laws import insist

#: Bytes that the kernel takes for a peer that does not read.
KERNEL_BUFFER = 8 * 1024


class Wire:
    """One connection, as seen from outside: what the script does to it, and what has come of it.

    It is the proxy's socket, too: Twisted calls the methods of a socket.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        #: TLS, where the peer speaks it (see Secured).
        self.secured: Secured | None = None
        #: What the proxy has sent and the peer has read.
        self.received = bytearray()
        #: What the peer has sent in all, and how much of it the proxy has read.
        self.sent = bytearray()
        self.read = 0
        #: The peer does not read for now.
        self.stalled = False
        #: What the peer has done, and what it has seen of the proxy.
        self.ended = self.was_reset = False
        #: The peer has closed: what is still sent to it is answered by a reset.
        self.deaf = False
        self.saw_end = self.saw_reset = False
        self.closed = False
        self._segments: deque[bytes] = deque()
        self._waiting = bytearray()
        self._no_linger = False

    # -- The peer

    def send(self, data: bytes) -> None:  # type: ignore[override]  # it takes all, always
        """Send a segment, if that is still possible."""
        if data and not (self.ended or self.gone):
            self.sent += data
            self._segments.append(data)

    def end(self) -> None:
        """End the peer's direction (FIN)."""
        if not self.gone:
            self.ended = True

    def close(self) -> None:
        """End, and read no more either."""
        self.end()
        self.deaf = True

    def reset(self) -> None:
        """Break off (RST)."""
        if not self.gone:
            self.was_reset = True
            self._waiting.clear()

    def take(self) -> None:
        """Read what waits, unless the peer is stalled."""
        if not self.stalled:
            self.received += self._waiting
            self._waiting.clear()

    @property
    def gone(self) -> bool:
        """Whether the peer has no connection any more."""
        return self.was_reset or self.saw_reset

    @property
    def said(self) -> bytes:
        """What the peer has said, in TLS or not."""
        return bytes(self.sent if self.secured is None else self.secured.said)

    @property
    def heard(self) -> bytes:
        """What the peer has been told."""
        return bytes(self.received if self.secured is None else self.secured.heard)

    # -- What a selector reports

    @property
    def readable(self) -> bool:
        return bool(self._segments) or self.ended or self.was_reset

    @property
    def writable(self) -> bool:
        return self.was_reset or len(self._waiting) < KERNEL_BUFFER

    # -- The socket

    def socket(self) -> "_Socket":
        return _Socket(self)


class Secured:
    """What a peer says in TLS: kept until there is TLS, then sent as it can be."""

    def __init__(self, wire: Wire, connection: SSL.Connection) -> None:
        self.said, self.heard = bytearray(), bytearray()
        #: Whether there is TLS, whether it has failed, and whether the proxy has said goodbye.
        self.settled = self.broken = self.goodbye = False
        self._wire = wire
        self._connection = connection
        self._fed = self._flushed = 0
        self._ending = False
        self.pump()

    def say(self, data: bytes) -> None:
        if not self._ending:
            self.said += data
            self.pump()

    def end(self) -> None:
        """Say goodbye behind all that was said (close_notify and FIN)."""
        self._ending = True
        self.pump()

    def pump(self) -> bool:
        """Go on; tell whether anything has moved."""
        wire, connection = self._wire, self._connection
        before = (self._fed, self._flushed, len(wire.sent), len(self.heard), wire.ended)
        if self._fed < len(wire.received):
            connection.bio_write(bytes(wire.received[self._fed :]))
            self._fed = len(wire.received)
        try:
            if not self.settled:
                connection.do_handshake()
                self.settled = True
            while self._flushed < len(self.said):
                self._flushed += connection.send(bytes(self.said[self._flushed :][:16384]))
            if self._ending and not wire.ended:
                connection.shutdown()
            while True:
                self.heard += connection.recv(65536)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.goodbye = True
        except SSL.Error:
            self.broken = True
        with contextlib.suppress(SSL.WantReadError):
            while True:
                wire.send(connection.bio_read(65536))
        if self._ending and (self.settled or self.broken):
            wire.end()
        return before != (self._fed, self._flushed, len(wire.sent), len(self.heard), wire.ended)


class _Socket:
    """The proxy's end."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def setblocking(self, flag: bool) -> None:
        pass

    def fileno(self) -> int:
        return -1 if self._wire.closed else self._wire.number

    def getsockopt(self, *_: Any) -> int:
        return 0

    def setsockopt(self, level: int, name: int, _: Any) -> None:
        if level == socket.SOL_SOCKET and name == socket.SO_LINGER:
            self._wire._no_linger = True

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 8443)

    def getpeername(self) -> tuple[str, int]:
        return ("127.0.0.1", 50_000 + self._wire.number)

    def recv(self, size: int, flags: int = 0) -> bytes:
        wire = self._wire
        insist(not wire.closed, "read from a closed socket")
        if wire._segments and flags & socket.MSG_PEEK:
            return wire._segments[0][:size]
        if wire._segments:
            data = wire._segments.popleft()
            if len(data) > size:
                wire._segments.appendleft(data[size:])
            wire.read += len(data[:size])
            return data[:size]
        if wire.was_reset:
            raise OSError(errno.ECONNRESET, "reset")
        if wire.ended:
            return b""
        raise OSError(errno.EWOULDBLOCK, "nothing yet")

    def send(self, data: Any) -> int:
        wire = self._wire
        insist(not wire.closed, "write to a closed socket")
        if wire.was_reset or wire.saw_end:
            raise OSError(errno.EPIPE, "nobody reads")
        room = KERNEL_BUFFER - len(wire._waiting)
        if room <= 0:
            raise OSError(errno.EWOULDBLOCK, "full")
        piece = bytes(data[:room])
        if wire.deaf:
            wire.was_reset = True
        else:
            wire._waiting += piece
            wire.take()
        return len(piece)

    def shutdown(self, how: int) -> None:
        wire = self._wire
        if wire.was_reset:
            raise OSError(errno.ENOTCONN, "not connected")
        wire.saw_end = True

    def close(self) -> None:
        wire = self._wire
        insist(not wire.closed, "closed twice")
        wire.closed = True
        # Unread data, or SO_LINGER of 0, and the peer gets a reset instead of the rest.
        if wire._no_linger or wire._segments:
            wire.saw_reset = True
            wire._waiting.clear()
        wire.saw_end = True
