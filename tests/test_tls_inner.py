"""What is found inside TLS: sniffed once more, and carried as it would be outside."""

import contextlib
from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionRefusedError

from tests.builders import python_hello
from tests.http_peers import TurningClock
from tests.peers import LOOPBACK, Listener, settled, until
from tests.support import HTTP, RAW, WHATSAPP, XMPP, FakeUpstream
from tests.tls_peers import CA, OURS, TlsPeer, client_side, server_context, server_side
from tests.tls_support import TlsCase
from whatsproxy.destination import Destination
from whatsproxy.lingering import LINGER
from whatsproxy.protocols.refused import UNRECOGNIZED_NAME
from whatsproxy.reason import Reason
from whatsproxy.sniff import Kind

SNIFF = 3.0
MEDIA = "media.whatsapp.net"


class KindsTests(TlsCase):
    def setUp(self) -> None:
        super().setUp()
        self.by_kind = {kind: self.listen() for kind in ("chat", "xmpp", "raw", "media")}
        places: dict[tuple[str, int], Listener] = {
            (f"{kind}.test", 1): listener for kind, listener in self.by_kind.items()
        }
        places[MEDIA, 443] = self.by_kind["media"]
        self.proxy = self.start(
            places=places,
            upstream={kind: (Destination(f"{kind}.test", 1),) for kind in ("chat", "xmpp", "raw")},
        )

    def assertFound(self, kind: Kind) -> None:
        """It is TLS on the wire, counted once, and this inside."""
        session = self.session()
        self.assertEqual((session.kind, session.inner), (Kind.TLS, kind))
        inner = {k: n for k, n in self.proxy.ledger.inner_kinds.items() if n}
        self.assertEqual(inner, {kind: 1})
        self.assertEqual(self.proxy.ledger.kinds[Kind.TLS], 1)
        self.assertEqual(sum(self.proxy.ledger.kinds.values()), 1)

    async def carried(self, first: bytes, to: str, kind: Kind, **more: Any) -> None:
        client = await self.secured(first, **more)
        upstream = await self.by_kind[to].accepted()
        await upstream.got(first)
        self.assertFound(kind)
        upstream.write(b"welcome")
        await client.got(b"welcome")
        client.write(b"more")
        await upstream.got(first + b"more")
        session = self.session()
        self.assertEqual((session.received, session.sent), (len(first) + 4, 7))
        client.close()
        await upstream.ended()
        upstream.close()
        await self.ended_with(Reason.CLIENT_CLOSED)

    async def test_chat(self) -> None:
        await self.carried(WHATSAPP, "chat", Kind.WHATSAPP)

    async def test_xmpp(self) -> None:
        await self.carried(XMPP, "xmpp", Kind.XMPP, protocols=(b"xmpp-client",))

    async def test_raw(self) -> None:
        await self.carried(RAW, "raw", Kind.RAW)

    async def test_without_a_name(self) -> None:
        await self.carried(WHATSAPP, "chat", Kind.WHATSAPP, name=None)

    async def test_tls_in_tls(self) -> None:
        """Passed through by its name, byte by byte."""
        await self.carried(python_hello(MEDIA), "media", Kind.TLS)

    async def test_a_whole_conversation_in_tls_in_tls(self) -> None:
        """The inner TLS is between the client and the server that it has named."""
        self.by_kind["media"].build = lambda: TlsPeer(
            server_side(server_context(CA.issue_cert(MEDIA)))
        )
        outer = await self.secured()
        inner = client_side(MEDIA)
        for _ in range(20):
            with contextlib.suppress(SSL.WantReadError):
                inner.do_handshake()
                break
            outer.write(inner.bio_read(1 << 16))
            await until(lambda: outer.received)
            inner.bio_write(bytes(outer.received))
            outer.received.clear()
        inner.send(b"secret")
        outer.write(inner.bio_read(1 << 16))
        await (await self.by_kind["media"].accepted()).got(b"secret")
        self.assertEqual(self.proxy.ledger.handshakes.total(), 1)

    async def test_http(self) -> None:
        client = await self.secured(b"GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n")
        await until(lambda: b"\r\n\r\n" in client.received)
        self.assertTrue(client.received.startswith(b"HTTP/1.1 200 "))
        self.assertFound(Kind.HTTP)

    async def test_connect(self) -> None:
        request = b"CONNECT media.whatsapp.net:443 HTTP/1.1\r\nHost: media.whatsapp.net:443\r\n\r\n"
        client = await self.secured(request)
        upstream = await self.by_kind["media"].accepted()
        await until(lambda: b"\r\n\r\n" in client.received)
        self.assertTrue(client.received.startswith(b"HTTP/1.1 200 "))
        client.received.clear()
        hello = python_hello("what the proxy does not look at")
        client.write(hello)
        await upstream.got(hello)
        upstream.write(b"welcome")
        await client.got(b"welcome")
        self.assertFound(Kind.CONNECT)
        client.close()
        await upstream.ended()
        upstream.close()
        await self.ended_with(Reason.CLIENT_CLOSED)

    async def test_connect_refused(self) -> None:
        client = await self.secured(b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
        await client.told()
        self.assertTrue(client.received.startswith(b"HTTP/1.1 403 "))
        client.close()
        await self.ended_with(Reason.REFUSED_NAME)


class RefusedTests(TlsCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = TurningClock()
        self.proxy = self.start(
            clock=self.clock,
            timeouts={"sniff": SNIFF},
            upstream={"xmpp": None, "raw": None, "web": Destination(LOOPBACK, 1)},
        )

    async def last_word(self, first: bytes) -> bytes:
        """Return what a client is told before it is let go, in order."""
        client = await self.secured(first)
        await client.told()
        client.close()
        await until(lambda: not self.proxy.ledger.live)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return bytes(client.received)

    async def test_tls_in_tls(self) -> None:
        """Never terminated a second time, not even our own name; nor is it the web server's."""
        for name in (OURS, "example.com", None):
            self.assertEqual(await self.last_word(python_hello(name)), UNRECOGNIZED_NAME)
        await self.ended_with(*[Reason.REFUSED_NAME] * 3)
        self.assertEqual(self.proxy.ledger.handshakes.total(), 3)

    async def test_turned_off(self) -> None:
        for first in (RAW, XMPP):
            self.assertEqual(await self.last_word(first), b"")
        await self.ended_with(*[Reason.REFUSED_KIND] * 2)

    async def test_no_upstream(self) -> None:
        fake = FakeUpstream()
        self.proxy = self.start(fake=fake)
        client = await self.secured(WHATSAPP)
        await until(lambda: fake.asked)
        fake.last.errback(ConnectionRefusedError())
        await client.told()
        client.close()
        await self.ended_with(Reason.UPSTREAM_REFUSED)

    async def silent(self, first: bytes = b"") -> TlsPeer:
        """Connect a client that says so much, and nothing more for SNIFF seconds."""
        client = await self.secured(first)
        await until(lambda: self.proxy.ledger.handshakes)
        await settled(lambda: len(self.clock.getDelayedCalls()), 10)
        self.clock.advance(SNIFF - 0.1)
        self.assertFalse(client.notified or client.lost)
        self.clock.advance(0.2)
        await client.told()
        return client

    async def test_silence(self) -> None:
        (await self.silent()).close()
        await self.ended_with(Reason.NO_DATA)

    async def test_too_little(self) -> None:
        (await self.silent(b"W")).close()
        await self.ended_with(Reason.UNDETECTED)

    async def test_a_client_that_stays(self) -> None:
        """It has got close_notify and FIN; after LINGER seconds it is closed."""
        client = await self.silent()
        await client.ended()
        await settled(lambda: len(self.clock.getDelayedCalls()), 10)
        self.clock.advance(LINGER - 0.1)
        await settled(lambda: client.lost, 10)
        self.assertEqual(len(self.proxy.ledger.live), 1)
        self.clock.advance(0.2)
        await self.ended_with(Reason.NO_DATA)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_a_client_that_goes_on_sending(self) -> None:
        """What it sends is dropped, and it is closed all the same."""
        client = await self.silent()
        for _ in range(4):
            client.write(b"and another thing" * 1000)
            self.clock.advance(LINGER / 4 - 0.01)
        await settled(lambda: client.lost, 10)
        self.assertEqual(len(self.proxy.ledger.live), 1)
        self.clock.advance(0.1)
        await self.ended_with(Reason.NO_DATA)

    async def test_a_client_that_leaves(self) -> None:
        for leave in (TlsPeer.close, TlsPeer.notify, TlsPeer.end, TlsPeer.reset):
            client = await self.secured(b"W")
            await until(lambda: getattr(self.session().holder, "buffer", b"") == b"W")
            leave(client)
            await until(lambda: not self.proxy.ledger.live)
        await self.ended_with(*[Reason.UNDETECTED] * 4)


class HolderTests(TlsCase):
    """Whoever holds the session inside TLS can be told to end it."""

    async def test_abort(self) -> None:
        fake = FakeUpstream()
        proxy = self.start(fake=fake)
        for first, held in ((b"", "Sniffer"), (WHATSAPP, "Tunnel"), (HTTP[:20], "HttpConnection")):
            client = await self.secured(first)
            await until(lambda h=held: type(self.session().holder).__name__ == h)
            self.session().holder.abort(Reason.SHUTDOWN)
            await client.truncated()
            await until(lambda: not proxy.ledger.live)
        await self.ended_with(*[Reason.SHUTDOWN] * 3)
        self.assertEqual(fake.cancelled, 1)

    async def test_abort_of_a_relay(self) -> None:
        self.start()
        client, upstream = await self.joined_tls(WHATSAPP)
        self.session().holder.abort(Reason.SHUTDOWN)
        await client.truncated()
        await upstream.gone()
        await self.ended_with(Reason.SHUTDOWN)

    async def test_drain(self) -> None:
        """An HTTP connection that waits for a request ends, in good order; a chat goes on."""
        proxy = self.start()
        client, upstream = await self.joined_tls(WHATSAPP)
        idle = await self.secured(b"GET / HTTP/1.1\r\nHost: x.test\r\n\r\n")
        await until(lambda: b"\r\n\r\n" in idle.received)
        proxy.drain()
        await idle.told()
        idle.close()
        upstream.write(b"still")
        await client.got(b"still")
        await until(lambda: len(proxy.ledger.live) == 1)
        self.assertEqual(proxy.ledger.ends[Reason.DRAINING], 1)
