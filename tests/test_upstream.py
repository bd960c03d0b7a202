"""Upstream: the order of attempts, their shares of the time, and what each failure is called."""

from typing import Any

from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.socks5_attempt import ToServer
from whatsproxy import socks5
from whatsproxy.addresses import ForbiddenAddressError
from whatsproxy.descriptors import NoDescriptorsError
from whatsproxy.destination import Destination
from whatsproxy.dial import DialTimeoutError
from whatsproxy.reason import Reason
from whatsproxy.resolver import ResolutionError
from whatsproxy.upstream import (
    Arrival,
    Upstream,
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


class AttemptTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = MemoryReactorClock()
        self.legs = Legs()

    def connect(self, *destinations: Destination, legs: str = "12") -> Deferred[Arrival]:
        upstream = Upstream(self.clock, map(self.legs.leg, legs), 12.0)
        return upstream.connect(destinations)

    def fail_last(self, exception: Exception | None = None) -> None:
        self.legs.servers[-1].fail(exception or error.ConnectionRefusedError())

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
