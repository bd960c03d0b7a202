"""Attempts: by any endpoint, with a Deferred in front; nobody is told once they are over."""

import gc
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase

from tests.socks5_attempt import Application, ToServer
from whatsproxy.attempts import attempt_by, deferred
from whatsproxy.transport import SingleProtocolFactory, StreamProtocol, hand_over


class Told:
    """Listens, and keeps what it is told."""

    def __init__(self) -> None:
        self.results: list[Any] = []

    def reached(self, holder: Any) -> None:
        self.results.append(holder)

    def unreached(self, error: Exception) -> None:
        self.results.append(error)


class AttemptByTests(SynchronousTestCase):
    """By an endpoint that has only the Deferred."""

    def setUp(self) -> None:
        self.server = ToServer()
        self.told = Told()
        self.attempt = attempt_by(self.server, self.told)

    def test_nothing_begins_by_itself(self) -> None:
        self.assertIsNone(self.server._factory)

    def test_success(self) -> None:
        self.attempt.start()
        self.server.arrive()
        (holder,) = self.told.results
        self.assertIs(holder.transport, self.server.transport)
        application = Application()
        hand_over(holder, application)
        self.server.feed(b"hello")
        self.assertEqual(application.received, b"hello")

    def test_failure(self) -> None:
        self.attempt.start()
        error = ConnectionRefusedError()
        self.server.fail(error)
        self.assertEqual(self.told.results, [error])

    def test_failure_at_once(self) -> None:
        error = ConnectionRefusedError()
        self.server.fail(error)
        self.attempt.start()
        self.assertEqual(self.told.results, [error])

    def test_an_endpoint_that_raises(self) -> None:
        error = RuntimeError("a bug")

        def broken(_: object) -> Any:
            raise error

        self.server.connect = broken  # type: ignore[method-assign]  # a fault is planted
        self.attempt.start()
        self.assertEqual(self.told.results, [error])

    def test_cancel(self) -> None:
        """Nobody is told, whether it has begun or not."""
        self.attempt.cancel()
        self.assertFalse(self.server.cancelled)
        self.attempt.start()
        self.attempt.cancel()
        self.assertTrue(self.server.cancelled)
        self.assertEqual(self.told.results, [])

    def test_an_endpoint_of_ours(self) -> None:
        """It makes its own."""
        endpoint: Any = ToServer()
        endpoint.attempt = lambda listener: (listener, "its own")
        self.assertEqual(attempt_by(endpoint, self.told), (self.told, "its own"))


class Scripted:
    """An endpoint, and its one attempt."""

    def __init__(self) -> None:
        self.started = self.cancelled = 0
        self.listener: Any = None

    def attempt(self, listener: Any) -> "Scripted":
        self.listener = listener
        return self

    def start(self) -> None:
        self.started += 1

    def cancel(self) -> None:
        self.cancelled += 1


class DeferredTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.endpoint = Scripted()
        self.server = ToServer()
        self.application = Application()
        self.result = deferred(self.endpoint, SingleProtocolFactory(self.application))

    def arrive(self) -> None:
        holder = StreamProtocol()
        self.server.transport.protocol = holder
        holder.makeConnection(self.server.transport)
        self.endpoint.listener.reached(holder)

    def test_success(self) -> None:
        """The factory's protocol has the connection before the Deferred fires."""
        self.assertEqual(self.endpoint.started, 1)
        self.arrive()
        self.assertIs(self.successResultOf(self.result), self.application)
        self.assertIs(self.application.transport, self.server.transport)
        self.result.cancel()
        self.assertEqual(self.endpoint.cancelled, 0)

    def test_no_cycle(self) -> None:
        """What is over is gone, without a garbage collection."""
        listener = self.endpoint.listener
        self.arrive()
        self.successResultOf(self.result)
        kept = gc.get_referents(listener)
        self.assertNotIn(self.result, kept)
        self.assertNotIn(self.endpoint, kept)

    def test_failure(self) -> None:
        self.endpoint.listener.unreached(ConnectionRefusedError())
        self.failureResultOf(self.result, ConnectionRefusedError)

    def test_cancel(self) -> None:
        self.result.cancel()
        self.failureResultOf(self.result, CancelledError)
        self.assertEqual(self.endpoint.cancelled, 1)

    def test_a_protocol_that_raises(self) -> None:
        """In the middle of its beginning: nothing stays open."""

        def broken(_: object) -> None:
            raise RuntimeError("a bug")

        self.application.makeConnection = broken  # type: ignore[method-assign]  # a fault is planted
        self.arrive()
        self.failureResultOf(self.result, RuntimeError)
        self.assertTrue(self.server.transport.disconnected)
