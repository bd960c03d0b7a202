"""Where a permitted name leads: resolved once, judged, and only what was judged is dialled."""

import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

from twisted.internet.interfaces import IReactorTCP
from twisted.trial.unittest import SkipTest
from zope.interface import implementer

from tests.builders import python_hello
from tests.http_peers import HttpClient, OriginPeer, head_of
from tests.peers import LOOPBACK, FakeSocks, Listener, by_name, reactor
from tests.support import RAW, WHATSAPP, LoopbackCase, log_lines, make_settings, through_socks
from whatsproxy import factory as factory_module
from whatsproxy import resolver
from whatsproxy.codecs import Direct
from whatsproxy.destination import Destination
from whatsproxy.factory import ProxyFactory
from whatsproxy.own_addresses import is_own
from whatsproxy.reason import Reason
from whatsproxy.service import ProxyService

NAME = "media.whatsapp.net"
PUBLIC, PUBLIC_V6 = "8.8.8.8", "2620:fe::fe"
#: What a name must not lead to, and what the client is told that it is.
FORBIDDEN = {
    "loopback": (
        *("127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1"),
        "64:ff9b::7f00:1",
    ),
    "private": (
        *("10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12::1"),
        *("::ffff:10.1.2.3", "64:ff9b::a01:203"),
    ),
    "link-local": (
        *("169.254.169.254", "fe80::1", "fe80::1%lo", "::ffff:169.254.169.254"),
        "64:ff9b::a9fe:a9fe",
    ),
    "carrier-grade NAT": ("100.64.0.1", "100.127.255.255"),
    "multicast": ("224.0.0.1", "239.255.255.255", "ff02::1"),
    "reserved": ("240.0.0.1", "255.255.255.255", "192.0.0.8", "::7f00:1", "100::1"),
    "unspecified": ("0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0"),
    "6to4": ("2002:7f00:1::", "2002:808:808::1"),
    "Teredo": ("2001:0:808:808::",),
}
#: Literal addresses, however they are spelled; in brackets what has to be in HTTP.
LITERALS = (
    *("127.0.0.1", "127.1", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "2130706433", "017700000001"),
    *("127.0.0.1.", "0", "0.0.0.0", "10.1.2.3", "169.254.169.254", PUBLIC, "134744072", "[::]"),
    *("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]"),
    *("[2002:7f00:1::]", "[2001:0:7f00:1::]", "[fe80::1]", "[fe80::1%lo]", f"[{PUBLIC_V6}]"),
)


@implementer(IReactorTCP)
class WatchedReactor:
    """The reactor, but what is dialled has to be in ``places``, and leads to the port there."""

    def __init__(self) -> None:
        self.places: dict[tuple[str, int], int] = {}
        self.dialled: list[tuple[str, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def connectTCP(self, host: str, port: int, *arguments: Any, **named: Any) -> Any:
        self.dialled.append((host, port))
        if (host, port) not in self.places:
            raise AssertionError(f"{host} is dialled")  # which leaves a traceback: the test fails
        return reactor.connectTCP(LOOPBACK, self.places[host, port], *arguments, **named)


class AddressCase(LoopbackCase):
    """A proxy whose names lead where the test says, and which reaches nothing else."""

    def setUp(self) -> None:
        super().setUp()
        self.reactor = WatchedReactor()
        self.names: dict[str, list[str]] = {}
        self.resolved: list[str] = []
        self.patch(socket, "getaddrinfo", self.resolve)
        self.patch(resolver, "KEEP", 0.0)  # a name leads elsewhere from one moment to the next
        self.origins = self.listen(OriginPeer)

    def resolve(self, name: bytes, *_: Any, **__: Any) -> list[Any]:
        """Stand in for the system's resolver (in a thread)."""
        self.resolved.append(name.decode())
        return [(0, 0, 0, "", (address, 0)) for address in self.names[name.decode()]]

    def lead(self, *addresses: str, name: str = NAME) -> None:
        self.names[name] = list(addresses)

    def run_proxy(self, **sections: Any) -> None:
        """Run one with none of the test's own networks allowed, unless it says so."""
        sections["policy"] = {"allow_networks": (), **sections.get("policy", {})}
        self.factory = ProxyFactory(self.reactor, make_settings(**sections))
        self.proxy_port = self.listen_with(self.factory)

    async def tunnel(self, host: str = NAME, port: int = 443) -> tuple[int, str]:
        """Ask for a tunnel; return the status and, where it is refused, the text."""
        where = f"{host}:{port}".encode()
        peer = await self.client(head_of(b"CONNECT " + where + b" HTTP/1.1", b"Host: " + where))
        answer = await HttpClient(peer).answer(bodiless=True)
        if answer.status != 200:
            await peer.ended()
        peer.close()
        return answer.status, peer.received.decode()

    async def fetch(self, host: str = NAME) -> tuple[int, str]:
        """Ask for a page, which the origin has, if it is asked."""
        field = b"Host: " + host.encode()
        client = HttpClient(
            await self.client(head_of(b"GET http://%s/ HTTP/1.0" % field[6:], field))
        )
        answer = await client.answer()
        await client.closed()
        return answer.status, answer.body.decode()

    def assertUntouched(self) -> None:
        """Nothing was dialled, and nothing reached the listener."""
        self.assertEqual(self.reactor.dialled, [])
        self.assertEqual(self.origins.peers, [])


class ResolvedOnceTests(AddressCase):
    async def test_the_checked_address_is_dialled(self) -> None:
        """A name that means another place at the second look is not looked at a second time."""
        self.run_proxy()
        self.reactor.places = {(PUBLIC, 443): self.origins.port}
        self.lead(PUBLIC)

        def rebinding(name: bytes, *rest: Any, **named: Any) -> list[Any]:
            answer = self.resolve(name, *rest, **named)
            self.lead(LOOPBACK)
            return answer

        self.patch(socket, "getaddrinfo", rebinding)
        for first in (
            b"CONNECT media.whatsapp.net:443 HTTP/1.0\r\n\r\n",
            python_hello(NAME),
        ):
            self.lead(PUBLIC)
            self.resolved.clear()
            self.reactor.dialled.clear()
            client = await self.client(first)
            await self.origins.accepted(len(self.origins.peers) + 1)
            self.assertEqual(self.resolved, [NAME])
            self.assertEqual(self.reactor.dialled, [(PUBLIC, 443)])
            client.close()
        # It has moved: the next client is refused, by the answer that it gets itself.
        self.assertEqual((await self.tunnel())[0], 403)
        self.assertEqual(self.resolved, [NAME, NAME])
        self.assertEqual(self.reactor.dialled, [(PUBLIC, 443)])

    async def test_only_the_good_ones(self) -> None:
        """Of several addresses those that may be are tried, in their order, and no other."""
        self.run_proxy()
        self.reactor.places = {(PUBLIC_V6, 443): self.origins.port}
        self.lead(LOOPBACK, "10.0.0.1", PUBLIC_V6, "fe80::1", "::1")
        self.assertEqual((await self.tunnel())[0], 200)
        self.assertEqual(self.reactor.dialled, [(PUBLIC_V6, 443)])
        # Nor when the good one fails.
        await self.listening_no_more(self.origins)
        self.assertEqual((await self.tunnel())[0], 502)
        self.assertEqual(self.reactor.dialled, [(PUBLIC_V6, 443)] * 2)

    async def listening_no_more(self, listener: Listener) -> None:
        with socket.socket() as s:
            s.bind((LOOPBACK, 0))
            self.reactor.places = dict.fromkeys(self.reactor.places, s.getsockname()[1])

    async def test_public_in_disguise(self) -> None:
        """A public address by NAT64 or as v4-mapped is public."""
        self.run_proxy()
        for address in ("64:ff9b::808:808", "::ffff:8.8.8.8"):
            self.lead(address)
            self.reactor.places = {(address, 443): self.origins.port}
            self.assertEqual((await self.tunnel())[0], 200, address)


class ForbiddenTests(AddressCase):
    async def test_every_kind_of_address(self) -> None:
        """A tunnel or a page is answered by 403, which names no address; one count, one line."""
        lines = log_lines(self)
        self.run_proxy()
        for what, addresses in FORBIDDEN.items():
            for address in addresses:
                self.lead(address)
                for ask in (self.tunnel, self.fetch):
                    self.resolved.clear()
                    status, text = await ask()
                    self.assertEqual(status, 403, address)
                    said = f"The address behind {NAME} is not for clients: {what}.\n"
                    self.assertTrue(text.startswith(said), text)
                    self.assertIn("[policy] allow_networks", text)
                    self.assertNotIn(address.partition("%")[0], text.replace("::", ""))
                    self.assertEqual(self.resolved, [NAME])
        self.assertUntouched()
        count = 2 * sum(map(len, FORBIDDEN.values()))
        await self.ended_with(*[Reason.REFUSED_ADDRESS] * count)
        told = [line for line in lines if line.startswith("connection")]
        self.assertEqual(len(told), count)
        for line in told:
            self.assertRegex(line, r"^connection ended: refused_address protocol=\w+ to=media")
            self.assertRegex(line, rf"\(the address behind {NAME} is not for clients: [-\w ]+\)$")

    async def test_tls_that_is_passed_through(self) -> None:
        self.run_proxy()
        for address in ("127.0.0.1", "10.1.2.3", "::ffff:169.254.169.254"):
            self.lead(address)
            client = await self.client(python_hello(NAME))
            await client.ended()
            self.assertEqual(client.received, b"")
            client.close()
        self.assertUntouched()
        await self.ended_with(*[Reason.REFUSED_ADDRESS] * 3)

    async def test_a_star_changes_nothing(self) -> None:
        """``*`` allows all names: neither where they lead nor literal addresses."""
        self.run_proxy(policy={"allow": ("*",)})
        self.lead("10.1.2.3", name="anything.example")
        self.lead("127.0.0.1", name="localhost")
        self.assertEqual((await self.tunnel("anything.example"))[0], 403)
        self.assertEqual((await self.tunnel("localhost"))[0], 403)
        self.assertEqual((await self.tunnel(PUBLIC))[0], 403)
        self.assertUntouched()
        self.lead(PUBLIC, name="anything.example")
        self.reactor.places = {(PUBLIC, 443): self.origins.port}
        self.assertEqual((await self.tunnel("anything.example"))[0], 200)

    async def test_this_host(self) -> None:
        """Nor to a public address that is this host's own."""
        self.patch(factory_module, "is_own", lambda address: address == PUBLIC)
        self.run_proxy()
        self.lead(PUBLIC)
        status, text = await self.tunnel()
        self.assertEqual(status, 403)
        self.assertIn("this host itself", text)
        self.lead("64:ff9b::808:808")
        self.assertEqual((await self.tunnel())[0], 403)
        self.assertUntouched()

    async def test_an_address_of_this_host(self) -> None:
        """The system is asked which are: here it is given another one for the moment."""
        if os.environ.get("TEST_SANDBOX") != "1":
            raise SkipTest("needs the namespaces of tests/sandbox (TEST_SANDBOX is not 1)")
        self.assertFalse(is_own(PUBLIC))
        with another_address(PUBLIC):
            self.assertTrue(is_own(PUBLIC))
            self.run_proxy()
            self.lead(PUBLIC)
            self.assertIn("this host itself", (await self.tunnel())[1])
        self.assertFalse(is_own(PUBLIC))
        self.assertUntouched()

    async def test_a_second_address_of_a_network(self) -> None:
        """The system would not send from it, and yet it is this host's."""
        if os.environ.get("TEST_SANDBOX") != "1":
            raise SkipTest("needs the namespaces of tests/sandbox (TEST_SANDBOX is not 1)")
        first, second, mask = "8.8.4.5", "8.8.4.6", "255.255.255.0"
        with another_address(first, mask=mask), another_address(second, b"lo:8", mask):
            self.assertEqual([is_own(a) for a in (first, second)], [True, True])
            self.assertFalse(is_own("8.8.9.9"))


@contextlib.contextmanager
def another_address(
    address: str, name: bytes = b"lo:9", mask: str = "255.255.255.255"
) -> Iterator[None]:
    """Give the loopback interface another address, as netdevice(7) has it."""
    set_flags, set_address, set_mask = 0x8914, 0x8916, 0x891C
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for what, value in ((set_address, address), (set_mask, mask)):
            number = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(value))
            fcntl.ioctl(s, what, struct.pack("16s16s", name, number))
        try:
            yield
        finally:
            fcntl.ioctl(s, set_flags, struct.pack("16sH14x", name, 0))  # which removes it


class LiteralTests(AddressCase):
    async def test_refused(self) -> None:
        """Whatever the spelling, as a target in HTTP or in TLS: nothing is resolved or dialled."""
        self.run_proxy(policy={"allow": ("*",)})
        for literal in LITERALS:
            for ask in (self.tunnel, self.fetch):
                status, text = await ask(literal)
                self.assertIn(status, (400, 403), literal)
            if literal in ("127.0.0.1", PUBLIC, "[::1]"):
                self.assertEqual(status, 403)
                self.assertIn("a literal address: see allow_networks", text)
        self.assertEqual((await self.fetch(f"{NAME}@127.0.0.1"))[0], 400)
        self.assertUntouched()
        self.assertEqual(self.resolved, [])

    async def test_refused_as_server_names(self) -> None:
        self.run_proxy(policy={"allow": ("*",)})
        for literal in LITERALS:
            name = literal.strip("[]")
            # Python sends no address as a server name: a name of this length is replaced.
            hello = python_hello("x" * len(name)).replace(b"x" * len(name), name.encode())
            client = await self.client(hello)
            await client.ended()
            self.assertEqual(client.received.hex(), "15030300020270", literal)
            client.close()
        self.assertUntouched()
        self.assertEqual(self.resolved, [])
        await self.ended_with(*[Reason.REFUSED_NAME] * len(LITERALS))

    async def test_allowed_by_network(self) -> None:
        """Then they may be named, and names may lead there: public and other networks."""
        self.run_proxy(policy={"allow_networks": ("8.8.8.0/24", "10.0.0.0/8", "fd00::/8")})
        for literal, address in (
            (PUBLIC, PUBLIC),
            ("10.1.2.3", "10.1.2.3"),
            ("[fd00::1]", "fd00::1"),
            ("[::ffff:10.1.2.3]", "::ffff:a01:203"),
        ):
            self.reactor.places[address, 443] = self.origins.port
            self.reactor.dialled.clear()
            self.assertEqual((await self.tunnel(literal))[0], 200, literal)
            self.assertEqual(self.reactor.dialled, [(address, 443)])
            self.lead(address)
            self.assertEqual((await self.tunnel())[0], 200, address)
            self.assertEqual((await self.tunnel(literal, 444))[0], 403, "the port is not allowed")
        self.reactor.dialled.clear()
        for other in ("8.8.4.4", "11.1.2.3", "[fc00::1]", "[::1]"):
            self.assertEqual((await self.tunnel(other))[0], 403, other)
        self.lead("192.168.0.1")
        self.assertEqual((await self.tunnel())[0], 403)
        self.assertEqual(self.reactor.dialled, [])


class ExemptTests(AddressCase):
    """What the operator has configured is reached wherever it is."""

    async def test_upstreams(self) -> None:
        """By chats, by requests that are for a web server, and by clients that name them."""
        chat = Destination("chat.internal", 77)
        web = Destination(LOOPBACK, self.origins.port)
        self.run_proxy(upstream={"chat": (chat,), "web": web})
        self.lead("10.7.7.7", name="chat.internal")
        self.reactor.places = {
            ("10.7.7.7", 77): self.origins.port,
            (LOOPBACK, self.origins.port): self.origins.port,
        }
        for first in (WHATSAPP, RAW, head_of(b"GET / HTTP/1.1", b"Host: x")):
            await self.joined(self.origins, first)
        self.assertEqual((await self.tunnel("chat.internal", 77))[0], 200)
        self.assertEqual((await self.tunnel(LOOPBACK, self.origins.port))[0], 200)
        # Exactly these: not another port of theirs.
        self.assertEqual((await self.tunnel("chat.internal", 443))[0], 403)
        self.assertEqual((await self.tunnel(LOOPBACK, 443))[0], 403)


class SocksTests(AddressCase):
    """With a SOCKS server nothing is looked up or dialled here but the server itself."""

    def run_socks(self, *more: Direct, policy: Any = None, **reply: bytes) -> Listener:
        server = self.listen(type("Server", (FakeSocks,), reply))
        settings = through_socks(
            server.port, *more, policy={"allow_networks": (), **(policy or {})}
        )
        self.reactor.places = {(LOOPBACK, server.port): server.port}
        self.factory = ProxyFactory(self.reactor, settings)
        self.proxy_port = self.listen_with(self.factory)
        return server

    async def test_names_are_passed_on(self) -> None:
        server = self.run_socks()
        self.lead(LOOPBACK)  # what it means here is not asked
        self.assertEqual((await self.tunnel())[0], 200)
        self.assertEqual((await server.accepted()).request, by_name(NAME, 443))
        self.assertEqual(self.resolved, [])
        self.assertEqual(self.reactor.dialled, [(LOOPBACK, server.port)])

    async def test_literal_addresses(self) -> None:
        """They need a network there, too."""
        server = self.run_socks(policy={"allow_networks": ("10.0.0.0/8",)})
        for literal in (PUBLIC, LOOPBACK, "[::1]"):
            self.assertEqual((await self.tunnel(literal))[0], 403, literal)
        self.assertEqual(server.peers, [])
        self.assertEqual((await self.tunnel("10.1.2.3"))[0], 200)
        request = b"\x05\x01\x00\x01\x0a\x01\x02\x03" + (443).to_bytes(2, "big")
        self.assertEqual((await server.accepted()).request, request)

    async def test_direct_behind_it(self) -> None:
        """The rules hold for that leg."""
        self.run_socks(Direct(), reply=b"\x05\x04")
        self.lead("10.1.2.3")
        self.assertEqual((await self.tunnel())[0], 403)
        self.assertEqual(self.resolved, [NAME])
        await self.ended_with(Reason.REFUSED_ADDRESS)


class LoopTests(AddressCase):
    """No way leads back into this proxy, whatever networks are allowed."""

    #: By each of them a connection arrives at a listener on all addresses of this host.
    OURS = (
        LOOPBACK,
        "127.9.9.9",
        "0.0.0.0",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        PUBLIC,
        "::ffff:0.0.0.0",
    )

    def setUp(self) -> None:
        super().setUp()
        self.patch(factory_module, "is_own", lambda address: address == PUBLIC)
        every_port = tuple(range(1, 65536))  # ours are the system's choice
        settings = make_settings(
            server={"listen": (f"tcp:0:interface={LOOPBACK}", f"tcp:0:interface={LOOPBACK}")},
            metrics={"listen": f"tcp:0:interface={LOOPBACK}"},
            policy={"allow_networks": ("0.0.0.0/0", "::/0"), "allow_ports": every_port},
        )
        self.service = ProxyService(self.reactor, settings)
        self.factory = self.service.factory
        self.service.privilegedStartService()
        self.addCleanup(self.service.stopService)
        ports = [*self.service._ports, self.service._metrics]
        self.ports = [port.getHost().port for port in ports if port is not None]
        self.proxy_port = self.ports[0]

    async def test_own_listeners(self) -> None:
        """Of clients, and of the operator: by name, and as literal addresses."""
        self.assertEqual(len(self.ports), 3)
        for port in self.ports:
            for address in self.OURS:
                self.lead(address)
                status, text = await self.tunnel(NAME, port)
                self.assertEqual(status, 403, address)
                self.assertIn("this proxy itself", text)
                literal = f"[{address}]" if ":" in address else address
                self.assertEqual((await self.tunnel(literal, port))[0], 403, literal)
        self.assertEqual(self.reactor.dialled, [])
        await self.ended_with(*[Reason.REFUSED_ADDRESS] * (6 * len(self.OURS)))

    async def test_others(self) -> None:
        """Another port of this host may be reached, and that port of another host."""
        for address, port in ((LOOPBACK, self.origins.port), ("8.8.4.4", self.ports[0])):
            self.reactor.places = {(address, port): self.origins.port}
            self.lead(address)
            self.assertEqual((await self.tunnel(NAME, port))[0], 200)
