"""Where CONNECT may go, and by which ways."""

from typing import Any

from tests.http_cases import ESTABLISHED, ConnectCase, connect_to
from tests.http_peers import head_of
from tests.peers import FakeSocks, by_name, reactor, until
from tests.support import FakeUpstream, make_settings, through_socks
from whatsproxy.destination import Destination
from whatsproxy.reason import Reason

NAME = b"g.whatsapp.net:443"


class WhereTests(ConnectCase):
    """What the target may be."""

    def setUp(self) -> None:
        super().setUp()
        self.upstream = FakeUpstream()
        chat = (Destination("127.0.0.1", 5222), Destination("::1", 5222))
        self.start(upstream={"chat": chat})

    def start(self, *more: Any, **sections: Any) -> Any:
        return self.start_proxy(make_settings(**sections), clock=self.clock, upstream=self.upstream)

    async def test_names_and_addresses(self) -> None:
        for authority, destination in (
            (b"g.whatsapp.net:443", Destination("g.whatsapp.net", 443)),
            (b"G.WhatsApp.NET:5222", Destination("g.whatsapp.net", 5222)),
            (b"wa.me:80", Destination("wa.me", 80)),
            (b"127.0.0.1:5222", Destination("127.0.0.1", 5222)),
            (b"[::1]:5222", Destination("::1", 5222)),
            (b"[0:0:0:0:0:0:0:1]:5222", Destination("::1", 5222)),
        ):
            client = await self.connect(connect_to(authority))
            await until(lambda: self.upstream.asked)
            self.assertEqual(list(self.upstream.asked.pop()), [destination])
            client.peer.reset()
            await until(lambda: not self.factory.ledger.live)

    async def refused(self, request: bytes, status: int, *texts: str) -> None:
        client = await self.connect(request, b"GET http://g.whatsapp.net/ HTTP/1.1\r\nHost: x")
        answer = await client.answer()
        self.assertError(answer, status, *texts)
        self.assertEqual(answer.field(b"connection"), b"close")
        client.ask(b"\r\n\r\n")
        await client.closed()
        self.assertEqual(self.upstream.asked, [])

    async def test_not_allowed(self) -> None:
        """403 names what was asked for; what follows is no request."""
        names = (b"example.com:443", b"g.whatsapp.net:25")
        authorities = (*names, b"8.8.8.8:443", b"[2001:db8::1]:443")
        for authority in authorities:
            await self.refused(connect_to(authority), 403, authority.decode(), "[policy]")
        await self.ended_with(*[Reason.REFUSED_NAME] * 4)
        self.assertRequests(("CONNECT", "4xx", "proxy", 4))

    async def test_a_bad_authority(self) -> None:
        authorities = (
            *(b"g.whatsapp.net", b"g.whatsapp.net:", b"g.whatsapp.net:0", b"g.whatsapp.net:65536"),
            *(
                b"g.whatsapp.net:x",
                b"user@g.whatsapp.net:443",
                b"[::1:5222",
                b"[g.whatsapp.net]:443",
            ),
        )
        for authority in authorities:
            await self.refused(connect_to(authority, b"g.whatsapp.net"), 400, "HOST:PORT")
        await self.ended_with(*[Reason.BAD_REQUEST] * len(authorities))

    async def test_a_host_that_disagrees(self) -> None:
        hosts = (b"example.com:443", b"example.com", b"g.whatsapp.net:80", b"g.whatsapp.net.evil")
        for host in hosts:
            await self.refused(connect_to(NAME, host), 400, "disagree")
        await self.ended_with(*[Reason.BAD_REQUEST] * len(hosts))

    async def test_a_host_that_agrees(self) -> None:
        """Without a port it means the target's."""
        for host in (NAME, b"g.whatsapp.net", b"G.WHATSAPP.NET"):
            client = await self.connect(connect_to(NAME, host))
            await until(lambda: self.upstream.asked)
            self.upstream.asked.clear()
            client.peer.reset()
            await until(lambda: not self.factory.ledger.live)

    async def test_a_body(self) -> None:
        for field in (b"Content-Length: 5", b"Transfer-Encoding: chunked"):
            request = head_of(b"CONNECT %s HTTP/1.1" % NAME, b"Host: " + NAME, field)
            await self.refused(request, 400, "CONNECT has no body")

    async def test_an_old_client(self) -> None:
        client = await self.connect(head_of(b"CONNECT %s HTTP/1.0" % NAME))
        await until(lambda: self.upstream.asked)
        arrival = await self.arrival(self.origins.port)
        self.upstream.last.callback(arrival)
        await client.peer.got(ESTABLISHED)


class SocksTests(ConnectCase):
    async def test_through_socks(self) -> None:
        """By name; what the server sends behind its reply comes behind ours."""

        class Eager(FakeSocks):
            behind = b"220 welcome\r\n"

        server = self.listen(Eager)
        self.start_proxy(through_socks(server.port), clock=self.clock)
        client = await self.connect(connect_to(NAME), b"early")
        upstream = await server.accepted()
        await upstream.got(b"early")
        self.assertEqual(upstream.request, by_name("g.whatsapp.net", 443))
        await client.peer.got(ESTABLISHED + b"220 welcome\r\n")

    async def test_a_refusal(self) -> None:
        class Refusing(FakeSocks):
            reply = b"\x05\x04\x00\x01\x00\x00\x00\x00\x00\x00"

        server = self.listen(Refusing)
        self.start_proxy(through_socks(server.port), clock=self.clock)
        client = await self.connect(connect_to(NAME))
        self.assertError(await client.answer(), 502, "(reply 4)")
        await self.left(client, Reason.SOCKS_REFUSED)

    async def test_ipv6(self) -> None:
        """Really, where there is IPv6."""
        try:
            port = reactor.listenTCP(0, self.origins, interface="::1")
        except Exception:
            self.skipTest("no IPv6 here")
        self.addCleanup(port.stopListening)
        number = port.getHost().port
        self.start(upstream={"chat": (Destination("::1", number),)})
        client, upstream = await self.tunnel(connect_to(b"[::1]:%d" % number))
        await self.assertThrough(client, upstream)
