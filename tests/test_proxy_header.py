"""The PROXY protocol in front of clients: whom it is believed from, in what pieces, what for."""

import ipaddress
from typing import Any

from twisted.internet.task import Clock

from tests.builders import python_hello
from tests.http_peers import HttpClient, head_of
from tests.peers import LOOPBACK, Peer, settled, turn, until
from tests.support import RAW, WHATSAPP, log_lines
from tests.tls_peers import OURS, client_side
from tests.tls_support import TlsCase
from tests.user_support import write_users
from whatsproxy.listen_codecs import Listener
from whatsproxy.networks import number_of
from whatsproxy.reason import Reason
from whatsproxy.sniff import Kind

CLIENT, CLIENT_V6 = "203.0.113.77", "2001:db8:1:2:3::7"
SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")


def v1(client: str = CLIENT) -> bytes:
    """Return a header of version 1, as HAProxy writes it."""
    family, server = ("TCP6", "2001:db8::1") if ":" in client else ("TCP4", "198.51.100.1")
    return f"PROXY {family} {client} {server} 56324 443\r\n".encode()


def v2(client: str = CLIENT, *, extensions: bytes = b"", command: int = 0x21) -> bytes:
    """Return a header of version 2, as the specification has it."""
    source = ipaddress.ip_address(client)
    server = b"\xc6\x33\x64\x01" if source.version == 4 else bytes(16)
    family = 0x11 if source.version == 4 else 0x21
    body = source.packed + server + (56324).to_bytes(2, "big") + (443).to_bytes(2, "big")
    body += extensions
    return SIGNATURE + bytes([command, family]) + len(body).to_bytes(2, "big") + body


LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
UNKNOWN = b"PROXY UNKNOWN\r\n"
#: Each names the client that stands beside it; None: nobody, hence the sender.
HEADERS: tuple[tuple[bytes, str | None], ...] = (
    (v1(), CLIENT),
    (v2(), CLIENT),
    (v1(CLIENT_V6), CLIENT_V6),
    (v2(CLIENT_V6), CLIENT_V6),
    (v1("::ffff:203.0.113.77"), CLIENT),
    (v2("::ffff:203.0.113.77"), CLIENT),
    (v2(extensions=b"\x04\x00\x05hello" + b"\x20\x00\x00"), CLIENT),
    (v2(command=0x20), None),
    (LOCAL, None),
    (UNKNOWN, None),
    (b"PROXY UNKNOWN ffff:f ffff:f 65535 65535\r\n", None),
)
#: What is no header.
GARBAGE = (
    *(WHATSAPP, RAW, b"GET / HTTP/1.1\r\n\r\n", python_hello("example.org"), b"\0"),
    *(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 99999\r\n", b"PROXY TCP4 x y 1 2\r\n", b"proxy UNKNOWN\r\n"),
    *(b"PROXY " + b"x" * 200, b"PROXY TCP4 ::1 ::1 1 2\r\n", b"\r\n\r\n\0\r\nQUIT\r"),
    SIGNATURE + b"\x21\x11\xff\xff" + bytes(100),
    SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12),
    SIGNATURE + b"\x21\x11\x00\x04" + bytes(4),
)


class HeaderCase(TlsCase):
    """A proxy behind a load balancer, which is this test."""

    def run_proxy(
        self, *, clock: Clock | None = None, trusted: Any = (f"{LOOPBACK}/32",), **sections: Any
    ) -> None:
        sections["server"] = {"proxy_trusted": trusted}
        self.proxy = self.start(clock=clock, **sections)
        listener = Listener("tcp:0", proxy_protocol=True)
        self.proxy_port = self.listen_with(self.proxy.door_of(listener))
        for loadable in self.proxy.loadables:
            loadable.load()

    async def in_pieces(self, *pieces: bytes) -> Peer:
        """Connect and send these one by one, each when the one before has been read."""
        client = await self.client()
        for piece in pieces:
            client.write(piece)
            for _ in range(3):
                await turn()
        return client

    async def reached(self, first: bytes) -> Any:
        """Wait for the next upstream, and see that it gets this and nothing else."""
        self.count = getattr(self, "count", 0) + 1
        upstream = await self.upstreams.accepted(self.count)
        await upstream.got(first)
        return upstream

    async def leave(self, client: Peer) -> None:
        client.reset()
        await until(lambda: not self.proxy.ledger.live)


class BelievedTests(HeaderCase):
    async def test_in_one_segment(self) -> None:
        """With the client's first bytes behind it, which are all that the upstream gets."""
        self.run_proxy()
        for header, named in HEADERS:
            client = await self.client(header + WHATSAPP)
            upstream = await self.reached(WHATSAPP)
            upstream.write(b"back")
            await client.got(b"back")
            self.assertEqual(self.session().client, number_of(named or LOOPBACK), header)
            await self.leave(client)

    async def test_passwords_in_the_clear(self) -> None:
        """Asked for where the header says this machine; not where it names nobody."""
        self.run_proxy(http={"users_file": write_users(self.mktemp(), alice="wonder")})
        request = head_of(b"GET http://g.whatsapp.net/ HTTP/1.1", b"Host: g.whatsapp.net")
        for header, status in ((v1("127.0.0.1"), b"407"), (v1(), b"403")):
            client = await self.client(header + request)
            await until(lambda c=client, s=status: b"HTTP/1.1 %s " % s in c.received)
        for header in (UNKNOWN, LOCAL):
            client = await self.client(header + request)
            await until(lambda c=client: b"HTTP/1.1 403 " in c.received)

    async def test_byte_by_byte(self) -> None:
        """And the client's first bytes, too."""
        self.run_proxy()
        for header, named in HEADERS[:4]:
            data = header + WHATSAPP
            client = await self.in_pieces(*(data[i : i + 1] for i in range(len(data))))
            await self.reached(WHATSAPP)
            self.assertEqual(self.session().client, number_of(str(named)))
            await self.leave(client)

    async def test_any_first_segment(self) -> None:
        """Of fewer than eight bytes, too; the second has the rest, and what is behind it."""
        self.run_proxy()
        for header in (v1(), v2(), UNKNOWN, LOCAL):
            for size in (1, 5, 7, 8, 11, 12, 15, 16, len(header) - 1):
                client = await self.in_pieces(header[:size], header[size:] + WHATSAPP)
                await self.reached(WHATSAPP)
                await self.leave(client)

    async def test_tls_behind_it(self) -> None:
        """TLS that ends here, and TLS that is passed through."""
        media = self.listen()
        places = {
            (LOOPBACK, self.upstreams.port): self.upstreams,
            ("media.whatsapp.net", 443): media,
        }
        self.run_proxy(places=places)
        for header in (v1(), v2()):
            peer = await self.dial_tls(client_side(OURS), starts=False)
            peer.transport.write(header)
            peer.go()
            await peer.handshaken()
            peer.write(WHATSAPP)
            await self.reached(WHATSAPP)
            self.assertEqual(self.session().client, number_of(CLIENT))
            await self.leave(peer)
            hello = python_hello("media.whatsapp.net")
            number = len(media.peers) + 1
            client = await self.client(header + hello)
            await (await media.accepted(number)).got(hello)
            await self.leave(client)

    async def test_http_behind_it(self) -> None:
        self.run_proxy()
        request = head_of(b"GET / HTTP/1.1", b"Host: x", b"Connection: close")
        for header in (v1(), v2()):
            client = HttpClient(await self.client(header + request))
            self.assertEqual((await client.answer()).status, 200)
            await client.closed()

    async def test_over_a_unix_socket(self) -> None:
        """Its mode says who may connect: they are trusted."""
        self.run_proxy(trusted=("192.0.2.0/24",))
        door = self.proxy.door_of(Listener("unix:/x", proxy_protocol=True))
        for header, number in ((v1(), number_of(CLIENT)), (UNKNOWN, None)):
            client = await self.dial_unix(door)
            client.write(header + WHATSAPP)
            upstream = await self.reached(WHATSAPP)
            self.assertEqual(self.session().client, number)
            upstream.reset()
            await self.leave(client)


class NotBelievedTests(HeaderCase):
    async def test_others(self) -> None:
        """Who is not trusted is closed at once; so is who would do without a header there."""
        self.run_proxy(trusted=("192.0.2.0/24", "::2"))
        lines = log_lines(self)
        for first in (v1() + WHATSAPP, v2() + WHATSAPP, WHATSAPP):
            client = await self.client(first)
            await until(lambda c=client: c.eof or c.lost)
            self.assertEqual(client.received, b"")
        self.assertEqual(self.upstreams.peers, [])
        await self.ended_with(*[Reason.PROXY_UNTRUSTED] * 3)
        self.assertEqual(self.proxy.ledger.rejected, 3)
        (line,) = [line for line in lines if "proxy_untrusted" in line]
        self.assertIn("server.proxy_trusted", line)

    async def test_at_another_listener(self) -> None:
        """A header is raw bytes there, whoever sends it."""
        self.run_proxy()
        self.proxy_port = self.listen_with(self.proxy)
        for header in (v1(), v2()):
            client = await self.client(header + WHATSAPP)
            await self.reached(header + WHATSAPP)
            self.assertEqual(self.session().client, number_of(LOOPBACK))
            await self.leave(client)

    async def test_once(self) -> None:
        """A second header is the client's, and believed by nobody."""
        self.run_proxy()
        client = await self.client(v1() + v1("192.0.2.99") + WHATSAPP)
        await self.reached(v1("192.0.2.99") + WHATSAPP)
        self.assertEqual(self.session().client, number_of(CLIENT))
        await self.leave(client)


class RefusedTests(HeaderCase):
    async def test_garbage(self) -> None:
        """Closed at once, without a word: with another reason than if it had been believed."""
        self.run_proxy(clock=Clock())
        for first in GARBAGE:
            client = await self.client(first)
            await client.ended()
            self.assertEqual(client.received, b"", first)
            client.close()
            await until(lambda: not self.proxy.ledger.live)
        self.assertEqual(self.upstreams.peers, [])
        await self.ended_with(*[Reason.PROXY_HEADER] * len(GARBAGE))

    async def test_an_end_too_early(self) -> None:
        """With nothing said it was only a look whether we are there, as balancers do."""
        self.run_proxy(clock=Clock())
        for first in (b"", v1()[:-1], v2()[:-1]):
            client = await self.client(first)
            client.end()
            await client.ended()
        for first in (b"", v2()[:7]):
            client = await self.in_pieces(first)
            client.reset()
        await self.ended_with(*[Reason.NO_DATA] * 2, *[Reason.PROXY_HEADER] * 3)

    async def test_the_time_limit(self) -> None:
        """It is for the whole of the header; a byte now and then gains nothing."""
        clock = Clock()
        self.run_proxy(clock=clock, timeouts={"sniff": 10.0})
        silent, dripping = await self.client(), await self.client()
        ledger = self.proxy.ledger
        await until(lambda: len(ledger.live) == 2)
        for number in range(9):
            clock.advance(1.0)
            dripping.write(v1()[number : number + 1])
            await turn()
        await settled(lambda: len(ledger.live), 10)
        self.assertEqual(len(ledger.live), 2)
        clock.advance(1.0)
        clock.advance(0)
        await silent.ended()
        await dripping.ended()
        silent.end()
        dripping.end()
        await self.ended_with(Reason.NO_DATA, Reason.PROXY_HEADER)

    async def test_a_header_and_nothing_more(self) -> None:
        """What comes behind it has its own time limit."""
        clock = Clock()
        self.run_proxy(clock=clock, timeouts={"sniff": 10.0})
        client = await self.client()
        await until(lambda: self.proxy.ledger.live)
        clock.advance(9.0)
        client.write(v1())
        await until(lambda: self.session().client == number_of(CLIENT))
        clock.advance(9.0)
        self.assertEqual(len(self.proxy.ledger.live), 1)
        clock.advance(1.0)
        clock.advance(0)
        await client.ended()
        client.end()
        await self.ended_with(Reason.NO_DATA)

    async def test_the_service_stops(self) -> None:
        """A balancer's silent connection is not waited for longer than a client's."""
        clock = Clock()
        self.run_proxy(clock=clock)
        client = await self.client()
        await until(lambda: self.proxy.ledger.live)
        self.proxy.drain()
        clock.advance(1.0)
        clock.advance(0)
        await client.ended()
        client.end()
        await self.ended_with(Reason.NO_DATA)


class NamedTests(HeaderCase):
    """The client that is named is the client: for the limits and in the log."""

    async def refused(self, header: bytes) -> None:
        client = await self.client(header + WHATSAPP)
        await client.ended()
        self.assertEqual(client.received, b"")
        client.close()

    async def accepted(self, header: bytes) -> Peer:
        client = await self.client(header + WHATSAPP)
        await self.reached(WHATSAPP)
        return client

    async def test_limits(self) -> None:
        """The balancer's own address has no share in it; one client's crowd stops that client."""
        self.run_proxy(
            clients={"max_per_client": 2, "rate_per_client": 0, "deny": ("192.0.2.0/24",)}
        )
        first = await self.accepted(v1())
        await self.accepted(v2())
        for header in (v1(), v2(), v1("::ffff:203.0.113.77")):
            await self.refused(header)
        for header in (v1("203.0.113.78"), v2("203.0.113.79"), v1(CLIENT_V6), v2(CLIENT_V6)):
            await self.accepted(header)
        await self.refused(v1(CLIENT_V6[:-1] + "8"))  # the same /64
        await self.refused(v2("192.0.2.7"))
        # One leaves, one may come.
        first.reset()
        await until(lambda: self.proxy.ledger.ends[Reason.CLIENT_RESET])
        await self.accepted(v1())
        await self.refused(v1())
        expected = {Reason.CLIENT_CROWD: 5, Reason.CLIENT_DENIED: 1, Reason.CLIENT_RESET: 1}
        ends = self.proxy.ledger.ends
        await until(lambda: {reason: n for reason, n in ends.items() if n} == expected)

    async def test_rate(self) -> None:
        self.run_proxy(clients={"rate_per_client": 1, "burst_per_client": 1})
        await self.accepted(v1())
        await self.refused(v1())
        await self.accepted(v1("203.0.113.78"))
        await until(lambda: self.proxy.ledger.ends[Reason.CLIENT_RATE] == 1)

    async def test_the_sender_where_nobody_is_named(self) -> None:
        """Its health checks are its own connections."""
        self.run_proxy(clients={"deny": (f"{LOOPBACK}/32",)})
        await self.refused(LOCAL)
        await self.accepted(v1())
        await until(lambda: self.proxy.ledger.ends[Reason.CLIENT_DENIED] == 1)

    async def test_at_once(self) -> None:
        """Who is turned away holds nothing, though the balancer stays; a line tells of all."""
        self.run_proxy(clients={"deny": ("192.0.2.0/24",)}, server={"max_connections": 2})
        lines = log_lines(self)
        for _ in range(6):
            peer = await self.client(v1("192.0.2.7"))
            await until(lambda p=peer: p.lost, "it is still there")
            self.assertEqual(len(self.proxy.ledger.live), 0)
        (line,) = [line for line in lines if line.startswith("connection")]
        self.assertIn("rejected: client_denied: ", line)

    async def test_nobody_is_named_on_a_unix_socket(self) -> None:
        """Where only some may come, nobody is none of them."""
        for allow, welcome in (((), True), (("203.0.113.0/24",), False)):
            self.run_proxy(clients={"allow": allow})
            door = self.proxy.door_of(Listener("unix:/x", proxy_protocol=True))
            peer = await self.dial_unix(door)
            peer.write(LOCAL + WHATSAPP)
            await until(lambda p=peer: p.eof or p.lost or self.proxy.ledger.kinds[Kind.WHATSAPP])
            self.assertEqual(bool(self.proxy.ledger.kinds[Kind.WHATSAPP]), welcome)
            peer.close()

    async def test_log(self) -> None:
        """As much of its address as is asked for; nothing by default."""
        for clients, told in (
            ("none", {CLIENT: "", CLIENT_V6: ""}),
            (
                "network",
                {CLIENT: " client=203.0.113.0/24", CLIENT_V6: " client=2001:db8:1::/48"},
            ),
            ("full", {CLIENT: f" client={CLIENT}", CLIENT_V6: f" client={CLIENT_V6}"}),
        ):
            self.run_proxy(logging={"clients": clients})
            for client, part in told.items():
                lines = log_lines(self)
                peer = await self.accepted(v1(client))
                await self.leave(peer)
                (line,) = [line for line in lines if line.startswith("connection ended")]
                self.assertTrue(line.endswith(f" sent=0{part}"), line)
            self.assertNotIn(LOOPBACK, line.replace(f"to={LOOPBACK}", ""))
