"""Signals: who handles them from when on, and what each does."""

import os
import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.trial.unittest import SynchronousTestCase

from tests.support import keep_signal_handlers
from whatsproxy.signals import SignalService

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class FakeReactor:
    """Runs when the test says so; takes calls from handlers, and makes them later."""

    def __init__(self) -> None:
        self.when_running: list[Callable[[], None]] = []
        self.calls: list[Callable[[], None]] = []
        self.stopped = 0

    def callWhenRunning(self, call: Callable[[], None]) -> None:
        self.when_running.append(call)

    def callFromThread(self, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def stop(self) -> None:
        self.stopped += 1

    def run(self) -> None:
        for call in self.when_running:
            call()

    def turn(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class FakeProxy:
    def __init__(self) -> None:
        self.drained = 0
        self.done: Deferred[None] = Deferred()

    def drain(self) -> Deferred[None]:
        self.drained += 1
        return self.done


class SignalTests(SynchronousTestCase):
    def setUp(self) -> None:
        keep_signal_handlers(self)
        for number in SIGNALS:  # if a handler were missing, its signal must not end the tests
            signal.signal(number, lambda *_: None)
        self.reactor: Any = FakeReactor()
        self.proxy: Any = FakeProxy()
        self.reopened = 0
        self.reloaded = 0

    def reload(self) -> None:
        self.reloaded += 1

    def reopen(self) -> None:
        self.reopened += 1

    def start(self, reopen: Callable[[], None] | None = None) -> None:
        SignalService(self.reactor, self.proxy, self.reload, reopen).startService()
        self.reactor.run()

    def raise_signal(self, number: signal.Signals) -> None:
        os.kill(os.getpid(), number)
        self.reactor.turn()

    def handlers(self) -> list[Any]:
        return [signal.getsignal(number) for number in SIGNALS]

    def assertInstalled(self, before: list[Any]) -> None:
        self.assertTrue(all(a != b for a, b in zip(self.handlers(), before, strict=True)))

    def test_before_the_first_listener(self) -> None:
        """What arrives during the start is kept until the reactor runs, whoever handles it now."""
        self.addCleanup(signal.pthread_sigmask, signal.SIG_UNBLOCK, SIGNALS)
        for number in SIGNALS:
            signal.signal(number, lambda *_: self.fail("too early"))
        service = SignalService(self.reactor, self.proxy, self.reload, self.reopen)
        service.privilegedStartService()
        for number in SIGNALS:
            os.kill(os.getpid(), number)
        service.startService()
        self.reactor.run()
        self.reactor.turn()
        self.assertEqual((self.proxy.drained, self.reopened, self.reloaded), (2, 1, 1))

    def test_when_the_reactor_runs(self) -> None:
        """Once more, since reactor.run overwrites them; not in between."""
        service = SignalService(self.reactor, self.proxy, self.reload, self.reopen)
        service.startService()
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)  # as reactor.run does
        before = self.handlers()
        self.reactor.run()
        self.assertInstalled(before)

    def test_the_reactor_calls(self) -> None:
        """A handler does nothing by itself, wherever it interrupts."""
        self.start(self.reopen)
        for number in SIGNALS:
            os.kill(os.getpid(), number)
        self.assertEqual((self.proxy.drained, self.reopened, len(self.reactor.calls)), (0, 0, 4))

    def test_drain(self) -> None:
        """SIGTERM and SIGINT drain, and the reactor is stopped when that is done."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.reactor, self.proxy = FakeReactor(), FakeProxy()
            self.start()
            self.raise_signal(number)
            self.assertEqual((self.proxy.drained, self.reactor.stopped), (1, 0))
            self.proxy.done.callback(None)
            self.assertEqual(self.reactor.stopped, 1)

    def test_again(self) -> None:
        """A second one drains again (which cuts); the reactor is stopped once."""
        self.start()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            self.raise_signal(number)
        self.assertEqual(self.proxy.drained, 3)
        self.proxy.done.callback(None)
        self.assertEqual(self.reactor.stopped, 1)

    def test_the_reactor_has_stopped_already(self) -> None:
        """For another reason: nothing is left to be done, and nothing to be complained of."""

        def stop() -> None:
            raise ReactorNotRunning

        self.reactor.stop = stop
        self.start()
        self.raise_signal(signal.SIGTERM)
        self.proxy.done.callback(None)
        self.successResultOf(self.proxy.done)

    def test_reopen(self) -> None:
        self.start(self.reopen)
        self.raise_signal(signal.SIGUSR1)
        self.raise_signal(signal.SIGUSR1)
        self.assertEqual(self.reopened, 2)
        self.assertEqual(self.proxy.drained, 0)

    def test_twistd_writes_the_log(self) -> None:
        """Then SIGUSR1 is its own; but where nobody handles it, it must not kill."""
        mine = signal.getsignal(signal.SIGUSR1)
        self.start()
        self.assertIs(signal.getsignal(signal.SIGUSR1), mine)
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        self.start()
        self.assertNotEqual(signal.getsignal(signal.SIGUSR1), signal.SIG_DFL)
        self.raise_signal(signal.SIGUSR1)

    def test_hangup(self) -> None:
        """SIGHUP reloads, and nothing else."""
        self.start()
        self.raise_signal(signal.SIGHUP)
        self.assertEqual(self.reloaded, 1)
        self.assertEqual((self.proxy.drained, self.reactor.stopped), (0, 0))
