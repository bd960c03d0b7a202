"""The time limit: when it calls whom, and what it leaves in the reactor."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.turning_reactor import TurningReactor
from whatsproxy.time_limit import TimeLimit
from whatsproxy.wheel import Wheel

SECONDS = 10.0


class Somebody:
    """Notes when it was late, and does what it is told to."""

    def __init__(self, clock: Any, *acts: Any) -> None:
        self.clock = clock
        self.acts = acts
        self.late_at: list[float] = []

    def time_is_up(self) -> None:
        self.late_at.append(self.clock.seconds())
        for act in self.acts:
            act()


class TimeLimitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.limit = TimeLimit(self.timers_of(self.clock), SECONDS)

    def timers_of(self, clock: Clock) -> Any:
        """Return what the limit is given as its clock."""
        return clock

    def begun(self, *acts: Any) -> Somebody:
        one = Somebody(self.clock, *acts)
        self.limit.begin(one)
        return one

    def nothing_is_left(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothing_is_scheduled_for_nobody(self) -> None:
        self.nothing_is_left()
        self.limit.end(Somebody(self.clock))
        one = self.begun()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.limit.end(one)
        self.nothing_is_left()
        self.limit.end(one)

    def test_late(self) -> None:
        one = self.begun()
        self.clock.advance(9.99)
        self.assertEqual(one.late_at, [])
        self.clock.advance(0.01)
        self.assertEqual(one.late_at, [SECONDS])
        self.nothing_is_left()
        self.limit.end(one)

    def test_each_at_its_time(self) -> None:
        """Though those before have gone, or are late; with one timer for all."""
        some = []
        for _ in range(6):
            some.append(self.begun())
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
            self.clock.advance(1)
        self.limit.end(some[0])
        self.limit.end(some[3])
        for _ in range(100):
            self.clock.advance(0.25)
        self.assertEqual([one.late_at for one in some], [[], [11.0], [12.0], [], [14.0], [15.0]])
        self.nothing_is_left()

    def test_begun_again(self) -> None:
        """Whoever has ended may begin anew, and comes last then."""
        first, second = self.begun(), self.begun()
        self.clock.advance(3)
        self.limit.end(first)
        self.limit.begin(first)
        for _ in range(60):
            self.clock.advance(0.25)
        self.assertEqual((first.late_at, second.late_at), ([13.0], [10.0]))
        self.nothing_is_left()

    def test_one_ends_another(self) -> None:
        """Who is due at the same time, and is not late, then."""
        one = self.begun(lambda: self.limit.end(other))
        other = self.begun()
        self.clock.advance(SECONDS)
        self.assertEqual((one.late_at, other.late_at), ([SECONDS], []))
        self.nothing_is_left()

    def test_one_lets_another_begin(self) -> None:
        more: list[Somebody] = []
        self.begun(lambda: more.append(self.begun()))
        self.clock.advance(4)
        last = self.begun()
        for _ in range(80):
            self.clock.advance(0.25)
        self.assertEqual((last.late_at, more[0].late_at), ([14.0], [20.0]))
        self.nothing_is_left()

    def test_one_lets_another_begin_and_end(self) -> None:
        """No timer is left of that, and the limit goes on."""

        def pass_by() -> None:
            other = self.begun()
            self.limit.end(other)

        self.begun(pass_by)
        second = self.begun(pass_by)
        self.clock.advance(SECONDS)
        self.assertEqual(second.late_at, [SECONDS])
        self.nothing_is_left()
        third = self.begun()
        self.clock.advance(SECONDS)
        self.assertEqual(third.late_at, [2 * SECONDS])
        self.nothing_is_left()

    def test_one_lets_another_begin_again(self) -> None:
        """Who has just been due, and has its whole time then."""

        def again() -> None:
            self.limit.end(other)
            self.limit.begin(other)

        self.begun(again)
        other = self.begun()
        for _ in range(3):
            self.clock.advance(SECONDS)
        self.assertEqual(other.late_at, [2 * SECONDS])
        self.nothing_is_left()

    def test_left(self) -> None:
        one = self.begun()
        self.clock.advance(4)
        self.assertEqual(self.limit.left(one), 6)
        self.limit.end(one)

    def test_an_error_is_nobody_elses(self) -> None:
        self.begun(lambda: 1 / 0)
        other = self.begun()
        self.clock.advance(SECONDS)
        self.assertEqual(other.late_at, [SECONDS])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.nothing_is_left()


class WheelTests(TimeLimitTests):
    """Likewise by the clock that it has in the service."""

    def timers_of(self, clock: Clock) -> Any:
        return Wheel(clock)


class LawTests(SynchronousTestCase):
    @given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 60)), max_size=12), st.booleans())
    def test_anything(self, stays: list[tuple[int, int]], on_wheel: bool) -> None:
        """Of any who come and go, those are late who stay for so long, and at that time."""
        clock = Clock()
        limit = TimeLimit(Wheel(clock) if on_wheel else clock, SECONDS)
        some = [Somebody(clock) for _ in stays]
        for quarter in range(101):
            for one, (begin, stay) in zip(some, stays, strict=True):
                if quarter == begin:
                    limit.begin(one)
                elif quarter == begin + stay:
                    limit.end(one)
            clock.advance(0.25)
        for one, (begin, stay) in zip(some, stays, strict=True):
            self.assertEqual(one.late_at, [begin / 4 + SECONDS] if stay >= SECONDS * 4 else [])
        self.assertEqual(clock.getDelayedCalls(), [])


class StoppedTests(SynchronousTestCase):
    def test_the_sockets_are_heard_first(self) -> None:
        """Who has spoken in time ends before the verdict, however late the process wakes up."""
        for wrap in (lambda reactor: reactor, Wheel):
            reactor = TurningReactor()
            limit = TimeLimit(wrap(reactor), SECONDS)
            spoken, silent = Somebody(reactor), Somebody(reactor)
            limit.begin(spoken)
            limit.begin(silent)
            reactor.turn(1000.0)
            limit.end(spoken)
            for _ in range(3):
                reactor.turn(1000.0)
            self.assertEqual((spoken.late_at, silent.late_at), ([], [1000.0]))
            self.assertEqual(reactor.getDelayedCalls(), [])

    def test_each_is_heard(self) -> None:
        """Also who becomes due between the hearing of the others and the verdict."""
        for wrap in (lambda reactor: reactor, Wheel):
            reactor = TurningReactor()
            limit = TimeLimit(wrap(reactor), SECONDS)
            first, second = Somebody(reactor), Somebody(reactor)
            start = reactor.now
            limit.begin(first)
            reactor.turn(start + 2)
            limit.begin(second)
            while not limit._heard:
                reactor.turn(start + SECONDS)
            reactor.turn(1000.0)
            self.assertEqual((first.late_at, second.late_at), ([1000.0], []))
            limit.end(second)
            self.assertEqual([c for c in reactor.getDelayedCalls() if c.active()], [])
