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
    SOCKS5AuthMethodsRequest,
    SOCKS5Command,
    SOCKS5CommandRequest,
    SOCKS5UsernamePasswordRequest,
)
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
)
from twisted.plugin import IPlugin
from zope.interface import implementer

from whatsproxy.attempts import Attempt, Front, Listener, attempt_by, deferred
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
    Words,
)
from whatsproxy.time_limit import TimeLimit
from whatsproxy.transport import StreamProtocol, deliver, hand_over

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
        self._words = _words(methods, _command(host, port))
        self._proxy = proxyEndpoint
        self._timeout = timeout
        self._limit = None if reactor is None else TimeLimit(reactor, timeout)

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[IProtocol]":
        """Return a Deferred of the protocol; cancelling it leaves nothing open."""
        return deferred(self, protocolFactory)

    def attempt(self, listener: Listener[StreamProtocol]) -> Attempt:
        """Return an attempt to do that, for who wants no Deferred."""
        if self._limit is None:
            self._limit = TimeLimit(_installed(), self._timeout)
        return _Attempt(self._proxy, self._words, self._limit, listener)


def probe(
    proxyEndpoint: IStreamClientEndpoint,
    methods: Mapping[str, Sequence[str | bytes]] = ANONYMOUS,
    *,
    timeout: float = TIMEOUT,
    reactor: IReactorTime | None = None,
) -> "Deferred[None]":
    """Connect to a SOCKS server and authenticate, no more; fail as any connect through it would."""
    front: Front[StreamProtocol] = Front()
    limit = TimeLimit(reactor or _installed(), timeout)
    attempt = _Attempt(proxyEndpoint, _words(methods, None), limit, front)
    return front.start(attempt).addCallback(_hang_up)


def _hang_up(protocol: Any) -> None:
    protocol.transport.loseConnection()


def _installed() -> IReactorTime:
    from twisted.internet import reactor  # noqa: TID251  # nobody has named another

    return reactor


class _Attempt(Handshake):
    """One connect: owns whatever is open until the listener has it."""

    __slots__ = ("_connecting", "_limit", "_listener", "_proxy")

    def __init__(
        self,
        proxy: IStreamClientEndpoint,
        words: Words,
        limit: TimeLimit,
        listener: Listener[StreamProtocol],
    ) -> None:
        super().__init__(words)
        self._proxy = proxy
        self._limit = limit
        #: None as soon as it is over.
        self._listener: Listener[StreamProtocol] | None = listener
        self._connecting: Attempt | None = None

    def start(self) -> None:
        """Reach for the server (the Attempt's duty)."""
        self._limit.begin(self)
        self._connecting = connecting = attempt_by(self._proxy, self)
        connecting.start()

    def cancel(self) -> None:
        """Leave nothing open (the Attempt's duty)."""
        if self._listener is not None:
            self._give_up()

    def reached(self, holder: StreamProtocol) -> None:
        """Talk to the server (the Listener's duty)."""
        self._connecting = None
        hand_over(holder, self)

    def unreached(self, error: Exception) -> None:
        """Say that it is the server which cannot be reached (the Listener's duty)."""
        self._connecting = None
        if isinstance(error, NoDescriptorsError):
            self._fail(error)  # it says nothing of the SOCKS server
            return
        unreachable = ProxyUnreachable()
        unreachable.__cause__ = error
        self._fail(unreachable)

    def done(self, result: bytes | SOCKSError) -> None:
        """Let the listener have the connection, and then what came behind the reply."""
        if isinstance(result, SOCKSError):
            self._fail(result)
            return
        transport = self.transport
        self._end().reached(self)
        if result:
            deliver(transport, result)

    def time_is_up(self) -> None:
        """Give up (called by the time limit)."""
        self._fail(NegotiationTimeout())

    def _fail(self, error: Exception) -> None:
        """Close whatever there is, and only then say why."""
        self._give_up().unreached(error)

    def _give_up(self) -> Listener[StreamProtocol]:
        listener = self._end()
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        self.stop()
        transport = getattr(self, "transport", None)
        if transport is not None:
            transport.abortConnection()
        return listener

    def _end(self) -> Listener[StreamProtocol]:
        """Let nothing more come of it; the answer is who is to be told."""
        listener, self._listener = self._listener, None
        assert listener is not None, "nobody is left to be told"
        self._limit.end(self)
        return listener


def _command(host: str | bytes, port: int) -> SOCKS5CommandRequest:
    text = host.decode("ascii") if isinstance(host, bytes) else host
    if not 1 <= port <= 65535:
        raise ValueError(f"{port} is no port from 1 to 65535")
    # To ask of a name whether it is an address takes longer than all the rest of a connect.
    packed = _packed(text) if ":" in text or text[-1:].isdecimal() else None
    if packed is None:
        name = text.encode("ascii")
        if not 1 <= len(name) <= 255:
            raise ValueError("a host name has 1 to 255 bytes (RFC 1928 5)")
        return SOCKS5CommandRequest(SOCKS5Command.CONNECT, SOCKS5AType.DOMAIN_NAME, name, port)
    kind = SOCKS5AType.IPV4_ADDRESS if len(packed) == 4 else SOCKS5AType.IPV6_ADDRESS
    return SOCKS5CommandRequest(SOCKS5Command.CONNECT, kind, packed, port)


def _packed(text: str) -> bytes | None:
    try:
        return ip_address(text).packed
    except ValueError:
        return None


def _words(
    methods: Mapping[str, Sequence[str | bytes]], request: SOCKS5CommandRequest | None
) -> Words:
    offered = []
    login = None
    for method, arguments in methods.items():
        if method == "anonymous" and not arguments:
            offered.append(SOCKS5AuthMethod.NO_AUTH_REQUIRED)
        elif method == "login" and len(arguments) == 2:
            user, password = (a.encode() if isinstance(a, str) else a for a in arguments)
            if not (1 <= len(user) <= 255 and 1 <= len(password) <= 255):
                raise ValueError("user and password have 1 to 255 bytes each (RFC 1929 2)")
            login = SOCKS5UsernamePasswordRequest(user, password).dumps()
            offered.append(SOCKS5AuthMethod.USERNAME_PASSWORD)
        else:
            raise ValueError(f"method {method!r}: anonymous: () or login: (user, password)")
    if not offered:
        raise ValueError("at least one method is needed: anonymous or login")
    greeting = SOCKS5AuthMethodsRequest(offered).dumps()
    wanted = None if request is None else request.dumps()
    return Words(greeting, b"".join(method.value for method in offered), login, wanted)


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
