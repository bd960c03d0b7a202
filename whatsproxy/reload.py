"""What is read anew while the service runs, on SIGHUP and when its files change."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from whatsproxy.files import Loadable
from whatsproxy.session import Ledger

#: Seconds between two looks at the files.
WATCH = 10.0

log = Logger()


class Reloader(Service):
    """Loads what has changed without touching a live connection; what is bad changes nothing.

    ``loadables`` may grow until the service starts. Whatever is wrong with one of them, the others
    are looked after. What else the configuration says is read at the start only.
    """

    def __init__(self, reactor: Any, loadables: Sequence[Loadable], ledger: Ledger) -> None:
        self._loadables = loadables
        self._counts = ledger.reloads
        #: Why the last attempt failed, of those whose did.
        self._failures: dict[Loadable, str] = {}
        #: Looks since something has failed.
        self._looks: Counter[Loadable] = Counter()
        self._watch = LoopingCall(self._look)
        self._watch.clock = reactor

    def startService(self) -> None:
        """Begin to watch."""
        super().startService()
        for loadable in self._loadables:
            for result in ("ok", "failed"):
                self._counts[loadable.name, result] += 0  # a rate needs a beginning
        self._watch.start(WATCH, now=False)

    def stopService(self) -> None:
        """Watch no more."""
        super().stopService()
        if self._watch.running:
            self._watch.stop()

    def reload(self) -> None:
        """Read everything anew; say what came of each, and count it."""
        self._failures.clear()
        for loadable in self._loadables:
            self._guarded(self._load, loadable)

    def _look(self) -> None:
        for loadable in self._loadables:
            self._guarded(self._look_at, loadable)

    def _look_at(self, loadable: Loadable) -> None:
        if loadable.changed():
            self._failures.pop(loadable, None)
            self._looks.pop(loadable, None)
            self._load(loadable)
        elif loadable in self._failures:
            # It may have been in the middle of a change, or short of descriptors: once more, and
            # again after twice as many looks each time.
            self._looks[loadable] += 1
            if self._looks[loadable].bit_count() == 1:
                self._load(loadable)

    def _load(self, loadable: Loadable) -> None:
        """Read it anew; what has failed before in this way is not told again."""
        try:
            loadable.load()
        except loadable.error as e:
            if str(e) != self._failures.get(loadable):
                self._failures[loadable] = str(e)
                self._counts[loadable.name, "failed"] += 1
                log.error(
                    "{what} not reloaded, the old ones stay: {error}",
                    what=loadable.name,
                    error=str(e),
                )
            return
        self._failures.pop(loadable, None)
        self._looks.pop(loadable, None)
        self._counts[loadable.name, "ok"] += 1
        loadable.announce()

    def _guarded(self, call: Callable[[Loadable], None], loadable: Loadable) -> None:
        try:
            call(loadable)
        except Exception:
            log.failure("looking after the {what} failed unexpectedly", what=loadable.name)
