"""An HTTP connection that is over is gone at once: nothing of it waits for the collector."""

import gc
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from tests.http_cases import ESTABLISHED, connect_to
from tests.http_peers import HttpCase, HttpClient, OriginPeer, head_of
from tests.peers import LOOPBACK, until
from tests.support import FAST

COUNT = 3
#: Twisted's clients are circles, and keep their factory: the tests', and the proxy's without hub.
TWISTEDS = {"SingleProtocolFactory", *(() if FAST else ("_Try",))}


def alive() -> Counter[str]:
    """Count the program's objects."""
    kinds = Counter(type(thing) for thing in gc.get_objects())
    return Counter(
        {
            kind.__name__: count
            for kind, count in kinds.items()
            if str(kind.__module__).startswith("whatsproxy.") and kind.__name__ not in TWISTEDS
        }
    )


class GoneTests(HttpCase):
    async def check(self, use: Callable[[HttpClient], Awaitable[Any]]) -> None:
        """Have some connections used, each to its end, after one that is the pattern."""
        self.start()
        await self.once(use)
        gc.collect()
        before = alive()
        self.assertIn("ProxyFactory", before)
        gc.disable()
        self.addCleanup(gc.enable)
        for _ in range(COUNT):
            await self.once(use)
        self.assertEqual(dict(alive() - before), {})

    async def once(self, use: Callable[[HttpClient], Awaitable[Any]]) -> None:
        client = await self.connect()
        await use(client)
        client.peer.close()
        for origin in self.origins.peers:
            await origin.ended()
            origin.close()
            await origin.gone()
        await until(lambda: self.a_moment_passes() and not self.factory.ledger.live)
        await until(lambda: not self.clock.getDelayedCalls())

    async def reached(self) -> OriginPeer:
        """Return the origin of the newest connection, which has got a head."""
        number = len([peer for peer in self.origins.peers if peer.lost]) + 1
        origin: OriginPeer = await self.origins.accepted(number)
        await until(lambda: b"\r\n\r\n" in origin.received)
        return origin

    async def test_requests_on_one_connection(self) -> None:
        async def use(client: HttpClient) -> None:
            for number in range(3):
                client.ask(self.request(b"/%d" % number))
                origin = await self.reached()
                origin.received.clear()
                origin.answer(b"x")
                self.assertEqual((await client.answer()).body, b"x")

        await self.check(use)

    async def test_a_tunnel(self) -> None:
        async def use(client: HttpClient) -> None:
            client.ask(connect_to(b"127.0.0.1:%d" % self.origins.port), b"hello\r\n\r\n")
            origin = await self.reached()
            origin.write(b"you")
            await client.peer.got(ESTABLISHED + b"you")

        await self.check(use)

    async def test_an_upload(self) -> None:
        async def use(client: HttpClient) -> None:
            client.ask(self.request(method=b"PUT", body=bytes(300_000)))
            origin = await self.reached()
            await origin.request()
            origin.answer()
            self.assertEqual((await client.answer()).status, 200)

        await self.check(use)

    async def test_half_an_upload(self) -> None:
        async def use(client: HttpClient) -> None:
            client.ask(self.request(method=b"PUT", body=bytes(300_000))[:-1])
            await self.reached()
            client.peer.reset()

        await self.check(use)

    async def test_a_refused_request(self) -> None:
        where = b"%s:1" % LOOPBACK.encode()

        async def use(client: HttpClient) -> None:
            line = b"GET http://example.com/ HTTP/1.1"
            client.ask(head_of(line, b"Host: example.com"))
            self.assertEqual((await client.answer()).status, 403)
            client.ask(connect_to(where))
            self.assertEqual((await client.answer()).status, 403)

        await self.check(use)

    async def test_a_bad_request(self) -> None:
        """The error has frames, and they have what they were about."""

        async def use(client: HttpClient) -> None:
            chunks = b"Transfer-Encoding: chunked"
            client.ask(self.request(b"/", chunks, method=b"PUT"), b"nonsense\r\n")
            self.assertEqual((await client.answer()).status, 400)

        await self.check(use)

    async def test_a_bad_answer(self) -> None:
        async def use(client: HttpClient) -> None:
            client.ask(self.request())
            (await self.reached()).write(b"nonsense\r\n\r\n")
            self.assertEqual((await client.answer()).status, 502)

        await self.check(use)
