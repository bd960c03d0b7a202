"""The factory of client connections: lets them in, and knows which protocol fits which kind."""

from functools import partial
from typing import Any

from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from whatsproxy.addresses import Addresses
from whatsproxy.ceiling import Ceiling
from whatsproxy.clients import REFUSALS, Clients
from whatsproxy.codecs import SocksProxy
from whatsproxy.destination import Destination
from whatsproxy.files import Loadable
from whatsproxy.http1.fields import Changes, Rules
from whatsproxy.http1.heads import Limits
from whatsproxy.idle_watch import IdleWatch
from whatsproxy.journal import Journal
from whatsproxy.listen_codecs import Listener
from whatsproxy.listeners import Door
from whatsproxy.network_lists import NetworkList
from whatsproxy.networks import Networks, parse_network
from whatsproxy.own_addresses import is_own
from whatsproxy.policy import Policy
from whatsproxy.protocols.connect import HttpTunnel
from whatsproxy.protocols.http import HttpConnection
from whatsproxy.protocols.proxy_header import ProxyHeaderReader
from whatsproxy.protocols.refused import UNRECOGNIZED_NAME, Refused
from whatsproxy.protocols.sniffer import Sniffer
from whatsproxy.protocols.tls import TlsHandshake
from whatsproxy.protocols.tunnel import Tunnel
from whatsproxy.reason import Reason
from whatsproxy.relay import Terms
from whatsproxy.resolver import Resolver
from whatsproxy.route import EVERY_KIND, EachRequest, Route, Router, Terminate
from whatsproxy.session import Ledger, Session
from whatsproxy.settings import HttpSettings, Settings
from whatsproxy.sniff import Kind, Sniffed
from whatsproxy.time_limit import TimeLimit
from whatsproxy.tls_client import TlsClient
from whatsproxy.tls_server import TlsServer
from whatsproxy.transport import number_at
from whatsproxy.upstream import Upstream, legs_of
from whatsproxy.verifier import Verifier
from whatsproxy.wheel import Wheel

#: Connections whose silence is normal: they get timeouts.chat_idle, and keepalive probes.
CHATS = frozenset({Kind.WHATSAPP, Kind.XMPP})
#: Seconds that a silent client is still given when the service stops.
GRACE = 1.0

log = Logger()


@implementer(IProtocolFactory)
class ProxyFactory:
    """Builds the protocols of one service and holds what they share (see protocols.base.Proxy)."""

    noisy = False

    def __init__(self, reactor: Any, settings: Settings, upstream: Upstream | None = None) -> None:
        timeouts = settings.timeouts
        #: For all that waits on a connection's behalf; who needs more than a clock has the reactor.
        self.clock: IReactorTime = Wheel(reactor)
        self.settings = settings
        self.ledger = Ledger(reactor.seconds, self._ended)
        self.journal = Journal(settings.logging.clients)
        self.ceiling = Ceiling(self.clock, self.ledger, settings.server.max_buffered)
        self.tls = TlsServer(reactor, settings.tls, settings.server.names)
        #: What is read from files, at the start and anew.
        self.loadables: list[Loadable] = [self.tls]
        self.clients = Clients(
            self._list("clients.allow", settings.clients.allow),
            self._list("clients.deny", settings.clients.deny),
            most=settings.clients.max_per_client,
            rate=settings.clients.rate_per_client,
            burst=settings.clients.burst_per_client,
        )
        self._trusted = Networks(map(parse_network, settings.server.proxy_trusted))
        self._door = Door(self, EVERY_KIND)
        upstreams = configured_upstreams(settings)
        networks = Networks(map(parse_network, settings.policy.allow_networks))
        self.addresses = Addresses(
            networks, is_own, frozenset((place.host, place.port) for place in upstreams)
        )
        resolver = Resolver(reactor, configured_hosts(settings))
        legs = legs_of(
            reactor, resolver, settings.socks5.proxies, self.addresses.permitted, self.clock
        )
        self.tls_client = TlsClient(self.clock, settings.tls)
        self.upstream = upstream or Upstream(
            self.clock, legs, timeouts.connect, self.tls_client, told_upstreams(settings)
        )
        users_file = settings.http.users_file
        self.verifier = Verifier(reactor, users_file, self.ledger) if users_file else None
        if self.verifier is not None:
            self.loadables.append(self.verifier)
        self.draining = False
        self.idle_watch = IdleWatch(
            self.clock, min(5.0, timeouts.idle / 10, timeouts.chat_idle / 10)
        )
        self.sniffing = TimeLimit(self.clock, timeouts.sniff)
        self.grace = TimeLimit(self.clock, GRACE)
        self.handshaking = TimeLimit(self.clock, timeouts.tls_handshake)
        self.terms: dict[Kind | None, Terms] = {
            kind: Terms(self.clock, self.idle_watch, timeouts.idle, timeouts.idle)
            for kind in (*Kind, None)
        }
        for kind in CHATS:
            self.terms[kind] = Terms(
                *(self.clock, self.idle_watch, timeouts.chat_idle, timeouts.idle), keepalive=True
            )
        self._limits, self._rules = limits_of(settings.http), rules_of(settings.http)
        self._terminates = bool(settings.tls.certificate) or settings.tls.auto_generate
        self.router = Router(
            Policy(
                settings.policy.allow,
                settings.policy.allow_ports,
                upstreams,
                networks,
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
        """Let a client in by a door of no rules of its own."""
        return self.accept(number_at(addr), self._door)

    def door_of(self, listener: Listener) -> Door:
        """Return the factory for a listener."""
        allow = self._list(f"listener.allow ({listener.endpoint})", listener.allow)
        return Door(self, listener.kinds, proxy_protocol=listener.proxy_protocol, allow=allow)

    def accept(self, client: int | None, door: Door) -> IProtocol | None:
        """Return the first protocol of a connection, or None, which closes it (Doorkeeper)."""
        if len(self.ledger.live) >= self.settings.server.max_connections:
            self._reject(Reason.REJECTED, client)
            return None
        if door.proxy_protocol:
            # A unix socket's mode says whom to trust.
            if client is not None and client not in self._trusted:
                self._reject(Reason.PROXY_UNTRUSTED, client)
                return None
            session = self._open(door, client)
            session.relayed = True
            return ProxyHeaderReader(self, session, partial(self._admit, door))
        refusal = self.clients.admit(client, door.allow, self.clock.seconds())
        if refusal is not None:
            self._reject(refusal, client)
            return None
        session = self._open(door, client)
        session.admitted = True
        return Sniffer(self, session)

    def _open(self, door: Door, client: int | None) -> Session:
        self.ceiling.watch()
        return self.ledger.open(door.kinds, client)

    def _admit(self, door: Door, session: Session) -> Reason | None:
        refusal = self.clients.admit(session.client, door.allow, self.clock.seconds(), named=True)
        session.admitted = refusal is None
        return refusal

    def _reject(self, reason: Reason, client: int | None) -> None:
        self.ledger.reject(reason)
        now = self.clock.seconds()
        self.journal.rejected(reason, client, self.ledger.ends[reason], now)

    def _ended(self, session: Session, reason: Reason, detail: str, seconds: float) -> None:
        if session.admitted:
            self.clients.leave(session.client)
        if reason in REFUSALS and not session.admitted:
            # Behind a load balancer; elsewhere there is no session for such a client.
            now = self.clock.seconds()
            self.journal.rejected(reason, session.client, self.ledger.ends[reason], now)
        else:
            self.journal.ended(session, reason, detail, seconds)
        if not self.ledger.live:
            self.ceiling.rest()

    def _list(self, key: str, sources: tuple[str, ...]) -> NetworkList | None:
        """Return the list of a key, to be loaded; None where nothing is said."""
        if not sources:
            return None
        networks = NetworkList(key, sources)
        self.loadables.append(networks)
        return networks

    def protocol_for(self, sniffed: Sniffed, session: Session) -> IProtocol:
        """Return the protocol that serves a connection of this kind, or refuses it."""
        inside = session.inner is not None
        route = self.router.route(sniffed, inside=inside, kinds=session.kinds)
        if isinstance(route, Route):
            tunnel = HttpTunnel if sniffed.kind is Kind.HTTP else Tunnel
            return tunnel(self, session, route)
        if isinstance(route, Terminate):
            handshake = TlsHandshake(self, session)
            return self.tls.transport_for(route.server_name, handshake)
        if isinstance(route, EachRequest):
            return HttpConnection(self, session, self._limits, self._rules)
        last_word = UNRECOGNIZED_NAME if sniffed.kind is Kind.TLS else b""
        return Refused(self, session, route.reason, route.detail, last_word=last_word)

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


def told_upstreams(settings: Settings) -> dict[tuple[str, int], str]:
    """Return the upstreams that are told whose connection it is, and the header's version."""
    version = settings.upstream.send_proxy
    return {(place.host, place.port): version for place in settings.upstream.chat if version}


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
