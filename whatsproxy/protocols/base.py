"""What the protocols of client connections share, and what they may ask of the service."""

from typing import Protocol

from twisted.internet.interfaces import IProtocol, IReactorTime
from twisted.logger import Logger

from whatsproxy.ceiling import Ceiling
from whatsproxy.lingering import DROP_LIMIT, LINGER, LingeringClose
from whatsproxy.proxy_protocol import Ends
from whatsproxy.reason import Reason
from whatsproxy.relay import Relay, Terms
from whatsproxy.route import Router
from whatsproxy.session import Ledger, Session
from whatsproxy.settings import Settings
from whatsproxy.sniff import Kind, Sniffed
from whatsproxy.time_limit import TimeLimit
from whatsproxy.tls_server import TlsServer
from whatsproxy.transport import AMPLE, StreamProtocol, ends_of, hand_over, set_buffer, unsent
from whatsproxy.upstream import Upstream
from whatsproxy.verifier import Verifier

log = Logger()


class Proxy(Protocol):
    """The service, as a protocol sees it (the factory provides it)."""

    clock: IReactorTime
    settings: Settings
    ledger: Ledger
    router: Router
    upstream: Upstream
    #: Of relays, by what they carry.
    terms: dict[Kind | None, Terms]
    #: For telling what a connection is; for beginning to speak, when the service stops; for TLS.
    sniffing: TimeLimit
    grace: TimeLimit
    handshaking: TimeLimit
    ceiling: Ceiling
    tls: TlsServer
    #: Knows the users of the HTTP proxy; None where everybody may use it.
    verifier: Verifier | None
    #: The service is stopping: nothing new is to begin.
    draining: bool

    def protocol_for(self, sniffed: Sniffed, session: Session) -> IProtocol:
        """Return what is to take over a connection that turned out to be this."""


class ClientProtocol(StreamProtocol):
    """Holds the client's transport for a while, and the session with it."""

    __slots__ = ("proxy", "reason", "session")

    def __init__(self, proxy: Proxy, session: Session) -> None:
        self.proxy = proxy
        self.session = session
        #: Why the connection ends, once that is known.
        self.reason: Reason | None = None

    def expire(self) -> None:
        """End what takes too long; for those that have a time limit."""
        raise NotImplementedError

    def time_is_up(self) -> None:
        """Expire (called by a time limit); an error of ours ends the connection."""
        try:
            self.expire()
        except Exception:
            log.failure("ending what took too long failed unexpectedly")
            (self.session.holder or self).abort(Reason.INTERNAL)

    def connectionMade(self) -> None:
        """Become the session's holder."""
        self.session.holder = self
        if self.proxy.ceiling.share < AMPLE:  # seldom: so it is not asked to apply itself
            self.proxy.ceiling.apply_to(self)

    def abort(self, reason: Reason) -> None:
        """Give the transport up at once (the Holder's duty)."""
        self.reason = self.reason or reason
        self.transport.abortConnection()

    def drain(self) -> None:
        """Go on: what has begun may end (the Holder's duty)."""

    def ends(self) -> Ends | None:
        """Return both ends of the client's connection, for an upstream that is told."""
        return self.session.ends or ends_of(self.transport)

    def held(self) -> int:
        """Count what waits (the Holder's duty)."""
        return unsent(self.transport)

    def limit(self, size: int) -> None:
        """Let no more wait than this (the Holder's duty)."""
        set_buffer(self.transport, size)

    def part(
        self,
        reason: Reason,
        detail: str = "",
        *,
        flush: float = LINGER,
        linger: float = LINGER,
        drop: int = DROP_LIMIT,
        peer_ended: bool = False,
    ) -> None:
        """Let the client go, with what it was sent: see LingeringClose. Nothing may follow.

        ``detail`` is for the log; ``peer_ended`` says that the client has ended its direction.
        """
        self.reason = reason
        farewell = LingeringClose(
            self.proxy.clock,
            lambda: self.session.close(reason, detail),
            flush=flush,
            linger=linger,
            drop=drop,
            dropped=self._count_dropped,
            peer_ended=peer_ended,
        )
        hand_over(self, farewell)

    def _count_dropped(self, size: int) -> None:
        self.session.received += size

    def join(self, upstream: StreamProtocol, early: bytes, *, ended: bool) -> None:
        """Leave client and upstream to a relay; an error of ours ends both, and the session.

        ``early`` is what the client has sent already, and is counted; ``ended``: it has sent all.
        """
        session = self.session
        relay = Relay(self.proxy.terms[session.carried], session)
        try:
            relay.start(self, upstream, early, client_ended=ended)
            self.proxy.ceiling.apply_to(relay)
        except Exception:
            log.failure("joining client and upstream failed unexpectedly")
            holder = session.holder or self  # the relay, if it came so far
            holder.abort(Reason.INTERNAL)
            upstream.transport.abortConnection()
