"""The short way into the log, for the one line that is as frequent as connections are.

To make an event of such a line, and to send it through twisted.logger, costs ten times as much as
the line. Here it is formatted as it is made, and written together with others: some KiB at once, or
what there is after ``DELAY``. All else goes the ordinary way, and is written behind what waits.
"""

import atexit
from time import time
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import ILogObserver, LogLevel, LogPublisher, globalLogPublisher

from whatsproxy import journal
from whatsproxy.journal import ENDED, Journal
from whatsproxy.log_forms import Stamps
from whatsproxy.log_limit import kind_of, name_of
from whatsproxy.logs import LevelObserver
from whatsproxy.reason import Reason

#: Seconds that a line waits for others at the most.
DELAY = 0.02


class EndedLines(Service):
    """Takes a journal's lines (it is its ``Lines``) while it runs, and to where they all go.

    It stands aside unless ``observer`` is the one and only observer, so that no other one misses a
    line; for one that comes later, within ``DELAY`` of the next line.
    """

    def __init__(
        self,
        reactor: Any,
        observer: LevelObserver,
        journal: Journal,
        publisher: LogPublisher = globalLogPublisher,
    ) -> None:
        self.form = observer.form
        self._reactor = reactor
        self._observer = observer
        self._journal = journal
        self._publisher = publisher
        self._writer = observer.writer
        self._limit = observer.limit
        self._stamp = Stamps()
        self._infos = observer.level <= LogLevel.info
        self._warnings = observer.level <= LogLevel.warn
        #: Kind and name of each reason's lines, as the limit knows them of the events.
        self._known = {
            reason.value: (kind_of(event), name_of(event))
            for reason in Reason
            for event in [_event_of(reason)]
        }
        self._timer: IDelayedCall | None = None

    def startService(self) -> None:
        """Begin."""
        super().startService()
        if observes_alone(self._observer, self._publisher):
            atexit.register(self._writer.flush)
            self._journal.write_to(self)

    def stopService(self) -> None:
        """Write what waits; what comes from now on is written at once, by the ordinary way."""
        super().stopService()
        self._stand_aside()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._writer.flush()

    def admit(self, reason: Reason) -> tuple[str, str] | None:
        """Return time and level of a line (called by the journal); None: it is not wanted."""
        if not (self._warnings if reason.error else self._infos):
            return None
        now = time()
        if self._limit is not None:
            kind, name = self._known[reason._value_]
            if not self._limit.admits(kind, name, now):
                return None
        return self._stamp(now), "warn" if reason.error else "info"

    def put(self, line: str) -> None:
        """Write a line, soon (called by the journal)."""
        if self._timer is None:
            self._timer = self._reactor.callLater(DELAY, self._flush)
        self._writer.put(line)

    def _flush(self) -> None:
        self._timer = None
        self._writer.flush()
        if not observes_alone(self._observer, self._publisher):
            self._stand_aside()

    def _stand_aside(self) -> None:
        self._journal.write_to(None)
        atexit.unregister(self._writer.flush)


def observes_alone(observer: ILogObserver, publisher: LogPublisher) -> bool:
    """Tell whether all that is logged goes to this observer and to no other one."""
    # There is no public way to ask. Were this attribute gone, the ordinary way is there.
    return getattr(publisher, "_observers", None) == [observer]


def _event_of(reason: Reason) -> dict[str, Any]:
    return {"log_namespace": journal.__name__, "log_format": ENDED, "reason": reason.value}
