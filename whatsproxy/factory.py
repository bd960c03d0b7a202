"""The factory of client connections: counts them in, and knows which protocol fits which kind."""

from typing import Any

from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory
from twisted.logger import Logger, LogLevel
from zope.interface import implementer

from whatsproxy.codecs import SocksProxy
from whatsproxy.destination import Destination
from whatsproxy.http1.fields import Changes, Rules
from whatsproxy.http1.heads import Limits
from whatsproxy.policy import Policy
from whatsproxy.protocols.connect import HttpTunnel
from whatsproxy.protocols.http import HttpConnection
from whatsproxy.protocols.refused import UNRECOGNIZED_NAME, Refused
from whatsproxy.protocols.sniffer import Sniffer
from whatsproxy.protocols.tls import TlsHandshake
from whatsproxy.protocols.tunnel import Tunnel
from whatsproxy.reason import Reason
from whatsproxy.relay import IdleWatch
from whatsproxy.resolver import Resolver
from whatsproxy.route import EachRequest, Refusal, Router, Terminate
from whatsproxy.session import Ledger, Session
from whatsproxy.settings import HttpSettings, Settings
from whatsproxy.sniff import Kind, Sniffed
from whatsproxy.tls_client import TlsClient
from whatsproxy.tls_server import TlsServer
from whatsproxy.upstream import Upstream, legs_of

#: Seconds between two log lines about rejected connections.
REMIND = 60.0

log = Logger()


@implementer(IProtocolFactory)
class ProxyFactory:
    """Builds the protocols of one service and holds what they share (see protocols.base.Proxy)."""

    noisy = False

    def __init__(self, reactor: Any, settings: Settings, upstream: Upstream | None = None) -> None:
        timeouts = settings.timeouts
        self.clock = reactor
        self.settings = settings
        self.ledger = Ledger(reactor.seconds, log_end)
        resolver = Resolver(reactor, configured_hosts(settings))
        legs = legs_of(reactor, resolver, settings.socks5.proxies)
        self.tls_client = TlsClient(reactor, settings.tls)
        self.upstream = upstream or Upstream(reactor, legs, timeouts.connect, self.tls_client)
        self.tls = TlsServer(reactor, settings.tls, settings.server.names)
        self.draining = False
        self.idle_watch = IdleWatch(reactor, min(5.0, timeouts.idle / 10, timeouts.chat_idle / 10))
        self._silent_until = 0.0
        self._limits, self._rules = limits_of(settings.http), rules_of(settings.http)
        self._terminates = bool(settings.tls.certificate) or settings.tls.auto_generate
        self.router = Router(
            Policy(
                settings.policy.allow,
                settings.policy.allow_ports,
                configured_upstreams(settings),
            ),
            settings.upstream.chat,
            settings.upstream.xmpp,
            settings.upstream.raw,
            settings.upstream.web,
            names=settings.server.names if self._terminates else None,
        )

    def doStart(self) -> None:
        """Nothing is to be prepared (IProtocolFactory)."""

    def doStop(self) -> None:
        """Nothing is to be put away: connections outlive their listener."""

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:
        """Return a Sniffer, or None (which closes the connection) where there are too many."""
        if len(self.ledger.live) >= self.settings.server.max_connections:
            self._reject()
            return None
        return Sniffer(self, self.ledger.open())

    def _reject(self) -> None:
        self.ledger.reject()
        now = self.clock.seconds()
        if now >= self._silent_until:
            self._silent_until = now + REMIND
            log.warn(
                "max_connections = {limit} reached: {rejected} connections rejected so far",
                limit=self.settings.server.max_connections,
                rejected=self.ledger.rejected,
            )

    def protocol_for(self, sniffed: Sniffed, session: Session) -> IProtocol:
        """Return the protocol that serves a connection of this kind, or refuses it."""
        route = self.router.route(sniffed, inside=session.inner is not None)
        if isinstance(route, Terminate):
            return self.tls.transport_for(route.server_name, TlsHandshake(self, session))
        if isinstance(route, EachRequest):
            return HttpConnection(self, session, self._limits, self._rules)
        if isinstance(route, Refusal):
            last_word = UNRECOGNIZED_NAME if sniffed.kind is Kind.TLS else b""
            return Refused(self, session, route.reason, route.detail, last_word=last_word)
        tunnel = HttpTunnel if sniffed.kind is Kind.HTTP else Tunnel
        return tunnel(self, session, route)

    def drain(self) -> None:
        """Begin nothing new, and end what only waits for something new."""
        if self.draining:
            return
        self.draining = True
        for session in list(self.ledger.live):
            try:
                if session.holder is not None:
                    session.holder.drain()
            except Exception:
                log.failure("a connection could not be told of the end")


def configured_upstreams(settings: Settings) -> tuple[Destination, ...]:
    """Return all upstreams of the settings."""
    upstream = settings.upstream
    web = () if upstream.web is None else (upstream.web,)
    return (*upstream.chat, *(upstream.xmpp or ()), *(upstream.raw or ()), *web)


def configured_hosts(settings: Settings) -> list[str]:
    """Return the hosts that the operator named: no client's choice of names may delay them."""
    hosts = [destination.host for destination in configured_upstreams(settings)]
    hosts += [p.server.host for p in settings.socks5.proxies if isinstance(p, SocksProxy)]
    return hosts


def limits_of(http: HttpSettings) -> Limits:
    """Return the limits of HTTP messages."""
    return Limits(head=http.max_head, fields=http.max_fields, body=http.max_body)


def rules_of(http: HttpSettings) -> Rules:
    """Return what is changed in HTTP messages."""

    def fields(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[bytes, bytes], ...]:
        return tuple((name.encode(), value.encode()) for name, value in pairs)

    def names(listed: tuple[str, ...]) -> frozenset[bytes]:
        return frozenset(name.lower().encode() for name in listed)

    return Rules(
        http.via.encode(),
        Changes(names(http.remove_request), fields(http.set_request)),
        Changes(names(http.remove_response), fields(http.set_response)),
    )


def protocol_of(session: Session) -> str:
    """Return what a connection was, for the log: ``tls/http`` where TLS ended here."""
    if session.kind is None:
        return "undetected"
    return session.kind.value + (f"/{session.inner.value}" if session.inner else "")


def log_end(session: Session, reason: Reason, detail: str, seconds: float) -> None:
    """Write the one line that a connection leaves in the log."""
    log.emit(
        LogLevel.warn if reason.error else LogLevel.info,
        "connection ended: {reason} protocol={protocol} to={target} seconds={seconds:.3f}"
        " received={received} sent={sent}{detail}",
        reason=reason.value,
        protocol=protocol_of(session),
        target=session.target or "-",
        seconds=seconds,
        received=session.received,
        sent=session.sent,
        detail=f" ({detail})" if detail else "",
    )
