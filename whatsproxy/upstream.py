"""A route made into a connection: which legs there are, in what order, and in what time.

A leg makes an endpoint for a destination: directly, or by way of a SOCKS server. With SOCKS servers
configured there is no direct leg unless it is listed, so nothing is resolved or dialled here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from types import MappingProxyType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectError,
    ConnectionRefusedError,
    NoRouteError,
    TCPTimedOutError,
)
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from whatsproxy import socks5
from whatsproxy.addresses import ForbiddenAddressError
from whatsproxy.attempts import Attempt, Front, Listener, attempt_by
from whatsproxy.codecs import Direct, Hop, SocksProxy
from whatsproxy.descriptors import NoDescriptorsError
from whatsproxy.destination import Destination
from whatsproxy.dial import DialTimeoutError, DirectEndpoint, Judge, everywhere
from whatsproxy.introduced import Introduced
from whatsproxy.proxy_protocol import Ends, proxy_header
from whatsproxy.reason import Reason
from whatsproxy.resolver import ResolutionError, Resolver
from whatsproxy.tls_client import TlsClient, TlsFailedError, TlsTimeoutError, UntrustedError
from whatsproxy.transport import StreamProtocol, StreamTransport

#: Makes an endpoint that reaches a destination, or gives up after so many seconds.
Leg = Callable[[Destination, float], IStreamClientEndpoint]
#: Returns the client's ends, None where it has none.
Whose = Callable[[], Ends | None]
#: First endpoints that are kept; most clients go where others have gone.
FIRSTS = 256

#: First match wins; what is not listed is an error of this program.
_REASONS: tuple[tuple[type[Exception], Reason], ...] = (
    (NoDescriptorsError, Reason.NO_DESCRIPTORS),
    (socks5.ProxyUnreachable, Reason.SOCKS_UNREACHABLE),
    (socks5.NotSOCKS5, Reason.SOCKS_NOT_SOCKS),
    (socks5.ConnectionLostEarly, Reason.SOCKS_LOST),
    (socks5.NoAcceptableMethods, Reason.SOCKS_AUTH),
    (socks5.LoginAuthenticationFailed, Reason.SOCKS_AUTH),
    (socks5.NegotiationTimeout, Reason.SOCKS_TIMEOUT),
    (socks5.SOCKSError, Reason.SOCKS_REFUSED),
    (UntrustedError, Reason.UPSTREAM_UNTRUSTED),
    (TlsTimeoutError, Reason.UPSTREAM_TIMEOUT),
    (TlsFailedError, Reason.UPSTREAM_NO_TLS),
    (DialTimeoutError, Reason.UPSTREAM_TIMEOUT),
    (TCPTimedOutError, Reason.UPSTREAM_TIMEOUT),
    (ResolutionError, Reason.UPSTREAM_UNRESOLVED),
    (ForbiddenAddressError, Reason.REFUSED_ADDRESS),
    (ConnectionRefusedError, Reason.UPSTREAM_REFUSED),
    (NoRouteError, Reason.UPSTREAM_UNREACHABLE),
    (ConnectError, Reason.UPSTREAM_FAILED),
    (OSError, Reason.UPSTREAM_FAILED),
)


def reason_of(error: BaseException) -> Reason:
    """Return the reason that a failed connect stands for."""
    return next((r for kind, r in _REASONS if isinstance(error, kind)), Reason.INTERNAL)


def direct_leg(
    reactor: Any,
    resolver: Resolver,
    judge: Judge = everywhere,
    clock: IReactorTime | None = None,
) -> Leg:
    """Resolve and dial here."""
    return lambda destination, seconds: DirectEndpoint(
        reactor, resolver, destination, seconds, judge, clock=clock
    )


def socks5_leg(
    reactor: Any, resolver: Resolver, proxy: SocksProxy, clock: IReactorTime | None = None
) -> Leg:
    """Go through a SOCKS server, which is itself reached directly."""
    methods = _methods_of(proxy)
    clock = clock or reactor
    return lambda destination, seconds: socks5.SOCKS5ClientEndpoint(
        destination.host,
        destination.port,
        DirectEndpoint(reactor, resolver, proxy.server, seconds, clock=clock, limited=False),
        methods,
        timeout=seconds,
        reactor=clock,
    )


def legs_of(
    reactor: Any,
    resolver: Resolver,
    proxies: Sequence[Hop],
    judge: Judge = everywhere,
    clock: IReactorTime | None = None,
) -> list[Leg]:
    """Return the legs of ``socks5.proxies``; none listed means directly.

    ``clock`` is for their time limits, where that is not the reactor.
    """
    return [
        direct_leg(reactor, resolver, judge, clock)
        if isinstance(proxy, Direct)
        else socks5_leg(reactor, resolver, proxy, clock)
        for proxy in proxies or (Direct(),)
    ]


def probe(reactor: Any, proxy: SocksProxy, seconds: float) -> "Deferred[None]":
    """Ask a SOCKS server whether it takes us; fails with the SOCKSError that a connect would."""
    return socks5.probe(
        DirectEndpoint(reactor, Resolver(reactor, [proxy.server.host]), proxy.server, seconds),
        _methods_of(proxy),
        timeout=seconds,
        reactor=reactor,
    )


def _methods_of(proxy: SocksProxy) -> Mapping[str, Sequence[str | bytes]]:
    return socks5.ANONYMOUS if proxy.credentials is None else {"login": proxy.credentials}


class Upstream:
    """Connects, trying each destination by each leg. ``timeout`` is in seconds, for all of it.

    ``tls`` is for destinations that speak TLS. ``told`` are the places that are told whose
    connection it is, whatever the client speaks, and the version of the PROXY protocol for it.
    """

    def __init__(
        self,
        clock: IReactorTime,
        legs: Iterable[Leg],
        timeout: float,
        tls: TlsClient | None = None,
        told: Mapping[tuple[str, int], str] = MappingProxyType({}),
    ) -> None:
        self._told = told
        self._tls = tls
        #: What the first attempt at these destinations goes by: it is always the same.
        self._firsts: dict[tuple[Destination, ...], IStreamClientEndpoint] = {}
        self.clock = clock
        self.legs = list(legs)
        self.timeout = timeout

    def connect(
        self, destinations: Iterable[Destination], whose: Whose = lambda: None
    ) -> "Deferred[Arrival]":
        """Return a Deferred of the new transport, to be handed over at once.

        ``whose`` returns the client's ends, for those places that are told.
        It fails with the error of the last attempt, of which :func:`reason_of` makes a reason.
        Cancelling it leaves nothing open.
        """
        front: Front[Arrival] = Front()
        return front.start(self.attempt(tuple(destinations), front, whose))

    def attempt(
        self,
        destinations: tuple[Destination, ...],
        listener: "Listener[Arrival]",
        whose: Whose = lambda: None,
    ) -> Attempt:
        """Return an attempt to do the same, for who wants no Deferred."""
        return _Attempts(self, destinations, listener, whose)

    def first(self, destinations: tuple[Destination, ...], whose: Whose) -> IStreamClientEndpoint:
        """Return what the first attempt goes by."""
        kept = self._firsts.get(destinations)
        if kept is not None:
            return kept
        share = self.timeout / (len(destinations) * len(self.legs))
        endpoint = self.endpoint(self.legs[0], destinations[0], share, whose)
        if not self._version(destinations[0]):
            if len(self._firsts) >= FIRSTS:
                del self._firsts[next(iter(self._firsts))]
            self._firsts[destinations] = endpoint
        return endpoint

    def endpoint(
        self, leg: Leg, destination: Destination, share: float, whose: Whose
    ) -> IStreamClientEndpoint:
        """Return what an attempt goes by that is given so many seconds."""
        endpoint = leg(destination, share)
        version = self._version(destination)
        if version:
            endpoint = Introduced(endpoint, proxy_header(version, whose()))
        if not destination.tls:
            return endpoint
        assert self._tls is not None, "whoever names TLS destinations gives the means"
        return self._tls.wrap(endpoint, destination, share)

    def _version(self, destination: Destination) -> str | None:
        return self._told.get((destination.host, destination.port))


class Arrival(StreamProtocol):
    """A new upstream transport, to be taken at once (see hand_over), and where it leads."""

    __slots__ = ("destination",)

    def __init__(self, transport: StreamTransport, destination: Destination) -> None:
        self.transport = transport
        self.destination = destination


class _Attempts:
    """Attempts in a row; each gets an equal share of what time is left."""

    __slots__ = (
        "_attempt",
        "_deadline",
        "_destination",
        "_destinations",
        "_left",
        "_listener",
        "_upstream",
        "_whose",
    )

    _deadline: float
    _destination: Destination

    def __init__(
        self,
        upstream: Upstream,
        destinations: tuple[Destination, ...],
        listener: Listener[Arrival],
        whose: Whose,
    ) -> None:
        self._upstream = upstream
        self._destinations = destinations
        self._listener = listener
        self._whose = whose
        self._attempt: Attempt | None = None
        #: What is to be tried yet; None while that is all but the first.
        self._left: list[tuple[Destination, Leg]] | None = None

    def start(self) -> None:
        """Begin (the Attempt's duty)."""
        upstream = self._upstream
        self._deadline = upstream.clock.seconds() + upstream.timeout
        self._destination = self._destinations[0]
        try:
            attempt = attempt_by(upstream.first(self._destinations, self._whose), self)
        except Exception as e:
            self.unreached(e)
        else:
            self._attempt = attempt
            attempt.start()

    def cancel(self) -> None:
        """Leave nothing open (the Attempt's duty)."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.cancel()

    def reached(self, holder: StreamProtocol) -> None:
        """Pass on what one attempt has reached."""
        self._attempt = None
        self._listener.reached(Arrival(holder.transport, self._destination))

    def unreached(self, error: Exception) -> None:
        """Try the next, if there is one."""
        self._attempt = None
        left = self._left
        if left is None:
            left = list(product(self._destinations, self._upstream.legs))[1:]
        if isinstance(error, ForbiddenAddressError):
            # No other leg may do what this one must not.
            left = [a for a in left if a[0] != self._destination]
        self._left = left
        if left:
            self._next(*left.pop(0), more=len(left))
        else:
            self._listener.unreached(error)

    def _next(self, destination: Destination, leg: Leg, *, more: int) -> None:
        self._destination = destination
        upstream = self._upstream
        share = max((self._deadline - upstream.clock.seconds()) / (more + 1), 0.001)
        try:
            attempt = attempt_by(upstream.endpoint(leg, destination, share, self._whose), self)
        except Exception as e:  # even a leg that raises must not end the row
            self.unreached(e)
        else:
            self._attempt = attempt
            attempt.start()
