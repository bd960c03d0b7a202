"""A SOCKS5 connect on a string transport and a clock: what tests of its states have in common."""

from itertools import pairwise
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from whatsproxy import socks5
from whatsproxy.transport import SingleProtocolFactory

ANONYMOUS = {"anonymous": ()}
LOGIN = {"login": ("user", "secret")}
BOTH = {**ANONYMOUS, **LOGIN}
#: The server's last word: it is connected, from this address.
GRANTED = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x04\xd2"


class Application(Protocol):
    """What is connected through SOCKS: it keeps what it is given."""

    def __init__(self) -> None:
        self.received = b""

    def dataReceived(self, data: bytes) -> None:
        self.received += data


@implementer(IStreamClientEndpoint)
class ToServer:
    """A proxy endpoint on a string transport, which the test connects when it likes."""

    def __init__(self) -> None:
        self.transport = StringTransport()
        self.cancelled = False
        self._factory: Any = None
        self._connecting: Deferred[Any] = Deferred(self._cancel)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        self._factory = protocolFactory
        return self._connecting

    def arrive(self) -> None:
        protocol = self._factory.buildProtocol(self.transport.getPeer())
        self.transport.protocol = protocol
        protocol.makeConnection(self.transport)
        self._connecting.callback(protocol)

    def fail(self, error: Exception) -> None:
        self._connecting.errback(error)

    def feed(self, data: bytes) -> None:
        """Give bytes to whoever has the transport now."""
        self.transport.protocol.dataReceived(data)

    def sent(self) -> bytes:
        """Return what was written since the last time."""
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def _cancel(self, _: object) -> None:
        self.cancelled = True


class Attempt:
    """One connect to ``host:port`` by a :class:`ToServer`."""

    def __init__(
        self,
        methods: Any = ANONYMOUS,
        host: str | bytes = "g.whatsapp.net",
        port: int = 5222,
        *,
        arrived: bool = True,
        factory: IProtocolFactory | None = None,
    ) -> None:
        self.clock = Clock()
        self.server = ToServer()
        self.application = Application()
        #: What had been received when the Deferred fired, or the error.
        self.results: list[Any] = []
        endpoint = socks5.SOCKS5ClientEndpoint(
            host, port, self.server, methods, timeout=10, reactor=self.clock
        )
        self.connecting = endpoint.connect(factory or SingleProtocolFactory(self.application))
        self.connecting.addCallbacks(
            lambda protocol: self.results.append(protocol.received),
            lambda failure: self.results.append(failure.value),
        )
        if arrived:
            self.server.arrive()

    def failed(self) -> type[Exception]:
        """Return the type of the only result, an error that has left nothing open."""
        (error,) = self.results
        assert self.clock.getDelayedCalls() == []
        assert self.server.transport.disconnected, "the transport is still open"
        return type(error)


def pieces_of(stream: bytes, cuts: set[int]) -> list[bytes]:
    """Cut a stream at these places."""
    places = sorted({0, len(stream), *cuts})
    return [stream[a:b] for a, b in pairwise(places)]
