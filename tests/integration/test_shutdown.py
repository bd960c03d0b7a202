"""SIGTERM: what can finish does, what cannot is cut, and the exit status says that all is well."""

import asyncio
import hashlib
import random
import signal
import socket
from contextlib import ExitStack

from tests.integration.programs import LOOPBACK, connects, eventually
from tests.integration.proxy import Proxy, ProxyTestCase
from tests.integration.traffic import (
    dial,
    digesting,
    ends,
    flip,
    flipping,
    opening,
    read_exactly,
    read_to_end,
    serve,
)

TRANSFERS = 100
#: Far more than the buffers of all sockets on the way hold.
BODY = random.Random(3).randbytes(1 << 20)
FIRST = opening("raw", random.Random(4))


async def offer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one download."""
    await reader.readexactly(len(FIRST))
    for i in range(0, len(BODY), 1 << 16):
        writer.write(BODY[i : i + (1 << 16)])
        await writer.drain()


class TransferTests(ProxyTestCase):
    """SIGTERM in the middle of a hundred transfers."""

    async def download(self, port: int, begun: asyncio.Barrier, go: asyncio.Event) -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.write(FIRST)
        got = await reader.readexactly(1 << 16)
        await begun.wait()
        await go.wait()
        got += await reader.read(-1)
        writer.close()
        self.assertEqual(len(BODY), len(got))
        self.assertTrue(got == BODY, "a byte arrived wrong")

    async def upload(self, port: int, begun: asyncio.Barrier, go: asyncio.Event) -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.write(BODY[: 1 << 19])
        await writer.drain()
        await begun.wait()
        await go.wait()
        writer.write(BODY[1 << 19 :])
        writer.write_eof()
        self.assertEqual(hashlib.sha256(BODY).digest(), await reader.read(-1))
        writer.close()

    def interrupt(self, upstream: int, proxy: Proxy, transfer: str) -> None:
        """Begin all transfers, send SIGTERM, and let them go on when the proxy is draining."""

        async def all_of_them() -> None:
            begun, go = asyncio.Barrier(TRANSFERS + 1), asyncio.Event()
            async with asyncio.TaskGroup() as group:
                for _ in range(TRANSFERS):
                    group.create_task(getattr(self, transfer)(proxy.port, begun, go))
                await begun.wait()
                await asyncio.to_thread(self.stop, proxy)
                go.set()

        self.background.run(all_of_them(), 60)
        self.assertEqual(0, proxy.wait())
        self.assertIn(f"drained: {TRANSFERS} connections finished, 0 cut", proxy.output())
        self.assertNotIn("Traceback", proxy.output())

    def stop(self, proxy: Proxy) -> None:
        proxy.signal(signal.SIGTERM)
        eventually(proxy.draining, "/ready says 503")
        eventually(lambda: not connects(proxy.port), "nobody is let in any more")
        self.assertEqual(200, proxy.get("/health")[0])

    def test_downloads_arrive_whole(self) -> None:
        upstream = self.background.run(serve(offer))
        self.interrupt(upstream, self.proxy("--chat", f"127.0.0.1:{upstream}"), "download")

    def test_uploads_arrive_whole(self) -> None:
        upstream = self.background.run(serve(digesting))
        self.interrupt(upstream, self.proxy("--chat", f"127.0.0.1:{upstream}"), "upload")


class CutTests(ProxyTestCase):
    """What does not finish in time."""

    def setUp(self) -> None:
        super().setUp()
        self.upstream = self.background.run(serve(flipping))
        self.open = ExitStack()
        self.addCleanup(self.open.close)

    def proxy_with(self, timeouts: str, connections: int) -> tuple[Proxy, list[socket.socket]]:
        """Start a proxy and so many connections through it that nobody ends."""
        proxy = self.proxy("--chat", f"127.0.0.1:{self.upstream}", config=f"[timeouts]\n{timeouts}")
        talking = [self.open.enter_context(dial(proxy.port)) for _ in range(connections)]
        for connection in talking:
            self.exchange(connection)
        return proxy, talking

    def exchange(self, connection: socket.socket) -> None:
        connection.sendall(FIRST)
        self.assertEqual(flip(FIRST), read_exactly(connection, len(FIRST)))

    def finish(self, connection: socket.socket) -> None:
        connection.shutdown(socket.SHUT_WR)
        self.assertEqual(b"", read_to_end(connection))

    def test_the_limit_cuts_the_rest(self) -> None:
        proxy, talking = self.proxy_with("shutdown = 1", 10)
        proxy.signal(signal.SIGTERM)
        eventually(proxy.draining, "/ready says 503")
        for connection in talking[:7]:
            self.exchange(connection)
            self.finish(connection)
        with self.within(4, "the rest of a limit of one second"):
            self.assertEqual(0, proxy.wait())
        for connection in talking[7:]:
            self.assertTrue(ends(connection))
        self.assertIn("drained: 7 connections finished, 3 cut", proxy.output())
        self.assertNotIn("Traceback", proxy.output())

    def test_a_reader_that_stopped_is_cut(self) -> None:
        self.upstream = self.background.run(serve(offer))
        proxy = self.proxy("--chat", f"127.0.0.1:{self.upstream}", config="timeouts.shutdown = 0.5")
        with dial(proxy.port) as stalled:
            stalled.sendall(FIRST)
            read_exactly(stalled, 1000)
            proxy.signal(signal.SIGTERM)
            with self.within(4, "a limit of half a second"):
                self.assertEqual(0, proxy.wait())
        self.assertIn("drained: 0 connections finished, 1 cut", proxy.output())

    def second_signal(self, first: signal.Signals, second: signal.Signals) -> None:
        proxy, talking = self.proxy_with("shutdown = 60", 3)
        proxy.signal(first)
        eventually(proxy.draining, "/ready says 503")
        self.finish(talking[0])
        # What the proxy has accounted for, it says: one is gone, and two are left.
        eventually(lambda: proxy.figure("connections_active") == 2, "one connection has ended")
        proxy.signal(second)
        with self.within(3, "an end at once"):
            self.assertEqual(0, proxy.wait())
        for connection in talking[1:]:
            self.assertTrue(ends(connection))
        self.assertIn("drained: 1 connections finished, 2 cut", proxy.output())
        self.assertNotIn("Traceback", proxy.output())

    def test_a_second_sigterm_cuts_at_once(self) -> None:
        self.second_signal(signal.SIGTERM, signal.SIGTERM)

    def test_a_second_sigint_cuts_at_once(self) -> None:
        self.second_signal(signal.SIGINT, signal.SIGINT)

    def test_nobody_there(self) -> None:
        proxy = self.proxy()
        proxy.signal(signal.SIGTERM)
        with self.within(3, "an end with nothing to wait for"):
            self.assertEqual(0, proxy.wait())
        self.assertIn("drained: 0 connections finished, 0 cut", proxy.output())

    def test_lame_duck_still_lets_in(self) -> None:
        proxy, _ = self.proxy_with("lame_duck = 1", 0)
        proxy.signal(signal.SIGTERM)
        eventually(proxy.draining, "/ready says 503")
        late = self.open.enter_context(dial(proxy.port))
        self.exchange(late)
        eventually(lambda: not connects(proxy.port), "nobody is let in any more")
        self.exchange(late)
        self.finish(late)
        self.assertEqual(0, proxy.wait())
        self.assertRegex(proxy.output(), r"drained: \d+ connections finished, 0 cut")
