"""DirectEndpoint: the time limit, the race of the addresses, and that nothing is left behind."""

import errno
import gc
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.socks5_attempt import Application
from whatsproxy import dial, own_addresses
from whatsproxy.descriptors import EXHAUSTED, NoDescriptorsError
from whatsproxy.destination import Destination
from whatsproxy.dial import STAGGER, DialTimeoutError, DirectEndpoint, interleave
from whatsproxy.own_addresses import is_own
from whatsproxy.resolver import ResolutionError
from whatsproxy.transport import SingleProtocolFactory

V4, OTHER_V4, V6 = "192.0.2.1", "192.0.2.2", "2001:db8::1"


class FakeResolver:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.cancelled = 0
        self.known: list[str] | None = None
        self.answer: Deferred[list[str]] = Deferred(self._cancel)

    def cached(self, name: str) -> list[str] | None:
        return self.known

    def resolve(self, name: str) -> Deferred[list[str]]:
        self.asked.append(name)
        return self.answer

    def _cancel(self, _: object) -> None:
        self.cancelled += 1


class ImmediateReactor(MemoryReactorClock):
    """What comes of a connect is known before connectTCP returns: that is what ``then`` decides."""

    then: Callable[[Any, Any], None]

    def connectTCP(self, host: str, port: int, factory: Any, *rest: Any) -> Any:
        connector = super().connectTCP(host, port, factory, *rest)
        self.then(connector, factory)
        return connector


class DialTests(SynchronousTestCase):
    resolver: Any

    def connect(
        self, host: str = "a.test", seconds: float = 10.0, reactor: Any = None, **keys: Any
    ) -> Deferred[Any]:
        self.reactor = reactor or MemoryReactorClock()
        self.resolver = FakeResolver()
        self.protocol = Application()
        self.endpoint = DirectEndpoint(
            self.reactor, self.resolver, Destination(host, 77), seconds, **keys
        )
        return self.again()

    def again(self) -> Deferred[Any]:
        self.connecting = self.endpoint.connect(SingleProtocolFactory(self.protocol))
        return self.connecting

    def dialled(self) -> list[tuple[str, int]]:
        return [client[:2] for client in self.reactor.tcpClients]

    def arrive(self, number: int) -> None:
        """Let an attempt succeed."""
        protocol = self.reactor.tcpClients[number][2].buildProtocol(None)
        protocol.makeConnection(StringTransport())

    def fail(self, number: int, exception: Exception) -> None:
        factory = self.reactor.tcpClients[number][2]
        factory.clientConnectionFailed(self.reactor.connectors[number], Failure(exception))

    def stopped(self) -> list[bool]:
        return [connector.stoppedConnecting for connector in self.reactor.connectors]

    def assertNothingLeft(self) -> None:
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def assertTimesOut(self) -> None:
        self.reactor.advance(9.9)
        self.assertNoResult(self.connecting)
        self.reactor.advance(0.1)
        failure = self.failureResultOf(self.connecting, DialTimeoutError)
        self.assertEqual(failure.getErrorMessage(), "no connection to a.test:77 within 10.0 s")
        self.assertNothingLeft()

    def test_timeout_while_resolving(self) -> None:
        self.connect()
        self.assertTimesOut()
        self.assertEqual((self.resolver.cancelled, self.dialled()), (1, []))

    def test_timeout_while_connecting(self) -> None:
        """With every address under way; none has a limit of its own."""
        self.connect()
        self.resolver.answer.callback([V4, OTHER_V4])
        self.assertTimesOut()
        self.assertEqual(self.stopped(), [True, True])
        self.assertEqual([client[3] for client in self.reactor.tcpClients], [None, None])

    def test_resolution_counts(self) -> None:
        """The time that resolving has taken is not given a second time."""
        self.connect()
        self.reactor.advance(9.0)
        self.resolver.answer.callback([V4])
        self.reactor.advance(1.0)
        self.failureResultOf(self.connecting, DialTimeoutError)

    def test_a_name_without_an_address(self) -> None:
        self.connect()
        self.resolver.answer.errback(ResolutionError("no"))
        self.failureResultOf(self.connecting, ResolutionError)
        self.assertNothingLeft()

    def test_addresses_are_not_resolved(self) -> None:
        for address in (V4, V6):
            self.connect(address)
            self.assertEqual((self.resolver.asked, self.dialled()), ([], [(address, 77)]))
            self.arrive(0)
            self.assertIs(self.successResultOf(self.connecting), self.protocol)
            self.assertNothingLeft()

    def test_a_name_that_is_known(self) -> None:
        """It is not asked for; that it has no address may be known, too."""
        self.connect()
        self.resolver.known = [V4, V6]
        self.connecting.cancel()
        self.failureResultOf(self.connecting, CancelledError)
        self.again()
        self.assertEqual((self.resolver.asked, self.dialled()), (["a.test"], [(V4, 77)]))
        self.reactor.advance(STAGGER)
        self.assertEqual(self.dialled(), [(V4, 77), (V6, 77)])
        self.arrive(1)
        self.assertIs(self.successResultOf(self.connecting), self.protocol)
        self.assertEqual(self.resolver.known, [V4, V6], "the cache's own list")
        self.resolver.cached = Mock(side_effect=ResolutionError("no"))
        self.again()
        self.failureResultOf(self.connecting, ResolutionError)
        self.assertNothingLeft()

    def test_a_clock_of_its_own(self) -> None:
        """The limit is the clock's, and so is the pause between two addresses."""
        clock = Clock()
        self.connect(clock=clock)
        self.resolver.answer.callback([V4, V6])
        self.assertNothingLeft()
        clock.advance(STAGGER)
        self.assertEqual(len(self.dialled()), 2)
        clock.advance(9.75)
        self.failureResultOf(self.connecting, DialTimeoutError)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_without_a_limit(self) -> None:
        """For whoever has one of its own; the shares of the addresses are the same."""
        self.connect(limited=False)
        self.resolver.answer.callback([V4, OTHER_V4, V6])
        self.reactor.advance(STAGGER)
        self.reactor.advance(9.75 / 2)
        self.assertEqual(self.stopped(), [True, False, False])
        self.reactor.advance(100)
        self.assertNoResult(self.connecting)
        self.connecting.cancel()
        self.failureResultOf(self.connecting, CancelledError)
        self.assertNothingLeft()

    def test_an_answer_at_once(self) -> None:
        """A reactor may know before connectTCP returns; it may also not take the call at all."""

        def arrive(_: Any, factory: Any) -> None:
            factory.buildProtocol(None).makeConnection(StringTransport())

        def refuse(connector: Any, factory: Any) -> None:
            factory.clientConnectionFailed(connector, Failure(error.ConnectionRefusedError()))

        def broken(connector: Any, factory: Any) -> None:
            raise OSError(22, "no such address")

        for then, result in (
            (arrive, None),
            (refuse, error.ConnectionRefusedError),
            (broken, OSError),
        ):
            reactor = ImmediateReactor()
            reactor.then = then
            self.connect(reactor=reactor)
            self.resolver.answer.callback([V4, V6])
            if result is None:
                self.assertIs(self.successResultOf(self.connecting), self.protocol)
                self.assertEqual(len(self.dialled()), 1)
            else:
                self.failureResultOf(self.connecting, result)
                self.assertEqual(len(self.dialled()), 2)
                self.assertIsNone(self.reactor.tcpClients[0][2].buildProtocol(None))
            self.assertNothingLeft()

    def test_a_listener_that_raises(self) -> None:
        """That is no failure of the connect's, and another address is no remedy."""
        listener = Mock()
        listener.reached.side_effect = OSError("a bug")
        reactor = ImmediateReactor()
        reactor.then = lambda _, factory: factory.buildProtocol(None).makeConnection(
            StringTransport()
        )
        self.connect(reactor=reactor)
        self.resolver.known = [V4, V6]
        with self.assertRaises(OSError):
            self.endpoint.attempt(listener).start()
        self.assertEqual(len(self.dialled()), 1)
        listener.unreached.assert_not_called()
        self.connecting.cancel()
        self.failureResultOf(self.connecting, CancelledError)

    def test_twisted_keeps_nothing_of_it(self) -> None:
        """The factory lives as long as its transport: it must not keep the dial, nor a cycle."""
        self.connect(V4)
        self.arrive(0)
        self.successResultOf(self.connecting)
        factory = self.reactor.tcpClients[0][2]
        kept = [thing for thing in gc.get_referents(factory) if thing is not None]
        self.assertEqual(kept, [type(factory)])

    def test_too_late(self) -> None:
        """A connection that comes after the end finds nobody; Twisted then closes it."""
        self.connect(V4)
        self.connecting.cancel()
        self.failureResultOf(self.connecting, CancelledError)
        self.assertIsNone(self.reactor.tcpClients[0][2].buildProtocol(None))

    def test_the_next_address_beside_a_slow_one(self) -> None:
        """The first that answers wins; the others are stopped."""
        for winner in (0, 1):
            self.connect()
            self.resolver.answer.callback([V6, V4])
            self.assertEqual(self.dialled(), [(V6, 77)])
            self.reactor.advance(STAGGER - 0.01)
            self.assertEqual(len(self.dialled()), 1)
            self.reactor.advance(0.01)
            self.assertEqual(self.dialled(), [(V6, 77), (V4, 77)])
            self.arrive(winner)
            self.assertIs(self.successResultOf(self.connecting), self.protocol)
            self.assertEqual(self.stopped(), [winner == 1, winner == 0])
            self.assertNothingLeft()

    def test_the_next_address_after_a_failure(self) -> None:
        """At once; and one failure among several that are under way ends nothing."""
        self.connect()
        self.resolver.answer.callback([V4, OTHER_V4, V6])
        self.fail(0, error.ConnectionRefusedError())
        self.assertEqual(len(self.dialled()), 2)
        self.reactor.advance(STAGGER)
        self.assertEqual(len(self.dialled()), 3)
        self.fail(1, error.ConnectionRefusedError())
        self.assertNoResult(self.connecting)
        self.arrive(2)
        self.successResultOf(self.connecting)
        self.assertNothingLeft()

    def test_two_at_a_time(self) -> None:
        """Each takes a descriptor. A third takes the oldest's place after a share of the time."""
        self.connect(seconds=10.0)
        self.resolver.answer.callback([V4, OTHER_V4, "192.0.2.3", "192.0.2.4"])
        self.reactor.advance(STAGGER)
        self.assertEqual(self.stopped(), [False, False])
        self.reactor.advance(9.75 / 3 - 0.01)
        self.assertEqual(self.stopped(), [False, False])
        self.reactor.advance(0.01)
        self.assertEqual(self.stopped(), [True, False, False])
        self.fail(0, error.UserError())  # as Twisted does, of what was stopped
        self.reactor.advance(4)
        self.assertEqual(self.stopped(), [True, True, False, False])
        self.arrive(3)
        self.assertIs(self.successResultOf(self.connecting), self.protocol)
        self.assertNothingLeft()

    def test_all_fail(self) -> None:
        """The last error is the connect's."""
        self.connect()
        self.resolver.answer.callback([V4, V6])
        self.fail(0, error.ConnectionRefusedError())
        self.fail(1, error.NoRouteError())
        self.failureResultOf(self.connecting, error.NoRouteError)
        self.assertNothingLeft()

    def test_no_descriptors(self) -> None:
        """Nothing is tried where none is left, and what the system says of that is understood."""
        for asked in ([True], [False, True]):
            shorts = iter(asked)
            self.patch(dial, "low", lambda shorts=shorts: next(shorts))
            self.connect()
            self.resolver.answer.callback([V4, V6])
            if len(asked) > 1:
                self.fail(0, error.ConnectionRefusedError())
            failure = self.failureResultOf(self.connecting, NoDescriptorsError)
            self.assertEqual(failure.getErrorMessage(), "no descriptor to reach a.test:77 with")
            self.assertEqual(len(self.dialled()), len(asked) - 1)
            self.assertNothingLeft()

    def test_what_the_system_says(self) -> None:
        """It would say so of the next address, too; whoever is under way may still arrive."""
        for number in EXHAUSTED:
            self.connect()
            self.resolver.answer.callback([V4, V6])
            self.fail(0, error.ConnectBindError(number, "no"))
            self.failureResultOf(self.connecting, NoDescriptorsError)
            self.assertEqual(len(self.dialled()), 1)
            self.assertNothingLeft()

            self.connect()
            self.resolver.answer.callback([V4, V6])
            self.reactor.advance(STAGGER)
            self.fail(1, error.ConnectBindError(number, "no"))
            self.assertNoResult(self.connecting)
            self.arrive(0)
            self.successResultOf(self.connecting)
            self.assertNothingLeft()

    def test_what_was_not_to_be_had_is_tried_in_its_turn(self) -> None:
        """The system has none for the second address: it takes the place of the first, later."""
        self.connect(seconds=10.0)
        self.resolver.answer.callback([V4, V6])
        self.reactor.advance(STAGGER)
        self.fail(1, error.ConnectBindError(errno.ENFILE, "no"))
        self.reactor.advance(9.75 / 2 - 0.01)
        self.assertEqual(self.stopped(), [False, False])
        self.reactor.advance(0.01)
        self.assertEqual(self.stopped(), [True, False, False])
        self.assertEqual(self.dialled()[1:], [(V6, 77), (V6, 77)])
        self.arrive(2)
        self.successResultOf(self.connecting)
        self.assertNothingLeft()

    def test_no_race_for_the_last_descriptors(self) -> None:
        """Each address in its turn; each has its share of the time."""
        self.connect(seconds=10.0)
        self.resolver.answer.callback([V4, V6, OTHER_V4])
        self.patch(dial, "low", lambda: self.stopped()[-1:] == [False])  # one at a time
        self.reactor.advance(STAGGER)
        self.assertEqual(len(self.dialled()), 1)
        self.reactor.advance(9.75 / 3 - 0.01)
        self.assertEqual(self.stopped(), [False])
        self.reactor.advance(0.01)
        self.assertEqual(self.stopped(), [True, False])
        self.reactor.advance(STAGGER)
        self.reactor.advance((6.5 - STAGGER) / 2 - 0.01)
        self.assertEqual(self.stopped(), [True, False])
        self.reactor.advance(0.01)
        self.assertEqual(self.stopped(), [True, True, False])
        self.arrive(2)
        self.successResultOf(self.connecting)
        self.assertNothingLeft()

    def test_an_address_that_cannot_be_judged(self) -> None:
        """Whose address it is has to be asked by a socket: without one the answer is not no."""

        for number in (*EXHAUSTED, errno.EAFNOSUPPORT):
            refuse = Mock(side_effect=OSError(number, "no"))
            self.patch(own_addresses.socket, "socket", refuse)
            if number in EXHAUSTED:
                with self.assertRaises(NoDescriptorsError):
                    is_own(V4)
            else:
                self.assertFalse(is_own(V6))

    def test_cancel(self) -> None:
        for resolved in (False, True):
            self.connect()
            if resolved:
                self.resolver.answer.callback([V4, OTHER_V4])
                self.reactor.advance(STAGGER)
            self.connecting.cancel()
            self.failureResultOf(self.connecting, CancelledError)
            self.assertEqual(self.resolver.cancelled, 0 if resolved else 1)
            self.assertEqual(self.stopped(), [True, True] if resolved else [])
            self.assertNothingLeft()

    def test_families_alternate(self) -> None:
        self.connect()
        self.resolver.answer.callback([V4, OTHER_V4, V6])
        self.reactor.advance(STAGGER)
        self.assertEqual(self.dialled(), [(V4, 77), (V6, 77)])

    def test_interleave(self) -> None:
        """Families alternate, beginning with that of the best address; no order is lost."""
        for given, expected in (
            (["1", "2"], ["1", "2"]),
            ([":1", ":2", "1", "2"], [":1", "1", ":2", "2"]),
            (["1", ":1", ":2", ":3"], ["1", ":1", ":2", ":3"]),
            ([":1", ":2", ":3", "1"], [":1", "1", ":2", ":3"]),
        ):
            self.assertEqual(interleave(given), expected)
