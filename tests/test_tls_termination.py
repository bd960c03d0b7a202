"""Handshakes of clients that end otherwise: in pieces, late, broken, or not at all."""

import contextlib
from typing import Any

from OpenSSL import SSL

from tests.builders import python_hello
from tests.http_peers import TurningClock
from tests.peers import LOOPBACK, Peer, turn, until
from tests.support import RAW, WHATSAPP, log_lines
from tests.tls_peers import OURS, TLS12, TLS13, client_side
from tests.tls_support import TlsCase
from whatsproxy.destination import Destination
from whatsproxy.protocols.refused import UNRECOGNIZED_NAME
from whatsproxy.protocols.tls import TlsHandshake
from whatsproxy.reason import Reason
from whatsproxy.sniff import Kind

HANDSHAKE = 7.0


class TerminationCase(TlsCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = TurningClock()
        self.proxy = self.start(
            clock=self.clock, timeouts={"tls_handshake": HANDSHAKE, "sniff": 1000.0}
        )

    def assertCounted(self, result: str, count: int = 1) -> None:
        """These are all the handshakes that there were."""
        self.assertEqual(self.proxy.ledger.handshakes, {(result, "none", "no"): count})

    async def handshaking(self, first: bytes | None = None) -> Peer:
        """Connect a client that has sent its ClientHello, or so much, and gets an answer."""
        client = await self.client(python_hello(OURS) if first is None else first)
        await until(lambda: isinstance(self.session().holder, TlsHandshake))
        return client


class SplitTests(TerminationCase):
    async def split(self, sizes: list[int], **more: Any) -> None:
        """Send the ClientHello in pieces, of which the proxy sees each by itself."""
        peer = await self.dial_tls(client_side(**more), starts=False)
        with contextlib.suppress(SSL.WantReadError):
            peer.tls.do_handshake()
        hello = peer.outgoing()
        for size in sizes:
            piece, hello = hello[:size], hello[size:]
            peer.transport.write(piece)
            for _ in range(3):
                await turn()
        peer.transport.write(hello)
        await peer.handshaken()
        peer.write(WHATSAPP)
        upstream = await self.upstreams.accepted(len(self.upstreams.peers) + 1)
        await upstream.got(WHATSAPP)
        peer.close()
        upstream.close()

    async def test_in_two(self) -> None:
        for version in (TLS12, TLS13):
            size = len(python_hello(OURS))
            for at in (1, 2, 3, 4, 5, 6, 9, 10, 43, 44, 75, 76, size // 2):
                await self.split([at], newest=version)

    async def test_byte_by_byte(self) -> None:
        await self.split([1] * 700)

    async def test_everything_in_pieces(self) -> None:
        """Not the ClientHello alone: all that the client sends."""
        peer = await self.dial_tls(client_side(), starts=False)
        write = peer.transport.write
        sent = bytearray()
        peer.transport.write = sent.extend
        peer.go()
        peer.write(WHATSAPP)
        while not self.upstreams.peers or self.upstreams.peers[0].received != WHATSAPP:
            if sent:
                write(bytes([sent.pop(0)]))
            await turn()
        self.assertEqual(self.proxy.ledger.handshakes.total(), 1)


class LateTests(TerminationCase):
    async def test_nothing_more(self) -> None:
        client = await self.handshaking()
        self.clock.advance(HANDSHAKE - 0.1)
        self.assertIsNone(client.lost)
        self.assertEqual(len(self.proxy.ledger.live), 1)
        self.clock.advance(0.2)
        await client.gone()
        await self.ended_with(Reason.TLS_FAILED)
        self.assertCounted("late")

    async def test_dripping(self) -> None:
        """The limit is for all of it: a byte now and then does not move it."""
        client = await self.handshaking()
        for _ in range(9):
            self.clock.advance(HANDSHAKE / 10)
            client.write(b"\x16")
            await turn()
        self.clock.advance(HANDSHAKE / 10 + 0.1)
        await client.gone()
        await self.ended_with(Reason.TLS_FAILED)

    async def test_in_time(self) -> None:
        """Once it is done the limit is no more."""
        peer = await self.secured()
        await until(lambda: self.proxy.ledger.handshakes)
        self.clock.advance(HANDSHAKE * 10)
        peer.write(WHATSAPP)
        await (await self.upstreams.accepted()).got(WHATSAPP)


class BrokenTests(TerminationCase):
    async def test_the_client_gives_up(self) -> None:
        for leave in (Peer.close, Peer.end, Peer.reset):
            client = await self.handshaking()
            leave(client)
            await client.gone()
            await until(lambda: not self.proxy.ledger.live)
        await self.ended_with(*[Reason.TLS_FAILED] * 3)
        self.assertCounted("failed", 3)
        self.assertEqual(self.proxy.ledger.kinds[Kind.TLS], 3)
        self.assertEqual(self.proxy.ledger.handshake_time.counts, [0] * 14)

    async def test_garbage(self) -> None:
        """Behind the ClientHello; it is answered by an alert, and the detail is in the log."""
        lines = log_lines(self)
        for garbage in (RAW * 10, b"GET / HTTP/1.1\r\n\r\n", python_hello(OURS)):
            client = await self.client(python_hello(OURS) + garbage)
            await client.ended()
            client.close()
            await until(lambda: not self.proxy.ledger.live)
        await self.ended_with(*[Reason.TLS_FAILED] * 3)
        self.assertCounted("failed", 3)
        self.assertEqual(len([line for line in lines if "tls_failed protocol=tls" in line]), 3)
        self.assertIn("(bad record type, ", lines[0])

    async def test_a_hello_that_openssl_does_not_like(self) -> None:
        """Ours can read it, and finds a name; OpenSSL refuses it."""
        hello = bytearray(python_hello(OURS))
        hello[hello.index(b"\x00\x2b") + 4 :][:1] = b"\xff"
        client = await self.client(bytes(hello[:11]) + bytes(32) + bytes(hello[43:]))
        await until(lambda: client.eof or client.lost or client.received)
        client.reset()
        await until(lambda: not self.proxy.ledger.live)
        await self.ended_with(Reason.TLS_FAILED)

    async def test_a_fatal_alert(self) -> None:
        """A client that does not trust us says so."""
        for version, says in ((TLS12, "unknown ca"), (TLS13, "unknown ca")):
            lines = log_lines(self)
            peer = await self.dial_tls(self.distrusting(version))
            self.assertIn("certificate verify failed", await peer.failed())
            await until(lambda: not self.proxy.ledger.live)
            self.assertIn("connection ended: tls_failed protocol=tls", lines[-1])
            self.assertIn(says, lines[-1])
        await self.ended_with(*[Reason.TLS_FAILED] * 2)
        self.assertCounted("failed", 2)

    @staticmethod
    def distrusting(version: int) -> SSL.Connection:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_verify(SSL.VERIFY_PEER, lambda *_: False)
        context.set_max_proto_version(version)
        return client_side(context=context)

    async def test_warnings(self) -> None:
        """A hundred closed handshakes leave nothing behind."""
        for _ in range(100):
            client = await self.handshaking()
            client.reset()
            await until(lambda: not self.proxy.ledger.live)
        self.assertCounted("failed", 100)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class AbortTests(TerminationCase):
    async def test_in_the_handshake(self) -> None:
        client = await self.handshaking()
        self.session().holder.abort(Reason.SHUTDOWN)
        await client.gone()
        await self.ended_with(Reason.SHUTDOWN)
        self.assertCounted("failed")

    async def test_a_drain_lets_it_go_on(self) -> None:
        client = await self.dial_tls(client_side(), starts=False)
        with contextlib.suppress(SSL.WantReadError):
            client.tls.do_handshake()
        client.transport.write(client.outgoing())
        await until(lambda: self.proxy.ledger.live)
        await until(lambda: isinstance(self.session().holder, TlsHandshake))
        self.proxy.drain()
        await client.handshaken()
        client.write(WHATSAPP)
        await (await self.upstreams.accepted()).got(WHATSAPP)


class NamesTests(TlsCase):
    """Which server names get so far, on the wire (test_route_tls has them all)."""

    async def check(self, terminated: bool, name: str | None) -> None:
        client: Any
        if terminated:
            client = await self.secured(WHATSAPP, name=name)
            await (await self.upstreams.accepted(len(self.upstreams.peers) + 1)).got(WHATSAPP)
        else:
            client = await self.client(python_hello(name))
            await client.got(UNRECOGNIZED_NAME)
        client.close()

    async def test_any(self) -> None:
        self.start()
        for name in (OURS, "example.com", None):
            await self.check(True, name)

    async def test_ours(self) -> None:
        self.start(server={"names": (OURS, f"*.{OURS}")})
        for name in (OURS, f"x.{OURS}", f"y.x.{OURS}", None):
            await self.check(True, name)
        await self.check(False, "example.com")

    async def test_none(self) -> None:
        """No certificate at all: nothing is terminated, as before."""
        self.start(tls={"certificate": ()})
        for name in (OURS, None):
            await self.check(False, name)

    async def test_web(self) -> None:
        """Other names are its business, every byte."""
        web = self.listen()
        self.start(server={"names": (OURS,)}, upstream={"web": Destination(LOOPBACK, web.port)})
        hello = python_hello("example.com")
        client = await self.client(hello)
        upstream = await web.accepted()
        await upstream.got(hello)
        upstream.write(b"anything")
        await client.got(b"anything")
        await self.check(True, OURS)

    async def test_what_is_allowed_is_passed_through(self) -> None:
        """Though it is among our names: the bytes as they came."""
        web = self.listen()
        self.start(
            places={("media.whatsapp.net", 443): web},
            server={"names": ("media.whatsapp.net",)},
        )
        hello = python_hello("media.whatsapp.net")
        await self.client(hello)
        await (await web.accepted()).got(hello)
        self.assertEqual(self.factory.ledger.handshakes.total(), 0)
