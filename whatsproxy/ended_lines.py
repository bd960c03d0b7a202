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
from whatsproxy.session import Session

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
        self._form = observer.form
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

    def ended(
        self, session: Session, reason: Reason, detail: str, seconds: float, client: str
    ) -> None:
        """Write the line about a connection's end, if it is wanted (called by the journal)."""
        warning = reason.error
        if not (self._warnings if warning else self._infos):
            return
        now = time()
        if self._limit is not None:
            kind, name = self._known[reason._value_]
            if not self._limit.admits(kind, name, now):
                return
        if self._timer is None:
            self._timer = self._reactor.callLater(DELAY, self._flush)
        level = "warn" if warning else "info"
        stamp = self._stamp(now)
        self._writer.put(self._form(stamp, level, session, reason, detail, seconds, client))

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
