"""Direct connections: resolve, then try the addresses in parallel, a little apart (RFC 8305).

A name is resolved once, and what was judged is what is dialled: no second answer of a name server's
gets a chance (DNS rebinding).
"""

import socket
from collections.abc import Callable
from functools import cache
from itertools import chain, zip_longest
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from whatsproxy.descriptors import EXHAUSTED, NoDescriptorsError, short
from whatsproxy.destination import Destination
from whatsproxy.resolver import Resolver

#: Seconds that an address is given before the next one is tried beside it (RFC 8305 5).
STAGGER = 0.25
#: Returns those of a destination's addresses that may be dialled, or raises why none may.
Judge = Callable[[Destination, list[str]], list[str]]

#: Attempts at a time; each takes a descriptor. A further one takes the place of the oldest.
PARALLEL = 2


def everywhere(_: Destination, addresses: list[str]) -> list[str]:
    """Judge nothing: for what the operator named."""
    return addresses


def is_own(address: str) -> bool:
    """Whether an address is this host's: then the system would dial it from itself.

    Raises NoDescriptorsError where there is none to ask with: who cannot ask must not say no.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        if _can_bind(family, address):
            return not _can_bind_anything(family) or _is_source_of_itself(family, address)
    except OSError as e:
        if e.errno in EXHAUSTED:
            raise NoDescriptorsError("no descriptor to judge an address with") from None
    return False


def _can_bind(family: int, address: str) -> bool:
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        try:
            s.bind((address, 0))
        except OSError as e:
            if e.errno in EXHAUSTED:
                raise
            return False
        return True


@cache
def _can_bind_anything(family: int) -> bool:
    """Whether the system lets others' addresses be bound (ip_nonlocal_bind)."""
    return _can_bind(family, "2001:db8::1" if family == socket.AF_INET6 else "192.0.2.1")


def _is_source_of_itself(family: int, address: str) -> bool:
    """Whether the system would send from an address to itself: so it does with a primary one."""
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.connect((address, 9))  # sends nothing
        own: str = s.getsockname()[0]
        return own == address


class DialTimeoutError(Exception):
    """There was no connection within the time."""

    def __init__(self, destination: Destination, seconds: float) -> None:
        super().__init__(f"no connection to {destination} within {seconds:.1f} s")


@implementer(IStreamClientEndpoint)
class DirectEndpoint:
    """Reaches a destination from this machine within so many seconds, resolution included.

    ``judge`` has to permit the addresses.
    """

    def __init__(
        self,
        reactor: Any,
        resolver: Resolver,
        destination: Destination,
        seconds: float,
        judge: Judge = everywhere,
    ) -> None:
        self._judge = judge
        self._reactor = reactor
        self._resolver = resolver
        self._destination = destination
        self._seconds = seconds

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[IProtocol]":
        """Return a Deferred of the protocol; cancelling it leaves nothing open.

        It fails with ResolutionError, NoDescriptorsError, DialTimeoutError, what ``judge`` raises,
        or the ConnectError of the last address.
        """
        dial = _Dial(self._reactor, protocolFactory, self._destination, self._seconds, self._judge)
        return dial.start(self._resolver)


class _Dial:
    """One connect: the race of its attempts."""

    def __init__(
        self,
        reactor: Any,
        factory: IProtocolFactory,
        destination: Destination,
        seconds: float,
        judge: Judge,
    ) -> None:
        self._reactor = reactor
        self._judge = judge
        self._factory = factory
        self._deadline = reactor.seconds() + seconds
        self._destination = destination
        self._result: Deferred[IProtocol] = Deferred(lambda _: self._finish(CancelledError()))
        self._limit = reactor.callLater(
            seconds, lambda: self._finish(DialTimeoutError(destination, seconds))
        )
        self._stagger: IDelayedCall | None = None
        self._over = False
        self._addresses: list[str] = []
        self._pending: list[Deferred[Any]] = []

    def start(self, resolver: Resolver) -> "Deferred[IProtocol]":
        if self._destination.is_address:
            self._resolved([self._destination.host])
        else:
            resolving = resolver.resolve(self._destination.host)
            self._pending.append(resolving)
            resolving.addCallbacks(self._resolved, self._unresolved)
        return self._result

    def _resolved(self, addresses: list[str]) -> None:
        self._pending.clear()
        try:
            self._addresses = interleave(self._judge(self._destination, addresses))
        except Exception as e:
            self._finish(e)
        else:
            self._next()

    def _unresolved(self, failure: Failure) -> None:
        self._finish(failure)

    def _next(self) -> None:
        """Try one more address; the one after it when this one takes long, or has failed."""
        if self._stagger is not None and self._stagger.active():
            self._stagger.cancel()
        if len(self._pending) >= PARALLEL:
            self._pending.pop(0).cancel()
        if short():
            if self._pending:  # no race, then: each in its turn
                self._stagger = self._reactor.callLater(self._share(), self._instead)
            else:
                self._finish(self._short())
            return
        address = self._addresses.pop(0)
        endpoint = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
        # The limit is ours: give the endpoint's own one no chance.
        attempt = endpoint(
            self._reactor,
            address,
            self._destination.port,
            timeout=None,  # type: ignore[arg-type]  # connectTCP takes it for no limit
        )
        if self._addresses:
            # Who would have to make place first gets its share of what time is left.
            wait = self._share() if self._pending else STAGGER
            self._stagger = self._reactor.callLater(wait, self._next)
        connecting = attempt.connect(self._factory)
        self._pending.append(connecting)
        connecting.addCallbacks(
            lambda protocol: self._connected(connecting, protocol),
            lambda failure: self._failed(connecting, failure),
        )

    def _instead(self) -> None:
        """Try one more address, for which those under way have to make place."""
        for slow in self._pending[:]:
            self._pending.remove(slow)
            slow.cancel()
        self._next()

    def _share(self) -> float:
        """Return what time an address has before it has to make place for the next one."""
        left: float = self._deadline - self._reactor.seconds()
        return max(left / (len(self._addresses) + 1), STAGGER)

    def _short(self) -> NoDescriptorsError:
        return NoDescriptorsError(f"no descriptor to reach {self._destination} with")

    def _connected(self, attempt: "Deferred[Any]", protocol: IProtocol) -> None:
        self._pending.remove(attempt)
        self._finish(protocol)

    def _failed(self, attempt: "Deferred[Any]", failure: Failure) -> None:
        if self._over or attempt not in self._pending:
            return
        self._pending.remove(attempt)
        error = failure.value
        exhausted = isinstance(error, ConnectError) and error.osError in EXHAUSTED
        if self._addresses and not exhausted:
            self._next()
        elif not self._pending:
            self._finish(self._short() if exhausted else failure)

    def _finish(self, result: IProtocol | Failure | Exception) -> None:
        """Stop everything else, then say what came of it."""
        if self._over:
            return
        self._over = True
        if self._limit.active():
            self._limit.cancel()
        if self._stagger is not None and self._stagger.active():
            self._stagger.cancel()
        for attempt in self._pending:
            attempt.cancel()
        if isinstance(result, Failure | Exception):
            self._result.errback(result)
        else:
            self._result.callback(result)


def interleave(addresses: list[str]) -> list[str]:
    """Alternate between the families, beginning with the first address's (RFC 8305 4)."""
    first = [a for a in addresses if (":" in a) == (":" in addresses[0])]
    others = [a for a in addresses if a not in first]
    return [a for a in chain.from_iterable(zip_longest(first, others)) if a is not None]
