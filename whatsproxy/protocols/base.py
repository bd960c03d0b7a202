"""What the protocols of client connections share, and what they may ask of the service."""

from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from whatsproxy.config import Settings
from whatsproxy.reason import Reason
from whatsproxy.relay import IdleWatch
from whatsproxy.session import Ledger, Session
from whatsproxy.sniff import Sniffed
from whatsproxy.transport import StreamProtocol
from whatsproxy.upstream import Upstream


class Proxy(Protocol):
    """The service, as a protocol sees it (the factory provides it)."""

    clock: IReactorTime
    settings: Settings
    ledger: Ledger
    upstream: Upstream
    idle_watch: IdleWatch

    def protocol_for(self, sniffed: Sniffed, session: Session) -> "ClientProtocol":
        """Return what is to take over a connection that turned out to be this."""


class ClientProtocol(StreamProtocol):
    """Holds the client's transport for a while, and the session with it."""

    __slots__ = ("proxy", "reason", "session")

    def __init__(self, proxy: Proxy, session: Session) -> None:
        self.proxy = proxy
        self.session = session
        #: Why the connection ends, once that is known.
        self.reason: Reason | None = None

    def connectionMade(self) -> None:
        """Become the session's holder."""
        self.session.holder = self

    def abort(self, reason: Reason) -> None:
        """Give the transport up at once (the Holder's duty)."""
        self.reason = self.reason or reason
        self.transport.abortConnection()
