"""Time limits that are long, many, and nearly always cancelled."""

from collections.abc import Callable
from typing import Any

from twisted.internet.error import AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

#: Seconds. Shorter delays are left to the reactor; it is also how long a slot is.
NEAR = 0.25
#: Slots in a second.
_RATE = 4
#: Seconds by which a slot is looked at before it begins, so that rounding makes nothing late.
_AHEAD = 1 / 1024  # exact, and so are the sums with it


class _Slot(dict["Entry", None]):
    """The entries that are due within one NEAR, in the order in which they came."""

    __slots__ = ("number", "wheel")

    wheel: "Wheel"
    number: int


@implementer(IDelayedCall)
class Entry:
    """A call to come. The wheel has it until it comes near, and from then on the reactor.

    So once it has been called it says so as the reactor's do, and is moved as they are.
    """

    __slots__ = ("_call", "_due", "_slot", "args", "func", "kw")

    #: Where it is, while the wheel has it.
    _slot: _Slot | None
    #: The reactor's, once it has come near.
    _call: IDelayedCall | None
    _due: float
    func: Callable[..., object] | None
    args: tuple[Any, ...]
    kw: dict[str, Any] | None

    def cancel(self) -> None:
        """Do not call; what would have been called is let go at once."""
        slot = self._slot
        if slot is not None:
            del slot[self]
            self._slot = self.func = self.kw = None
            self.args = ()
            if not slot:
                slot.wheel._emptied(slot)
        elif self._call is not None:
            self._call.cancel()
        else:
            raise AlreadyCancelled

    def active(self) -> bool:
        """Tell whether it is still to be called."""
        return self._slot is not None or (self._call is not None and bool(self._call.active()))

    def getTime(self) -> float:
        """Return when it is due, on the reactor's clock."""
        return self._due if self._call is None else self._call.getTime()

    def reset(self, secondsFromNow: float) -> None:
        """Let it be due so many seconds from now."""
        slot = self._slot
        if slot is not None:
            slot.wheel._move(self, slot, secondsFromNow)
        else:
            self._reactors().reset(secondsFromNow)

    def delay(self, secondsLater: float) -> None:
        """Let it be due so many seconds later than it was."""
        slot = self._slot
        if slot is not None:
            wheel = slot.wheel
            wheel._move(self, slot, self._due + secondsLater - wheel.seconds())
        else:
            self._reactors().delay(secondsLater)

    def _reactors(self) -> IDelayedCall:
        if self._call is None:
            raise AlreadyCancelled
        return self._call


def _due(entry: Entry) -> float:
    return entry._due


@implementer(IReactorTime)
class Wheel:
    """A reactor's clock for whoever sets and cancels much.

    A delay of NEAR seconds or more is a line in its slot, and cancelled it is gone from there:
    neither touches the reactor's heap. One call of the reactor's waits for the first slot that is
    not empty, and gives what is in it to the reactor, for its exact time: nothing is called too
    early, or later than the reactor would have. While the wheel is empty it has nothing scheduled.
    """

    __slots__ = ("__weakref__", "_next", "_reactor", "_slots", "_tick", "seconds")

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        #: The reactor's own: it is asked for each delay.
        self.seconds: Callable[[], float] = reactor.seconds
        self._slots: dict[int, _Slot] = {}
        self._tick: IDelayedCall | None = None
        #: The slot that the tick waits for; none that is not empty comes before it.
        self._next = 0

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> IDelayedCall:
        """Call so many seconds from now."""
        if delay < NEAR:
            return self._reactor.callLater(delay, callable, *args, **kw)
        # No __init__: it would cost as much as all the rest.
        entry = Entry()
        entry._due = due = self.seconds() + delay
        entry._call = None
        entry.func = callable
        entry.args = args
        entry.kw = kw or None
        number = int(due * _RATE)
        slot = self._slots.get(number)
        if slot is None:
            slot = self._begin(number)
        entry._slot = slot
        slot[entry] = None
        return entry

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """Return all that are to come, the reactor's among them."""
        calls = [call for call in self._reactor.getDelayedCalls() if call is not self._tick]
        return calls + [entry for slot in self._slots.values() for entry in slot]

    def _begin(self, number: int) -> _Slot:
        """Have a slot, and wait for it if it is the first."""
        slot = self._slots[number] = _Slot()
        slot.wheel = self
        slot.number = number
        if self._tick is None or number < self._next:
            self._wait_for(number)
        return slot

    def _emptied(self, slot: _Slot) -> None:
        """Forget a slot that nothing is left in; the last of all takes the tick with it."""
        del self._slots[slot.number]
        if not self._slots and self._tick is not None:
            self._tick.cancel()
            self._tick = None

    def _wait_for(self, number: int) -> None:
        if self._tick is not None:
            self._tick.cancel()
        self._next = number
        wait = number / _RATE - _AHEAD - self.seconds()
        self._tick = self._reactor.callLater(max(wait, 0), self._look)

    def _move(self, entry: Entry, slot: _Slot, delay: float) -> None:
        """Let an entry be due so many seconds from now."""
        del slot[entry]
        if delay < NEAR:
            self._give(entry, delay)
        else:
            entry._due = due = self.seconds() + delay
            number = int(due * _RATE)
            other = self._slots.get(number)
            entry._slot = other = self._begin(number) if other is None else other
            other[entry] = None
        if not slot:
            self._emptied(slot)

    def _look(self) -> None:
        """Give the reactor all that is due in the slot that begins, or in one that has passed."""
        self._tick = None
        now = self.seconds()
        last = max(self._next, int(now * _RATE))
        for number in sorted(number for number in self._slots if number <= last):
            for entry in sorted(self._slots.pop(number), key=_due):
                self._give(entry, entry._due - now)
        if self._slots:
            self._wait_for(min(self._slots))

    def _give(self, entry: Entry, delay: float) -> None:
        """Leave an entry to the reactor."""
        call: Any = entry.func
        entry._call = self._reactor.callLater(max(delay, 0), call, *entry.args, **(entry.kw or {}))
        entry._slot = entry.func = entry.kw = None
        entry.args = ()
