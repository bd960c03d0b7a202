"""A route made into a connection: which legs there are, in what order, and in what time.

A leg makes an endpoint for a destination: directly, or by way of a SOCKS server. With SOCKS servers
configured there is no direct leg unless it is listed, so nothing is resolved or dialled here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from types import MappingProxyType
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import (
    ConnectError,
    ConnectionRefusedError,
    NoRouteError,
    TCPTimedOutError,
)
from twisted.internet.interfaces import (
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from whatsproxy import socks5
from whatsproxy.addresses import ForbiddenAddressError
from whatsproxy.codecs import Direct, Hop, SocksProxy
from whatsproxy.descriptors import NoDescriptorsError
from whatsproxy.destination import Destination
from whatsproxy.dial import DialTimeoutError, DirectEndpoint, Judge, everywhere
from whatsproxy.proxy_protocol import Ends, proxy_header
from whatsproxy.reason import Reason
from whatsproxy.resolver import ResolutionError, Resolver
from whatsproxy.tls_client import TlsClient, TlsFailedError, TlsTimeoutError, UntrustedError
from whatsproxy.transport import SingleProtocolFactory, StreamProtocol

#: Makes an endpoint that reaches a destination, or gives up after so many seconds.
Leg = Callable[[Destination, float], IStreamClientEndpoint]


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


def direct_leg(reactor: Any, resolver: Resolver, judge: Judge = everywhere) -> Leg:
    """Resolve and dial here."""
    return lambda destination, seconds: DirectEndpoint(
        reactor, resolver, destination, seconds, judge
    )


def socks5_leg(reactor: Any, resolver: Resolver, proxy: SocksProxy) -> Leg:
    """Go through a SOCKS server, which is itself reached directly."""
    methods = _methods_of(proxy)
    return lambda destination, seconds: socks5.SOCKS5ClientEndpoint(
        destination.host,
        destination.port,
        DirectEndpoint(reactor, resolver, proxy.server, seconds),
        methods,
        timeout=seconds,
        reactor=reactor,
    )


def legs_of(
    reactor: Any, resolver: Resolver, proxies: Sequence[Hop], judge: Judge = everywhere
) -> list[Leg]:
    """Return the legs of ``socks5.proxies``; none listed means directly."""
    return [
        direct_leg(reactor, resolver, judge)
        if isinstance(proxy, Direct)
        else socks5_leg(reactor, resolver, proxy)
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
        self._clock = clock
        self._tls = tls
        self._legs = list(legs)
        self._timeout = timeout

    def connect(
        self, destinations: Iterable[Destination], whose: Callable[[], Ends | None] = lambda: None
    ) -> "Deferred[Arrival]":
        """Return a Deferred of the protocol that holds the new transport, to be handed over.

        ``whose`` returns the client's ends, for those places that are told.
        It fails with the error of the last attempt, of which :func:`reason_of` makes a reason.
        Cancelling it leaves nothing open.
        """
        attempts = list(product(destinations, self._legs))

        def introduce(destination: Destination) -> bytes:
            version = self._told.get((destination.host, destination.port))
            return proxy_header(version, whose()) if version else b""

        return _Attempts(self._clock, attempts, self._timeout, self._tls, introduce).start()


class Arrival(StreamProtocol):
    """Holds a new upstream transport until the relay takes it; it never sees a byte."""

    __slots__ = ("destination",)

    def __init__(self, destination: Destination) -> None:
        self.destination = destination


@implementer(IStreamClientEndpoint)
class _Introduced:
    """An endpoint whose connections begin with some bytes of ours, before any TLS."""

    def __init__(self, endpoint: IStreamClientEndpoint, preamble: bytes) -> None:
        self._endpoint = endpoint
        self._preamble = preamble

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[Any]":
        """Connect, and send them."""
        connecting: Deferred[Any] = self._endpoint.connect(protocolFactory)
        return connecting.addCallback(self._introduce)

    def _introduce(self, protocol: Any) -> Any:
        protocol.transport.write(self._preamble)
        return protocol


class _Attempts:
    """Attempts in a row; each gets an equal share of what time is left."""

    def __init__(
        self,
        clock: IReactorTime,
        attempts: list[tuple[Destination, Leg]],
        timeout: float,
        tls: TlsClient | None,
        introduce: Callable[[Destination], bytes],
    ) -> None:
        self._clock = clock
        self._tls = tls
        self._introduce = introduce
        self._attempts = attempts
        self._destination: Destination | None = None
        self._deadline = clock.seconds() + timeout
        self._result: Deferred[Arrival] = Deferred(self._cancelled)
        self._connecting: Deferred[Any] | None = None

    def start(self) -> "Deferred[Arrival]":
        self._next()
        return self._result

    def _next(self) -> None:
        destination, leg = self._attempts.pop(0)
        self._destination = destination
        left = self._deadline - self._clock.seconds()
        share = max(left / (len(self._attempts) + 1), 0.001)
        arrival = Arrival(destination)
        # Even a leg that raises must not end the row.
        self._connecting = maybeDeferred(
            lambda: self._endpoint(leg, destination, share).connect(SingleProtocolFactory(arrival))
        )
        self._connecting.addCallbacks(lambda _: self._result.callback(arrival), self._failed)

    def _endpoint(self, leg: Leg, destination: Destination, share: float) -> IStreamClientEndpoint:
        endpoint = leg(destination, share)
        preamble = self._introduce(destination)
        if preamble:
            endpoint = _Introduced(endpoint, preamble)
        if not destination.tls:
            return endpoint
        assert self._tls is not None, "whoever names TLS destinations gives the means"
        return self._tls.wrap(endpoint, destination, share)

    def _failed(self, failure: Failure) -> None:
        if self._result.called:
            return  # cancelled
        if failure.check(ForbiddenAddressError):
            # No other leg may do what this one must not.
            self._attempts = [a for a in self._attempts if a[0] != self._destination]
        if self._attempts:
            self._next()
        else:
            self._result.errback(failure)

    def _cancelled(self, _: object) -> None:
        self._result.errback(CancelledError())
        if self._connecting is not None:
            self._connecting.cancel()
