"""Upstream: the order of attempts, their shares of the time, and what each failure is called."""

from typing import Any

from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.socks5_attempt import ToServer
from whatsproxy import socks5
from whatsproxy.addresses import ForbiddenAddressError
from whatsproxy.codecs import Direct, SocksProxy
from whatsproxy.descriptors import NoDescriptorsError
from whatsproxy.destination import Destination
from whatsproxy.dial import DialTimeoutError
from whatsproxy.networks import number_of
from whatsproxy.proxy_protocol import Ends
from whatsproxy.reason import Reason
from whatsproxy.resolver import ResolutionError, Resolver
from whatsproxy.upstream import (
    FIRSTS,
    Arrival,
    Upstream,
    legs_of,
    reason_of,
)

A, B = Destination("a.test", 1), Destination("b.test", 2)


class Legs:
    """Legs by name; every attempt is noted and waits for the test."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, float]] = []
        self.servers: list[ToServer] = []

    def leg(self, name: str) -> Any:
        def make(destination: Destination, seconds: float) -> ToServer:
            self.asked.append((name, destination.host, seconds))
            self.servers.append(ToServer())
            return self.servers[-1]

        return make


class AttemptCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = MemoryReactorClock()
        self.legs = Legs()

    def connect(self, *destinations: Destination, legs: str = "12") -> Deferred[Arrival]:
        upstream = Upstream(self.clock, map(self.legs.leg, legs), 12.0)
        return upstream.connect(destinations)

    def fail_last(self, exception: Exception | None = None) -> None:
        self.legs.servers[-1].fail(exception or error.ConnectionRefusedError())


class AttemptTests(AttemptCase):
    def test_each_destination_by_each_leg(self) -> None:
        """In order; the error is that of the last attempt."""
        connecting = self.connect(A, B)
        for _ in range(3):
            self.fail_last()
        self.assertNoResult(connecting)
        self.fail_last(error.NoRouteError())
        self.failureResultOf(connecting, error.NoRouteError)
        self.assertEqual(
            [asked[:2] for asked in self.legs.asked],
            [("1", "a.test"), ("2", "a.test"), ("1", "b.test"), ("2", "b.test")],
        )

    def test_a_forbidden_address(self) -> None:
        """Where one leg must not go no other goes; another destination may be tried."""
        connecting = self.connect(A, B)
        self.fail_last(ForbiddenAddressError("not there"))
        self.assertEqual([asked[:2] for asked in self.legs.asked][1:], [("1", "b.test")])
        self.fail_last(ForbiddenAddressError("nor there"))
        self.failureResultOf(connecting, ForbiddenAddressError)
        self.assertEqual(len(self.legs.asked), 2)

    def test_success(self) -> None:
        """The first that works is taken, and says where it leads."""
        connecting = self.connect(A, B)
        self.fail_last()
        self.fail_last()
        self.legs.servers[-1].arrive()
        arrival = self.successResultOf(connecting)
        self.assertEqual(arrival.destination, B)
        self.assertIs(arrival.transport, self.legs.servers[-1].transport)
        self.assertEqual(len(self.legs.asked), 3)

    def test_equal_shares(self) -> None:
        """Each attempt gets an equal share of what is left: what one saves, the others have."""
        connecting = self.connect(A, B)
        self.clock.advance(3.0)  # its share
        self.fail_last()
        self.fail_last()  # at once
        self.clock.advance(1.5)
        self.fail_last()
        self.assertEqual([asked[2] for asked in self.legs.asked], [3.0, 3.0, 4.5, 7.5])
        self.fail_last()
        self.failureResultOf(connecting, error.ConnectionRefusedError)

    def test_no_time_left(self) -> None:
        """An attempt that comes too late is still made, with next to no time."""
        connecting = self.connect(A, B, legs="1")
        self.clock.advance(13.0)
        self.fail_last()
        self.assertEqual(self.legs.asked[-1], ("1", "b.test", 0.001))
        self.fail_last()
        self.failureResultOf(connecting, error.ConnectionRefusedError)

    def test_cancel(self) -> None:
        """The attempt that is under way is cancelled; no other is made."""
        connecting = self.connect(A, B)
        self.fail_last()
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        self.assertTrue(self.legs.servers[-1].cancelled)
        self.assertEqual(len(self.legs.asked), 2)

    def test_an_arrival_is_quiet(self) -> None:
        """Whatever an upstream says before the relay has it would be lost: it must not raise."""
        connecting = self.connect(A)
        self.legs.servers[-1].arrive()
        self.successResultOf(connecting).dataReceived(b"early")


class Hanging:
    """An endpoint that never connects."""

    def connect(self, _: object) -> Deferred[Any]:
        return Deferred()


class Told:
    """Listens, and keeps what it is told."""

    def __init__(self) -> None:
        self.results: list[Any] = []

    def reached(self, holder: Arrival) -> None:
        self.results.append(holder)

    def unreached(self, error: Exception) -> None:
        self.results.append(error)


class FirstTests(AttemptCase):
    """What the first attempt goes by is made once for all clients that go to the same places."""

    def made(self, *routes: tuple[Destination, ...], legs: str) -> list[tuple[str, str, float]]:
        """Return what is asked for when clients go there, and leave."""
        asked: list[tuple[str, str, float]] = []

        def leg(name: str) -> Any:
            def make(destination: Destination, seconds: float) -> Hanging:
                asked.append((name, destination.host, seconds))
                return Hanging()

            return make

        upstream = Upstream(self.clock, map(leg, legs), 12.0)
        for route in routes:
            attempt = upstream.attempt(route, Told())
            attempt.start()
            attempt.cancel()
        return asked

    def test_once(self) -> None:
        self.assertEqual(
            self.made((A, B), (A, B), (A,), (A, B), legs="12"),
            [("1", "a.test", 3.0), ("1", "a.test", 6.0)],
        )

    def test_no_more_than_so_many(self) -> None:
        """Clients choose names: the oldest is forgotten."""
        places = [(Destination(f"{number}.test", 1),) for number in range(FIRSTS + 1)]
        made = self.made(*places, *places[1:], *places[:2], legs="1")
        self.assertEqual(
            [asked[1] for asked in made[FIRSTS:]], [f"{FIRSTS}.test", "0.test", "1.test"]
        )

    def test_what_is_tried_afterwards(self) -> None:
        """Is made each time, for what time is left then."""
        self.connect(A)
        self.clock.advance(4.0)
        self.fail_last()
        self.assertEqual(self.legs.asked, [("1", "a.test", 6.0), ("2", "a.test", 8.0)])

    def test_who_is_told(self) -> None:
        """Each connection to there begins with its own client's header."""
        told = {(A.host, A.port): "v1"}
        upstream = Upstream(self.clock, [self.legs.leg("1")], 12.0, None, told)
        for client in (1, 2):
            ends = Ends(number_of(f"192.0.2.{client}"), 1000, number_of("192.0.2.9"), 443)
            connecting = upstream.connect((A,), lambda ends=ends: ends)
            self.legs.servers[-1].arrive()
            self.successResultOf(connecting)
            header = b"PROXY TCP4 192.0.2.%d 192.0.2.9 1000 443\r\n" % client
            self.assertEqual(self.legs.servers[-1].sent(), header)


class WithoutADeferredTests(AttemptTests):
    """The same, told to a listener."""

    def connect(self, *destinations: Destination, legs: str = "12") -> Any:
        self.told = Told()
        upstream = Upstream(self.clock, map(self.legs.leg, legs), 12.0)
        attempt = upstream.attempt(destinations, self.told)
        self.assertEqual(self.legs.asked, [])
        attempt.start()
        return attempt

    def successResultOf(self, deferred: Any) -> Any:
        (arrival,) = self.told.results
        return arrival

    def failureResultOf(self, deferred: Any, *expected: Any) -> Any:
        if expected == (CancelledError,):  # whoever has cancelled knows that
            self.assertEqual(self.told.results, [])
        else:
            (error,) = self.told.results
            self.assertIsInstance(error, expected)

    def assertNoResult(self, deferred: Any) -> None:
        self.assertEqual(self.told.results, [])


class LegTests(SynchronousTestCase):
    """One time limit a connect, on the clock that is for those."""

    def test_one_limit(self) -> None:
        for hops in ([Direct()], [SocksProxy(Destination("192.0.2.1", 1080))]):
            reactor, clock = MemoryReactorClock(), Clock()
            legs = legs_of(reactor, Resolver(reactor), hops, clock=clock)
            connecting = Upstream(reactor, legs, 12.0).connect((Destination("192.0.2.2", 1),))
            self.assertEqual(len(reactor.tcpClients), 1)
            self.assertEqual([call.getTime() for call in clock.getDelayedCalls()], [12.0])
            self.assertEqual(reactor.getDelayedCalls(), [])
            clock.advance(12.0)
            self.failureResultOf(connecting, DialTimeoutError, socks5.NegotiationTimeout)
            self.assertEqual(reactor.connectors[0].stoppedConnecting, True)


class ReasonTests(SynchronousTestCase):
    def test_each_error(self) -> None:
        for exception, reason in (
            (socks5.ProxyUnreachable(), Reason.SOCKS_UNREACHABLE),
            (socks5.NotSOCKS5(), Reason.SOCKS_NOT_SOCKS),
            (socks5.ConnectionLostEarly(), Reason.SOCKS_LOST),
            (socks5.NoAcceptableMethods(), Reason.SOCKS_AUTH),
            (socks5.LoginAuthenticationFailed(), Reason.SOCKS_AUTH),
            (socks5.NegotiationTimeout(), Reason.SOCKS_TIMEOUT),
            (socks5.HostUnreachable(4), Reason.SOCKS_REFUSED),
            (socks5.ConnectionError(99), Reason.SOCKS_REFUSED),
            (DialTimeoutError(A, 1.0), Reason.UPSTREAM_TIMEOUT),
            (error.TCPTimedOutError(), Reason.UPSTREAM_TIMEOUT),
            (ResolutionError(), Reason.UPSTREAM_UNRESOLVED),
            (error.ConnectionRefusedError(), Reason.UPSTREAM_REFUSED),
            (error.NoRouteError(), Reason.UPSTREAM_UNREACHABLE),
            (error.ConnectError(), Reason.UPSTREAM_FAILED),
            (error.ConnectBindError(), Reason.UPSTREAM_FAILED),
            (OSError(24, "Too many open files"), Reason.UPSTREAM_FAILED),
            (NoDescriptorsError(), Reason.NO_DESCRIPTORS),
            (RuntimeError("a bug"), Reason.INTERNAL),
        ):
            self.assertIs(reason_of(exception), reason, exception)
