"""The stage before the Sniffer where a load balancer says whose connection it is."""

from collections.abc import Callable

from twisted.internet.error import ConnectionClosed
from twisted.python.failure import Failure

from whatsproxy.incremental import NeedMore
from whatsproxy.protocols.base import ClientProtocol, Proxy
from whatsproxy.protocols.refused import Refused
from whatsproxy.protocols.sniffer import GRACE, Sniffer
from whatsproxy.proxy_protocol import parse_proxy_header
from whatsproxy.reason import Reason
from whatsproxy.session import Session
from whatsproxy.transport import hand_over

#: Lets the client of a session in, or says why not.
Admit = Callable[[Session], Reason | None]


class ProxyHeaderReader(ClientProtocol):
    """Takes the header off, whatever segments it comes in, and lets the client in, or not.

    The sender is trusted: see ``server.proxy_trusted``. It has ``timeouts.sniff`` seconds. Where
    the header names nobody the sender itself is the client.
    """

    __slots__ = ("_admit", "_buffer", "_deadline", "_wanted")

    def __init__(self, proxy: Proxy, session: Session, admit: Admit) -> None:
        super().__init__(proxy, session)
        self._admit = admit
        self._buffer = b""
        self._wanted = 1
        self._deadline = self.deadline(self._refuse)

    def connectionMade(self) -> None:
        """Start the clock."""
        super().connectionMade()
        self._deadline.set(self.proxy.settings.timeouts.sniff)

    def dataReceived(self, data: bytes) -> None:
        """Read the header, if it is complete."""
        self._buffer += data
        if len(self._buffer) < self._wanted:
            return
        header = parse_proxy_header(self._buffer)
        if isinstance(header, NeedMore):
            self._wanted = header.at_least
            return
        if header is None:
            self._refuse(Reason.PROXY_HEADER)
            return
        session = self.session
        if header.ends is not None:
            session.client, session.ends = header.ends.client, header.ends
        refusal = self._admit(session)
        if refusal is not None:
            self.abort(refusal)  # at once, as at other listeners
        else:
            self._deadline.stop()
            hand_over(self, Sniffer(self.proxy, session), self._buffer[header.size :])

    def readConnectionLost(self) -> None:
        """There will be no more."""
        self._refuse(peer_ended=True)

    def connectionLost(self, reason: Failure) -> None:
        """The sender is gone."""
        self._deadline.stop()
        why = self._verdict() if reason.check(ConnectionClosed) else Reason.INTERNAL
        self.session.close(self.reason or why)

    def abort(self, reason: Reason) -> None:
        """Let it go at once."""
        self._deadline.stop()
        super().abort(reason)

    def drain(self) -> None:
        """Give a sender that has said nothing yet GRACE seconds, as the Sniffer does."""
        if not self._buffer:
            self._deadline.hasten(GRACE)

    def _refuse(self, reason: Reason | None = None, *, peer_ended: bool = False) -> None:
        self._deadline.stop()
        why = reason or self._verdict()
        hand_over(self, Refused(self.proxy, self.session, why, peer_ended=peer_ended))

    def _verdict(self) -> Reason:
        """Who has said nothing only wanted to know whether we are there."""
        return Reason.PROXY_HEADER if self._buffer else Reason.NO_DATA
