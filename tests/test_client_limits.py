"""Who may come, and how much of them: what happens to the others, and that nobody else notices."""

import os
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest

from tests.peers import LOOPBACK, Peer, reactor, until
from tests.support import WHATSAPP, LoopbackCase, log_lines, make_settings, to_upstream
from whatsproxy import listen_codecs
from whatsproxy.factory import ProxyFactory
from whatsproxy.journal import REMIND
from whatsproxy.listeners import Door
from whatsproxy.networks import Networks, parse_network
from whatsproxy.protocols.sniffer import Sniffer
from whatsproxy.reason import Reason
from whatsproxy.reload import WATCH, Reloader
from whatsproxy.service import ProxyService, StartupError


class KnockCase(LoopbackCase):
    """Connections from everywhere: no sockets are needed to be let in, or not."""

    def run_proxy(self, **clients: Any) -> None:
        self.clock = Clock()
        keys = {"max_per_client": 0, "rate_per_client": 0, **clients}
        self.proxy = ProxyFactory(self.clock, make_settings(clients=keys))
        self.load()
        self.inside: list[Any] = []
        self.addCleanup(self.everyone_leaves)

    def load(self) -> None:
        for loadable in self.proxy.loadables[1:]:  # not the certificates
            loadable.load()

    def knocks(self, address: str | None, door: Door | None = None) -> bool:
        """Connect from an address, or by a unix socket; tell whether that is let in."""
        kind = IPv6Address if address and ":" in address else IPv4Address
        peer = UNIXAddress(b"") if address is None else kind("TCP", address, 50000)
        protocol = (door or self.proxy).buildProtocol(peer)
        if protocol is None:
            return False
        self.assertIsInstance(protocol, Sniffer)
        self.inside.append(protocol)
        return True

    def leaves(self, number: int) -> None:
        self.inside.pop(number).session.close(Reason.NO_DATA)

    def everyone_leaves(self) -> None:
        while self.inside:
            self.leaves(0)
        self.assertEqual(self.proxy.clients._live, {})

    def assertRefused(self, **counts: int) -> None:
        """So many were turned away for these reasons, and are counted as errors, at accept."""
        ledger = self.proxy.ledger
        ends = {reason.name.lower(): n for reason, n in ledger.ends.items() if n}
        ends.pop("no_data", None)
        self.assertEqual(ends, counts)
        self.assertEqual(ledger.rejected, sum(counts.values()))
        self.assertEqual(ledger.errors, sum(counts.values()))
        self.assertEqual(len(ledger.live), len(self.inside))


class WhoTests(KnockCase):
    #: Rules, and whom they let in.
    RULES: tuple[tuple[dict[str, tuple[str, ...]], dict[str | None, bool]], ...] = (
        ({}, {"192.0.2.1": True, "2001:db8::1": True, None: True}),
        (
            {"allow": ("192.0.2.0/24", "2001:db8::/32")},
            {
                "192.0.2.255": True,
                "192.0.3.0": False,
                "::ffff:192.0.2.7": True,
                "::ffff:192.0.3.7": False,
                "2001:db8:ffff::": True,
                "2001:db9::": False,
                None: True,  # the socket's mode is the rule
            },
        ),
        (
            {"deny": ("192.0.2.128/25", "fe80::/10")},
            {
                "192.0.2.127": True,
                "192.0.2.128": False,
                "::ffff:c000:280": False,
                "fe80::1%eth0": False,
                "2001:db8::1": True,
                None: True,
            },
        ),
        (
            {"allow": ("192.0.2.0/24",), "deny": ("192.0.2.66",)},
            {"192.0.2.65": True, "192.0.2.66": False, "192.0.2.67": True, "198.51.100.1": False},
        ),
    )

    def test_rules(self) -> None:
        """IPv4 is the same to a dual-stack listener, which sees it as v4-mapped."""
        for rules, expected in self.RULES:
            self.run_proxy(**rules)
            found = {address: self.knocks(address) for address in expected}
            self.assertEqual(found, expected, rules)
            refused = list(expected.values()).count(False)
            self.assertRefused(**({"client_denied": refused} if refused else {}))
            self.everyone_leaves()

    def test_a_listeners_own(self) -> None:
        """It holds at that listener, together with those for all."""
        self.run_proxy(deny=("192.0.2.66",))
        listener = listen_codecs.Listener("tcp:0", allow=("192.0.2.0/24",))
        door = self.proxy.door_of(listener)
        self.load()
        for address, here in (("192.0.2.65", True), ("192.0.2.66", False), ("192.0.3.1", False)):
            self.assertEqual(self.knocks(address, door), here, address)
            self.assertEqual(self.knocks(address), address != "192.0.2.66", address)
        self.assertRefused(client_denied=3)

    def test_log(self) -> None:
        """A line a minute and reason, which names no client unless that is asked for."""
        for asked, part in (
            ("none", ""),
            ("network", " client=192.0.2.0/24"),
            ("full", " client=192.0.2.1"),
        ):
            self.clock = Clock()
            settings = make_settings(
                clients={"deny": ("192.0.2.0/24",)}, logging={"clients": asked}
            )
            self.proxy, self.inside = ProxyFactory(self.clock, settings), []
            self.load()
            lines = log_lines(self)
            for _ in range(20):
                self.assertFalse(self.knocks("192.0.2.1"))
            (line,) = [line for line in lines if "client_denied" in line]
            self.assertIn("clients.allow or clients.deny", line)
            self.assertTrue(line.endswith(f": 1 so far{part}"), line)
            self.clock.advance(REMIND)
            self.knocks("192.0.2.1")
            self.assertTrue(lines[-1].endswith(f": 21 so far{part}"), lines[-1])


class HowManyTests(KnockCase):
    def test_at_a_time(self) -> None:
        """Whoever leaves makes room, for that client only."""
        self.run_proxy(max_per_client=2)
        for address in ("192.0.2.1", "192.0.2.2", "::ffff:192.0.2.3"):
            self.assertEqual([self.knocks(address) for _ in range(3)], [True, True, False])
        self.assertFalse(self.knocks("::ffff:192.0.2.1"), "the same host")
        self.assertFalse(self.knocks("192.0.2.3"), "the same host")
        self.assertRefused(client_crowd=5)
        self.leaves(0)
        self.assertFalse(self.knocks("192.0.2.2"))
        self.assertEqual([self.knocks("192.0.2.1") for _ in range(2)], [True, False])
        self.assertTrue(all(self.knocks(None) for _ in range(5)), "a unix socket's have no host")

    def test_networks_of_single_hosts(self) -> None:
        """In IPv6 a client is a /64."""
        self.run_proxy(max_per_client=2)
        self.assertTrue(self.knocks("2001:db8:0:1::1"))
        self.assertTrue(self.knocks("2001:db8:0:1:ffff:ffff:ffff:ffff"))
        self.assertFalse(self.knocks("2001:db8:0:1:8000::"))
        self.assertTrue(self.knocks("2001:db8:0:2::1"))
        self.assertTrue(self.knocks("2001:db8::1"))
        self.assertRefused(client_crowd=1)

    def test_a_second(self) -> None:
        """So many at once, then so many a second; saved up to the burst and no further."""
        self.run_proxy(rate_per_client=2, burst_per_client=3)
        self.assertEqual([self.knocks("192.0.2.1") for _ in range(4)], [True] * 3 + [False])
        self.assertTrue(self.knocks("192.0.2.2"), "another host")
        self.assertEqual([self.knocks("2001:db8::1") for _ in range(2)], [True] * 2)
        self.assertTrue(self.knocks("2001:db8::2"))
        self.assertFalse(self.knocks("2001:db8::3"), "a /64 is one host")
        self.clock.advance(0.49)
        self.assertFalse(self.knocks("192.0.2.1"))
        self.clock.advance(0.02)
        self.assertEqual([self.knocks("192.0.2.1") for _ in range(2)], [True, False])
        self.clock.advance(1.0)
        self.assertEqual([self.knocks("192.0.2.1") for _ in range(3)], [True, True, False])
        self.clock.advance(1000.0)
        self.assertEqual([self.knocks("192.0.2.1") for _ in range(4)], [True] * 3 + [False])
        self.assertRefused(client_rate=6)

    def test_who_is_denied_takes_no_place(self) -> None:
        """Neither does whoever is one too many take a token."""
        self.run_proxy(
            deny=("198.51.100.0/24",), max_per_client=1, rate_per_client=1, burst_per_client=2
        )
        self.assertEqual([self.knocks("198.51.100.1") for _ in range(9)], [False] * 9)
        self.assertEqual([self.knocks("192.0.2.1") for _ in range(9)], [True] + [False] * 8)
        self.leaves(0)
        self.assertEqual([self.knocks("192.0.2.1") for _ in range(2)], [True, False])
        self.leaves(0)
        self.assertFalse(self.knocks("192.0.2.1"))
        self.assertRefused(client_denied=9, client_crowd=9, client_rate=1)

    def test_no_limits(self) -> None:
        self.run_proxy(max_per_client=0, rate_per_client=0, burst_per_client=1)
        self.assertEqual([self.knocks("192.0.2.1") for _ in range(50)], [True] * 50)


class NoticedTests(LoopbackCase):
    """On real connections."""

    async def turned_away(self) -> None:
        client = await self.client()
        await until(lambda: client.eof or client.lost)
        self.assertEqual(client.received, b"")

    async def both_ways(self, client: Peer, upstream: Any) -> None:
        del client.received[:], upstream.received[:]
        client.write(b"still")
        upstream.write(b"here")
        await upstream.got(b"still")
        await client.got(b"here")

    async def test_a_crowd(self) -> None:
        """Those inside notice nothing of those outside."""
        upstreams = self.listen()
        clients = {"max_per_client": 2, "rate_per_client": 0}
        proxy = self.start_proxy(to_upstream(upstreams.port, clients=clients))
        inside = [await self.joined(upstreams, WHATSAPP) for _ in range(2)]
        for _ in range(3):
            await self.turned_away()
        for client, upstream, _ in inside:
            await self.both_ways(client, upstream)
        self.assertEqual(proxy.ledger.ends[Reason.CLIENT_CROWD], 3)
        client, upstream, _ = inside[0]
        client.reset()
        upstream.reset()
        await until(lambda: len(proxy.ledger.live) == 1)
        await self.joined(upstreams, WHATSAPP)
        await self.turned_away()

    async def test_both_families(self) -> None:
        """A dual-stack listener's IPv4 clients are held to rules about IPv4, and to no other."""
        upstreams = self.listen()
        for rules, here in (
            ({"allow": ("127.0.0.0/8",)}, True),
            ({"deny": ("127.0.0.0/8",)}, False),
            ({"allow": ("::1", "2000::/3")}, False),
            ({"deny": ("::1", "2000::/3", "::7f00:0/104")}, True),
        ):
            clients = {"max_per_client": 0, "rate_per_client": 0, **rules}
            self.factory = ProxyFactory(reactor, to_upstream(upstreams.port, clients=clients))
            for loadable in self.factory.loadables[1:]:
                loadable.load()
            self.proxy_port = self.dual_stack(self.factory)
            if here:
                client = await self.client(WHATSAPP)
                upstream = await upstreams.accepted(len(upstreams.peers) + 1)
                upstream.reset()
                await client.gone()
            else:
                await self.turned_away()
                self.assertEqual(self.factory.ledger.ends[Reason.CLIENT_DENIED], 1)

    def dual_stack(self, factory: ProxyFactory) -> int:
        try:
            port = reactor.listenTCP(0, factory, interface="::")
        except CannotListenError:
            raise SkipTest("no IPv6 here") from None
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)


class FileTests(LoopbackCase):
    """Lists in files, read anew when they have changed; who is inside stays."""

    def setUp(self) -> None:
        super().setUp()
        self.upstreams = self.listen()
        self.path = Path(self.mktemp())
        self.clock = Clock()

    def write(self, *lines: str) -> None:
        """Write the list; its time moves, though the test is quicker than that."""
        self.path.write_text("\n".join(lines))
        self.times = getattr(self, "times", 10**18) + 10**9
        os.utime(self.path, ns=(self.times, self.times))

    def run_proxy(self, **keys: tuple[str, ...]) -> Any:
        clients = {"max_per_client": 0, "rate_per_client": 0, **keys}
        proxy = self.start_proxy(to_upstream(self.upstreams.port, clients=clients))
        for loadable in proxy.loadables[1:]:
            loadable.load()
        self.reloader = Reloader(self.clock, proxy.loadables[1:], proxy.ledger)
        self.reloader.startService()
        self.addCleanup(self.reloader.stopService)
        return proxy

    async def let_in(self) -> bool:
        client = await self.client(WHATSAPP)
        number = len(self.upstreams.peers)
        await until(lambda: client.eof or client.lost or len(self.upstreams.peers) > number)
        return not (client.eof or client.lost)

    async def test_allow(self) -> None:
        self.write("# offices", "192.0.2.0/24", "", "2001:db8::/32  # and there")
        proxy = self.run_proxy(allow=("198.51.100.0/24", f"file:{self.path}"))
        self.assertFalse(await self.let_in())
        self.write("127.0.0.0/8 # ours")
        self.assertFalse(await self.let_in(), "nobody has looked yet")
        self.clock.advance(WATCH)
        self.assertTrue(await self.let_in())
        inside = self.upstreams.peers[-1]
        # What is wrong changes nothing, and is told in one line that says where.
        lines = log_lines(self)
        for bad, said in (
            (("192.0.2.1/24",), "line 1: .*192.0.2.0/24 would be right"),
            (("127.0.0.0/8", "anybody"), "line 2: 'anybody' is no network"),
        ):
            lines.clear()
            self.write(*bad)
            self.clock.pump([WATCH] * 3)
            self.assertTrue(await self.let_in())
            (line,) = [line for line in lines if "not reloaded" in line]
            self.assertRegex(line, said)
            self.assertIn(str(self.path), line)
            self.assertIn("clients.allow", line)
        self.path.unlink()
        self.reloader.reload()
        self.assertTrue(await self.let_in())
        self.write("192.0.2.0/24")
        self.reloader.reload()
        self.assertFalse(await self.let_in())
        # Who was inside has noticed nothing.
        self.assertIsNone(inside.lost)
        inside.write(b"still here")
        await until(lambda: any(p.received == b"still here" for p in self._dialled))
        self.assertEqual(proxy.ledger.ends[Reason.CLIENT_DENIED], 3)

    async def test_deny(self) -> None:
        self.write("")
        self.run_proxy(deny=(f"file:{self.path}",))
        self.assertTrue(await self.let_in())
        self.write(f"{LOOPBACK}/32")
        self.reloader.reload()
        self.assertFalse(await self.let_in())
        self.write("# none")
        self.clock.advance(WATCH)
        self.assertTrue(await self.let_in())

    def test_a_start_with_a_bad_one(self) -> None:
        """It ends with one line, and nothing is left open."""
        self.write("192.0.2.0/24", "nobody")
        absent = str(self.path) + ".absent"
        for key, source, said in (
            ("allow", str(self.path), "line 2: 'nobody' is no network"),
            ("deny", absent, "cannot be read: No such file"),
        ):
            settings = make_settings(
                server={"listen": (f"tcp:0:interface={LOOPBACK}",)},
                clients={key: (f"file:{source}",)},
            )
            service = ProxyService(reactor, settings)
            with self.assertRaises(StartupError) as caught:
                service.privilegedStartService()
            for part in (source, said, f"clients.{key}"):
                self.assertIn(part, str(caught.exception))
            self.assertNotIn("\n", str(caught.exception))
            self.assertEqual(service._ports, [])

    def test_large(self) -> None:
        """100,000 networks load in a second, and the sets of the parts are one set."""
        self.write(*(f"10.{n >> 8 & 255}.{n & 255}.{n >> 16 << 4}/28" for n in range(100_000)))
        proxy = ProxyFactory(self.clock, make_settings(clients={"deny": (f"file:{self.path}",)}))
        began = reactor.seconds()
        proxy.loadables[1].load()
        self.assertLess(reactor.seconds() - began, 2.0)  # half of what it should be, on a busy day
        denied = proxy.clients.deny
        self.assertIsNotNone(denied)
        for address, inside in (("10.0.0.0", True), ("10.0.0.16", True), ("10.200.0.32", False)):
            self.assertEqual(parse_network(address)[0] in (denied or Networks()), inside, address)
