"""An orderly end: stop accepting, wait for live connections, cut the rest, say how many."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from whatsproxy.reason import Reason
from whatsproxy.session import Ledger

#: Seconds that aborted connections may take to go before the service ends without them.
CUT_LIMIT = 5.0

log = Logger()


class Drain:
    """The end of a service, in steps; ``done`` fires when no session and no listener is left.

    ``stop_listening`` closes the listeners, once; its Deferred says when they are closed.
    """

    def __init__(
        self, reactor: Any, ledger: Ledger, stop_listening: Callable[[], "Deferred[Any]"]
    ) -> None:
        self.done: Deferred[None] = Deferred()
        self._reactor = reactor
        self._ledger = ledger
        self._stop_listening = stop_listening
        self._timer: IDelayedCall | None = None
        self._patience = 0.0
        self._waiting_for = 0
        self._closing: Deferred[Any] | None = None
        self._cut = 0
        self._cutting = False
        self._over = False

    def start(self, lame_duck: float, patience: float) -> None:
        """Go on accepting for ``lame_duck`` seconds, then wait ``patience`` seconds."""
        log.info(
            "draining: {live} connections, {patience:g} s for them to finish",
            live=len(self._ledger.live),
            patience=patience,
        )
        self._patience = patience
        if lame_duck:
            self._timer = self._reactor.callLater(lame_duck, self._stop_accepting)
        else:
            self._stop_accepting()

    def cut(self) -> None:
        """Wait no longer."""
        if self._cutting or self._over:
            return
        self._cutting = True
        self._cancel_timer()
        self._close_the_door()
        self._cut = len(self._ledger.live)
        for session in list(self._ledger.live):
            try:
                if session.holder is not None:
                    session.holder.abort(Reason.SHUTDOWN)
            except Exception:
                log.failure("a connection could not be cut")
        # Should one not go, the process must all the same.
        self._timer = self._reactor.callLater(CUT_LIMIT, self._finish)
        self._ledger.when_idle(self._finish)

    def _stop_accepting(self) -> None:
        self._close_the_door()
        self._timer = self._reactor.callLater(self._patience, self.cut)
        self._ledger.when_idle(self._finish)

    def _close_the_door(self) -> None:
        if self._closing is None:
            self._waiting_for = len(self._ledger.live)
            self._closing = self._stop_listening()

    def _finish(self) -> None:
        self._over = True
        self._cancel_timer()
        log.info(
            "drained: {finished} connections finished, {cut} cut",
            finished=self._waiting_for - self._cut,
            cut=self._cut,
        )
        assert self._closing is not None
        self._closing.addBoth(lambda _: self.done.callback(None))

    def _cancel_timer(self) -> None:
        self._ledger.when_idle(None)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
