"""Laws of a dial, whatever happens in whatever order: told once, few at a time, nothing left."""

import errno
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import error
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.test_dial import FakeResolver
from whatsproxy import dial
from whatsproxy.destination import Destination
from whatsproxy.dial import PARALLEL, DirectEndpoint
from whatsproxy.resolver import ResolutionError

SECONDS = 10.0
ADDRESSES = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]
ERRORS = (error.ConnectionRefusedError(), error.ConnectBindError(errno.ENFILE, "no"))
STEPS = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.1, 0.25, 1.0, 3.0])),
    st.tuples(st.just("arrive"), st.integers(0, 3)),
    st.tuples(st.just("refuse"), st.integers(0, 3)),
    st.tuples(st.just("exhaust"), st.integers(0, 3)),
    st.tuples(st.sampled_from(["resolve", "unresolve", "scarce", "ample", "cancel"]), st.just(0)),
)


class Race:
    """A dial, those of its tries that are under way, and what its listener was told."""

    def __init__(self, addresses: list[str], known: bool) -> None:
        self.reactor = MemoryReactorClock()
        self.resolver: Any = FakeResolver()
        self.addresses = addresses
        self.resolver.known = addresses if known else None
        self.scarce = False
        self.cancelled = False
        self.told: list[Any] = []
        self.over: set[int] = set()  # numbers of tries
        place = Destination("a.test", 77)
        self.attempt = DirectEndpoint(self.reactor, self.resolver, place, SECONDS).attempt(self)

    def reached(self, holder: Any) -> None:
        self.told.append(holder.transport)

    def unreached(self, failure: Exception) -> None:
        self.told.append(failure)

    def under_way(self) -> list[int]:
        """Return the numbers of the tries that have neither ended nor been stopped."""
        return [
            number
            for number, connector in enumerate(self.reactor.connectors)
            if number not in self.over and not connector.stoppedConnecting
        ]

    def do(self, step: str, how: Any) -> None:
        if step == "wait":
            self.reactor.advance(how)
        elif step in ("arrive", "refuse", "exhaust"):
            for number in self.under_way()[how : how + 1]:
                self.over.add(number)
                factory = self.reactor.tcpClients[number][2]
                if step == "arrive":
                    factory.buildProtocol(None).makeConnection(StringTransport())
                else:
                    failure = Failure(ERRORS[step == "exhaust"])
                    factory.clientConnectionFailed(self.reactor.connectors[number], failure)
        elif step in ("scarce", "ample"):
            self.scarce = step == "scarce"
        elif step == "cancel":
            self.cancelled = self.cancelled or not self.told
            self.attempt.cancel()
        elif self.resolver.asked and not self.resolver.answer.called:
            if step == "resolve":
                self.resolver.answer.callback(self.addresses)
            else:
                self.resolver.answer.errback(ResolutionError("no"))


class LawTests(SynchronousTestCase):
    @settings(max_examples=400)
    @given(
        st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=4, unique=True),
        st.booleans(),
        st.lists(STEPS, min_size=4, max_size=20),
    )
    def test_laws(self, addresses: list[str], known: bool, steps: list[tuple[str, Any]]) -> None:
        race = Race(addresses, known)
        self.patch(dial, "low", lambda: race.scarce)
        race.attempt.start()
        for step in steps:
            race.do(*step)
            self.assertLessEqual(len(race.under_way()), PARALLEL)
            if race.told or race.cancelled:
                self.assertEqual((race.under_way(), race.reactor.getDelayedCalls()), ([], []))
        race.do("wait", SECONDS)
        self.assertEqual(len(race.told), 0 if race.cancelled else 1)
        self.assertEqual((race.under_way(), race.reactor.getDelayedCalls()), ([], []))
        dialled = [client[0] for client in race.reactor.tcpClients]
        self.assertLessEqual(set(dialled), set(addresses))
        if ("exhaust", 0) not in {(step, 0) for step, _ in steps}:
            self.assertEqual(len(dialled), len(set(dialled)), "an address is tried once")
