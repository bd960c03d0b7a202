"""Upgrade: after 101 there is no HTTP any more, but a relay; after anything else there is."""

from tests.flood import pattern
from tests.http_peers import HttpCase, HttpClient, OriginPeer, head_of
from tests.peers import settled, turn, until
from whatsproxy.reason import Reason

UPGRADE = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: dGhlIHNhbXBsZQ==")
ACCEPT = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
SWITCH = head_of(
    b"HTTP/1.1 101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: websocket", ACCEPT
)


class UpgradeCase(HttpCase):
    def setUp(self) -> None:
        super().setUp()
        self.start()

    async def upgraded(self, *behind: bytes) -> tuple[HttpClient, OriginPeer]:
        """Return a client and an origin that speak something else; what was behind is taken."""
        client, origin, _ = await self.asked(self.request(b"/", *UPGRADE), *behind)
        origin.write(SWITCH)
        self.assertEqual((await client.answer()).status, 101)
        return client, origin


class SwitchTests(UpgradeCase):
    async def test_both_ways(self) -> None:
        client, origin, asked = await self.asked(self.request(b"/chat", *UPGRADE))
        self.assertEqual(asked.field(b"connection"), b"Upgrade")
        self.assertEqual(asked.field(b"upgrade"), b"websocket")
        self.assertEqual(asked.field(b"sec-websocket-key"), b"dGhlIHNhbXBsZQ==")
        origin.write(SWITCH)
        answer = await client.answer()
        self.assertEqual(answer.line, b"HTTP/1.1 101 Switching Protocols")
        self.assertEqual(answer.field(b"connection"), b"Upgrade")
        self.assertEqual(answer.field(b"upgrade"), b"websocket")
        self.assertIn(ACCEPT, answer.fields)
        self.assertIsNone(answer.field(b"content-length"))
        self.assertIsNone(answer.field(b"transfer-encoding"))
        for data in (b"\x81\x05hello", bytes(range(256)) * 1000, self.request()):
            origin.received.clear()
            client.peer.received.clear()
            client.ask(data)
            await origin.got(data)
            origin.write(data[::-1])
            await client.peer.got(data[::-1])
        self.assertRequests(("GET", "1xx", "upstream", 1))

    async def test_right_behind_the_101(self) -> None:
        """What comes in the same segment belongs to the new protocol."""
        client, origin, _ = await self.asked(self.request(b"/", *UPGRADE))
        origin.write(SWITCH + b"\x81\x07welcome")
        await client.answer()
        await client.peer.got(b"\x81\x07welcome")
        client.peer.received.clear()
        origin.write(b"more")
        await client.peer.got(b"more")

    async def test_right_behind_the_request(self) -> None:
        """A client may not wait for 101; what it sends is kept until then."""
        client, origin, _ = await self.asked(self.request(b"/", *UPGRADE), b"early ")
        client.ask(b"and later ")
        self.assertEqual(await settled(lambda: bytes(origin.received)), b"")
        origin.write(SWITCH)
        await origin.got(b"early and later ")
        client.ask(b"and on")
        await origin.got(b"early and later and on")

    async def test_a_lot_behind_the_request(self) -> None:
        """Beyond a limit the client has to wait; then all of it arrives."""
        early = pattern(0, 1 << 20)
        client, origin, _ = await self.asked(self.request(b"/", *UPGRADE), early)
        kept = await settled(lambda: self.session().holder.wire.buffered)
        self.assertLessEqual(kept, 3 * 65536)
        origin.write(SWITCH)
        await origin.got(early)
        origin.write(b"thanks")
        await client.answer()
        await client.peer.got(b"thanks")

    async def test_bytes_are_counted_once(self) -> None:
        client, origin = await self.upgraded(b"early")
        await origin.got(b"early")
        client.ask(b"late")
        await origin.got(b"earlylate")
        origin.write(b"answer")
        await client.peer.got(b"answer")
        session = self.session()
        self.assertEqual(session.received, client.sent)
        self.assertEqual(session.sent, client.got + len(b"answer"))

    async def test_the_count_with_bytes_behind_the_101(self) -> None:
        client, origin, _ = await self.asked(self.request(b"/", *UPGRADE))
        origin.write(SWITCH + b"welcome")
        await client.answer()
        await client.peer.got(b"welcome")
        self.assertEqual(self.session().sent, client.got + len(b"welcome"))

    async def test_half_closes(self) -> None:
        client, origin = await self.upgraded()
        client.ask(b"last")
        client.peer.end()
        await origin.ended()
        self.assertEqual(origin.received, b"last")
        origin.write(b"answer")
        await client.peer.got(b"answer")
        origin.end()
        await client.peer.gone()
        await self.ended_with(Reason.CLIENT_CLOSED)

    async def test_the_client_had_ended_before(self) -> None:
        """The origin hears of it."""
        client, origin, _ = await self.asked(self.request(b"/", *UPGRADE), b"all")
        client.peer.end()
        await until(lambda: self.session().holder.ended)
        origin.write(SWITCH)
        await origin.got(b"all")
        await origin.ended()
        origin.write(b"answer")
        self.assertEqual((await client.answer()).status, 101)
        await client.peer.got(b"answer")
        origin.end()
        await self.ended_with(Reason.CLIENT_CLOSED)

    async def test_the_origin_ends_with_its_101(self) -> None:
        client, origin, _ = await self.asked(self.request(b"/", *UPGRADE))
        origin.write(SWITCH + b"bye")
        origin.end()
        self.assertEqual((await client.answer()).status, 101)
        await client.peer.got(b"bye")
        await client.peer.ended()
        client.ask(b"still heard")
        await origin.got(b"still heard")

    async def test_no_limit_of_http(self) -> None:
        client, origin = await self.upgraded()
        self.pass_time(200)
        client.ask(b"still there")
        await origin.got(b"still there")
        for _ in range(31):
            self.pass_time(10)
            await turn()  # in which the watch looks
        await client.peer.ended()
        await until(lambda: self.a_moment_passes() and not self.factory.ledger.live)
        await self.ended_with(Reason.IDLE)

    async def test_on_a_kept_connection(self) -> None:
        client, origin, _ = await self.asked()
        origin.answer()
        await client.answer()
        client.ask(self.request(b"/", *UPGRADE))
        await origin.request()
        origin.write(SWITCH + b"new")
        self.assertEqual((await client.answer()).status, 101)
        await client.peer.got(b"new")
        client.ask(b"words")
        await origin.got(b"words")
        client.peer.reset()
        await until(lambda: self.a_moment_passes() and origin.lost)

    async def test_behind_an_interim_answer(self) -> None:
        client, origin, _ = await self.asked(self.request(b"/", *UPGRADE))
        origin.write(head_of(b"HTTP/1.1 103 Early Hints") + SWITCH + b"new")
        self.assertEqual((await client.answer()).status, 103)
        self.assertEqual((await client.answer()).status, 101)
        await client.peer.got(b"new")


class NoSwitchTests(UpgradeCase):
    async def test_refused(self) -> None:
        """HTTP goes on, with what the client sent behind its request."""
        client, origin, _ = await self.asked(self.request(b"/", *UPGRADE), self.request(b"/2"))
        origin.answer(b"no", status=b"400 Bad Request")
        answer = await client.answer()
        self.assertEqual((answer.status, answer.body), (400, b"no"))
        self.assertEqual((await origin.request()).line, b"GET /2 HTTP/1.1")
        origin.answer(b"yes")
        self.assertEqual((await client.answer()).body, b"yes")
        self.assertRequests(("GET", "4xx", "upstream", 1), ("GET", "2xx", "upstream", 1))

    async def test_an_offer(self) -> None:
        """What an origin offers by Upgrade is for the next hop only."""
        client, origin, _ = await self.asked()
        origin.answer(b"x", b"Connection: Upgrade", b"Upgrade: h2c")
        answer = await client.answer()
        self.assertEqual(answer.fields, [b"Content-Length: 1"])

    async def assertBad(self, client: HttpClient, origin: OriginPeer) -> None:
        """101 that nobody asked for: what follows must not be taken for anything."""
        origin.write(SWITCH + head_of(b"HTTP/1.1 200 OK", b"Content-Length: 4") + b"evil")
        self.assertError(await client.answer(), 502, "not HTTP")
        self.assertEqual(await settled(lambda: bytes(client.peer.received), 5), b"")
        await until(lambda: origin.eof or origin.lost)

    async def test_101_without_a_wish(self) -> None:
        client, origin, asked = await self.asked()
        self.assertIsNone(asked.field(b"connection"))
        await self.assertBad(client, origin)

    async def test_101_when_the_wish_was_not_passed_on(self) -> None:
        """With a body, for cleartext HTTP/2, from an old client, or not named in Connection."""
        for request in (
            self.request(b"/", *UPGRADE, method=b"POST", body=b"x"),
            self.request(
                b"/", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: A"
            ),
            self.request(b"/", *UPGRADE, version=b"1.0"),
            self.request(b"/", b"Upgrade: websocket"),
        ):
            client, origin, asked = await self.asked(request)
            self.assertIsNone(asked.field(b"connection"))
            self.assertIsNone(asked.field(b"upgrade"))
            self.assertIsNone(asked.field(b"http2-settings"))
            await self.assertBad(client, origin)

    async def test_the_origin_fails(self) -> None:
        client, origin, _ = await self.asked(self.request(b"/", *UPGRADE), b"\x81\x05hello")
        origin.reset()
        self.assertError(await client.answer(), 502)

    async def test_the_client_goes(self) -> None:
        client, origin, _ = await self.asked(self.request(b"/", *UPGRADE))
        client.peer.reset()
        await origin.gone()
        await self.ended_with(Reason.CLIENT_RESET)

    async def test_a_stalled_client(self) -> None:
        """The relay takes over a client whose buffer was full, and nothing stands still."""
        client, origin, _ = await self.asked(self.request(b"/", *UPGRADE))
        client.peer.transport.pauseProducing()
        size = 1 << 20
        origin.write(SWITCH)
        for at in range(0, 8 * size, size):
            origin.write(pattern(at, size))
        for _ in range(50):
            await turn()
        client.peer.transport.resumeProducing()
        self.assertEqual((await client.answer()).status, 101)
        await until(lambda: len(client.peer.received) == 8 * size, "not all of it")
        for at in range(0, 8 * size, size):
            self.assertTrue(client.peer.received[at : at + size] == pattern(at, size))
        client.ask(b"thanks")
        await origin.got(b"thanks")
