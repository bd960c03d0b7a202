"""LingeringClose by itself: what it asks of the transport, and when it gives up."""

from twisted.internet.error import ConnectionAborted
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from whatsproxy.lingering import DROP_LIMIT, LINGER, LingeringClose


class Transport:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def resumeProducing(self) -> None:
        self.calls.append("resume")

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def loseWriteConnection(self) -> None:
        self.calls.append("end")

    def loseConnection(self) -> None:
        self.calls.append("close")

    def abortConnection(self) -> None:
        self.calls.append("abort")


class LingeringCloseTests(SynchronousTestCase):
    def start(self, **options: object) -> LingeringClose:
        self.clock = Clock()
        self.told: list[str] = []
        self.transport = Transport()
        farewell = LingeringClose(self.clock, lambda: self.told.append("gone"), **options)
        farewell.makeConnection(self.transport)
        return farewell

    def test_in_order(self) -> None:
        """Read on, end, wait for the peer's end, close."""
        farewell = self.start()
        self.assertEqual(self.transport.calls, ["resume", "end"])
        farewell.writeConnectionLost()
        farewell.dataReceived(b"x" * DROP_LIMIT)
        farewell.readConnectionLost()
        self.assertEqual(self.transport.calls, ["resume", "end", "close"])
        self.assertEqual(self.told, [])
        farewell.connectionLost(Failure(ConnectionAborted()))
        self.assertEqual(self.told, ["gone"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_peer_has_ended(self) -> None:
        self.start(peer_ended=True)
        self.assertEqual(self.transport.calls, ["close"])

    def test_a_reader_that_takes_its_time(self) -> None:
        """Our FIN is queued behind what the kernel still holds for it."""
        for options, limit in (({}, LINGER), ({"linger": 30.0}, 30.0)):
            farewell = self.start(**options)
            farewell.writeConnectionLost()
            self.clock.advance(limit - 0.1)
            self.assertNotIn("close", self.transport.calls)
            self.clock.advance(0.1)
            self.assertEqual(self.transport.calls[-1], "close")

    def test_a_reader_that_stalls(self) -> None:
        """Aborted when the buffer has not gone out in time, and somebody told of it."""
        for options, limit in (({}, LINGER), ({"flush": 77.0}, 77.0)):
            for peer_ended in (False, True):
                stalled: list[bool] = []
                self.start(
                    stalled=lambda s=stalled: s.append(True), peer_ended=peer_ended, **options
                )
                self.clock.advance(limit - 0.1)
                self.assertNotIn("abort", self.transport.calls)
                self.clock.advance(0.1)
                self.assertEqual(self.transport.calls[-1], "abort")
                self.assertEqual(stalled, [True])

    def test_a_peer_that_does_not_end(self) -> None:
        """LINGER seconds after our end the rest is left to the kernel, however long that took."""
        farewell = self.start(flush=77.0)
        self.clock.advance(50)
        farewell.writeConnectionLost()
        self.clock.advance(LINGER - 0.1)
        self.assertNotIn("close", self.transport.calls)
        self.clock.advance(0.1)
        self.assertEqual(self.transport.calls[-1], "close")

    def test_a_peer_that_goes_on_sending(self) -> None:
        farewell = self.start()
        farewell.dataReceived(b"x" * DROP_LIMIT)
        self.assertNotIn("pause", self.transport.calls)
        farewell.dataReceived(b"x")
        self.assertEqual(self.transport.calls[-1], "pause")
