"""No stranger fills the disk: so many log lines a second of one kind, the rest is counted."""

import time
from collections import Counter
from collections.abc import Callable, Hashable

from twisted.logger import ILogObserver, LogEvent, LogLevel
from zope.interface import implementer

#: Seconds in which lines of one kind are counted together.
WINDOW = 1.0
#: Kinds that are told apart in a window; what is beyond them is one kind.
KINDS = 1000


@implementer(ILogObserver)
class LimitedObserver:
    """Passes on ``rate`` events a second of each kind: of each reason, or each error.

    What it has held back is told with the first event after that second, whatever it is.
    """

    def __init__(
        self, observer: ILogObserver, rate: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._observer = observer
        self._rate = rate
        self._now = now
        self._until = 0.0
        self._seen: dict[Hashable, int] = {}
        self._held: Counter[str] = Counter()

    def __call__(self, event: LogEvent) -> None:
        """Pass an event on, or count it (called by twisted.logger)."""
        if self.admits(kind_of(event), name_of(event), event.get("log_time", 0.0)):
            self._observer(event)

    def admits(self, kind: Hashable, name: str, when: float) -> bool:
        """Count a line of some kind; tell whether it may be written.

        ``name`` is what those left out are called; ``when`` is the time, since the epoch, of the
        line that tells of the ones left out before, should it be due.
        """
        now = self._now()
        if now >= self._until:
            self._until = now + WINDOW
            self._seen.clear()
            if self._held:
                self._tell(when)
        seen = self._seen
        count = seen.get(kind, 0)
        if not count and len(seen) >= KINDS:
            kind = None
            count = seen.get(kind, 0)
        seen[kind] = count + 1
        if count < self._rate:
            return True
        self._held[name] += 1
        return False

    def _tell(self, when: float) -> None:
        held = dict(self._held)
        self._held.clear()
        self._observer(
            {
                "log_level": LogLevel.warn,
                "log_namespace": __name__,
                "log_time": when,
                "log_format": "lines left out ([logging] rate): {left_out}",
                "left_out": ", ".join(f"{count} {name}" for name, count in held.items()),
            }
        )


def kind_of(event: LogEvent) -> Hashable:
    """Return what is counted together with an event."""
    failure = event.get("log_failure")
    error = failure.type if failure is not None else None
    return event.get("log_namespace"), event.get("log_format"), _reason_of(event), error


def name_of(event: LogEvent) -> str:
    """Return what the kind is called in the line about those left out; nothing of a stranger's."""
    failure = event.get("log_failure")
    if failure is not None:
        return f"of {failure.type.__name__}"
    return f"of {_reason_of(event) or event.get('log_namespace', '?')}"


def _reason_of(event: LogEvent) -> str | None:
    """Return the label of a Reason. (Twisted's own events say other things by this name.)"""
    reason = event.get("reason")
    return reason if isinstance(reason, str) else None
