"""Kept origin connections that turn out to be dead: a safe request is sent once more."""

from twisted.internet.defer import succeed
from twisted.internet.error import ConnectionRefusedError

from tests.http_cases import ReuseCase
from tests.http_peers import HttpClient, OriginPeer, head_of
from tests.peers import settled, until
from tests.support import FakeUpstream
from whatsproxy.reason import Reason


class DeadTests(ReuseCase):
    """A kept connection that turns out to be dead."""

    async def test_it_was_closed_before(self) -> None:
        self.start()
        client, origin = await self.kept()
        origin.end()
        await origin.gone()  # the proxy has closed, too, without waiting for a request
        client.ask(self.request())
        await self.fresh()
        self.assertEqual((await client.answer()).body, b"fresh")

    async def test_it_was_reset_before(self) -> None:
        self.start()
        client, origin = await self.kept()
        origin.reset()
        await settled(lambda: len(self.origins.peers))
        client.ask(self.request())
        await self.fresh()
        self.assertEqual((await client.answer()).body, b"fresh")

    async def dies(self, origin: OriginPeer, *, reset: bool) -> None:
        await origin.request()
        origin.reset() if reset else origin.close()

    async def test_it_closes_at_this_moment(self) -> None:
        """The request was sent, and not a byte of an answer came: it is sent once more."""
        for reset in (False, True):
            self.start()
            before = len(self.origins.peers)
            client, origin, _ = await self.asked()
            origin.answer()
            await client.answer()
            client.ask(self.request(b"/again", b"X-Mine: 1"))
            await self.dies(origin, reset=reset)
            second = await self.origins.accepted(before + 2)
            asked = await second.request()
            self.assertEqual(asked.line, b"GET /again HTTP/1.1")
            self.assertEqual(asked.field(b"x-mine"), b"1")
            second.answer(b"fresh")
            self.assertEqual((await client.answer()).body, b"fresh")
            self.assertRequests(("GET", "2xx", "upstream", 2))
            # and that connection is kept like any other
            client.ask(self.request(b"/third"))
            self.assertEqual((await second.request()).line, b"GET /third HTTP/1.1")
            client.peer.reset()
            await self.ended_with(Reason.CLIENT_RESET)

    async def test_both_at_once(self) -> None:
        """The end and the next request in the same turn of the reactor, in either order."""
        self.start()
        for number, client_first in enumerate((True, False)):
            client, origin, _ = await self.asked()
            origin.answer()
            await client.answer()
            if client_first:
                client.ask(self.request(b"/again"))
            origin.close()
            client.ask(b"" if client_first else self.request(b"/again"))
            second = await self.origins.accepted(2 * number + 2)
            self.assertEqual((await second.request()).line, b"GET /again HTTP/1.1")
            second.answer(b"fresh")
            self.assertEqual((await client.answer()).body, b"fresh")

    async def test_once_only(self) -> None:
        """The second time it is an error."""
        self.start()
        client, origin = await self.kept(self.request())
        await self.dies(origin, reset=False)
        await self.dies(await self.origins.accepted(2), reset=False)
        answer = await client.answer()
        self.assertError(answer, 502, "upstream", "may or may not have had an effect")
        self.assertEqual(len(self.origins.peers), 2)
        self.assertIsNone(answer.field(b"connection"))
        client.ask(self.request())
        await self.fresh(3)
        self.assertEqual((await client.answer()).body, b"fresh")
        self.assertRequests(("GET", "2xx", "upstream", 2), ("GET", "5xx", "proxy", 1))

    async def test_not_a_fresh_one(self) -> None:
        """A connection that was made for the request is no old one that had been closed."""
        self.start()
        for method in (b"GET", b"POST"):
            before = len(self.origins.peers)
            client, origin, _ = await self.asked(self.request(method=method))
            origin.close()
            self.assertEqual((await client.answer()).status, 502)
            self.assertEqual(len(self.origins.peers), before + 1)

    async def test_never_a_post(self) -> None:
        """Whenever the kept connection goes, the origin gets a POST once."""
        self.start()
        client, origin = await self.kept()
        origin.close()
        client.ask(self.request(b"/post", method=b"POST", body=b"x"))
        second = await self.origins.accepted(2)
        self.assertEqual((await second.request()).line, b"POST /post HTTP/1.1")
        second.close()
        self.assertEqual((await client.answer()).status, 502)
        self.assertEqual(len(self.origins.peers), 2)
        self.assertEqual(origin.received, b"")

    async def test_not_once_it_has_answered(self) -> None:
        """One byte of an answer, or an interim one, and the request has had its effect."""
        self.start()
        for start in (b"H", head_of(b"HTTP/1.1 103 Early Hints")):
            before = len(self.origins.peers)
            client, origin, _ = await self.asked()
            origin.answer()
            await client.answer()
            client.ask(self.request())
            await origin.request()
            origin.write(start)
            origin.close()
            answer = await client.answer()
            if answer.status == 103:
                answer = await client.answer()
            self.assertEqual(answer.status, 502)
            self.assertEqual(len(self.origins.peers), before + 1)

    async def test_the_count_begins_anew(self) -> None:
        """Each request on a kept connection may be sent twice, not one of them only."""
        self.start()
        client, origin = await self.kept()
        for number in (2, 3, 4):
            client.ask(self.request())
            await self.dies(origin, reset=False)
            origin = await self.fresh(number)
            self.assertEqual((await client.answer()).body, b"fresh")


class RepeatTests(ReuseCase):
    """What may happen while a request is sent for the second time."""

    async def repeating(self) -> tuple[HttpClient, FakeUpstream]:
        """Return a client whose second request waits for a second connection."""
        upstream = FakeUpstream()
        self.start(fake=upstream)
        arrival = await self.arrival(self.origins.port)
        waiting, upstream.answer = upstream.answer, lambda: succeed(arrival)
        client, origin = await self.kept(number=1)
        upstream.answer = waiting
        client.ask(self.request())
        await self.dies_under(origin)
        await until(lambda: len(upstream.asked) == 2)
        return client, upstream

    async def dies_under(self, origin: OriginPeer) -> None:
        await origin.request()
        self.clock.advance(self.factory.settings.timeouts.http_answer - 1)
        origin.close()

    async def test_there_is_no_connection(self) -> None:
        """That is the reason that the client hears."""
        client, upstream = await self.repeating()
        upstream.last.errback(ConnectionRefusedError())
        self.assertError(await client.answer(), 502, "refused", "Nothing listens there")
        self.assertRequests(("GET", "2xx", "upstream", 1), ("GET", "5xx", "proxy", 1))

    async def test_the_client_goes(self) -> None:
        client, upstream = await self.repeating()
        client.peer.reset()
        await self.ended_with(Reason.CLIENT_RESET)
        self.assertEqual(upstream.cancelled, 1)

    async def test_the_time_of_the_answer(self) -> None:
        """The client's request was whole: what is late is the upstream."""
        client, _ = await self.repeating()
        self.clock.advance(2)
        try:
            await until(lambda: client.peer.received, seconds=0.2)
        except AssertionError:
            return  # the connect has a limit of its own
        self.assertEqual((await client.answer()).status, 504)
