"""The wheel: it calls what the reactor's own callLater would, when it would, and leaves no more."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.turning_reactor import TurningReactor
from whatsproxy.wheel import NEAR, Wheel


class WheelCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000.3)
        self.wheel = Wheel(self.clock)
        self.calls: list[Any] = []

    def later(self, seconds: float, name: Any = "call", *more: Callable[[], object]) -> Any:
        """Have a name noted so many seconds from now, and more done."""

        def note() -> None:
            self.calls.append(name)
            for each in more:
                each()

        return self.wheel.callLater(seconds, note)

    def ticks(self) -> int:
        """Count what the reactor knows of."""
        return len(self.clock.getDelayedCalls())


class CallTests(WheelCase):
    def test_interfaces(self) -> None:
        verifyObject(IReactorTime, self.wheel)
        verifyObject(IDelayedCall, self.later(10))

    def test_the_time(self) -> None:
        self.assertEqual(self.wheel.seconds(), 1000.3)

    def test_at_its_time(self) -> None:
        """Neither early nor late, whatever the delay: in one step, and in two."""
        for delay in (0.1, 0.25, 0.3, 1, 1.1, 1.7, 2, 2.3, 9.9999, 10, 100.1, 3600):
            for first in (0.0, 0.001, 0.1, 0.25, 0.5, 0.9, delay / 2, delay - 0.01):
                self.later(delay, delay)
                due = self.wheel.seconds() + delay
                if 0 < first < delay:
                    self.clock.advance(first)
                    self.assertEqual(self.calls, [], first)
                    self.clock.advance(due - self.clock.seconds())
                else:
                    self.clock.advance(delay)
                self.assertEqual(self.calls, [delay], first)
                self.calls.clear()
                self.assertEqual(self.ticks(), 0)

    def test_arguments(self) -> None:
        for delay in (0.1, 10):
            self.wheel.callLater(delay, lambda *a, **k: self.calls.append((a, k)), 1, 2, three=3)
            self.clock.advance(10)
        self.assertEqual(self.calls, [((1, 2), {"three": 3})] * 2)

    def test_in_order(self) -> None:
        """Of their times, and where these are the same, as they came; also in one long step."""
        for delay in (9, 3.3, 3.2, 5, 3.2, 3.9, 1, 7):
            self.later(delay, (delay, len(self.wheel.getDelayedCalls())))
        self.clock.advance(1000)
        self.assertEqual(
            self.calls,
            [(1, 6), (3.2, 2), (3.2, 4), (3.3, 1), (3.9, 5), (5, 3), (7, 7), (9, 0)],
        )

    def test_what_is_called_calls_more(self) -> None:
        self.later(2, "first", lambda: self.later(3, "second", lambda: self.later(0, "third")))
        self.clock.advance(2)
        self.clock.advance(2.9)
        self.assertEqual(self.calls, ["first"])
        self.clock.advance(0.2)
        self.assertEqual(self.calls, ["first", "second", "third"])

    def test_what_is_called_cancels_others(self) -> None:
        """One that is due at the same time, one soon after it, and one that has time yet."""
        others: list[Any] = []
        self.later(5, "first", lambda: [other.cancel() for other in others])
        others += [self.later(delay, "other") for delay in (5, 5.5, 50)]
        self.clock.advance(5)
        self.assertEqual((self.calls, self.ticks()), (["first"], 0))

    def test_what_is_called_moves_others(self) -> None:
        others: list[Any] = []
        self.later(5, "first", lambda: [other.reset(2) for other in others])
        others += [self.later(delay, delay) for delay in (5, 5.5, 50)]
        self.clock.advance(5)
        self.clock.advance(1.9)
        self.assertEqual(self.calls, ["first"])
        self.clock.advance(0.2)
        self.assertEqual(sorted(self.calls[1:]), [5, 5.5, 50])

    def test_an_earlier_one_comes_later(self) -> None:
        """The tick that waits for the first of all has to wait for another."""
        for delay in (100, 10, 50, 2):
            self.later(delay, delay)
            self.assertEqual(self.ticks(), 1)
        self.clock.advance(1.9)
        self.assertEqual(self.calls, [])
        for delay in (2, 10, 50, 100):
            self.clock.advance(1002.3 - 2 + delay - self.clock.seconds())
            self.assertEqual(self.calls.pop(), delay)
        self.assertEqual(self.ticks(), 0)

    def test_a_frozen_process(self) -> None:
        """Time jumps: all that has become due is called, and what has not is not."""
        for delay in (5, 50, 500):
            self.later(delay, delay)
        self.clock.advance(60)
        self.assertEqual(self.calls, [5, 50])
        self.clock.advance(440)
        self.assertEqual(self.calls, [5, 50, 500])


class HandleTests(WheelCase):
    def handles(self) -> dict[str, Any]:
        """Return a call that is far, one that has come near, and one that never was far."""
        near = self.later(1.6)
        self.clock.advance(1.5)
        return {"far": self.later(10), "near": near, "short": self.later(0.2)}

    def test_active(self) -> None:
        for name, handle in self.handles().items():
            self.assertTrue(handle.active(), name)
            handle.cancel()
            self.assertFalse(handle.active(), name)

    def test_called(self) -> None:
        for name, handle in self.handles().items():
            self.clock.advance(20)
            self.assertFalse(handle.active(), name)
            for act in (handle.cancel, lambda h=handle: h.reset(5), lambda h=handle: h.delay(5)):
                self.assertRaises(AlreadyCalled, act)

    def test_cancelled(self) -> None:
        for handle in self.handles().values():
            handle.cancel()
            for act in (handle.cancel, lambda h=handle: h.reset(5), lambda h=handle: h.delay(5)):
                self.assertRaises(AlreadyCancelled, act)
        self.clock.advance(20)
        self.assertEqual(self.calls, [])

    def test_when(self) -> None:
        """Moved later, anew, and near: then it is called at that time."""
        for name, left in (("far", 10), ("near", 0.1), ("short", 0.2)):
            handles = self.handles()
            handle = handles.pop(name)
            for other in handles.values():
                other.cancel()
            due = self.clock.seconds() + left
            self.assertAlmostEqual(handle.getTime(), due)
            handle.delay(3)
            self.assertAlmostEqual(handle.getTime(), due + 3)
            handle.reset(4)
            self.assertAlmostEqual(handle.getTime(), self.clock.seconds() + 4)
            handle.delay(-3.9)
            self.assertAlmostEqual(handle.getTime(), self.clock.seconds() + 0.1)
            self.clock.advance(0.09)
            self.assertTrue(handle.active(), name)
            self.clock.advance(0.02)
            self.assertFalse(handle.active(), name)
            self.assertEqual(self.calls, ["call"], name)
            self.calls.clear()

    def test_moved_within_its_slot(self) -> None:
        """Though it is the only one there."""
        self.later(10).reset(10.01)
        self.clock.advance(10.01)
        self.assertEqual((self.calls, self.ticks()), (["call"], 0))

    def test_moved_into_the_past(self) -> None:
        self.later(10).delay(-20)
        self.clock.advance(0)
        self.assertEqual((self.calls, self.ticks()), (["call"], 0))


class LeftTests(WheelCase):
    """What remains when something is over."""

    def test_nothing_at_first(self) -> None:
        self.assertEqual(self.ticks(), 0)

    def test_one_tick_for_all(self) -> None:
        handles = [self.later(delay) for delay in range(2, 100)]
        self.assertEqual(self.ticks(), 1)
        self.assertCountEqual(self.wheel.getDelayedCalls(), handles)
        for handle in handles:
            self.assertEqual(self.ticks(), 1)
            handle.cancel()
        self.assertEqual(self.ticks(), 0)
        self.assertEqual(self.wheel.getDelayedCalls(), [])

    def test_the_reactor_has_only_what_is_near(self) -> None:
        """What is short, and the slot that has begun: the rest may yet be cancelled."""
        for delay in (0.1, 0.24):
            self.assertIn(self.later(delay), self.clock.getDelayedCalls())
        for delay in (0.25, 0.3, 0.5, 0.69, 5):
            self.later(delay)  # two in the slot after this one, two in the one after that
        for seconds, near in ((0, 2), (0.19, 1), (0.02, 3), (0.23, 0), (0.02, 2), (1, 0)):
            self.clock.advance(seconds)
            self.assertEqual(self.ticks(), near + 1, seconds)

    def test_the_reactors_are_listed_too(self) -> None:
        """But not the tick, which nobody has asked for."""
        short, far = self.later(0.1), self.later(10)
        self.assertCountEqual(self.wheel.getDelayedCalls(), [short, far])

    def test_set_and_cancelled_often(self) -> None:
        """Nothing grows, however it is mixed with others."""
        kept = [self.later(delay) for delay in (20, 20.5, 30)]
        for number in range(1000):
            self.later(10 + number / 50).cancel()
        self.assertEqual(self.wheel.getDelayedCalls(), kept)
        self.assertEqual(len(self.wheel._slots), 3)
        self.assertEqual(self.ticks(), 1)

    def test_what_is_cancelled_is_let_go(self) -> None:
        """At once, though the handle is kept: no collector has to come."""

        class Protocol:
            def expire(self, *_: object, **__: object) -> None: ...

        gc.disable()
        self.addCleanup(gc.enable)
        handles = []
        for near in (False, True):
            protocol, argument, word = Protocol(), Protocol(), Protocol()
            references = [weakref.ref(each) for each in (protocol, argument, word)]
            handle = self.wheel.callLater(0.4, protocol.expire, argument, word=word)
            if near:
                self.clock.advance(0.3)
                self.assertIn(handle._call, self.clock.getDelayedCalls())
            handle.cancel()
            handles.append(handle)
            del protocol, argument, word
            self.assertEqual([reference() for reference in references], [None] * 3, near)


class TurnTests(SynchronousTestCase):
    def test_an_error_harms_nobody(self) -> None:
        """It is logged as any timer's; those beside it are called, and the wheel turns on."""
        reactor, calls = TurningReactor(), []
        wheel = Wheel(reactor)
        for name, delay in (("before", 1.25), ("after", 1.75), ("later", 2.5)):
            wheel.callLater(delay, calls.append, name)
        wheel.callLater(1.5, int, "no number")
        for now, expected in (
            (50.9, []),
            (51.0, []),
            (51.25, ["before"]),
            (51.5, ["before"]),
            (51.75, ["before", "after"]),
            (52.4, ["before", "after"]),
            (52.6, ["before", "after", "later"]),
        ):
            for _ in range(2):  # one for the wheel, one for what it gives
                reactor.turn(now)
            self.assertEqual(calls, expected, now)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(reactor.getDelayedCalls(), [])

    def test_the_sockets_are_heard_first(self) -> None:
        """After a freeze: what was far is called in a turn of its own, behind what has come."""
        reactor, calls = TurningReactor(), []
        wheel = Wheel(reactor)
        for delay in (30, 10, 20, 60):
            wheel.callLater(delay, calls.append, delay)
        reactor.turn(100)
        self.assertEqual((calls, reactor.timeout()), ([], 0))
        reactor.turn(100)
        self.assertCountEqual(calls, [10, 20, 30])


#: A script's moments: near and far, on the edges of slots and beside them.
#: Of 1/1024 seconds: sums of them are exact, so that no rounding makes an order of its own.
exact = st.integers(0, 20 * 1024).map(lambda ticks: ticks / 1024)
moments = st.one_of(
    st.sampled_from([0.0, 0.125, 255 / 1024, NEAR, 257 / 1024, 0.5, 1.0, 1.5, 2.0, 10.0, 60.0]),
    exact,
)
steps = st.one_of(
    st.tuples(st.just("set"), moments),
    st.tuples(st.sampled_from(["reset", "delay"]), st.integers(0, 30), moments),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(st.just("advance"), moments),
)
#: What a call does itself when it comes, with delays after it.
reactions = st.one_of(
    st.none(),
    st.tuples(st.just("set"), moments),
    st.tuples(st.sampled_from(["reset", "delay"]), st.integers(0, 30), moments),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
)


class Player:
    """Plays a script with one clock: what comes of it must not depend on whether it is a wheel."""

    def __init__(self, began: float, reacts: list[Any], wrap: Callable[[Clock], Any]) -> None:
        self.clock = Clock()
        self.clock.advance(began)
        self.timers = wrap(self.clock)
        self.reacts = reacts
        self.handles: list[Any] = []
        self.calls: list[tuple[int, float]] = []

    def do(self, does: str, *what: Any) -> str:
        """Take one step; the answer is what it raised."""
        if does == "advance":
            self.pass_time(what[0])
        elif does == "set":
            number = len(self.handles)
            delay = self.apart(what[0], self.clock.seconds())
            self.handles.append(self.timers.callLater(delay, self.called, number))
        elif self.handles:
            handle = self.handles[what[0] % len(self.handles)]
            if does != "cancel" and handle.active():
                base = handle.getTime() if does == "delay" else self.clock.seconds()
                what = (what[0], self.apart(what[1], base))
            try:
                getattr(handle, does)(*what[1:])
            except (AlreadyCalled, AlreadyCancelled) as error:
                return type(error).__name__
        return ""

    def apart(self, delay: float, base: float) -> float:
        """Return a delay by which nothing is due together: whose turn it is then, no clock says."""
        due = {handle.getTime() for handle in self.handles if handle.active()}
        while base + delay in due:
            delay += 2**-20
        return delay

    def called(self, number: int) -> None:
        self.calls.append((number, self.clock.seconds()))
        if number < len(self.reacts) and self.reacts[number] is not None:
            self.do(*self.reacts[number])

    def pass_time(self, seconds: float) -> None:
        """Go from one timer to the next, as time does."""
        end = self.clock.seconds() + seconds
        while due := [c for c in self.clock.getDelayedCalls() if c.getTime() <= end]:
            self.clock.rightNow = max(self.clock.rightNow, min(c.getTime() for c in due))
            self.clock.advance(0)
        self.clock.rightNow = max(end, self.clock.rightNow)

    def states(self) -> list[tuple[bool, float]]:
        """Return what the handles say of themselves."""
        return [(h.active(), h.getTime() if h.active() else 0.0) for h in self.handles]


class LawTests(SynchronousTestCase):
    @settings(max_examples=300)
    @given(
        st.integers(0, 10**9).map(lambda n: n / 1024),
        st.lists(reactions, max_size=12),
        st.lists(steps, max_size=30),
    )
    def test_as_without_it(self, began: float, reacts: list[Any], script: list[Any]) -> None:
        """The same calls come at the same times in the same order, and the same errors."""
        plain = Player(began, reacts, lambda clock: clock)
        wheel = Player(began, reacts, Wheel)
        for step in [*script, ("advance", 30.0)]:
            self.assertEqual(wheel.do(*step), plain.do(*step))
            self.agree(wheel, plain)
        self.assertEqual(len(wheel.timers.getDelayedCalls()), len(plain.clock.getDelayedCalls()))
        for handle in wheel.handles:
            if handle.active():
                handle.cancel()
        self.assertEqual(wheel.clock.getDelayedCalls(), [])

    def agree(self, wheel: Player, plain: Player) -> None:
        self.assertEqual([name for name, _ in wheel.calls], [name for name, _ in plain.calls])
        for (_, ours), (_, theirs) in zip(wheel.calls, plain.calls, strict=True):
            self.assertAlmostEqual(ours, theirs, places=6)
        for (ours, when), (theirs, due) in zip(wheel.states(), plain.states(), strict=True):
            self.assertEqual(ours, theirs)
            self.assertAlmostEqual(when, due, places=6)
