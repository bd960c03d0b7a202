"""Direct connections: resolve, then try the addresses in parallel, a little apart (RFC 8305).

A name is resolved once, and what was judged is what is dialled: no second answer of a name server's
gets a chance (DNS rebinding).
"""

from collections.abc import Callable
from itertools import chain, zip_longest
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from whatsproxy.attempts import Attempt, Listener, deferred
from whatsproxy.descriptors import EXHAUSTED, NoDescriptorsError, low
from whatsproxy.destination import Destination
from whatsproxy.resolver import ResolutionError, Resolver
from whatsproxy.time_limit import TimeLimit
from whatsproxy.transport import StreamProtocol

#: Seconds that an address is given before the next one is tried beside it (RFC 8305 5).
STAGGER = 0.25
#: Returns those of a destination's addresses that may be dialled, or raises why none may.
Judge = Callable[[Destination, list[str]], list[str]]

#: Attempts at a time; each takes a descriptor. A further one takes the place of the oldest.
PARALLEL = 2


def everywhere(_: Destination, addresses: list[str]) -> list[str]:
    """Judge nothing: for what the operator named."""
    return addresses


class DialTimeoutError(Exception):
    """There was no connection within the time."""

    def __init__(self, destination: Destination, seconds: float) -> None:
        super().__init__(f"no connection to {destination} within {seconds:.1f} s")


@implementer(IStreamClientEndpoint)
class DirectEndpoint:
    """Reaches a destination from this machine within so many seconds, resolution included.

    ``judge`` has to permit the addresses. ``clock`` is for the time limits, where that is not the
    ``reactor``. Who is not ``limited`` has a limit of its own, of the same length.
    """

    __slots__ = (
        "addresses",
        "asks",
        "clock",
        "destination",
        "judge",
        "limit",
        "reactor",
        "resolver",
        "seconds",
    )

    def __init__(
        self,
        reactor: Any,
        resolver: Resolver,
        destination: Destination,
        seconds: float,
        judge: Judge = everywhere,
        *,
        clock: IReactorTime | None = None,
        limited: bool = True,
    ) -> None:
        self.judge = judge
        self.reactor = reactor
        self.clock: IReactorTime = clock or reactor
        self.resolver = resolver
        self.destination = destination
        self.seconds = seconds
        self.limit = TimeLimit(self.clock, seconds) if limited else None
        #: Whether to ask for a descriptor first: the hub itself does not take the last ones.
        self.asks = not getattr(reactor, "leaves_descriptors", False)
        #: Where there is nothing to resolve.
        self.addresses = [destination.host] if destination.is_address else None

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[IProtocol]":
        """Return a Deferred of the protocol; cancelling it leaves nothing open.

        It fails with ResolutionError, NoDescriptorsError, DialTimeoutError, what ``judge`` raises,
        or the ConnectError of the last address.
        """
        return deferred(self, protocolFactory)

    def attempt(self, listener: Listener[StreamProtocol]) -> Attempt:
        """Return an attempt, which fails with the same."""
        return _Dial(self, listener)


class _Try(StreamProtocol):
    """A connection to one address: Twisted's factory of it, and its first protocol."""

    __slots__ = ("_connector", "_dial")

    def __init__(self, dial: "_Dial") -> None:
        self._dial: _Dial | None = dial
        self._connector: IConnector | None = None

    def cancel(self) -> None:
        """Stop: the socket is closed at once."""
        connector, self._connector = self._connector, None
        self._dial = None
        if connector is not None:
            connector.stopConnecting()

    def doStart(self) -> None:
        """Nothing is to be prepared (as of any factory, by Twisted)."""

    def doStop(self) -> None:
        """Nothing is to be put away."""

    def startedConnecting(self, connector: IConnector) -> None:
        """Know who can stop it (called by Twisted)."""
        self._connector = connector

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:
        """Take the connection, if it is still wanted (called by Twisted)."""
        return None if self._dial is None else self

    def connectionMade(self) -> None:
        """Pass the connection on, and keep nothing: Twisted keeps us with the transport."""
        dial, self._dial, self._connector = self._dial, None, None
        assert dial is not None, "no protocol is built once it is cancelled"
        dial.connected(self)
        del self.transport

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        """Say so (called by Twisted)."""
        dial, self._dial, self._connector = self._dial, None, None
        if dial is not None:
            dial.failed(self, reason.value)

    def clientConnectionLost(self, connector: object, reason: Failure) -> None:
        """Whoever has the transport has heard of it (called by Twisted)."""


class _Dial:
    """One connect: the race of its tries. A single address costs little more than its try."""

    __slots__ = (
        "_addresses",
        "_at",
        "_deadline",
        "_listener",
        "_resolving",
        "_stagger",
        "_tries",
        "_where",
    )

    def __init__(self, where: DirectEndpoint, listener: Listener[StreamProtocol]) -> None:
        self._where = where
        #: None as soon as it is over.
        self._listener: Listener[StreamProtocol] | None = listener
        self._stagger: IDelayedCall | None = None
        self._resolving: Deferred[list[str]] | None = None
        self._addresses: list[str] = []
        #: The place of the next address.
        self._at = 0
        self._tries: list[_Try] = []

    def start(self) -> None:
        """Begin (the Attempt's duty)."""
        where = self._where
        clock = where.clock
        self._deadline = clock.seconds() + where.seconds
        if where.limit is not None:
            where.limit.begin(self)
        addresses = where.addresses
        if addresses is None:
            name = where.destination.host
            try:
                addresses = where.resolver.cached(name)
            except ResolutionError as e:
                self._fail(e)
                return
            if addresses is None:
                resolving = where.resolver.resolve(name)
                self._resolving = resolving
                resolving.addCallbacks(self._resolved, self._unresolved)
                return
        self._resolved(addresses)

    def cancel(self) -> None:
        """Leave nothing open (the Attempt's duty)."""
        if self._listener is not None:
            self._end()

    def connected(self, winner: _Try) -> None:
        """Take a try's connection."""
        self._tries.remove(winner)
        self._end().reached(winner)

    def failed(self, loser: _Try, error: Any) -> None:
        """Go on without a try."""
        latest = self._tries[-1] is loser
        self._tries.remove(loser)
        if isinstance(error, ConnectError) and error.osError in EXHAUSTED:
            self._at -= latest  # it is still to be tried
            self._run_short()
        elif self._at < len(self._addresses):
            self._next()
        elif not self._tries:
            self._fail(error)

    def time_is_up(self) -> None:
        """Give up (called by the time limit)."""
        self._fail(DialTimeoutError(self._where.destination, self._where.seconds))

    def _resolved(self, addresses: list[str]) -> None:
        where = self._where
        self._resolving = None
        try:
            permitted = where.judge(where.destination, addresses)
        except Exception as e:
            self._fail(e)
            return
        # Two alternate already.
        self._addresses = interleave(permitted) if len(permitted) > 2 else permitted
        self._next()

    def _unresolved(self, failure: Failure) -> None:
        self._resolving = None
        if self._listener is not None:
            self._fail(failure.value)

    def _next(self) -> None:
        """Try one more address; the one after it when this one takes long, or has failed."""
        where, tries, addresses = self._where, self._tries, self._addresses
        if self._stagger is not None:
            self._stagger.cancel()
            self._stagger = None
        if len(tries) >= PARALLEL:
            tries.pop(0).cancel()
        if where.asks and low():
            self._run_short()
            return
        address = addresses[self._at]
        self._at += 1
        if self._at < len(addresses):
            # Who would have to make place first gets its share of what time is left.
            wait = self._share() if tries else STAGGER
            self._stagger = where.clock.callLater(wait, self._beside)
        attempt = _Try(self)
        tries.append(attempt)
        try:
            # The limit is ours: Twisted's own gets no chance.
            where.reactor.connectTCP(address, where.destination.port, attempt, None)
        except Exception as e:
            if attempt not in tries:
                raise  # not by connectTCP: it has told us already
            attempt.cancel()
            self.failed(attempt, e)

    def _run_short(self) -> None:
        """There is no descriptor for one more: no race, then, but each address in its turn."""
        if not self._tries:
            where = self._where.destination
            self._fail(NoDescriptorsError(f"no descriptor to reach {where} with"))
        elif self._at < len(self._addresses):
            if self._stagger is not None:
                self._stagger.cancel()
            self._stagger = self._where.clock.callLater(self._share(), self._instead)

    def _beside(self) -> None:
        """Try one more address: this one takes long."""
        self._stagger = None
        self._next()

    def _instead(self) -> None:
        """Try one more address, for which those under way have to make place."""
        self._stagger = None
        tries, self._tries = self._tries, []
        for slow in tries:
            slow.cancel()
        self._next()

    def _share(self) -> float:
        """Return what time an address has before it has to make place for the next one."""
        left = self._deadline - self._where.clock.seconds()
        return max(left / (len(self._addresses) - self._at + 1), STAGGER)

    def _fail(self, error: Any) -> None:
        self._end().unreached(error)

    def _end(self) -> Listener[StreamProtocol]:
        """Stop everything; the answer is who is to be told."""
        listener, self._listener = self._listener, None
        assert listener is not None, "nothing of it is left to tell"
        limit = self._where.limit
        if limit is not None:
            limit.end(self)
        if self._stagger is not None:
            self._stagger.cancel()
            self._stagger = None
        if self._resolving is not None:
            self._resolving.cancel()
        for other in self._tries:
            other.cancel()
        return listener


def interleave(addresses: list[str]) -> list[str]:
    """Alternate between the families, beginning with the first address's (RFC 8305 4)."""
    first = [a for a in addresses if (":" in a) == (":" in addresses[0])]
    others = [a for a in addresses if a not in first]
    return [a for a in chain.from_iterable(zip_longest(first, others)) if a is not None]
