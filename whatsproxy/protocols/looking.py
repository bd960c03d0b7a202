"""What stages have in common that look at a connection's first bytes: buffer, decide, be gone."""

from typing import Any, Generic, TypeVar

from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure

from whatsproxy.incremental import NeedMore
from whatsproxy.protocols.base import ClientProtocol, Proxy
from whatsproxy.protocols.refused import Refused
from whatsproxy.reason import Reason
from whatsproxy.session import Session
from whatsproxy.transport import SocketReader, hand_over, show_only

Found = TypeVar("Found")


class Looking(ClientProtocol, Generic[Found]):
    """Holds what has arrived until ``look`` can tell what it is, and leaves it to ``found``.

    That may take ``timeouts.sniff`` seconds in all, and ``most`` bytes. ``too_little`` is why a
    connection ends that has said something, and not enough.
    """

    __slots__ = ("_limit", "_shown", "_wanted", "buffer")

    most: int
    too_little: Reason

    def __init__(self, proxy: Proxy, session: Session) -> None:
        super().__init__(proxy, session)
        self.buffer = b""
        self._wanted = 1
        #: What is in the buffer has been shown only, and is still to be read.
        self._shown = False
        self._limit = proxy.sniffing

    def look(self, data: bytes) -> Found | NeedMore:
        """Tell what it is, or how many bytes that takes."""
        raise NotImplementedError

    def found(self, what: Found) -> None:
        """Hand over; no time limit is running any more."""
        raise NotImplementedError

    def connectionMade(self) -> None:
        """Start the clock."""
        super().connectionMade()
        self._limit.begin(self)
        # Only TLS must find its first bytes where they are; to look before reading costs a call.
        self._shown = self.proxy.tls.ends_here and show_only(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """Look at what has come so far."""
        self.seen(self.buffer + data if self.buffer else data)

    def seen(self, data: bytes) -> None:
        """Look, if this is enough; it is all that has come."""
        self.buffer = data
        if len(data) < self._wanted:
            return
        what = self.look(data)
        if isinstance(what, NeedMore):
            self._wanted = what.at_least
            if self._wanted > self.most:
                self.give_up()
            return
        self._limit.end(self)
        self.found(what)

    def leave_to(self, heir: IProtocol, used: int = 0) -> None:
        """Hand over, with what has come behind so many bytes."""
        rest = self.buffer[used:]
        if not self._shown:
            hand_over(self, heir, rest)
        elif isinstance(heir, SocketReader):
            hand_over(self, heir)
        elif isinstance(heir, Looking):
            self._take(used)
            hand_over(self, heir)
            heir.seen(rest)
        else:
            self._take(len(self.buffer))
            hand_over(self, heir, rest)

    def _take(self, size: int) -> None:
        if self._shown:
            transport: Any = self.transport
            transport.take(size, rest=False)

    def readConnectionLost(self) -> None:
        """The client will not say more."""
        self.give_up(peer_ended=True)

    def connectionLost(self, reason: Failure) -> None:
        """The client is gone."""
        self._limit.end(self)
        why = self._verdict() if reason.check(ConnectionClosed) else Reason.INTERNAL
        self.session.close(self.reason or why)

    def abort(self, reason: Reason) -> None:
        """Look no more, and let the client go at once."""
        self._limit.end(self)
        super().abort(reason)

    def drain(self) -> None:
        """Give a client that has said nothing yet a moment: its words may be on their way."""
        if not self.buffer and self._limit.left(self) > self.proxy.grace.seconds:
            self._limit.end(self)
            self._limit = self.proxy.grace
            self._limit.begin(self)

    def held(self) -> int:
        """Count what is looked at, too, which has a limit of its own."""
        return len(self.buffer) + super().held()

    def expire(self) -> None:
        """Give up."""
        self.give_up()

    def give_up(self, reason: Reason | None = None, *, peer_ended: bool = False) -> None:
        """Let the client go in good order."""
        self._limit.end(self)
        why = reason or self._verdict()
        self._take(len(self.buffer))  # or to close would be to break off
        hand_over(self, Refused(self.proxy, self.session, why, peer_ended=peer_ended))

    def _verdict(self) -> Reason:
        """Who has said nothing perhaps wanted to know only whether we are there."""
        return self.too_little if self.buffer else Reason.NO_DATA
