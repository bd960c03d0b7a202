"""The chat upstream is told whose connection it gets, if it is asked for; nobody else is."""

import ipaddress
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.http_peers import HttpClient, OriginPeer, head_of
from tests.peers import LOOPBACK, Listener, Peer, reactor, until
from tests.support import RAW, WHATSAPP, XMPP, make_settings
from tests.tls_peers import CA, TlsPeer, server_context
from tests.tls_support import TlsCase, ca_file
from whatsproxy import listen_codecs
from whatsproxy.checks import check
from whatsproxy.codecs import Direct, SocksProxy
from whatsproxy.config import ConfigError, Loaded
from whatsproxy.destination import Destination

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
CHAT = Destination("chat.test", 5222)
ELSEWHERE = Destination("xmpp.test", 5222)
ORIGIN = Destination(LOOPBACK, 80)
#: Client, its port, server, its port.
Told = tuple[str, int, str, int] | None


def cut_header(data: bytes) -> tuple[str, Told, bytes]:
    """Take a header off: its version, what it tells, and what is behind it.

    By the specification, and by nothing of the program's.
    """
    if not data.startswith(SIGNATURE):
        line, _, rest = data.partition(b"\r\n")
        words = line.decode("ascii").split(" ")
        if words == ["PROXY", "UNKNOWN"]:
            return "v1", None, rest
        proxy, family, client, server, client_port, server_port = words
        assert proxy == "PROXY", words
        version = {"TCP4": 4, "TCP6": 6}[family]
        assert {ipaddress.ip_address(a).version for a in (client, server)} == {version}, words
        return "v1", (client, int(client_port), server, int(server_port)), rest
    command, family, size = data[12], data[13], int.from_bytes(data[14:16], "big")
    body, rest = data[16 : 16 + size], data[16 + size :]
    assert command == 0x21, "version 2, PROXY"
    if family == 0:
        assert size == 0
        return "v2", None, rest
    width = {0x11: 4, 0x21: 16}[family]
    assert size == 2 * width + 4, "no extensions"
    ends = [str(ipaddress.ip_address(body[at : at + width])) for at in (0, width)]
    ports = [int.from_bytes(body[at : at + 2], "big") for at in (2 * width, 2 * width + 2)]
    return "v2", (ends[0], ports[0], ends[1], ports[1]), rest


class HeaderThenTls(TlsPeer):
    """An upstream that takes a header of version 1 in front of TLS."""

    header = b""

    def dataReceived(self, data: bytes) -> None:
        if not self.header.endswith(b"\n"):
            self.header += data
            self.header, _, data = self.header.partition(b"\n")
            self.header += b"\n"
        super().dataReceived(data)


class SendCase(TlsCase):
    def run_proxy(self, version: str, *, chat: Any = (CHAT,), **sections: Any) -> None:
        """Run a proxy whose chat is at the upstreams, and with an XMPP server and an origin."""
        self.elsewhere, self.origins = self.listen(), self.listen(OriginPeer)
        upstream = {"chat": chat, "send_proxy": version, **sections.pop("upstream", {})}
        settings = self.settings(upstream=upstream, tls={"upstream_ca_file": ca_file()}, **sections)
        places = {
            (CHAT.host, CHAT.port): self.upstreams,
            (ELSEWHERE.host, ELSEWHERE.port): self.elsewhere,
            (ORIGIN.host, ORIGIN.port): self.origins,
        }
        self.start(settings, places=places)

    async def told(self, listener: Listener, expected: bytes) -> tuple[str, Told]:
        """Wait for the next connection and these bytes of a client's; return what comes before."""
        upstream = await listener.accepted(self.arrived.get(listener.port, 0) + 1)
        self.arrived[listener.port] = len(listener.peers)
        await until(lambda: upstream.received.endswith(expected) or upstream.lost)
        version, told, rest = cut_header(bytes(upstream.received))
        self.assertEqual(rest, expected)
        return version, told

    def setUp(self) -> None:
        super().setUp()
        self.arrived: dict[int, int] = {}

    def ends_of(self, client: Peer) -> Told:
        """Return what is true of a client that has connected to the proxy."""
        here, there = client.transport.getHost(), client.transport.getPeer()
        return here.host, here.port, there.host, there.port


class ToldTests(SendCase):
    async def test_what_goes_to_the_chat(self) -> None:
        """Chats, in TLS or not, and XMPP and raw bytes where these go to the chat, too."""
        for version in ("v1", "v2"):
            self.run_proxy(version)
            for first in (WHATSAPP, XMPP, RAW):
                for client in (await self.client(first), await self.secured(first)):
                    found = await self.told(self.upstreams, first)
                    self.assertEqual(found, (version, self.ends_of(client)))
                    client.reset()

    async def test_the_header_is_not_the_clients(self) -> None:
        """It is in front of the client's bytes, and not counted among them."""
        self.run_proxy("v1")
        client = await self.client(WHATSAPP)
        await self.told(self.upstreams, WHATSAPP)
        await until(lambda: self.session().received)
        self.assertEqual(self.session().received, len(WHATSAPP))
        upstream = self.upstreams.peers[0]
        upstream.write(b"back")
        await client.got(b"back")

    async def test_off_by_default(self) -> None:
        self.run_proxy("")
        for first in (WHATSAPP, XMPP, RAW):
            await self.client(first)
            upstream = await self.upstreams.accepted(len(self.upstreams.peers) + 1)
            await upstream.got(first)
        self.assertEqual(make_settings().upstream.send_proxy, "")

    async def test_the_same_place_for_others(self) -> None:
        """Where XMPP or raw bytes go to the chat's own place, nothing of theirs comes first."""
        for key, first in (("xmpp", XMPP), ("raw", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nWA")):
            self.run_proxy("v1", upstream={key: (Destination("dead.test", 1), CHAT)})
            client = await self.client(first)
            self.assertEqual(await self.told(self.upstreams, first), ("v1", self.ends_of(client)))
            client.reset()

    async def test_a_request(self) -> None:
        """One that is forwarded there says it, too."""
        self.run_proxy("v1")
        client = await self.client(
            head_of(b"GET http://chat.test:5222/ HTTP/1.1", b"Host: chat.test:5222")
        )
        upstream = await self.upstreams.accepted()
        await until(lambda: upstream.received.endswith(b"\r\n\r\n"))
        version, told, rest = cut_header(bytes(upstream.received))
        self.assertEqual((version, told), ("v1", self.ends_of(client)))
        self.assertTrue(rest.startswith(b"GET / HTTP/1.1\r\n"))

    async def test_nobody_else(self) -> None:
        """XMPP and raw upstreams of their own, web servers, origins, TLS that is passed through."""
        self.run_proxy("v1", upstream={"xmpp": (ELSEWHERE,), "raw": (ELSEWHERE,), "web": ORIGIN})
        for number, first in enumerate((XMPP, RAW), 1):
            await self.client(first)
            await (await self.elsewhere.accepted(number)).got(first)
        page = head_of(b"GET / HTTP/1.1", b"Host: x")
        await self.client(page)
        await (await self.origins.accepted()).got(page)
        client = HttpClient(await self.client())
        client.ask(head_of(b"CONNECT 127.0.0.1:80 HTTP/1.1", b"Host: 127.0.0.1:80"))
        self.assertEqual((await client.answer(bodiless=True)).status, 200)
        client.ask(b"tunnelled")
        await (await self.origins.accepted(2)).got(b"tunnelled")

    async def test_a_client_that_names_the_chat(self) -> None:
        """It cannot pass a header of its own off as ours, as one that was believed there."""
        self.run_proxy("v2")
        client = HttpClient(await self.client())
        client.ask(head_of(b"CONNECT chat.test:5222 HTTP/1.1", b"Host: chat.test:5222"))
        self.assertEqual((await client.answer(bodiless=True)).status, 200)
        forged = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
        client.ask(forged)
        found = await self.told(self.upstreams, forged)
        self.assertEqual(found, ("v2", self.ends_of(client.peer)))

    async def test_the_second_upstream(self) -> None:
        """Whoever is reached gets it, once."""
        dead = Destination("dead.test", 1)
        self.run_proxy("v1", chat=(dead, CHAT))
        client = await self.client(WHATSAPP)
        found = await self.told(self.upstreams, WHATSAPP)
        self.assertEqual(found, ("v1", self.ends_of(client)))

    async def test_in_front_of_tls(self) -> None:
        """An upstream in TLS gets it before TLS begins."""
        self.run_proxy("v1", chat=(CHAT.over_tls(),))
        context = server_context(CA.issue_cert(CHAT.host))
        self.upstreams.build = self.listen_tls(context, HeaderThenTls).build
        client = await self.client(WHATSAPP)
        upstream = await self.upstreams.accepted()
        await upstream.got(WHATSAPP)
        self.assertEqual(cut_header(upstream.header), ("v1", self.ends_of(client), b""))

    async def test_ipv6(self) -> None:
        self.run_proxy("v2")
        try:
            port = reactor.listenTCP(0, self.factory, interface="::")
        except CannotListenError:
            raise SkipTest("no IPv6 here") from None
        self.addCleanup(port.stopListening)
        self.proxy_port = port.getHost().port
        # To such a listener IPv4 is v4-mapped; to the upstream it is IPv4.
        client = await self.client(WHATSAPP)
        self.assertEqual(await self.told(self.upstreams, WHATSAPP), ("v2", self.ends_of(client)))

    async def test_a_unix_socket(self) -> None:
        """Its clients have no address: the header says that there is nothing to say."""
        for version in ("v1", "v2"):
            self.run_proxy(version)
            client = await self.dial_unix(self.factory)
            client.write(WHATSAPP)
            self.assertEqual(await self.told(self.upstreams, WHATSAPP), (version, None))
            client.close()
            self.upstreams.peers[-1].close()


class BehindABalancerTests(SendCase):
    """What a load balancer has said of the client is passed on."""

    def behind(self, version: str) -> None:
        self.run_proxy(version, server={"proxy_trusted": (f"{LOOPBACK}/32",)})
        door = self.factory.door_of(listen_codecs.Listener("tcp:0", proxy_protocol=True))
        self.proxy_port = self.listen_with(door)

    async def test_both_ends(self) -> None:
        for version in ("v1", "v2"):
            for ends in (
                ("203.0.113.7", 50000, "198.51.100.1", 443),
                ("2001:db8::7", 50000, "2001:db8::1", 443),
            ):
                self.behind(version)
                family = "TCP6" if ":" in ends[0] else "TCP4"
                header = f"PROXY {family} {ends[0]} {ends[2]} {ends[1]} {ends[3]}\r\n".encode()
                client = await self.client(header + WHATSAPP)
                self.assertEqual(await self.told(self.upstreams, WHATSAPP), (version, ends))
                client.reset()

    async def test_two_families(self) -> None:
        """Where the two ends are not both IPv4, both are told as IPv6."""
        ends = ("::ffff:203.0.113.7", "2001:db8::1")
        for version in ("v1", "v2"):
            self.behind(version)
            await self.client(f"PROXY TCP6 {ends[0]} {ends[1]} 1 2\r\n".encode() + WHATSAPP)
            told = (await self.told(self.upstreams, WHATSAPP))[1]
            assert told is not None
            self.assertEqual(
                [int(ipaddress.ip_address(a)) for a in told[::2]],
                [int(ipaddress.ip_address(a)) for a in ends],
            )

    async def test_a_connection_of_its_own(self) -> None:
        """Then it is the client."""
        self.behind("v1")
        client = await self.client(b"PROXY UNKNOWN\r\n" + WHATSAPP)
        self.assertEqual(await self.told(self.upstreams, WHATSAPP), ("v1", self.ends_of(client)))


class SettingsTests(SynchronousTestCase):
    def test_not_with_socks(self) -> None:
        """It would tell what the SOCKS server hides."""
        proxy = SocksProxy(Destination("socks.test", 1080))
        for proxies, good in (
            ((), True),
            ((Direct(),), True),
            ((proxy,), False),
            ((Direct(), proxy), False),
        ):
            settings = make_settings(upstream={"send_proxy": "v1"}, socks5={"proxies": proxies})
            loaded = Loaded(settings, {("upstream", "send_proxy"): "whatsproxy.toml"})
            if good:
                check(loaded)
            else:
                with self.assertRaises(ConfigError) as caught:
                    check(loaded)
                self.assertRegex(str(caught.exception), r"\[upstream\] send_proxy.*SOCKS5")
                self.assertNotIn("\n", str(caught.exception))
