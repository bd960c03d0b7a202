"""WebSockets, by the library that Python programs use: through CONNECT and through Upgrade."""

import random
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.integration.http_clients import HttpTestCase
from tests.integration.http_origins import NAMES, Nginx, Origin
from tests.integration.http_wire import Connection
from tests.integration.programs import LOOPBACK, eventually
from tests.integration.third_party import authority
from tests.integration.traffic import dial, flip

#: One for each spelling of a length in a frame (RFC 6455, 5.2), and one beyond every buffer.
SIZES = [0, 1, 125, 126, 65_535, 65_536, 3_000_000]
MESSAGES = [random.Random(size).randbytes(size) for size in SIZES]
CONNECTED = ("CONNECT", "2xx", "proxy")
UPGRADED = ("GET", "1xx", "upstream")


class Forwarded(ClientConnection):
    """A client that asks a forward proxy for the WebSocket as for any page: in absolute form."""

    scheme = "http"

    def handshake(self, *args: Any, **settings: Any) -> None:
        """Shake hands; the target is the whole URL (RFC 6455, 4.1: absolute, http)."""
        connect = self.protocol.connect

        def absolute() -> Any:
            request = connect()
            request.path = f"{self.scheme}://{request.headers['Host']}{request.path}"
            return request

        self.protocol.connect = absolute
        super().handshake(*args, **settings)


class ForwardedAsSuch(Forwarded):
    """The same with the scheme of WebSockets, as aiohttp does it."""

    scheme = "ws"


class WebSocketTestCase(HttpTestCase):
    """A server, and clients of both kinds."""

    def setUp(self) -> None:
        super().setUp()
        #: How clients closed, as the server saw it.
        self.closed: list[tuple[int, str]] = []

    def serve(self, tls: ssl.SSLContext | None = None) -> int:
        """Start a server that flips every message, and closes when it is told to; return its port.

        It speaks first, right behind its handshake.
        """

        async def flipping(socket: ServerConnection) -> None:
            await socket.send("hello")
            async for message in socket:
                if isinstance(message, str):
                    await socket.close(1001, message)
                else:
                    await socket.send(flip(message))
            self.closed.append((socket.close_code or 0, socket.close_reason or ""))

        async def start() -> Any:
            return await serve(flipping, LOOPBACK, 0, ssl=tls, max_size=None)

        server = self.background.run(start())

        async def stop() -> None:
            server.close()
            await server.wait_closed()

        self.addCleanup(lambda: self.background.run(stop()))
        return int(server.sockets[0].getsockname()[1])

    @contextmanager
    def tunnelled(self, port: int, tls: ssl.SSLContext | None = None) -> Iterator[ClientConnection]:
        """Connect by CONNECT, as the library itself does with a proxy."""
        url = f"{'wss' if tls else 'ws'}://{NAMES[0]}:{port}/chat?x=1"
        with connect(url, proxy=self.by_proxy, ssl=tls, max_size=None) as socket:
            yield socket

    @contextmanager
    def forwarded(
        self, port: int, kind: type[Forwarded] = Forwarded, path: str = "/chat?x=1"
    ) -> Iterator[ClientConnection]:
        """Connect by a request for an upgrade."""
        with connect(
            f"ws://{NAMES[0]}:{port}{path}",
            sock=dial(self.service.port),
            proxy=None,
            max_size=None,
            create_connection=kind,
        ) as socket:
            yield socket

    def converse(self, socket: ClientConnection) -> None:
        self.assertEqual("hello", socket.recv(10))
        for message in MESSAGES:
            socket.send(message)
        for message in MESSAGES:
            self.assertEqual(flip(message), socket.recv(10))
        # In pieces, with a ping between them.
        socket.send(iter([b"one", b"two", b"three"]))
        self.assertTrue(socket.ping().wait(10))
        self.assertEqual(flip(b"onetwothree"), socket.recv(10))

    def closed_by_client(self, socket: ClientConnection) -> None:
        socket.close(1000, "good night")
        eventually(lambda: self.closed == [(1000, "good night")], "the server saw the close")
        self.assertEqual(1000, socket.close_code)

    def closed_by_server(self, socket: ClientConnection) -> None:
        socket.send("enough")
        closed = self.assertRaises(ConnectionClosedOK, socket.recv, 10)
        self.assertEqual((1001, "enough"), (closed.rcvd.code, closed.rcvd.reason))
        eventually(lambda: self.closed == [(1001, "enough")], "the close was confirmed")

    def upgraded(self) -> None:
        """One request was upgraded, and all that was said was counted."""
        self.all_is_well({UPGRADED: 1})
        self.assertEqual({"http": 1}, self.service.kinds())
        self.assertGreater(self.service.figure("bytes_sent_total"), sum(SIZES))
        self.assertGreater(self.service.figure("bytes_received_total"), sum(SIZES))


class WebSocketTests(WebSocketTestCase):
    """Messages of every size both ways at once, and an end from either side."""

    def test_tunnelled(self) -> None:
        port = self.serve()
        self.carry(port)
        with self.tunnelled(port) as socket:
            self.converse(socket)
            self.closed_by_client(socket)
        self.all_is_well({CONNECTED: 1})
        self.assertEqual({"connect": 1}, self.service.kinds())
        self.assertGreater(self.service.figure("bytes_sent_total"), sum(SIZES))
        self.assertGreater(self.service.figure("bytes_received_total"), sum(SIZES))

    def test_tunnelled_with_tls(self) -> None:
        identity = authority(*NAMES)
        theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        identity.certificate.configure_cert(theirs)
        ours = ssl.create_default_context()
        identity.authority.configure_trust(ours)
        port = self.serve(theirs)
        self.carry(port)
        with self.tunnelled(port, ours) as socket:
            self.converse(socket)
            self.closed_by_client(socket)
        self.all_is_well({CONNECTED: 1})

    def test_upgraded(self) -> None:
        port = self.serve()
        self.carry(port)
        with self.forwarded(port) as socket:
            self.converse(socket)
            self.closed_by_client(socket)
        self.upgraded()

    def test_upgraded_and_closed_by_the_server(self) -> None:
        port = self.serve()
        self.carry(port)
        with self.forwarded(port) as socket:
            self.converse(socket)
            self.closed_by_server(socket)
        self.upgraded()


class FurtherTests(WebSocketTestCase):
    """What does not depend on the way out."""

    def test_tunnelled_and_closed_by_the_server(self) -> None:
        port = self.serve()
        self.carry(port)
        with self.tunnelled(port) as socket:
            self.converse(socket)
            self.closed_by_server(socket)
        self.all_is_well({CONNECTED: 1})

    def test_upgraded_by_the_name_of_the_scheme(self) -> None:
        port = self.serve()
        self.carry(port)
        with self.forwarded(port, ForwardedAsSuch) as socket:
            self.converse(socket)
            self.closed_by_client(socket)
        self.upgraded()

    def test_the_first_words_come_with_the_switch(self) -> None:
        switch = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: words\r\n\r\n"
        origin = Origin(self.background, lambda request: switch + b"hello")
        self.carry(origin.port)

        async def ask() -> tuple[list[bytes], bytes]:
            client = await Connection.to(self.service.port)
            client.ask(origin.url("/"), "Connection: upgrade", "Upgrade: words")
            upgrade = (await client.head()).tokens("upgrade")
            words = await client.reader.readexactly(5)
            client.close()
            return upgrade, words

        self.assertEqual(([b"words"], b"hello"), self.background.run(ask()))
        self.assertEqual([b"words"], origin.requests[0].tokens("upgrade"))
        self.all_is_well({UPGRADED: 1})

    def test_an_upgrade_that_is_refused(self) -> None:
        nginx = Nginx(self)
        nginx.add("small.txt", b"not a socket")
        self.carry(nginx.port)

        def ask() -> None:
            with self.forwarded(nginx.port, path="/small.txt"):
                self.fail("nginx does not know WebSockets")

        refused = self.assertRaises(InvalidStatus, ask)
        self.assertEqual(
            (200, b"not a socket"), (refused.response.status_code, refused.response.body)
        )
        self.all_is_well({("GET", "2xx", "upstream"): 1})


class WebSocketBySocks5Tests(WebSocketTests):
    through_socks5 = True
