"""SIGTERM while clients keep their connections: an answer in progress is the last one."""

import asyncio
import signal

from tests.integration.http_clients import HttpTestCase
from tests.integration.http_origins import NAMES, Origin, answer
from tests.integration.http_wire import Connection, Message, read_body, read_head, read_request
from tests.integration.programs import Background, eventually
from tests.integration.traffic import dial, flip, flipping, read_to_end, serve, write_apart

BODY = bytes(range(256)) * 400
HALF = len(BODY) // 2


class HeldOrigin(Origin):
    """An origin that is stopped in the middle, before its answer or, at /middle, within it.

    ``reached`` is when it has got so far, and it goes on at ``go``. Paths that begin with /free are
    answered at once.
    """

    def __init__(self, background: Background) -> None:
        super().__init__(background, lambda request: answer(BODY))
        self.reached, self.go = asyncio.Event(), asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await read_request(reader)) is not None:
            self.requests.append(request)
            whole = self._answer(request)
            sent = len(whole) - HALF if request.target == "/middle" else 0
            writer.write(whole[:sent])
            if not request.target.startswith("/free"):
                self.reached.set()
                await self.go.wait()
            writer.write(whole[sent:])
            await writer.drain()


class DrainTests(HttpTestCase):
    """One connection is being served, or was."""

    def setUp(self) -> None:
        super().setUp()
        self.origin = HeldOrigin(self.background)
        self.echo = self.background.run(serve(flipping))
        self.carry(self.origin.port, self.echo)

    async def connect(self) -> Connection:
        """Return a connection that has been used before."""
        client = await Connection.to(self.service.port)
        first = await client.fetch(self.origin.url("/free"))
        self.assertEqual(BODY, first.body)
        self.assertNotIn(b"close", first.tokens("connection"))
        return client

    async def terminate(self) -> None:
        """Send SIGTERM, and wait until the proxy drains."""
        self.service.signal(signal.SIGTERM)
        await asyncio.to_thread(eventually, self.service.draining, "/ready says 503")

    def ends_well(self, finished: int = 1) -> None:
        """See that the program ends of itself at once, with nothing cut."""
        with self.within(5, "the end of a drain with nothing left"):
            self.assertEqual(0, self.service.wait())
        self.assertIn(f"drained: {finished} connections finished, 0 cut", self.service.output())
        self.assertNotIn("Traceback", self.service.output())

    def test_idle(self) -> None:
        async def idle() -> None:
            clients = [await self.connect() for _ in range(3)]
            self.service.signal(signal.SIGTERM)
            for client in clients:
                self.assertTrue(await client.at_end())
                client.close()

        self.background.run(idle())
        self.ends_well(3)

    async def finish(self, client: Connection) -> Message:
        """Let the origin go on, and return the answer; it is the last one."""
        self.origin.go.set()
        last = await client.answer()
        self.assertEqual((200, BODY), (last.status, last.body))
        return last

    def test_before_the_answer(self) -> None:
        async def work() -> None:
            client = await self.connect()
            client.ask(self.origin.url("/before"))
            await self.origin.reached.wait()
            await self.terminate()
            last = await self.finish(client)
            self.assertEqual([b"close"], last.tokens("connection"))
            self.assertTrue(await client.at_end())
            client.close()

        self.background.run(work())
        self.ends_well()

    def test_within_the_answer(self) -> None:
        async def work() -> None:
            client = await self.connect()
            client.ask(self.origin.url("/middle"))
            await self.origin.reached.wait()
            # Its head was sent when nobody knew of an end.
            last = await client.head()
            await self.terminate()
            self.origin.go.set()
            await read_body(client.reader, last)
            self.assertEqual(BODY, last.body)
            self.assertTrue(await client.at_end())
            client.close()

        self.background.run(work())
        self.ends_well()

    def test_within_the_request(self) -> None:
        async def work() -> None:
            client = await self.connect()
            client.ask(self.origin.url("/free/up"), f"Content-Length: {len(BODY)}", method="PUT")
            client.writer.write(BODY[:HALF])
            await client.writer.drain()
            received = HALF + len(self.origin.url("/free/up"))
            await asyncio.to_thread(
                eventually,
                lambda: self.service.figure("bytes_received_total") > received,
                "the proxy has the first half",
            )
            await self.terminate()
            client.writer.write(BODY[HALF:])
            last = await self.finish(client)
            self.assertEqual([b"close"], last.tokens("connection"))
            self.assertTrue(await client.at_end())
            client.close()

        self.background.run(work())
        self.assertEqual(BODY, self.origin.requests[-1].body)
        self.ends_well()

    async def gets_nothing_more(self, client: Connection) -> None:
        """The proxy ends the connection, after 503 if it says anything at all."""
        refusal = await read_head(client.reader)
        if refusal is not None:
            await read_body(client.reader, refusal)
            self.assertEqual(503, refusal.status)
            self.assertEqual([b"close"], refusal.tokens("connection"))
            self.assertTrue(await client.at_end())
        client.close()

    def test_another_request_behind(self) -> None:
        async def work() -> None:
            client = await self.connect()
            client.ask(self.origin.url("/before"))
            await self.origin.reached.wait()
            client.ask(self.origin.url("/free/early"))
            await self.terminate()
            client.ask(self.origin.url("/free/late"))
            await self.finish(client)
            await self.gets_nothing_more(client)

        self.background.run(work())
        self.ends_well()
        self.assertEqual(["/free", "/before"], [r.target for r in self.origin.requests])

    def test_half_a_head(self) -> None:
        host = f"{NAMES[0]}:{self.origin.port}"
        with dial(self.service.port) as client:
            # The empty piece is written when the proxy has read the one before it.
            write_apart(client, [f"GET http://{host}/free HTTP/1.1\r\n".encode(), b""])
            self.service.signal(signal.SIGTERM)
            eventually(self.service.draining, "/ready says 503")
            client.sendall(f"Host: {host}\r\n\r\n".encode())
            self.assertRegex(read_to_end(client), rb"^(HTTP/1\.1 503 |$)")
        self.ends_well()
        self.assertEqual([], self.origin.requests)

    def test_a_tunnel_goes_on(self) -> None:
        async def work() -> None:
            client = await Connection.to(self.service.port)
            authority = f"{NAMES[0]}:{self.echo}"
            head = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"
            client.writer.write(head.encode())
            self.assertEqual(200, (await client.head()).status)
            await self.terminate()
            client.writer.write(BODY)
            self.assertEqual(flip(BODY), await client.reader.readexactly(len(BODY)))
            client.close()

        self.background.run(work())
        self.ends_well()
