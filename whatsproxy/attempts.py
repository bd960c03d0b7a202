"""Attempts to connect: a listener that is told what came of it, where a Deferred costs too much.

An endpoint of this program makes an attempt for a listener (``attempt``), and puts a Deferred in
front of that for whoever wants one (``connect``, by :func:`deferred`). Of the endpoints of others,
which have only the Deferred, :func:`attempt_by` makes attempts.
"""

from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure

from whatsproxy.transport import SingleProtocolFactory, StreamProtocol, hand_over

Held = TypeVar("Held", bound=StreamProtocol, contravariant=True)


class Listener(Protocol[Held]):
    """Is told once, unless it has cancelled the attempt; perhaps before ``start`` returns."""

    def reached(self, holder: Held) -> None:
        """Take the new transport from who holds it (see hand_over), before this returns."""

    def unreached(self, error: Exception) -> None:
        """Hear that there is no connection, and that nothing is left open."""


class Attempt(Protocol):
    """One attempt; it is made first and started then, so that its owner knows it by that time."""

    def start(self) -> None:
        """Begin. Does not raise: the listener is told."""

    def cancel(self) -> None:
        """Close what is open, at once, and tell nobody anything any more."""


class Attempting(Protocol):
    """An endpoint that needs no Deferred."""

    def attempt(self, listener: Listener[StreamProtocol]) -> Attempt:
        """Return an attempt to reach what the endpoint leads to."""


def attempt_by(endpoint: IStreamClientEndpoint, listener: Listener[StreamProtocol]) -> Attempt:
    """Return an attempt by any endpoint."""
    own: Any = getattr(endpoint, "attempt", None)
    attempt: Attempt = _ByDeferred(endpoint, listener) if own is None else own(listener)
    return attempt


def deferred(endpoint: Attempting, factory: IProtocolFactory) -> "Deferred[IProtocol]":
    """Connect by an attempt; cancelling the Deferred leaves nothing open."""
    front = _ProtocolFront(factory)
    return front.start(endpoint.attempt(front))


class _ByDeferred:
    """An attempt by an endpoint that knows nothing of attempts."""

    __slots__ = ("_connecting", "_endpoint", "_holder", "_listener")

    def __init__(self, endpoint: IStreamClientEndpoint, listener: Listener[StreamProtocol]) -> None:
        self._endpoint = endpoint
        self._listener: Listener[StreamProtocol] | None = listener
        self._connecting: Deferred[Any] | None = None
        self._holder = StreamProtocol()

    def start(self) -> None:
        """Connect."""
        try:
            connecting = self._endpoint.connect(SingleProtocolFactory(self._holder))
        except Exception as e:
            self._unreached(e)
            return
        self._connecting = connecting
        connecting.addCallbacks(self._reached, lambda failure: self._unreached(failure.value))

    def cancel(self) -> None:
        """Cancel what goes on."""
        self._listener = None
        if self._connecting is not None:
            self._connecting.cancel()

    def _reached(self, _: object) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.reached(self._holder)

    def _unreached(self, error: Any) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.unreached(error)


class Front(Generic[Held]):
    """The Deferred in front of an attempt: it listens."""

    __slots__ = ("_attempt", "_result")

    _attempt: Attempt
    _result: "Deferred[Any]"

    def start(self, attempt: Attempt) -> "Deferred[Any]":
        """Start what we listen to; cancelling the Deferred leaves nothing open."""
        result: Deferred[Any] = Deferred(self._cancelled)
        self._result = result
        self._attempt = attempt
        attempt.start()
        return result

    def reached(self, holder: Held) -> None:
        """Succeed (the Listener's duty)."""
        self.end().callback(holder)

    def unreached(self, error: Exception) -> None:
        """Fail (the Listener's duty)."""
        self.end().errback(Failure(error))

    def end(self) -> "Deferred[Any]":
        """Let go of what refers to us; the answer is what is to be called."""
        result = self._result
        del self._result, self._attempt
        return result

    def _cancelled(self, _: object) -> None:
        attempt = self._attempt
        self.end()
        attempt.cancel()


class _ProtocolFront(Front[StreamProtocol]):
    """One for a factory's protocol."""

    __slots__ = ("_factory",)

    def __init__(self, factory: IProtocolFactory) -> None:
        self._factory = factory

    def reached(self, holder: StreamProtocol) -> None:
        """Let the factory's protocol have the transport."""
        result = self.end()
        try:
            protocol = self._factory.buildProtocol(holder.transport.getPeer())
            if protocol is None:  # the factory has changed its mind, as with any endpoint
                raise CancelledError
            hand_over(holder, protocol)
        except Exception as e:
            holder.transport.abortConnection()
            result.errback(Failure(e))
        else:
            result.callback(protocol)
