"""Where another transport may differ from Twisted's own, and why: this, and nothing else."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tests.conformance_script import THEIR_ACTS, Seen, Trace


class Difference(NamedTuple):
    """One thing that is not compared."""

    name: str
    why: str


AGAIN = Difference(
    "again",
    "Twisted tells readConnectionLost again at each resumeProducing after it. Once is enough.",
)
TWICE = Difference(
    "twice",
    "To end a direction that has ended already, Twisted sends nothing at all, which fails, and so"
    " the connection is lost. It is better to mean nothing.",
)
LATE = Difference(
    "late",
    "Twisted still takes what is written after loseConnection or loseWriteConnection, as long as"
    " something else waits to be sent. Who has said that it is done has nothing more to say.",
)
INSIDE = Difference(
    "inside",
    "After writeConnectionLost, Twisted calls connectionLost from within loseConnection. Nobody"
    " should hear of an end in the middle of asking for it.",
)
EARLY = Difference(
    "early",
    "Twisted does not watch a transport that has read a FIN and has nothing to write: that its peer"
    " is dead by now it learns from the next write. To learn it at once is better.",
)
AT_ONCE = Difference(
    "at once",
    "Twisted sends what is written in the reactor's next turn, and drops it when the connection"
    " ends before that; who sends at once has sent it.",
)
CROSSED = Difference(
    "crossed",
    "Where several things happen in the same moment, what is told first depends on what is done at"
    " once and what in the reactor's next turn. What was received is compared all the same.",
)
DOOMED = Difference(
    "doomed",
    "A producer that is registered after abortConnection is stopped by Twisted when that is done,"
    " and may be stopped there and then.",
)
BROKEN = Difference(
    "broken",
    "Where the peer's FIN and its reset come together, Twisted has seen the FIN only; who has seen"
    " both need not speak of the FIN.",
)
MORE = Difference(
    "more",
    "When a reset makes a write fail, Twisted gives up what was still to be read.",
)
WAITS = Difference(
    "waits",
    "While a producer that it has paused is registered, Twisted neither closes nor ends a"
    " direction, though the buffer be empty. Who asks for that unregisters it, or does not care.",
)
BOTH = Difference(
    "both",
    "Asked for both at once, Twisted closes without a word of writeConnectionLost. To tell it is no"
    " harm.",
)
CUT = Difference(
    "cut",
    "Where a connection ends with much unsent, how much of it was sent is the kernel's affair.",
)


STALE = Difference(
    "stale",
    "A producer that Twisted had paused when it was unregistered leaves the next one to be resumed"
    " without ever having been paused.",
)
#: Laws that Twisted itself breaks: see STALE; and it pauses a producer at each further write.
TWISTEDS_OWN = {"a producer was paused while paused", "a producer was resumed while flowing"}


class Compared(NamedTuple):
    """What came of it: nothing, or the first pair that differs; and what had to be excused."""

    different: tuple[Seen, Seen] | None
    excused: frozenset[Difference]
    #: Whether all was compared; after some differences nothing else can be the same.
    whole: bool


def compare(twisted: Trace, other: Trace) -> Compared:
    """Compare two traces of one script."""
    eye = _Eye()
    for theirs, ours in zip(twisted.seen, other.seen, strict=True):
        parting = eye.parting(theirs, ours)
        if parting is None and ours not in (eye.excuse(theirs, ours), theirs):
            if not {*THEIR_ACTS}.isdisjoint(ours.step.acts) and ours.acted:
                parting = CROSSED
            if parting is None or theirs.received != ours.received:
                return Compared((theirs, ours), frozenset(eye.excused), whole=False)
        if parting is not None:
            return Compared(None, frozenset({*eye.excused, parting}), whole=False)
    return Compared(None, frozenset(eye.excused), whole=True)


class _Eye:
    """Goes from step to step, and remembers what matters later."""

    def __init__(self) -> None:
        self.excused: set[Difference] = set()
        self._told: set[str] = set()
        self._has_ended = self._has_lost = self._was_paused = False
        self._is_stale = self._is_cut = self._is_unsure = False

    def parting(self, twisted: Seen, other: Seen) -> Difference | None:
        """Return what makes the two go different ways from this step on."""
        if _ends(other) and not _ends(twisted) and twisted.unnoticed:
            return EARLY
        if _ends(twisted) and other.unnoticed and twisted.peer_received == "some":
            return CUT  # it noticed by what the other has sent
        again = twisted.acted.count("lose_write") + self._has_ended > 1
        if again and "lose_write" in twisted.acted and _ends(twisted):
            return TWICE
        if (self._has_lost or self._has_ended) and twisted.producer:
            behind = other.peer_saw and not twisted.peer_saw
            if self._was_paused or behind or (_ends(other) and not _ends(twisted)):
                return WAITS
        for act in twisted.acted:
            if act in _WRITES and (
                self._has_lost or (self._has_ended and "write_lost" not in self._told)
            ):
                return LATE
            self._is_stale |= act == "unproduce"
            self._has_lost |= act == "lose"
            self._has_ended |= act == "lose_write"
        self._was_paused = twisted.producer == "paused"
        heard = tuple(self._once(map(_outside, twisted.heard)))
        if heard != other.heard or twisted.acted != other.acted:
            return self._parting_by_words(twisted, other)
        return None

    def _parting_by_words(self, twisted: Seen, other: Seen) -> Difference | None:
        """Return why the two heard what is not the same, where that makes it useless to go on."""
        if any(what.endswith(" in produce") for what in other.heard):
            return DOOMED
        inside = any(what.endswith(" in lose") for what in twisted.heard)
        if inside and (
            twisted.peer_gone or twisted.acted != other.acted or "abort" in twisted.acted
        ):
            return INSIDE
        if "fail" in twisted.acted and twisted.acted == other.acted and len(twisted.step.acts) > 1:
            return CROSSED
        if self._is_stale and twisted.acted != other.acted:
            return STALE
        if twisted.acted != other.acted and (*self._once(twisted.heard),) != twisted.heard:
            return AGAIN
        if twisted.peer_gone and _ends(other):
            if _WRITES & {*twisted.acted}:
                return AT_ONCE
            if {"read_lost", "lost ConnectionDone"} & {*map(_end_in, twisted.heard)}:
                return BROKEN
        if self._has_ended and self._has_lost and "write_lost" not in self._told:
            return BOTH
        return None

    def excuse(self, twisted: Seen, other: Seen) -> Seen:
        """Return what is to be expected of the other in this step."""
        expected = twisted
        heard = tuple(map(_outside, expected.heard))
        once = tuple(self._once(heard))
        if heard != expected.heard:
            self.excused.add(INSIDE)
        if once != heard:
            self.excused.add(AGAIN)
        if once != other.heard and {*once} == {*other.heard}:
            self.excused.add(CROSSED)
            once = other.heard
        expected = expected._replace(heard=once)
        self._told.update(map(_end_in, expected.heard))
        return self._excuse_amounts(expected, other)

    def _excuse_amounts(self, expected: Seen, other: Seen) -> Seen:
        """Return the same with what may have come to the peer, where that is not certain."""
        if _ends(expected) and _ends(other) and expected.unread and not other.unread:
            self.excused.add(MORE)
        if MORE in self.excused:
            expected = expected._replace(received=other.received, unread=False)
        if _ends(expected):
            done = self._has_lost and any("ConnectionDone" in what for what in expected.heard)
            self._is_cut = not done or expected.unread  # to close on unread bytes is to break off
            self._is_unsure |= not done and not _WRITES.isdisjoint(expected.acted)
        theirs, ours = _at_peer(expected), _at_peer(other)
        cut = self._is_cut and {"all", "some"} == {theirs[0], ours[0]}
        if theirs != ours and (self._is_unsure or cut):
            self.excused.add(CUT if cut else AT_ONCE)
            expected = expected._replace(peer_received=ours[0], peer_saw=ours[1])
        return expected

    def _once(self, heard: Iterable[str]) -> Iterator[str]:
        """Leave out the end of reading where it was told before, to whoever had the transport."""
        told = "read_lost" in self._told
        for what in heard:
            if _end_in(what) != "read_lost" or not told:
                yield what
            told |= _end_in(what) == "read_lost"


_WRITES = {"write", "write_much"}


def _at_peer(seen: Seen) -> tuple[int | str, str]:
    return seen.peer_received, seen.peer_saw


def _ends(seen: Seen) -> bool:
    return any(":lost " in what for what in seen.heard)


def _outside(what: str) -> str:
    return what.removesuffix(" in lose")


def _end_in(what: str) -> str:
    return what.partition(":")[2]
