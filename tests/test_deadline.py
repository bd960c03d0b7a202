"""The deadline: when it calls, and what it leaves in the reactor."""

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.turning_reactor import TurningReactor
from whatsproxy.protocols.deadline import Deadline
from whatsproxy.wheel import Wheel


class DeadlineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.timers = self.timers_of(self.clock)
        self.calls: list[float] = []
        self.deadline = Deadline(self.timers, lambda: self.calls.append(self.clock.seconds()))

    def timers_of(self, clock: Clock) -> Any:
        """Return what the deadline is given as its clock."""
        return clock

    def run_until(self, seconds: float) -> None:
        """Let time pass in small steps: a step past a timer would make it late."""
        while self.clock.seconds() < seconds:
            self.clock.advance(0.25)

    def test_nothing_is_scheduled_at_first(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_it_calls_once(self) -> None:
        self.deadline.set(10)
        self.run_until(9.75)
        self.assertEqual(self.calls, [])
        self.run_until(100)
        self.assertEqual(self.calls, [10])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_moved_further(self) -> None:
        """By however many steps: it calls at the last time, and only then."""
        for second in range(8):
            self.run_until(second)
            self.deadline.set(10)
        self.run_until(16.75)
        self.assertEqual(self.calls, [])
        self.run_until(100)
        self.assertEqual(self.calls, [17])

    def test_moving_it_further_touches_no_timer(self) -> None:
        """That is what it is for: one timer, and the same one."""
        self.deadline.set(10)
        (timer,) = self.timers.getDelayedCalls()
        for _ in range(1000):
            self.deadline.set(20)
        self.assertEqual(self.timers.getDelayedCalls(), [timer])
        self.assertEqual(timer.getTime(), 10)

    def test_put_off(self) -> None:
        """Like ``set`` where that is further away: also while it is being decided."""
        self.deadline.set(10)
        (timer,) = self.timers.getDelayedCalls()
        self.run_until(7)
        self.deadline.put_off(10)
        self.assertEqual(self.timers.getDelayedCalls(), [timer])
        self.run_until(16.75)
        self.assertEqual(self.calls, [])
        self.run_until(100)
        self.assertEqual(self.calls, [17])

    def test_moved_nearer(self) -> None:
        self.deadline.set(100)
        self.run_until(1)
        self.deadline.set(10)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.run_until(200)
        self.assertEqual(self.calls, [11])

    def test_nearer_after_further(self) -> None:
        """The timer stands before both."""
        self.deadline.set(10)
        self.deadline.set(100)
        self.deadline.set(20)
        self.run_until(200)
        self.assertEqual(self.calls, [20])

    def test_cleared(self) -> None:
        """Nothing is called, and after a while nothing scheduled."""
        self.deadline.set(10)
        self.deadline.clear()
        self.run_until(100)
        self.assertEqual(self.calls, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cleared_and_set(self) -> None:
        """Nearer than before, and further."""
        self.deadline.set(10)
        self.deadline.clear()
        self.deadline.set(5)
        self.run_until(20)
        self.deadline.set(10)
        self.deadline.clear()
        self.deadline.set(15)
        self.run_until(100)
        self.assertEqual(self.calls, [5, 35])

    def test_cleared_beyond_its_timer(self) -> None:
        """Set again after the timer has looked and found nothing."""
        self.deadline.set(10)
        self.deadline.clear()
        self.run_until(20)
        self.deadline.set(10)
        self.run_until(100)
        self.assertEqual(self.calls, [30])

    def test_stopped(self) -> None:
        """At once nothing is left."""
        self.deadline.set(10)
        self.deadline.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.deadline.stop()
        self.run_until(100)
        self.assertEqual(self.calls, [])

    def test_stopped_when_cleared(self) -> None:
        self.deadline.set(10)
        self.deadline.clear()
        self.deadline.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_set_again_after_it_has_called(self) -> None:
        self.deadline.set(10)
        self.run_until(10)
        self.deadline.set(10)
        self.run_until(100)
        self.assertEqual(self.calls, [10, 20])

    def test_what_is_called_may_set_it(self) -> None:
        deadline = Deadline(self.timers, lambda: (self.calls.append(1), deadline.set(10)))
        deadline.set(10)
        self.run_until(10)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.run_until(20)
        self.assertEqual(len(self.calls), 2)

    def test_what_is_called_may_stop_it(self) -> None:
        deadline = Deadline(self.timers, lambda: (self.calls.append(0), deadline.stop()))
        deadline.set(10)
        self.run_until(100)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_time_at_all(self) -> None:
        self.deadline.set(0)
        self.clock.advance(0)
        self.assertEqual(self.calls, [0])


class WheelTests(DeadlineTests):
    """The same on the wheel, which is what it gets in the service."""

    def timers_of(self, clock: Clock) -> Any:
        return Wheel(clock)


class FrozenTests(SynchronousTestCase):
    """The process is stopped, and goes on when all is due: what has come meanwhile counts."""

    def test_the_sockets_are_heard_first(self) -> None:
        for wrap in (lambda reactor: reactor, Wheel):
            for before in (0, 9.5):  # it is far when the process is stopped, or near
                for moved in (False, True):
                    self.freeze(wrap, before, moved=moved)

    def freeze(self, wrap: Any, before: float, *, moved: bool) -> None:
        reactor, calls = TurningReactor(), []
        deadline = Deadline(wrap(reactor), lambda: calls.append(reactor.now))
        deadline.set(10)
        reactor.turn(reactor.now + before)
        reactor.turn(1000.0)
        self.assertEqual(calls, [], "not heard out")
        if moved:
            deadline.set(10)
        for _ in range(5):
            reactor.turn(1000.0)
        self.assertEqual(calls, [] if moved else [1000.0])
        deadline.stop()
        self.assertEqual([c for c in reactor.getDelayedCalls() if c.active()], [])


def fail() -> None:
    raise ZeroDivisionError


class ErrorTests(SynchronousTestCase):
    def test_it_is_the_reactors(self) -> None:
        """Which logs it."""
        reactor = TurningReactor()
        Deadline(reactor, fail).set(10)
        for now in (60.0, 60.0):
            reactor.turn(now)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(reactor.getDelayedCalls(), [])
