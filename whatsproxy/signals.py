"""Signals: SIGTERM and SIGINT drain, SIGUSR1 reopens the log, SIGHUP reloads.

twistd itself would re-raise SIGTERM after the stop (status 143) and die of SIGHUP. ``reactor.run``
installs handlers of its own, so ours come after it has begun; until then signals are kept waiting.
"""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.application.service import Service
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

from whatsproxy.service import ProxyService

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)

log = Logger()


class SignalService(Service):
    """Handles signals while it runs. ``reopen_log`` is None where twistd writes the log."""

    def __init__(
        self,
        reactor: Any,
        proxy: ProxyService,
        reload: Callable[[], None],
        reopen_log: Callable[[], None] | None,
    ) -> None:
        self._reactor = reactor
        self._proxy = proxy
        self._reload = reload
        self._reopen_log = reopen_log
        self._stopping = False

    def privilegedStartService(self) -> None:
        """Keep signals waiting: from the first listener on none may be fatal."""
        super().privilegedStartService()
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)

    def startService(self) -> None:
        """Install the handlers as soon as the reactor runs."""
        super().startService()
        self._reactor.callWhenRunning(self._install)

    def _install(self) -> None:
        self._handle(signal.SIGTERM, self._stop)
        self._handle(signal.SIGINT, self._stop)
        self._handle(signal.SIGHUP, self._reload)
        if self._reopen_log is not None:
            self._handle(signal.SIGUSR1, self._reopen_log)
        elif signal.getsignal(signal.SIGUSR1) in (signal.SIG_DFL, None):
            # twistd rotates its own log file on SIGUSR1; where it has none, do not die of it.
            self._handle(signal.SIGUSR1, lambda: log.info("SIGUSR1: there is no log to reopen"))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)

    def _handle(self, number: signal.Signals, call: Callable[[], None]) -> None:
        # A handler runs between any two instructions: let the reactor call when it is its turn.
        def handler(_number: int, _frame: FrameType | None) -> None:
            self._reactor.callFromThread(call)

        signal.signal(number, handler)

    def _stop(self) -> None:
        done = self._proxy.drain()
        if not self._stopping:
            self._stopping = True
            done.addCallback(lambda _: self._reactor.stop())
            done.addErrback(lambda failure: failure.trap(ReactorNotRunning))
