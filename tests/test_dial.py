"""DirectEndpoint: the time limit, the race of the addresses, and that nothing is left behind."""

import errno
from typing import Any
from unittest.mock import Mock

from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.socks5_attempt import Application
from whatsproxy import dial
from whatsproxy.descriptors import EXHAUSTED, NoDescriptorsError
from whatsproxy.destination import Destination
from whatsproxy.dial import STAGGER, DialTimeoutError, DirectEndpoint, interleave, is_own
from whatsproxy.resolver import ResolutionError
from whatsproxy.transport import SingleProtocolFactory

V4, OTHER_V4, V6 = "192.0.2.1", "192.0.2.2", "2001:db8::1"


class FakeResolver:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.cancelled = 0
        self.answer: Deferred[list[str]] = Deferred(self._cancel)

    def resolve(self, name: str) -> Deferred[list[str]]:
        self.asked.append(name)
        return self.answer

    def _cancel(self, _: object) -> None:
        self.cancelled += 1


class DialTests(SynchronousTestCase):
    def connect(self, host: str = "a.test", seconds: float = 10.0) -> Deferred[Any]:
        self.reactor = MemoryReactorClock()
        self.resolver: Any = FakeResolver()
        self.protocol = Application()
        endpoint = DirectEndpoint(self.reactor, self.resolver, Destination(host, 77), seconds)
        self.connecting = endpoint.connect(SingleProtocolFactory(self.protocol))
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
            self.patch(dial, "short", lambda shorts=shorts: next(shorts))
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

    def test_no_race_for_the_last_descriptors(self) -> None:
        """Each address in its turn; each has its share of the time."""
        self.connect(seconds=10.0)
        self.resolver.answer.callback([V4, V6, OTHER_V4])
        self.patch(dial, "short", lambda: self.stopped()[-1:] == [False])  # one at a time
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
            self.patch(dial.socket, "socket", refuse)
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
