"""An endpoint whose connections begin with some bytes of ours: who is coming, in a PROXY header."""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from whatsproxy.attempts import Attempt, Listener, attempt_by, deferred
from whatsproxy.transport import StreamProtocol


@implementer(IStreamClientEndpoint)
class Introduced:
    """Sends ``preamble`` as soon as another endpoint has connected, before any TLS."""

    def __init__(self, endpoint: IStreamClientEndpoint, preamble: bytes) -> None:
        self._endpoint = endpoint
        self._preamble = preamble

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[IProtocol]":
        """Connect, and send them."""
        return deferred(self, protocolFactory)

    def attempt(self, listener: Listener[StreamProtocol]) -> Attempt:
        """Return an attempt to do that."""
        return attempt_by(self._endpoint, _Introducer(listener, self._preamble))


class _Introducer:
    """Listens, and begins a connection with some bytes."""

    __slots__ = ("_listener", "_preamble", "unreached")

    def __init__(self, listener: Listener[StreamProtocol], preamble: bytes) -> None:
        self._listener = listener
        self._preamble = preamble
        self.unreached = listener.unreached

    def reached(self, holder: StreamProtocol) -> None:
        """Send them."""
        holder.transport.write(self._preamble)
        self._listener.reached(holder)
