"""What is settled at the start about doors and clients, and that every key of theirs is used."""

import os
import tomllib
from typing import Any

from twisted.application.service import IService
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support import part_of
from tests.test_tap import FOREGROUND, TapCase
from whatsproxy.factory import ProxyFactory
from whatsproxy.networks import number_of
from whatsproxy.reason import Reason
from whatsproxy.service import ProxyService
from whatsproxy.settings import ServerSettings, Settings
from whatsproxy.sniff import Kind
from whatsproxy.tap import makeService

ONE = "[[listener]]\nendpoint = 'tcp:1:interface=127.0.0.1'\n"


class ListenTests(TapCase):
    def listeners(self, text: str, *arguments: str) -> tuple[tuple[str, ...], list[str]]:
        """Return the short descriptions and the endpoints of the listeners that are settled."""
        server = self.settings("-c", self.file(text), *arguments).server
        return server.listen, [listener.endpoint for listener in server.listener]

    def test_no_default_beside_a_listener(self) -> None:
        self.assertEqual(self.listeners(ONE), ((), ["tcp:1:interface=127.0.0.1"]))
        self.assertEqual(self.listeners(""), (ServerSettings().listen, []))

    def test_what_is_asked_for_stays(self) -> None:
        """The default, too, if somebody says it."""
        both = ["tcp:1:interface=127.0.0.1"]
        self.assertEqual(self.listeners(ONE, "-l", "tcp:2"), (("tcp:2",), both))
        self.assertEqual(self.listeners(ONE, "-l", "tcp6:8443"), (("tcp6:8443",), both))
        text = "[server]\nlisten = ['tcp:3']\n" + ONE
        self.assertEqual(self.listeners(text), (("tcp:3",), both))
        os.environ["WHATSPROXY_SERVER_LISTEN"] = "tcp:4"
        self.assertEqual(self.listeners(ONE), (("tcp:4",), both))

    def test_a_star_and_no_default(self) -> None:
        """The default that is dropped makes no open relay."""
        self.listeners("[policy]\nallow = ['*']\n" + ONE)
        code = self.exit_of("--allow", "*", "-c", self.file(ONE), "-l", "tcp:2")
        self.assertIn("[policy] allow", code)

    def test_check_config(self) -> None:
        """What is printed is a file that means the same."""
        output = self.captured()
        code = self.exit_of("--check-config", "-c", self.file(ONE + "kinds = ['raw']\n"))
        self.assertEqual(code, 0)
        document = tomllib.loads(output.getvalue())
        self.assertEqual(document["server"]["listen"], [])
        (listener,) = document["server"]["listener"]
        self.assertEqual(listener["kinds"], ["raw"])
        again = self.settings("-c", self.file(output.getvalue()))
        self.assertEqual(again.server.listen, ())
        (settled,) = again.server.listener
        self.assertEqual(settled.kinds, frozenset({Kind.RAW}))

    def test_mistakes(self) -> None:
        for text, *parts in (
            ("[[listener]]\nendpoint = 'tcp:1:nonsense=1'\n", "[server] listener", "nonsense"),
            ("[[listener]]\nendpoint = 'haproxy:tcp:1'\n", "[server] proxy_trusted", "tcp:1"),
            ("[server]\nlisten = ['haproxy:tcp:1']\n", "[server] proxy_trusted", "tcp:1"),
            ("[server]\nlisten = []\n", "[server] listen = []", "[[listener]]"),
            ("[server]\nlisten = ['haproxy:tcp:1:x=1']\nproxy_trusted = ['::1']\n", "'tcp:1:x=1'"),
            ("[policy]\nallow = ['*']\n", "[policy] allow", "open relay"),
            (
                "[upstream]\nsend_proxy = 'v1'\n[socks5]\nproxies = ['socks5://u:s3cret@h']\n",
                "[upstream] send_proxy",
            ),
        ):
            code = self.exit_of("-c", self.file(text))
            self.assertTrue(code.startswith("whatsproxy: "), code)
            self.assertNotIn("\n", code)
            self.assertNotIn("s3cret", code)
            for part in parts:
                self.assertIn(part, code)

    def test_descriptions_of_load_balancers(self) -> None:
        path = self.file("[server]\nlisten = ['haproxy:tcp:1']\nproxy_trusted = ['10.0.0.1']\n")
        self.assertEqual(self.settings("-c", path).server.listen, ("haproxy:tcp:1",))


class PathTests(TapCase):
    def test_lists(self) -> None:
        """A daemon changes its directory."""
        text = (
            "[clients]\nallow = ['file:a', '10.0.0.0/8']\ndeny = ['file:b', 'file:/d']\n"
            "[[listener]]\nendpoint = 'tcp:1'\nallow = ['file:c', '::1']\n"
        )
        settings = self.settings("-c", self.file(text))
        here = os.getcwd()
        self.assertEqual(settings.clients.allow, (f"file:{here}/a", "10.0.0.0/8"))
        self.assertEqual(settings.clients.deny, (f"file:{here}/b", "file:/d"))
        self.assertEqual(settings.server.listener[0].allow, (f"file:{here}/c", "::1"))


class UsedTests(TapCase):
    """Every key about clients changes what the service does."""

    def factory(self, text: str) -> ProxyFactory:
        options = self.parse("-c", self.file(text))
        options.parent = FOREGROUND
        service: Any = makeService(options)
        self.assertTrue(IService.providedBy(service))
        factory = part_of(service, ProxyService).factory
        for each in factory.loadables:
            if each is not factory.tls:
                each.load()
        factory.ceiling.watch = lambda: None  # its clock is the reactor's
        return factory

    def come(self, factory: ProxyFactory, *addresses: str) -> list[Reason]:
        """Let clients come; return why some were closed at accept."""
        for address in addresses:
            factory.buildProtocol(IPv4Address("TCP", address, 1))
        return [reason for reason, count in factory.ledger.ends.items() for _ in range(count)]

    def test_clients(self) -> None:
        for keys, addresses, expected in (
            ("allow = ['10.0.0.0/8']", ["10.0.0.1", "11.0.0.1"], [Reason.CLIENT_DENIED]),
            ("deny = ['10.0.0.0/8']", ["10.0.0.1", "11.0.0.1"], [Reason.CLIENT_DENIED]),
            ("max_per_client = 2", ["10.0.0.1"] * 3 + ["10.0.0.2"], [Reason.CLIENT_CROWD]),
            (
                "rate_per_client = 1\nburst_per_client = 2",
                ["10.0.0.1"] * 3 + ["10.0.0.2"],
                [Reason.CLIENT_RATE],
            ),
            ("", ["10.0.0.1"] * 3, []),
        ):
            found = self.come(self.factory(f"[clients]\n{keys}\n"), *addresses)
            self.assertEqual(found, expected, keys)

    def test_files(self) -> None:
        path = self.file("# ours\n10.0.0.0/8\n")
        for key, refused in (("allow", "11.0.0.1"), ("deny", "10.0.0.1")):
            factory = self.factory(f"[clients]\n{key} = ['file:{path}']\n")
            self.assertEqual(self.come(factory, "10.0.0.1", "11.0.0.1"), [Reason.CLIENT_DENIED])
            self.assertNotIn(number_of(refused), {s.client for s in factory.ledger.live})

    def test_others(self) -> None:
        factory = self.factory(
            "[server]\nmax_buffered = 1234567\nproxy_trusted = ['10.0.0.1']\n"
            "[policy]\nallow_networks = ['10.0.0.0/8']\n"
            "[upstream]\nsend_proxy = 'v2'\n[logging]\nclients = 'full'\n"
        )
        self.assertEqual(factory.ceiling._most, 1234567)
        self.assertIn(number_of("10.0.0.1"), factory._trusted)
        self.assertIn(number_of("10.0.0.1"), factory.addresses._allow)
        self.assertEqual(factory.upstream._told, {("g.whatsapp.net", 5222): "v2"})
        self.assertEqual(factory.journal._clients, "full")


class DefaultTests(SynchronousTestCase):
    def test_limits(self) -> None:
        """A client is limited without anybody's doing, and no crowd behind one address is hurt."""
        settings = Settings()
        factory = ProxyFactory(Clock(), settings)
        for _ in range(settings.clients.max_per_client):
            factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
        self.assertEqual(factory.ledger.rejected, 0)
        factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
        self.assertEqual(factory.ledger.rejected, 1)
