"""A SOCKS5 client (RFC 1928, 1929) as a Twisted endpoint, with the API that txsocksx had.

    endpoint = SOCKS5ClientEndpoint("g.whatsapp.net", 5222, proxyEndpoint)
    endpoint.connect(factory)

Names go to the server unresolved.
"""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from socksio.socks5 import (
    SOCKS5AType,
    SOCKS5AuthMethod,
    SOCKS5Command,
    SOCKS5CommandRequest,
    SOCKS5UsernamePasswordRequest,
)
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
)
from twisted.plugin import IPlugin
from twisted.python.failure import Failure
from zope.interface import implementer

from whatsproxy.descriptors import NoDescriptorsError
from whatsproxy.socks5_handshake import (
    AddressNotSupported,
    CommandNotSupported,
    ConnectionError,
    ConnectionLostEarly,
    ConnectionNotAllowed,
    ConnectionRefused,
    Handshake,
    HostUnreachable,
    LoginAuthenticationFailed,
    NegotiationTimeout,
    NetworkUnreachable,
    NoAcceptableMethods,
    NotSOCKS5,
    ProxyUnreachable,
    ServerFailure,
    SOCKSError,
    TTLExpired,
)
from whatsproxy.transport import SingleProtocolFactory, StreamProtocol, deliver, hand_over

__all__ = [
    "AddressNotSupported",
    "CommandNotSupported",
    "ConnectionError",
    "ConnectionLostEarly",
    "ConnectionNotAllowed",
    "ConnectionRefused",
    "HostUnreachable",
    "LoginAuthenticationFailed",
    "NegotiationTimeout",
    "NetworkUnreachable",
    "NoAcceptableMethods",
    "NotSOCKS5",
    "ProxyUnreachable",
    "SOCKS5ClientEndpoint",
    "SOCKS5EndpointParser",
    "SOCKSError",
    "ServerFailure",
    "TTLExpired",
    "probe",
]

#: Seconds for a whole connect, the proxy's own connection included.
TIMEOUT = 10.0
ANONYMOUS: Mapping[str, Sequence[str | bytes]] = {"anonymous": ()}


@implementer(IStreamClientEndpoint)
class SOCKS5ClientEndpoint:
    """Connects to ``host:port`` by way of the SOCKS5 server that ``proxyEndpoint`` reaches.

    ``host`` is a name (sent as it is, at most 255 bytes) or an address. ``methods`` maps
    ``"anonymous"`` to ``()`` and ``"login"`` to ``(user, password)``, 1 to 255 bytes each; others
    raise ValueError. ``connect`` fails with a SOCKSError, after ``timeout`` seconds at the latest.
    """

    def __init__(
        self,
        host: str | bytes,
        port: int,
        proxyEndpoint: IStreamClientEndpoint,
        methods: Mapping[str, Sequence[str | bytes]] = ANONYMOUS,
        *,
        timeout: float = TIMEOUT,
        reactor: IReactorTime | None = None,
    ) -> None:
        self._request = _command(host, port)
        self._proxy = proxyEndpoint
        self._methods, self._login = _authentication(methods)
        self._timeout = timeout
        self._reactor = reactor

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[IProtocol]":
        """Return a Deferred of the protocol; cancelling it leaves nothing open."""
        attempt = _Attempt(self._proxy, self._request, self._methods, self._login, protocolFactory)
        return attempt.start(_reactor_or(self._reactor), self._timeout)


def probe(
    proxyEndpoint: IStreamClientEndpoint,
    methods: Mapping[str, Sequence[str | bytes]] = ANONYMOUS,
    *,
    timeout: float = TIMEOUT,
    reactor: IReactorTime | None = None,
) -> "Deferred[None]":
    """Connect to a SOCKS server and authenticate, no more; fail as any connect through it would."""
    offered, login = _authentication(methods)
    attempt = _Attempt(proxyEndpoint, None, offered, login, SingleProtocolFactory(StreamProtocol()))
    return attempt.start(_reactor_or(reactor), timeout).addCallback(_hang_up)


def _hang_up(protocol: Any) -> None:
    protocol.transport.loseConnection()


def _reactor_or(reactor: IReactorTime | None) -> IReactorTime:
    if reactor is not None:
        return reactor
    from twisted.internet import reactor as installed  # noqa: TID251  # nobody named another

    return installed


class _Attempt:
    """One connect: owns the time limit and whatever is open until the protocol has it."""

    def __init__(
        self,
        proxy: IStreamClientEndpoint,
        request: SOCKS5CommandRequest | None,
        methods: Sequence[SOCKS5AuthMethod],
        login: SOCKS5UsernamePasswordRequest | None,
        factory: IProtocolFactory,
    ) -> None:
        self._proxy = proxy
        self._handshake = Handshake(request, methods, login, self._negotiated)
        self._factory = factory
        self._result: Deferred[IProtocol] = Deferred(self._cancelled)
        self._connecting: Deferred[Any] | None = None
        self._timer: IDelayedCall | None = None
        self._over = False

    def start(self, reactor: IReactorTime, timeout: float) -> "Deferred[IProtocol]":
        self._timer = reactor.callLater(timeout, self._timed_out)
        self._connecting = self._proxy.connect(SingleProtocolFactory(self._handshake))
        self._connecting.addCallbacks(self._reached, self._unreached)
        return self._result

    def _reached(self, _: object) -> None:
        self._connecting = None

    def _unreached(self, failure: Failure) -> None:
        self._connecting = None
        if isinstance(failure.value, NoDescriptorsError):
            self._fail(failure.value)  # it says nothing of the SOCKS server
            return
        error = ProxyUnreachable()
        error.__cause__ = failure.value
        self._fail(error)

    def _timed_out(self) -> None:
        self._fail(NegotiationTimeout())

    def _cancelled(self, _: object) -> None:
        self._fail(CancelledError())

    def _negotiated(self, result: bytes | SOCKSError) -> None:
        if isinstance(result, SOCKSError):
            self._fail(result)
            return
        transport = self._handshake.transport
        try:
            protocol = self._factory.buildProtocol(transport.getPeer())
        except Exception as e:
            self._fail(e)
            return
        if protocol is None:  # the factory has changed its mind, as with any endpoint
            self._fail(CancelledError())
            return
        try:
            hand_over(self._handshake, protocol)
        except Exception as e:
            self._fail(e)
            return
        self._end()
        del self._handshake, self._factory, self._proxy  # Twisted may keep us with the transport
        self._result.callback(protocol)
        if result:
            deliver(transport, result)

    def _fail(self, error: Exception) -> None:
        """Close whatever there is, and only then say why."""
        if self._over:
            return
        self._end()
        if self._connecting is not None:
            self._connecting.cancel()
        self._handshake.stop()
        transport = getattr(self._handshake, "transport", None)
        if transport is not None:
            transport.abortConnection()
        self._result.errback(error)

    def _end(self) -> None:
        self._over = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


def _command(host: str | bytes, port: int) -> SOCKS5CommandRequest:
    text = host.decode("ascii") if isinstance(host, bytes) else host
    if not 1 <= port <= 65535:
        raise ValueError(f"{port} is no port from 1 to 65535")
    try:
        address = ip_address(text)
    except ValueError:
        name = text.encode("ascii")
        if not 1 <= len(name) <= 255:
            raise ValueError("a host name has 1 to 255 bytes (RFC 1928 5)") from None
        kind, packed = SOCKS5AType.DOMAIN_NAME, name
    else:
        packed = address.packed
        kind = SOCKS5AType.IPV4_ADDRESS if len(packed) == 4 else SOCKS5AType.IPV6_ADDRESS
    return SOCKS5CommandRequest(SOCKS5Command.CONNECT, kind, packed, port)


def _authentication(
    methods: Mapping[str, Sequence[str | bytes]],
) -> tuple[list[SOCKS5AuthMethod], SOCKS5UsernamePasswordRequest | None]:
    offered = []
    login = None
    for method, arguments in methods.items():
        if method == "anonymous" and not arguments:
            offered.append(SOCKS5AuthMethod.NO_AUTH_REQUIRED)
        elif method == "login" and len(arguments) == 2:
            user, password = (a.encode() if isinstance(a, str) else a for a in arguments)
            if not (1 <= len(user) <= 255 and 1 <= len(password) <= 255):
                raise ValueError("user and password have 1 to 255 bytes each (RFC 1929 2)")
            login = SOCKS5UsernamePasswordRequest(user, password)
            offered.append(SOCKS5AuthMethod.USERNAME_PASSWORD)
        else:
            raise ValueError(f"method {method!r}: anonymous: () or login: (user, password)")
    if not offered:
        raise ValueError("at least one method is needed: anonymous or login")
    return offered, login


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class SOCKS5EndpointParser:
    r"""Reads ``socks5:HOST:PORT:proxy=tcp\:127.0.0.1\:1080[:user=U:password=P][:timeout=10]``."""

    prefix = "socks5"

    def parseStreamClient(  # type: ignore[override]  # as Twisted's own parsers spell it
        self,
        reactor: Any,
        host: str,
        port: str,
        proxy: str = "tcp:127.0.0.1:1080",
        user: str | None = None,
        password: str | None = None,
        timeout: str = str(TIMEOUT),
    ) -> SOCKS5ClientEndpoint:
        """Return the endpoint for a client endpoint description (called by clientFromString)."""
        if (user is None) != (password is None):
            raise ValueError("socks5: user= and password= come together")
        methods: Mapping[str, Sequence[str]] = (
            {"anonymous": ()} if user is None or password is None else {"login": (user, password)}
        )
        return SOCKS5ClientEndpoint(
            host,
            int(port),
            clientFromString(reactor, proxy),
            methods,
            timeout=float(timeout),
            reactor=reactor,
        )
