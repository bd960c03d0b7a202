"""HTTP inside TLS, and HTTP to origins in TLS: where it goes, and how its end is told."""

from typing import Any

import trustme

from tests.http_peers import TurningClock
from tests.peers import LOOPBACK, Peer, settled, until
from tests.tls_peers import CA, OURS, TlsPeer, server_context
from tests.tls_support import TlsCase, ca_file
from whatsproxy.destination import Destination

WEB = b"web.whatsapp.com"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


def get(
    host: bytes = WEB, target: bytes = b"/x?y", *fields: bytes, method: bytes = b"GET"
) -> bytes:
    return b"\r\n".join([b"%s %s HTTP/1.1" % (method, target), b"Host: " + host, *fields, b"", b""])


def is_left(peer: Any) -> bool:
    """Has the proxy ended this connection, or its direction of it?"""
    return bool(peer.eof or peer.lost or getattr(peer, "notified", False))


class HttpCase(TlsCase):
    """Origins in TLS at web.whatsapp.com:443, and another one without TLS at port 80."""

    certificate: trustme.LeafCert | None = None

    def setUp(self) -> None:
        super().setUp()
        issued = self.certificate or CA.issue_cert(WEB.decode())
        self.origins = self.listen_tls(server_context(issued))
        self.plain = self.listen()
        self.web = self.listen()
        self.proxy = self.run_proxy()

    def run_proxy(self, **sections: Any) -> Any:
        self.clock = TurningClock()
        return self.start(
            clock=self.clock,
            places={
                ("web.whatsapp.com", 443): self.origins,
                ("web.whatsapp.com", 80): self.plain,
                (LOOPBACK, 80): self.web,
            },
            tls={"upstream_ca_file": ca_file()},
            **sections,
        )

    async def tearDown(self) -> None:
        for peer in self._dialled:
            if peer.lost is None:
                peer.reset()
        await until(lambda: not self.proxy.ledger.live)
        for peer in self.origins.peers + self.plain.peers:
            await until(
                lambda p=peer: p.eof or p.lost or getattr(p, "notified", False),
                "an origin was not let go",
            )
            peer.reset()
        await until(lambda: not [c for c in self.clock.getDelayedCalls() if "abort" in str(c.func)])
        await super().tearDown()

    async def asked(self, *requests: bytes, number: int = 1) -> tuple[TlsPeer, TlsPeer]:
        """Ask in TLS; return the client and the origin that it reaches."""
        client = await self.secured(b"".join(requests))
        origin: TlsPeer = await self.origins.accepted(number)
        await until(lambda: b"\r\n\r\n" in origin.received)
        return client, origin

    async def answer(self, client: Peer) -> bytes:
        """Wait for a head, and take all that has come."""
        await until(lambda: b"\r\n\r\n" in client.received or client.lost, "no answer")
        await settled(lambda: len(client.received), 20)
        taken = bytes(client.received)
        client.received.clear()
        return taken


class WhereTests(HttpCase):
    async def test_origin_form(self) -> None:
        """An allowed Host: there, in TLS, at 443, by its name; in origin-form as it came."""
        client, origin = await self.asked(get(WEB, b"/x?y", b"X-A: b"))
        self.assertEqual(origin.received, get(WEB, b"/x?y", b"X-A: b"))
        self.assertEqual(origin.tls.get_servername(), WEB)
        self.assertEqual(self.session().target, "tls://web.whatsapp.com:443")
        origin.write(OK)
        await client.got(OK)
        self.assertEqual(self.plain.peers, [])

    async def test_spellings_of_the_host(self) -> None:
        for number, host in enumerate((b"WEB.WhatsApp.com", b"web.whatsapp.com:443"), 1):
            client, origin = await self.asked(get(host), number=number)
            self.assertIn(b"\r\nHost: " + host + b"\r\n", origin.received)
            origin.write(OK)
            await client.got(OK)

    async def test_absolute_form(self) -> None:
        """https:// in TLS, or without it: both are re-encrypted, with the identity verified."""
        for connect in (self.secured, self.client):
            client = await connect(get(WEB, b"https://web.whatsapp.com/x?y"))
            origin = await self.origins.accepted(len(self.origins.peers) + 1)
            await until(lambda o=origin: b"\r\n\r\n" in o.received)
            self.assertEqual(origin.received, get(WEB, b"/x?y"))
            origin.write(OK)
            await client.got(OK)

    async def test_http_stays_http(self) -> None:
        client = await self.secured(get(WEB, b"http://web.whatsapp.com/x?y"))
        origin = await self.plain.accepted()
        await origin.got(get(WEB, b"/x?y"))
        origin.write(OK)
        await client.got(OK)
        self.assertEqual(self.origins.peers, [])

    async def test_a_body(self) -> None:
        post = get(WEB, b"/", b"Content-Length: 3000000", method=b"POST")
        client, origin = await self.asked(post, b"b" * 3_000_000)
        await origin.got(post + b"b" * 3_000_000)
        origin.write(OK)
        await client.got(OK)

    async def test_other_hosts(self) -> None:
        """They get the page: ours, nobody's, and none."""
        for host in (OURS.encode(), b"example.com", b"", b"8.8.8.8", b"web.whatsapp.com:8443"):
            client = await self.secured(get(host, b"/"))
            self.assertTrue((await self.answer(client)).startswith(b"HTTP/1.1 200 "), host)
        self.assertEqual(self.origins.peers, [])

    async def test_a_malformed_host(self) -> None:
        client = await self.secured(get(b"a b", b"/"))
        self.assertTrue((await self.answer(client)).startswith(b"HTTP/1.1 400 "))

    async def test_outside_of_tls(self) -> None:
        """An allowed Host without TLS is a browser that opens the port: the page."""
        client = await self.client(get(WEB, b"/"))
        self.assertTrue((await self.answer(client)).startswith(b"HTTP/1.1 200 "))
        self.assertEqual(self.origins.peers, [])

    async def test_web(self) -> None:
        """Where there is a web server, it answers for other Hosts, in TLS too."""
        self.proxy = self.run_proxy(upstream={"web": Destination(LOOPBACK, 80)})
        client = await self.secured(get(b"example.com", b"/"))
        origin = await self.web.accepted()
        await origin.got(get(b"example.com", b"/"))
        origin.write(OK)
        await client.got(OK)
        client, origin = await self.asked(get())
        origin.write(OK)
        await client.got(OK)
        self.assertEqual(len(self.web.peers), 1)


class ReuseTests(HttpCase):
    async def exchange(self, client: TlsPeer, request: bytes, origin: Peer) -> None:
        client.received.clear()
        origin.received.clear()
        client.write(request)
        await until(lambda: b"\r\n\r\n" in origin.received, "this origin was not asked")
        origin.write(OK)
        await client.got(OK)

    async def test_kept(self) -> None:
        """One handshake for three requests, in either form."""
        client, origin = await self.asked(get())
        origin.write(OK)
        await client.got(OK)
        await self.exchange(client, get(), origin)
        await self.exchange(client, get(WEB, b"https://web.whatsapp.com/"), origin)
        self.assertEqual(len(self.origins.peers), 1)

    async def test_not_mixed(self) -> None:
        """https and http are other places, even at the same port."""
        client, origin = await self.asked(get(WEB, b"https://web.whatsapp.com/"))
        origin.write(OK)
        await client.got(OK)
        client.received.clear()
        client.write(get(b"web.whatsapp.com:443", b"http://web.whatsapp.com:443/"))
        other = await self.origins.accepted(2)
        await until(lambda: other.error or other.lost)
        self.assertIn("http request", str(other.error))
        other.reset()

    async def test_the_next_client(self) -> None:
        """What one client has kept is not another's."""
        client, origin = await self.asked(get())
        origin.write(OK)
        await client.got(OK)
        await self.asked(get(), number=2)

    async def test_a_kept_one_that_says_goodbye(self) -> None:
        """Between two requests: the next one gets a new connection."""
        client, origin = await self.asked(get())
        origin.write(OK)
        await client.got(OK)
        origin.close()
        await origin.gone()
        client.received.clear()
        client.write(get())
        second = await self.origins.accepted(2)
        await until(lambda: b"\r\n\r\n" in second.received)
        second.write(OK)
        await client.got(OK)
