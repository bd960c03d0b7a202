"""Clients that never read, never write, stop in the middle of a word, or come twice too many."""

import asyncio
import contextlib

from tests.builders import python_hello
from tests.chaos.case import ChaosTestCase
from tests.chaos.channels import BROKEN, Channel
from tests.chaos.orders import OPENINGS, PIECE, Order
from tests.chaos.origins import Upload
from tests.chaos.transfers import TUNNELS, WAYS
from tests.integration.programs import DEADLINE, LOOPBACK, eventually, installed
from tests.integration.tls_clients import PROXY_NAME
from tests.integration.traffic import flip, flipping, serve
from whatsproxy import descriptors

READERS, WRITERS = 120, 600
#: Far more than all the buffers on the way hold.
BULK = 50_000_000
#: First words that are cut in the middle; the last of them are cut behind what tells their kind.
HALVES = (
    *(b"W", b"WA", b"E", b"ED\x00", b"\x16", b"\x16\x03\x01", python_hello(PROXY_NAME)[:90]),
    *(b"G", b"GET ", b"\xef\xbb", b"\r\n"),
    *(b"GET / HTTP/1.1\r\nHo", b"CONNECT origin.test:443 HTTP/1.1\r\n"),
)


class ClientTests(ChaosTestCase):
    """Each of them is ended, for the right reason; the honest notice nothing."""

    def test_who_never_reads(self) -> None:
        """Its memory is bounded, and when nothing moves for too long it is cut."""
        self.carry(config="timeouts.idle = 4\ntimeouts.chat_idle = 4")
        before = self.service.resident()
        peak = before

        async def ask(i: int) -> Channel:
            way = WAYS[i % len(WAYS)]
            order = self.site.order(down=BULK, chunked=bool(i % 2))
            channel = await self.site.open(way, order)
            channel.stall()
            await channel.send(self.site.words(way, order))
            return channel

        async def come() -> list[Channel]:
            return await asyncio.gather(*map(ask, range(READERS)))

        with self.honest():
            stalled = self.background.run(come(), 60)
            ended = self.service.ends().get("idle", 0)

            def all_cut() -> bool:
                nonlocal peak
                peak = max(peak, self.service.resident())
                return self.service.ends().get("idle", 0) >= ended + READERS

            eventually(all_cut, "all are cut", 40)
        self.background.run(leave(stalled))
        # A transport's buffer takes 64 KiB and one read; in TLS twice.
        self.assertLess(peak - before, READERS * 4 * PIECE + 20_000_000)
        self.assertLess(self.service.figure("bytes_sent_total"), READERS * BULK / 2)
        self.nothing_is_left()

    def test_who_never_writes(self) -> None:
        """Before the first byte, behind TLS, and behind CONNECT."""
        self.carry(config="timeouts.sniff = 2\ntimeouts.idle = 2\ntimeouts.chat_idle = 2")
        ways = ("raw", "tls/raw", "connect", "tls/connect")

        async def come() -> list[Channel]:
            opening = (self.site.open(ways[i % 4], self.site.order()) for i in range(WRITERS))
            return await asyncio.gather(*opening)

        async def all_end(silent: list[Channel]) -> None:
            for channel in silent:
                with contextlib.suppress(*BROKEN):
                    while await channel.reader.read(PIECE):
                        pass
                channel.close()

        with self.honest():
            silent = self.background.run(come(), 60)
            self.background.run(all_end(silent), 30)
        ends = self.service.ends()
        self.assertEqual((WRITERS / 2, WRITERS / 2), (ends["no_data"], ends["idle"]))
        self.nothing_is_left()

    def test_who_stops_in_the_middle_of_a_word(self) -> None:
        """Then waits, ends, or breaks off: in each case that is the end, and it is told."""
        self.carry(config="timeouts.sniff = 1\ntimeouts.http_head = 1\ntimeouts.tls_handshake = 1")
        before = self.service.ends()

        async def one(word: bytes, then: str) -> None:
            channel = await Channel.to(self.service.port)
            await channel.send(word)
            if then == "reset":
                channel.reset()
                return
            if then == "end":
                channel.end()
            with contextlib.suppress(*BROKEN):
                while await channel.reader.read(PIECE):
                    pass
            channel.close()

        thens = ("wait", "end", "reset")

        async def together() -> None:
            await asyncio.gather(*(one(w, t) for w in HALVES for t in thens for _ in range(10)))

        with self.honest():
            self.background.run(together(), 30)
        self.nothing_is_left()
        ends = {k: v - before.get(k, 0) for k, v in self.service.ends().items()}
        odd = ends.keys() - {
            *("client_closed", "client_reset", "upstream_closed", "upstream_reset", "answered"),
            *("undetected", "no_data", "tls_failed", "bad_request", "request_timeout"),
        }
        self.assertEqual(set(), odd, ends)

    def test_who_breaks_off(self) -> None:
        """In the middle of what it sends: the origin is told, and does not take it for the end."""
        self.carry()
        ways = tuple(TUNNELS) * 4
        orders = [self.site.order(up=BULK, down=10) for _ in ways]

        async def one(way: str, order: Order) -> None:
            channel = await self.site.open(way, order)
            await channel.send(self.site.words(way, order))
            await channel.send(order.sent_up(0, PIECE))
            while not self.origins.uploads.get(order.number, Upload()).got:
                await asyncio.sleep(0.01)  # nobody announces it
            channel.reset()

        async def together() -> None:
            await asyncio.gather(*map(one, ways, orders))

        with self.honest():
            self.background.run(together())
        self.nothing_is_left()
        # Now at the latest it has ended for the origin, too.
        told = {w: self.origins.uploads[o.number].how for w, o in zip(ways, orders, strict=True)}
        self.assertEqual(dict.fromkeys(ways, "reset"), told)


class FloodTests(ChaosTestCase):
    """Twice as many as may come, and not one descriptor more than the arithmetic asks for."""

    LIMIT = 400
    WAVES = 3

    def setUp(self) -> None:
        super().setUp()
        self.need_descriptors(4 * self.LIMIT)
        needed = self.LIMIT * descriptors.PER_CONNECTION + descriptors.RESERVE
        self.prefix = (installed("prlimit"), f"--nofile={needed}:{needed}")
        chat = self.background.run(serve(flipping))
        limit = f"server.max_connections = {self.LIMIT}"
        self.carry("--chat", f"{LOOPBACK}:{chat}", config=limit)

    def test_twice_too_many(self) -> None:
        """So many get in; the others are closed at once, and counted."""
        inside = self.background.run(self.flood(2 * self.LIMIT))
        self.assertEqual(self.LIMIT, len(inside))
        self.assertEqual(self.LIMIT, self.service.ends()["rejected"])
        self.assertEqual(200, self.service.get("/ready")[0])
        # And again, while those inside talk.
        talking = asyncio.run_coroutine_threadsafe(self.talk(inside), self.background.loop)
        for _ in range(self.WAVES):
            self.assertEqual([], self.background.run(self.flood(2 * self.LIMIT)))
        self.talked = True
        self.assertGreater(talking.result(DEADLINE), 0)
        rejected = (1 + 2 * self.WAVES) * self.LIMIT
        self.assertEqual(rejected, self.service.ends()["rejected"])
        # Who leaves makes room.
        self.background.run(leave(inside))
        self.emptied()
        inside = self.background.run(self.flood(self.LIMIT))
        self.assertEqual(self.LIMIT, len(inside))
        self.background.run(leave(inside))
        self.nothing_is_left()
        self.assertEqual(rejected, self.service.ends()["rejected"])

    async def flood(self, count: int) -> list[Channel]:
        """Come all at once; return those who are served."""

        async def one() -> Channel | None:
            channel = None
            try:
                channel = await Channel.to(self.service.port)
                await self.exchange(channel, OPENINGS["whatsapp"])
            except (ConnectionError, asyncio.IncompleteReadError):
                if channel is not None:
                    channel.close()
                return None
            return channel

        came = await asyncio.gather(*(one() for _ in range(count)))
        return [channel for channel in came if channel is not None]

    async def talk(self, inside: list[Channel]) -> int:
        """Let those inside talk until told; return how often each of them has."""
        turns = 0
        while not self.talked:
            turns += 1
            await asyncio.gather(*(self.exchange(c, b"%d bottles" % turns) for c in inside))
        return turns

    talked = False

    async def exchange(self, channel: Channel, data: bytes) -> None:
        await channel.send(data)
        self.assertEqual(flip(data), await channel.reader.readexactly(len(data)))


async def leave(channels: list[Channel]) -> None:
    for channel in channels:
        channel.reset()
