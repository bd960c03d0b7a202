"""SOCKS servers and upstreams that are absent, die, hang, babble or refuse."""

import asyncio
import contextlib
import random

from tests.integration.programs import eventually, free_port, sandboxed
from tests.integration.proxy import Proxy, ProxyTestCase
from tests.integration.third_party import microsocks
from tests.integration.traffic import (
    dial,
    ends,
    flip,
    flipping,
    opening,
    read_exactly,
    serve,
)

FIRST = opening("raw", random.Random(1))


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take everything, say nothing."""
    while await reader.read(4096):
        pass


async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speak, but not SOCKS."""
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await hang(reader, writer)


async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hang up on the greeting."""
    await reader.readexactly(3)


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greet back (RFC 1928), then answer any request with 5, connection refused."""
    with contextlib.suppress(asyncio.IncompleteReadError):  # a probe of the service's goes early
        await reader.readexactly(3)
        writer.write(b"\x05\x00")
        await reader.readexactly(10)
        writer.write(b"\x05\x05\x00\x01" + bytes(6))


class FaultTests(ProxyTestCase):
    """Each connection fails quickly and says why in the metrics; the service stays."""

    def setUp(self) -> None:
        super().setUp()
        self.upstream = self.background.run(serve(flipping))

    def proxy_by(self, socks_port: int, config: str = "") -> Proxy:
        options = ["-s", f"socks5://127.0.0.1:{socks_port}", "--chat", f"127.0.0.1:{self.upstream}"]
        return self.proxy(*options, config=config)

    def fails(self, proxy: Proxy, reason: str, times: int = 3) -> None:
        before = proxy.ends()
        for _ in range(times):
            with dial(proxy.port) as connection, self.within(5, f"the end for {reason}"):
                connection.sendall(FIRST)
                self.assertTrue(ends(connection))
        proxy.wait_for_ends({**before, reason: before.get(reason, 0) + times})
        self.assertEqual(0, proxy.figure("connections_active"))
        self.assertEqual(200, proxy.get("/health")[0])
        self.assertEqual(200, proxy.get("/ready")[0])

    def works(self, proxy: Proxy) -> None:
        with dial(proxy.port) as connection:
            connection.sendall(FIRST)
            self.assertEqual(flip(FIRST), read_exactly(connection, len(FIRST)))

    def test_absent_at_start_then_there(self) -> None:
        port = free_port()
        proxy = self.proxy_by(port)
        self.fails(proxy, "socks_unreachable")
        microsocks(self, port)
        self.works(proxy)

    def test_absent_at_start_is_a_warning(self) -> None:
        proxy = self.proxy_by(free_port())
        proxy.wait_for(r"(?i)warn.*socks")

    def test_killed_in_the_middle_then_back(self) -> None:
        server, port = microsocks(self)
        proxy = self.proxy_by(port)
        with dial(proxy.port) as connection:
            connection.sendall(FIRST)
            self.assertEqual(flip(FIRST), read_exactly(connection, len(FIRST)))
            with self.within(5, "the end of a connection whose SOCKS server died"):
                server.kill()
                self.assertTrue(ends(connection))
        (reason,) = eventually(proxy.ends, "the connection ended")
        self.assertIn(reason, ("upstream_closed", "upstream_reset"))
        self.fails(proxy, "socks_unreachable")
        microsocks(self, port)
        self.works(proxy)

    def test_hanging(self) -> None:
        port = self.background.run(serve(hang))
        self.fails(self.proxy_by(port, "timeouts.connect = 0.4"), "socks_timeout")

    def test_babbling(self) -> None:
        port = self.background.run(serve(babble))
        self.fails(self.proxy_by(port), "socks_not_socks")

    def test_hanging_up(self) -> None:
        port = self.background.run(serve(close))
        self.fails(self.proxy_by(port), "socks_lost")

    def test_refusing(self) -> None:
        port = self.background.run(serve(refuse))
        self.fails(self.proxy_by(port), "socks_refused")

    def test_refused_behind_a_real_server(self) -> None:
        self.upstream = free_port()
        _, port = microsocks(self)
        self.fails(self.proxy_by(port), "socks_refused")


class DirectTests(ProxyTestCase):
    """The same for upstreams that are dialled without SOCKS."""

    def ends_for(self, config: str, reason: str) -> None:
        proxy = self.proxy(config=config)
        with dial(proxy.port) as connection, self.within(5, f"the end for {reason}"):
            connection.sendall(FIRST)
            self.assertTrue(ends(connection))
        proxy.wait_for_ends({reason: 1})
        self.assertEqual(1, proxy.figure("errors_total"))

    def test_refused(self) -> None:
        self.ends_for(f'upstream.chat = ["127.0.0.1:{free_port()}"]', "upstream_refused")

    def test_unresolved(self) -> None:
        sandboxed()  # where no name server can be asked
        self.ends_for('upstream.chat = ["nowhere.invalid:5222"]', "upstream_unresolved")

    def test_turned_off(self) -> None:
        self.ends_for('upstream.raw = ["refuse"]', "refused_kind")

    def test_second_upstream_takes_over(self) -> None:
        upstream = self.background.run(serve(flipping))
        proxy = self.proxy("--chat", f"127.0.0.1:{free_port()}", "--chat", f"127.0.0.1:{upstream}")
        with dial(proxy.port) as connection:
            connection.sendall(FIRST)
            self.assertEqual(flip(FIRST), read_exactly(connection, len(FIRST)))

    def test_more_than_max_connections(self) -> None:
        upstream = self.background.run(serve(flipping))
        proxy = self.proxy("--chat", f"127.0.0.1:{upstream}", config="server.max_connections = 2")
        with dial(proxy.port) as one, dial(proxy.port) as two:
            for connection in (one, two):
                connection.sendall(FIRST)
                read_exactly(connection, len(FIRST))
            with dial(proxy.port) as three:
                self.assertTrue(ends(three))
            proxy.wait_for_ends({"rejected": 1})
            one.sendall(FIRST)
            self.assertEqual(flip(FIRST), read_exactly(one, len(FIRST)))
        self.assertEqual({"raw": 2, "rejected": 1}, proxy.kinds())
