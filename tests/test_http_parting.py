"""How HTTP peers are let go: time for who is in the middle of a body, little for others."""

from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.http_peers import HttpCase, head_of
from tests.peers import settled, until
from whatsproxy.destination import Destination
from whatsproxy.http1.heads import Limits
from whatsproxy.http1.wire import Wire
from whatsproxy.lingering import LINGER
from whatsproxy.protocols.client_leg import PARTING
from whatsproxy.protocols.origin import EVENTS_A_TURN, GOODBYE, Origin
from whatsproxy.reason import Reason

REFUSED = head_of(
    b"POST http://example.com/ HTTP/1.1", b"Host: example.com", b"Content-Length: 1000000"
)


class PartingTests(HttpCase):
    async def test_in_the_middle_of_a_body(self) -> None:
        """It may read its answer only when it has sent all."""
        self.start()
        client = await self.connect(REFUSED)
        self.assertEqual((await client.answer()).status, 403)
        self.pass_time(LINGER + 1)
        client.ask(b"x" * 500_000)
        await until(lambda: self.factory.ledger.received == client.sent)
        self.pass_time(PARTING - LINGER - 2)
        self.assertEqual(len(self.factory.ledger.live), 1)
        self.pass_time(2)
        await self.ended_with(Reason.REFUSED_NAME)

    async def test_others(self) -> None:
        """Whose request is malformed, too large or whole has no claim to more than LINGER."""
        self.start(http={"max_head": 1024})
        for request, status, reason in (
            (b"GET http://a b HTTP/1.1\r\n\r\n", 400, Reason.BAD_REQUEST),
            (b"GET / HTTP/1.1\r\nX: " + b"x" * 1100, 431, Reason.HEAD_TOO_LARGE),
        ):
            client = await self.connect(request)
            self.assertEqual((await client.answer()).status, status)
            self.pass_time(LINGER)
            await until(lambda: not self.factory.ledger.live)
            self.assertGreater(self.factory.ledger.ends[reason], 0)


class TurnTests(HttpCase):
    async def test_a_refused_flood_of_chunks(self) -> None:
        """What is not to be forwarded is not read for long, either: others have their turn."""
        self.start()
        read = 0
        original = Wire.next_event

        def counting(wire: Wire) -> Any:
            nonlocal read
            read += 1
            return original(wire)

        self.patch(Wire, "next_event", counting)
        head = head_of(
            b"POST http://example.com/ HTTP/1.1",
            b"Host: example.com",
            b"Transfer-Encoding: chunked",
        )
        client = await self.connect(head + b"1\r\nx\r\n" * 10_000)
        answer = await client.answer()
        self.assertEqual((answer.status, answer.field(b"connection")), (403, b"close"))
        await settled(lambda: read)
        self.assertLess(read, 2 * EVENTS_A_TURN)
        client.peer.reset()
        await self.ended_with(Reason.REFUSED_NAME)


class OriginTests(SynchronousTestCase):
    def test_one_that_does_not_take_the_rest(self) -> None:
        """Nobody waits for it: its descriptor is counted by no session."""
        clock = Clock()
        transport = StringTransport()
        origin = Origin(clock, Destination("a.test", 80), Limits())
        origin.makeConnection(transport)
        origin.close()
        self.assertTrue(transport.disconnecting)
        self.assertFalse(origin.usable)
        clock.advance(GOODBYE)
        self.assertTrue(transport.disconnected)
