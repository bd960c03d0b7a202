"""The deadline: when it calls, and what it leaves in the reactor."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from whatsproxy.protocols.deadline import Deadline


class DeadlineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.calls: list[float] = []
        self.deadline = Deadline(self.clock, lambda: self.calls.append(self.clock.seconds()))

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
        (timer,) = self.clock.getDelayedCalls()
        for _ in range(1000):
            self.deadline.set(20)
        self.assertEqual(self.clock.getDelayedCalls(), [timer])
        self.assertEqual(timer.getTime(), 10)

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
        deadline = Deadline(self.clock, lambda: (self.calls.append(1), deadline.set(10)))
        deadline.set(10)
        self.run_until(10)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.run_until(20)
        self.assertEqual(len(self.calls), 2)

    def test_what_is_called_may_stop_it(self) -> None:
        deadline = Deadline(self.clock, lambda: (self.calls.append(0), deadline.stop()))
        deadline.set(10)
        self.run_until(100)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_time_at_all(self) -> None:
        self.deadline.set(0)
        self.clock.advance(0)
        self.assertEqual(self.calls, [0])
