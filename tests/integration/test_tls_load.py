"""A thousand TLS connections of mixed kinds at once; and readers that stall."""

import asyncio
import os
import random

from tests.integration.programs import LOOPBACK, eventually, sandboxed
from tests.integration.proxy import Proxy
from tests.integration.third_party import authority
from tests.integration.tls_clients import PROXY_NAME, TlsTestCase, tls_open, trusting
from tests.integration.tls_origins import HttpOrigin, HttpsOrigin, present, served
from tests.integration.traffic import ALLOWED_NAME, flip, flipping, opening

KINDS = ("chat", "http", "through")
CONNECTIONS = 1002
#: Bytes each way of each connection, after its first ones.
PAYLOAD = 20_000
#: Clients and upstreams live in this process.
DESCRIPTORS = 2 * CONNECTIONS + 200
ORIGIN = "origin.test"


class CrowdTests(TlsTestCase):
    """All have shaken hands, and have got an answer, before any of them goes on."""

    def setUp(self) -> None:
        sandboxed()
        super().setUp()
        self.need_descriptors(DESCRIPTORS)

    def test_a_thousand(self) -> None:
        identity = authority(ALLOWED_NAME)
        self.trust = trusting(identity.trust(self.directory))
        context = present(identity).context(self.directory)
        served(self, flipping, 443, context)
        chats = served(self, flipping)
        origin = HttpOrigin(self, 0, random.Random(50).randbytes(PAYLOAD))
        proxy = self.proxy(
            *("--chat", f"{LOOPBACK}:{chats}", "--allow", ORIGIN, "--allow", "*.whatsapp.net"),
            config=f"policy.allow_ports = [443, {origin.port}]",
        )
        each = CONNECTIONS // len(KINDS)
        self.background.run(self.crowd(proxy, origin), 60)
        proxy.wait_for_orderly_ends(CONNECTIONS)
        self.assertEqual({"tls": CONNECTIONS}, proxy.kinds())
        self.assertEqual(2 * each, proxy.figure("tls_handshakes_total", result="ok"))
        for kind in ("whatsapp", "http"):
            self.assertEqual(each, proxy.figure("tls_inner_connections_total", protocol=kind))
        self.assertEqual(4 * each, len(origin.requests))
        self.assertEqual(0, proxy.figure("errors_total"))
        self.nothing_is_wrong(proxy)

    async def crowd(self, proxy: Proxy, origin: HttpOrigin) -> None:
        together = asyncio.Barrier(CONNECTIONS + 1)
        # Dialled a few at a time: it is the connections that count here, not the listen queue.
        dialling = asyncio.Semaphore(60)

        async def one(seed: int) -> None:
            noise, kind = random.Random(seed), KINDS[seed % len(KINDS)]
            name, context = (ALLOWED_NAME, self.trust) if kind == "through" else (PROXY_NAME, None)
            async with dialling:
                reader, writer = await tls_open(proxy.port, name, *filter(None, [context]))
                exchange = self.fetch if kind == "http" else self.converse
                await exchange(reader, writer, origin, opening("whatsapp", noise), 1)
            await together.wait()
            await together.wait()
            await exchange(reader, writer, origin, noise.randbytes(PAYLOAD), 3)
            writer.close()
            await writer.wait_closed()

        async with asyncio.TaskGroup() as group:
            for seed in range(CONNECTIONS):
                group.create_task(one(seed))
            await together.wait()
            live = await asyncio.to_thread(proxy.figure, "connections_active")
            await together.wait()
        self.assertEqual(CONNECTIONS, live)

    async def converse(self, reader, writer, origin, data: bytes, times: int) -> None:
        writer.write(data)
        got = await reader.readexactly(len(data))
        self.assertTrue(got == flip(data), "other bytes came back")

    async def fetch(self, reader, writer, origin, data: bytes, times: int) -> None:
        for _ in range(times):
            place = f"{ORIGIN}:{origin.port}"
            writer.write(f"GET http://{place}/ HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            self.assertTrue(head.startswith(b"HTTP/1.1 200 "), head)
            got = await reader.readexactly(PAYLOAD)
            self.assertTrue(got == origin.body, "another body came")


class StalledTests(TlsTestCase):
    """Who does not read holds up his own connection, and no memory to speak of."""

    SIZE = 24 << 20
    #: Connections at a time; what passes in all is many times what memory may grow by.
    COUNT = 4
    GROWTH = 20 << 20

    def setUp(self) -> None:
        sandboxed()
        super().setUp()
        self.identity = authority(ORIGIN)
        self.body = os.urandom(self.SIZE)

    def start_proxy(self, config: str) -> Proxy:
        trust = self.identity.trust(self.directory)
        config = f'tls.upstream_ca_file = "{trust}"\n{config}'
        self.service = self.proxy("--allow", ORIGIN, config=config)
        # What the first connection takes, every process takes once.
        self.background.run(self.warm())
        self.before = self.resident()
        return self.service

    async def warm(self) -> None:
        reader, writer = await tls_open(self.service.port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        await reader.read(-1)
        writer.close()

    def resident(self) -> float:
        families = self.service.families()
        (sample,) = families["process_resident_memory_bytes"].samples
        return sample.value

    def stands_still(self) -> None:
        """Wait until nothing moves any more, and see that memory has not grown."""
        seen: list[float] = []

        def still() -> bool:
            received = self.service.figure("bytes_received_total")
            seen.append(received + self.service.figure("bytes_sent_total"))
            return len(seen) > 12 and len(set(seen[-12:])) == 1

        eventually(still, "nothing moves")
        self.assertLess(seen[-1], self.COUNT * self.SIZE / 2)
        grown = self.resident() - self.before
        self.assertLess(grown, self.GROWTH, f"grown by {grown / 2**20:.1f} MiB")

    def test_client_does_not_read(self) -> None:
        origin = HttpsOrigin(self, body=self.body)
        origin.show(present(self.identity))
        proxy = self.start_proxy("")

        async def ask() -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
            opened = [await tls_open(proxy.port) for _ in range(self.COUNT)]
            for _, writer in opened:
                writer.transport.pause_reading()
                writer.write(f"GET / HTTP/1.1\r\nHost: {ORIGIN}\r\n\r\n".encode())
            return opened

        async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
            writer.transport.resume_reading()
            await reader.readuntil(b"\r\n\r\n")
            data = bytearray()
            while len(data) < self.SIZE:
                data += await reader.read(1 << 16)
            writer.close()
            return bytes(data)

        opened = self.background.run(ask())
        self.stands_still()
        for pair in opened:
            self.assertTrue(self.background.run(read(*pair)) == self.body, "another body came")
        proxy.wait_for_ends({"answered": 1, "client_closed": self.COUNT})

    def test_upstream_does_not_read(self) -> None:
        """A chat leg in TLS, from a client in TLS."""
        go_on = asyncio.Event()

        async def stalling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"\1" + await reader.readexactly(1))
            writer.transport.pause_reading()
            await go_on.wait()
            writer.transport.resume_reading()
            data = bytearray()
            while len(data) < self.SIZE:
                data += await reader.read(1 << 16)
            writer.write(b"same" if bytes(data) == self.body else b"different")

        context = present(self.identity).context(self.directory)
        port = served(self, stalling, 0, context)
        proxy = self.start_proxy(f'upstream.chat = ["tls://{ORIGIN}:{port}"]')

        async def send() -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
            opened = [await tls_open(proxy.port) for _ in range(self.COUNT)]
            for reader, writer in opened:
                writer.write(b"\0")
                assert await reader.readexactly(2) == b"\1\0"
                writer.write(self.body)
            return opened

        async def answers(
            opened: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
        ) -> set[bytes]:
            go_on.set()
            said = {await reader.readexactly(4) for reader, _ in opened}
            for _, writer in opened:
                writer.close()
            return said

        opened = self.background.run(send())
        self.stands_still()
        self.assertEqual({b"same"}, self.background.run(answers(opened)))
