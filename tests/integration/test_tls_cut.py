"""Streams that are cut short, or turn into nonsense, inside TLS: never an end, always an error."""

import asyncio
import os
import socket
import ssl
import struct

from tests.integration.programs import LOOPBACK, eventually, sandboxed
from tests.integration.proxy import Proxy
from tests.integration.third_party import authority
from tests.integration.tls_clients import TlsTestCase, exchange, farewell, tls_dial
from tests.integration.tls_origins import present, served
from tests.integration.traffic import ends, flip, flipping

#: A record that nobody's key has made, and the fatal alert internal_error (80), in the clear.
NONSENSE = {"record": b"\x17\x03\x03\x00\x20" + bytes(32), "alert": b"\x15\x03\x03\x00\x02\x02\x50"}
ORIGIN = "origin.test"


class CutTests(TlsTestCase):
    """A stream that is cut short is an error to the other side, and never its end."""

    def setUp(self) -> None:
        super().setUp()
        #: How each connection to the upstream ended.
        self.endings: list[str] = []
        self.port = served(self, self.serve)
        self.service = self.proxy("--chat", f"{LOOPBACK}:{self.port}")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send back what comes; ``reset`` and ``close`` are done."""
        try:
            while data := await reader.read(1 << 16):
                if data == b"\0reset":
                    linger = struct.pack("ii", 1, 0)
                    sock = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    writer.transport.abort()
                    return
                writer.write(flip(data))
                if data == b"\0close":
                    writer.close()
                    return
            self.endings.append("end")
        except ConnectionResetError:
            self.endings.append("reset")

    def joined(self, first: bytes) -> ssl.SSLSocket:
        connection = tls_dial(self.service.port)
        self.addCleanup(connection.close)
        connection.sendall(b"\0raw")
        exchange(connection, flip(b"\0raw"))
        connection.sendall(first)
        return connection

    def test_client(self) -> None:
        self.joined(b"").unwrap()
        eventually(lambda: self.endings == ["end"], "the upstream sees the end")
        self.joined(b"").close()
        eventually(lambda: self.endings == ["end", "reset"], "the upstream sees no end")
        ended = self.joined(b"")
        # TCP ends, and TLS does not.
        ended.shutdown(socket.SHUT_WR)
        eventually(lambda: self.endings == ["end", "reset", "reset"], "the upstream sees no end")
        self.service.wait_for_ends({"client_closed": 1, "client_reset": 2})

    def test_upstream(self) -> None:
        with self.joined(b"\0close") as connection:
            self.assertEqual(flip(b"\0close"), farewell(connection))
        with self.joined(b"\0reset") as connection, self.assertRaises((OSError, ssl.SSLError)):
            farewell(connection)
        self.service.wait_for_ends({"upstream_closed": 1, "upstream_reset": 1})


class OriginTests(TlsTestCase):
    """An origin that stops in the middle: its client learns of it, in TLS as well."""

    def setUp(self) -> None:
        sandboxed()
        super().setUp()
        identity = authority(ORIGIN)
        self.context = present(identity).context(self.directory)
        self.trust = identity.trust(self.directory)

    def carry(self, port: int, more: str = "") -> Proxy:
        config = f'tls.upstream_ca_file = "{self.trust}"\npolicy.allow_ports = [{port}]\n{more}'
        self.service = self.proxy("--allow", ORIGIN, config=config)
        self.words = ("--insecure", "--header", f"Host: {ORIGIN}:{port}")
        self.url = f"https://{LOOPBACK}:{self.service.port}"
        return self.service

    def test_cut(self) -> None:
        """Only the end delimits the answer: there are an end that counts and one that does not."""

        async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nthe beginning")
            await writer.drain()
            if b"/cut" in request:
                # TCP ends, and TLS does not.
                writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
                await reader.read(-1)

        self.carry(served(self, cut, 0, self.context))
        for version in ("--http1.1", "--http1.0"):
            whole = self.curled(version, *self.words, f"{self.url}/whole")
            self.assertEqual("the beginning", whole)
            curl = self.start("curl", "--silent", version, *self.words, f"{self.url}/cut")
            self.assertNotEqual(0, curl.wait(), curl.output())
        eventually(lambda: self.service.ends().get("upstream_reset") == 2, "two answers were cut")

    def test_nonsense(self) -> None:
        """It is the origin's fault, not the proxy's: 502, or an answer that breaks off."""

        async def spoil(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = await reader.readuntil(b"\r\n\r\n")
            _, early, what = request.split(b" ")[1].decode().split("/")
            if early == "answered":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nthe beginning")
                await writer.drain()
            os.write(writer.get_extra_info("socket").fileno(), NONSENSE[what])
            await reader.read(-1)

        self.carry(served(self, spoil, 0, self.context))
        for what in NONSENSE:
            code = self.curled(
                *("--output", "/dev/null", "--write-out", "%{http_code}"),
                *(*self.words, f"{self.url}/silent/{what}"),
            )
            self.assertEqual("502", code, what)
            curl = self.start("curl", "--silent", *self.words, f"{self.url}/answered/{what}")
            self.assertNotEqual(0, curl.wait(), curl.output())
        # Who was answered has not met an error.
        self.no_fault_of_ours(self.service, 4, errors=2)

    def test_nonsense_in_a_relay(self) -> None:
        async def spoil(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            what = (await reader.readexactly(7))[1:].decode().strip()
            os.write(writer.get_extra_info("socket").fileno(), NONSENSE[what])
            await reader.read(-1)

        port = served(self, spoil, 0, self.context)
        proxy = self.carry(port, f'upstream.chat = ["tls://{ORIGIN}:{port}"]')
        for what in NONSENSE:
            with tls_dial(proxy.port) as connection:
                connection.sendall(f"\0{what:6}".encode())
                self.assertRaises((OSError, ssl.SSLError), farewell, connection)
        self.no_fault_of_ours(proxy, 2)

    def no_fault_of_ours(self, proxy: Proxy, count: int, errors: int | None = None) -> None:
        eventually(lambda: sum(proxy.ends().values()) == count, "all have ended")
        self.assertEqual(0, proxy.ends().get("internal", 0), proxy.ends())
        self.assertEqual(count if errors is None else errors, proxy.figure("errors_total"))

    def test_nonsense_of_a_client(self) -> None:
        port = served(self, flipping)
        proxy = self.proxy("--chat", f"{LOOPBACK}:{port}", "--allow", ORIGIN)
        firsts = {
            "relay": b"\0raw",
            "between requests": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "in a head": b"GET / HTTP/1.1\r\nHo",
        }
        for where, first in firsts.items():
            for nonsense in NONSENSE.values():
                connection = tls_dial(proxy.port)
                connection.sendall(first)
                if where != "in a head":
                    self.assertTrue(connection.recv(1))
                # What is below TLS.
                with socket.socket(fileno=connection.detach()) as below:
                    below.settimeout(10)
                    below.sendall(nonsense)
                    self.assertTrue(ends(below), where)
        self.no_fault_of_ours(proxy, 2 * len(firsts))
