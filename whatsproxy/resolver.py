"""Names to addresses, the system's way (getaddrinfo), without one look-up holding up another.

The reactor's own resolver has ten threads for everybody: ten names whose servers are silent, which
any client may choose, would stop all others, and the end of the process too.
"""

import socket
import threading
from collections.abc import Collection
from typing import Any

from twisted.internet.defer import Deferred, succeed

from whatsproxy.descriptors import EXHAUSTED, NoDescriptorsError, short

#: Look-ups at a time of names that clients chose; the rest waits for its turn. They take their
#: descriptors from descriptors.KEPT.
CLIENT_LOOKUPS = 32
#: Addresses of a name that are kept, the best; an answer may hold thousands.
ADDRESSES = 16
#: Seconds for which the address of a configured name is used again (its TTL is not to be had).
KEEP = 10.0


class ResolutionError(Exception):
    """A name has no address; ``str()`` says which, and what the system said."""


class Resolver:
    """Looks names up in threads that nothing waits for at the end.

    A name that is being looked up is not looked up a second time. Names in ``configured`` have no
    turn to wait for, and are remembered for KEEP seconds: so no client's choice of names delays the
    operator's upstreams, and a crowd that comes back costs one look-up.
    """

    def __init__(self, reactor: Any, configured: Collection[str] = ()) -> None:
        self._reactor = reactor
        self._configured = frozenset(configured)
        self._kept: dict[str, tuple[float, list[str]]] = {}
        self._asked: dict[str, list[Deferred[list[str]]]] = {}
        self._queue: dict[str, None] = {}  # in order of arrival; each can be taken out
        self._running = 0

    def resolve(self, name: str) -> "Deferred[list[str]]":
        """Return a Deferred of IPv4 and IPv6 addresses, best first.

        It fails with ResolutionError or NoDescriptorsError. Cancelling it forgets the answer.
        """
        if name in self._kept:
            until, addresses = self._kept[name]
            if self._reactor.seconds() < until:
                return succeed(addresses)
        waiting: Deferred[list[str]] = Deferred(lambda d: self._forget(name, d))
        if name in self._asked:
            self._asked[name].append(waiting)
            return waiting
        self._asked[name] = [waiting]
        if name in self._configured:
            self._start(name)
        else:
            self._queue[name] = None
            self._start_queued()
        return waiting

    def _start_queued(self) -> None:
        while self._queue and self._running < CLIENT_LOOKUPS:
            name = next(iter(self._queue))
            del self._queue[name]
            self._running += 1
            self._start(name)

    def _start(self, name: str) -> None:
        thread = threading.Thread(target=self._look_up, args=(name,), name="resolver", daemon=True)
        try:
            thread.start()
        except RuntimeError as e:  # no more threads, for now
            error = ResolutionError(f"{name} cannot be looked up: {e}")
            self._reactor.callLater(0, self._answered, name, error)

    def _look_up(self, name: str) -> None:
        """Ask the system (in a thread)."""
        answer: list[str] | Exception
        try:
            # As bytes: the name is in its normal form already, and Python knows IDNA 2003 only.
            found = socket.getaddrinfo(name.encode("ascii"), None, type=socket.SOCK_STREAM)
            answer = list(dict.fromkeys(str(address[0]) for *_, address in found))[:ADDRESSES]
        except OSError as e:
            # What the C library says without descriptors depends on what it had open.
            if e.errno in EXHAUSTED or short(0):
                answer = NoDescriptorsError(f"no descriptor to look up {name} with")
            else:
                answer = ResolutionError(f"{name} has no address: {e.strerror or e}")
        except Exception as e:  # whatever it is, somebody waits for an answer
            answer = e
        self._reactor.callFromThread(self._answered, name, answer)

    def _answered(self, name: str, answer: list[str] | Exception) -> None:
        if name not in self._configured:
            self._running -= 1
            self._start_queued()
        elif not isinstance(answer, Exception):
            self._kept[name] = self._reactor.seconds() + KEEP, answer
        for waiting in self._asked.pop(name):
            if isinstance(answer, Exception):
                waiting.errback(answer)
            else:
                waiting.callback(answer)

    def _forget(self, name: str, waiting: "Deferred[list[str]]") -> None:
        others = self._asked.get(name, [])
        if waiting in others:  # and is not just being answered
            others.remove(waiting)
        if not others and name in self._queue:
            del self._queue[name], self._asked[name]
