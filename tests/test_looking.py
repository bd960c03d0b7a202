"""The first bytes, looked at where they are: on the hub they stay in the kernel for whom TLS is."""

import random
import socket
from typing import Any

from tests.builders import python_hello
from tests.peers import LOOPBACK, settled, until
from tests.support import FAST, HTTP, RAW, WHATSAPP, fast
from tests.tls_peers import OURS, client_side
from tests.tls_support import TlsCase
from whatsproxy.factory import ProxyFactory
from whatsproxy.listen_codecs import Listener
from whatsproxy.networks import number_of
from whatsproxy.proxy_protocol import Ends, proxy_header
from whatsproxy.reason import Reason

ENDS = Ends(number_of("203.0.113.7"), 1234, number_of("203.0.113.8"), 443)


class LookingCase(TlsCase):
    """A proxy on the hub that may have to terminate TLS, at two doors."""

    if not FAST:
        skip = "there is no hub"

    def setUp(self) -> None:
        super().setUp()
        self.proxy = self.start_on_hub()

    def start_on_hub(self, **sections: Any) -> ProxyFactory:
        trusted = {"proxy_trusted": (LOOPBACK,)}
        self.factory = ProxyFactory(fast, self.settings(server=trusted, **sections))
        self.factory.tls.load()
        self.proxy_port = self._listening(fast, self.factory)
        door = self.factory.door_of(Listener(f"tcp:0:interface={LOOPBACK}", proxy_protocol=True))
        self.behind = self._listening(fast, door)
        return self.factory

    def first(self) -> Any:
        """Return the transport of the only session's client."""
        return self.session().holder.transport


class LeavingTests(LookingCase):
    """Those who are let go have been read: to close would be to break off."""

    async def test_refused(self) -> None:
        client = await self.client(b"\x16\x03\x01\x40\x00\x01\x00\x40")
        await until(lambda: self.factory.ledger.live)
        await settled(lambda: self.session().holder.buffer)
        self.assertTrue(self.first().showing)
        client.end()
        await client.ended()
        client.close()
        self.assertFalse(client.lost and not client.eof)
        await self.ended_with(Reason.UNDETECTED)

    async def test_far_too_much(self) -> None:
        """More than is ever looked at."""
        client = await self.client(b"A" * 40_000)
        upstream = await self.upstreams.accepted()
        await upstream.got(b"A" * 40_000)
        upstream.close()
        await client.ended()

    async def test_no_header(self) -> None:
        client = await self.dial(self.behind)
        client.write(b"GET / HTTP/1.1\r\n\r\n")
        await client.ended()
        client.close()
        await self.ended_with(Reason.PROXY_HEADER)

    async def test_time_is_over(self) -> None:
        self.start_on_hub(timeouts={"sniff": 0.05})
        client = await self.client(WHATSAPP[:2])
        await client.ended()
        client.close()
        await self.ended_with(Reason.UNDETECTED)


class TakenTests(LookingCase):
    """What it turns out to be is the next one's, every byte, and the end behind it."""

    async def test_kinds(self) -> None:
        for first in (WHATSAPP, RAW, WHATSAPP + b"x" * 3000, RAW + b"y" * 100_000):
            client = await self.client(first)
            upstream = await self.upstreams.accepted(len(self.upstreams.peers) + 1)
            await upstream.got(first)
            upstream.write(b"and back")
            await client.got(b"and back")
            client.write(b"and again")
            await upstream.got(first + b"and again")
            client.close()
            upstream.close()

    async def test_more_than_is_shown(self) -> None:
        """What is there already, behind what was looked at, comes without another event."""
        size = 1 << 20
        data = WHATSAPP + random.Random(6).randbytes(size)
        client = await self.client(data)
        upstream = await self.upstreams.accepted()
        await upstream.got(data)
        self.assertFalse(client.lost)

    async def test_an_end_at_once(self) -> None:
        """A FIN that came together with the first bytes."""
        for size in (0, 20_000):
            client = await self.dial(self.proxy_port)
            client.write(WHATSAPP + bytes(size))
            client.end()
            upstream = await self.upstreams.accepted(len(self.upstreams.peers) + 1)
            await upstream.ended()
            self.assertEqual(upstream.received, WHATSAPP + bytes(size))
            upstream.write(b"an answer")
            upstream.close()
            await client.got(b"an answer")
            await until(lambda: not self.factory.ledger.live)

    async def test_in_pieces(self) -> None:
        client = await self.client()
        for byte in WHATSAPP:
            client.write(bytes([byte]))
            await settled(lambda: None, 2)
        upstream = await self.upstreams.accepted()
        await upstream.got(WHATSAPP)

    async def test_http(self) -> None:
        client = await self.client(HTTP)
        await until(lambda: client.received)
        self.assertTrue(client.received.startswith(b"HTTP/1.1 "))
        client.close()


class HeaderTests(LookingCase):
    """A PROXY header is taken to its exact length; what is behind it is looked at, at once."""

    async def check(self, *pieces: bytes, tls: bool) -> None:
        """Send these pieces of a header and a first message, and talk."""
        number = len(self.upstreams.peers) + 1
        if tls:
            peer: Any = await self.dial_tls(client_side(), self.behind, starts=False)
            raw = peer.transport.write
            if pieces:
                waiting = bytearray()
                peer.transport.write = waiting.extend
                peer.go()
                peer.transport.write = raw
                pieces = self.split(b"".join(pieces) + bytes(waiting), len(pieces))
        else:
            peer = await self.dial(self.behind)
            raw = peer.transport.write
        for piece in pieces:
            raw(piece)
            await settled(lambda: None, 2)
        if tls:
            await peer.handshaken()
            peer.write(WHATSAPP)
        upstream = await self.upstreams.accepted(number)
        await upstream.got(WHATSAPP)
        self.assertEqual({s.client for s in self.factory.ledger.live}, {ENDS.client})
        peer.close()
        upstream.close()
        await until(lambda: not self.factory.ledger.live)

    def split(self, data: bytes, parts: int) -> tuple[bytes, ...]:
        """Cut data anywhere."""
        cuts = sorted(self.random.sample(range(1, len(data)), parts - 1))
        return tuple(data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True))

    async def test_any_pieces(self) -> None:
        self.random = random.Random(1928)
        for version in ("v1", "v2"):
            header = proxy_header(version, ENDS)
            for parts in (1, 1, 2, 2, 2, 3, 5, 9):
                await self.check(*self.split(header + WHATSAPP, parts), tls=False)
                await self.check(*self.split(header, parts), tls=True)

    async def test_each_place(self) -> None:
        """Around the end of the header."""
        header = proxy_header("v2", ENDS)
        for at in range(len(header) - 2, len(header) + 4):
            data = header + WHATSAPP
            await self.check(data[:at], data[at:], tls=False)


class PlainlyTests(LookingCase):
    """Where no TLS can be terminated the bytes are read in one go."""

    async def test_no_certificate(self) -> None:
        self.start_on_hub(tls={"certificate": ()})
        client = await self.client(WHATSAPP[:2])
        await until(lambda: self.factory.ledger.live and self.session().holder.buffer)
        self.assertFalse(self.first().showing)
        waiting = self.first().getHandle()
        with self.assertRaises(BlockingIOError):
            waiting.recv(1, socket.MSG_PEEK)
        client.write(WHATSAPP[2:])
        await (await self.upstreams.accepted()).got(WHATSAPP)

    async def test_a_certificate(self) -> None:
        hello = python_hello(OURS)[:100]
        client = await self.client(hello)
        await until(lambda: self.factory.ledger.live and self.session().holder.buffer)
        self.assertTrue(self.first().showing)
        self.assertEqual(self.first().getHandle().recv(1000, socket.MSG_PEEK), hello)
        client.reset()
        await self.ended_with(Reason.UNDETECTED)

    async def test_inside_of_tls(self) -> None:
        """There is nothing to be left for anybody."""
        await self.secured(WHATSAPP[:2])
        await until(lambda: getattr(self.session().holder, "buffer", b"") == WHATSAPP[:2])
        self.assertFalse(hasattr(self.first(), "look"))
