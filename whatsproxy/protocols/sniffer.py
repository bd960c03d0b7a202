"""The first protocol of every connection: buffer, decide, hand over, be gone."""

from twisted.internet.error import ConnectionClosed
from twisted.python.failure import Failure

from whatsproxy.incremental import NeedMore
from whatsproxy.protocols.base import ClientProtocol, Proxy
from whatsproxy.protocols.refused import Refused
from whatsproxy.reason import Reason
from whatsproxy.session import Session
from whatsproxy.sniff import SNIFF_LIMIT, sniff
from whatsproxy.transport import hand_over

#: Seconds that a silent client is still given when the service stops.
GRACE = 1.0


class Sniffer(ClientProtocol):
    """Waits for the kind, for ``timeouts.sniff`` seconds and SNIFF_LIMIT bytes in all.

    The same outside of TLS and, once more, inside.
    """

    __slots__ = ("_buffer", "_deadline", "_wanted")

    def __init__(self, proxy: Proxy, session: Session) -> None:
        super().__init__(proxy, session)
        self._buffer = b""
        self._wanted = 1
        self._deadline = self.deadline(self._give_up)

    def connectionMade(self) -> None:
        """Start the clock."""
        super().connectionMade()
        self._deadline.set(self.proxy.settings.timeouts.sniff)

    def dataReceived(self, data: bytes) -> None:
        """Decide, if this is enough."""
        self._buffer = self._buffer + data if self._buffer else data
        if len(self._buffer) < self._wanted:
            return
        sniffed = sniff(self._buffer)
        if isinstance(sniffed, NeedMore):
            self._wanted = sniffed.at_least
            if self._wanted > SNIFF_LIMIT:
                self._give_up()
            return
        self._deadline.stop()
        if self.session.kind is None:
            self.session.detected(sniffed.kind)
        else:
            self.session.detected_inside(sniffed.kind)
        hand_over(self, self.proxy.protocol_for(sniffed, self.session), self._buffer)

    def readConnectionLost(self) -> None:
        """The client will not say more."""
        self._give_up(peer_ended=True)

    def connectionLost(self, reason: Failure) -> None:
        """The client is gone."""
        self._deadline.stop()
        why = self._verdict() if reason.check(ConnectionClosed) else Reason.INTERNAL
        self.session.close(self.reason or why)

    def abort(self, reason: Reason) -> None:
        """Decide nothing more, and let the client go at once."""
        self._deadline.stop()
        super().abort(reason)

    def drain(self) -> None:
        """Give a client that has said nothing yet GRACE seconds: its words may be on their way."""
        if not self._buffer:
            self._deadline.hasten(GRACE)

    def held(self) -> int:
        """Count what is looked at, too, which has a limit of its own."""
        return len(self._buffer) + super().held()

    def _give_up(self, *, peer_ended: bool = False) -> None:
        self._deadline.stop()
        refused = Refused(self.proxy, self.session, self._verdict(), peer_ended=peer_ended)
        hand_over(self, refused)

    def _verdict(self) -> Reason:
        return Reason.UNDETECTED if self._buffer else Reason.NO_DATA
