"""Names to addresses, remembered for as long as they are good, and no look-up holds up another.

The name servers are asked directly where that is the same as asking the system (NameSources): so
the TTL is known, and no thread is needed. All else is for getaddrinfo, in threads of our own: the
reactor's resolver has ten for everybody, so ten names whose servers are silent, which any client
may choose, would stop all others, and the end of the process too.
"""

import math
import socket
import threading
from collections.abc import Collection
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from whatsproxy.address_order import best
from whatsproxy.descriptors import EXHAUSTED, NoDescriptorsError, short
from whatsproxy.name_cache import NameCache
from whatsproxy.name_servers import Asking, Outcome
from whatsproxy.name_sources import NameSources

#: Look-ups at a time of names that clients chose; the rest waits for its turn. Each takes one
#: descriptor at a time, of descriptors.KEPT.
CLIENT_LOOKUPS = 32
#: Addresses of a name that are kept, the best; an answer may hold thousands.
ADDRESSES = 16
#: Names that are remembered, beside the configured ones.
NAMES = 4096
#: Seconds for which an answer of the system's is used again (its TTL is not to be had).
KEEP = 10.0
#: Seconds that any answer is used, so that a crowd costs one look-up; and at the most.
SHORTEST, LONGEST = 1.0, 3600.0
#: Seconds that a name stays without an address at the most, if its zone says so (RFC 2308 5).
LONGEST_NEGATIVE = 60.0
#: The same where nobody says how long, or nobody answers (RFC 9520 3.2).
FAILED = 2.0
#: Seconds between two looks at the files that say where names are looked up.
_LOOK = 1.0


class ResolutionError(Exception):
    """A name has no address; ``str()`` says which, and what the system said."""


class _Lookup:
    """One name that is being looked up, or waits for its turn, and who waits for it."""

    __slots__ = ("age", "asking", "name", "negative", "waiting")

    def __init__(self, name: str, age: int) -> None:
        self.name = name
        self.age = age  # of the cache: what was asked before it was cleared is not for it
        self.waiting: list[Deferred[list[str]]] = []
        self.asking: Asking | None = None
        self.negative = FAILED  # seconds


class Resolver:
    """Looks names up, and remembers what came of it.

    A name that is being looked up is not looked up a second time. Names in ``configured`` have no
    turn to wait for, and places of their own in the cache: so no client's choice of names delays
    the operator's upstreams. Nothing waits for a look-up at the end.
    """

    def __init__(
        self,
        reactor: Any,
        configured: Collection[str] = (),
        sources: NameSources | None = None,
    ) -> None:
        self._reactor = reactor
        self._configured = frozenset(configured)
        self._sources = NameSources() if sources is None else sources
        self._own = NameCache(len(self._configured))
        self._others = NameCache(NAMES)
        self._lookups: dict[str, _Lookup] = {}
        self._queue: dict[str, _Lookup] = {}  # in order of arrival; each can be taken out
        self._running = 0
        self._age = 0
        self._looked = -math.inf

    def cached(self, name: str) -> list[str] | None:
        """Return the addresses of a name, best first, where they are known; None: ``resolve`` it.

        The list is the cache's own: not to be changed. Raises ResolutionError where it is known
        that there is none.
        """
        now: float = self._reactor.seconds()
        if not self._looked <= now < self._looked + _LOOK:
            self._look(now)
        cache = self._own if name in self._configured else self._others
        known = cache.get(name, now)
        if known is None:
            return None
        if known.addresses is None:
            raise ResolutionError(known.error)
        return known.addresses

    def resolve(self, name: str) -> "Deferred[list[str]]":
        """Return a Deferred of IPv4 and IPv6 addresses, best first.

        It fails with ResolutionError or NoDescriptorsError. Cancelling it forgets the answer.
        """
        try:
            addresses = self.cached(name)
        except ResolutionError as e:
            return fail(e)
        if addresses is not None:
            return succeed(addresses)
        lookup = self._lookups.get(name)
        waiting: Deferred[list[str]] = Deferred(lambda d: self._forget(name, d))
        if lookup is not None:
            lookup.waiting.append(waiting)
            return waiting
        lookup = self._lookups[name] = _Lookup(name, self._age)
        lookup.waiting.append(waiting)
        if name in self._configured:
            self._start(lookup)
        else:
            self._queue[name] = lookup
            self._start_queued()
        return waiting

    def _look(self, now: float) -> None:
        """Forget everything when the system's files have changed: it may all be otherwise."""
        self._looked = now
        if self._sources.refresh():
            self._age += 1
            self._own.clear()
            self._others.clear()

    def _start_queued(self) -> None:
        while self._queue and self._running < CLIENT_LOOKUPS:
            lookup = self._queue.pop(next(iter(self._queue)))
            self._running += 1
            self._start(lookup)

    def _start(self, lookup: _Lookup) -> None:
        servers = self._sources.servers_for(lookup.name)
        if servers is None or not hasattr(self._reactor, "addReader"):
            self._ask_system(lookup)
            return
        lookup.asking = Asking(
            self._reactor, lookup.name, servers, lambda outcome: self._heard(lookup, outcome)
        )
        lookup.asking.start()

    def _heard(self, lookup: _Lookup, outcome: Outcome | NoDescriptorsError) -> None:
        """Take what came of asking the name servers; before the answer is no, ask the system."""
        lookup.asking = None
        if isinstance(outcome, NoDescriptorsError):
            # Not from within _start_queued, which may have many more to start.
            self._reactor.callLater(0, self._answered, lookup, outcome, 0.0)
        elif outcome.addresses:
            seconds = KEEP if outcome.seconds is None else outcome.seconds
            addresses = best(list(outcome.addresses), ADDRESSES)
            self._answered(lookup, addresses, max(SHORTEST, min(seconds, LONGEST)))
        elif outcome.final:
            error = ResolutionError(f"{lookup.name} has no address: no name server answers")
            self._answered(lookup, error, FAILED)
        else:
            if outcome.seconds is not None:
                lookup.negative = max(SHORTEST, min(outcome.seconds, LONGEST_NEGATIVE))
            self._ask_system(lookup)

    def _ask_system(self, lookup: _Lookup) -> None:
        thread = threading.Thread(
            target=self._look_up, args=(lookup,), name="resolver", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as e:  # no more threads, for now
            error = ResolutionError(f"{lookup.name} cannot be looked up: {e}")
            self._reactor.callLater(0, self._answered, lookup, error, 0.0)

    def _look_up(self, lookup: _Lookup) -> None:
        """Ask the system (in a thread)."""
        name = lookup.name
        answer: list[str] | Exception
        seconds = 0.0
        try:
            # As bytes: the name is in its normal form already, and Python knows IDNA 2003 only.
            found = socket.getaddrinfo(name.encode("ascii"), None, type=socket.SOCK_STREAM)
            answer = list(dict.fromkeys(str(address[0]) for *_, address in found))[:ADDRESSES]
            seconds = KEEP
        except OSError as e:
            # What the C library says without descriptors depends on what it had open.
            if e.errno in EXHAUSTED or short(0):
                answer = NoDescriptorsError(f"no descriptor to look up {name} with")
            else:
                answer = ResolutionError(f"{name} has no address: {e.strerror or e}")
                seconds = lookup.negative
        except Exception as e:  # whatever it is, somebody waits for an answer
            answer = e
        self._reactor.callFromThread(self._answered, lookup, answer, seconds)

    def _answered(self, lookup: _Lookup, answer: list[str] | Exception, seconds: float) -> None:
        """Remember an answer for so many seconds, and give it to all who wait for it."""
        name = lookup.name
        if seconds and lookup.age == self._age:
            cache = self._own if name in self._configured else self._others
            known = str(answer) if isinstance(answer, Exception) else answer
            cache.put(name, known, seconds, self._reactor.seconds())
        del self._lookups[name]
        if name not in self._configured:
            self._running -= 1
            self._start_queued()
        for waiting in lookup.waiting:
            if isinstance(answer, Exception):
                waiting.errback(answer)
            else:
                waiting.callback(answer)

    def _forget(self, name: str, waiting: "Deferred[list[str]]") -> None:
        lookup = self._lookups.get(name)
        if lookup is None or waiting not in lookup.waiting:
            return  # it is just being answered
        lookup.waiting.remove(waiting)
        if lookup.waiting or name in self._configured:
            return
        if name in self._queue:
            del self._queue[name], self._lookups[name]
        elif lookup.asking is not None:  # a thread could not be stopped
            lookup.asking.stop()
            lookup.asking = None  # the two know each other
            del self._lookups[name]
            self._running -= 1
            self._start_queued()
