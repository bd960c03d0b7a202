"""The command line in use: a service made from options does what each of them says."""

import io
import os
import sys
import time
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.builders import python_hello
from tests.peers import LOOPBACK, FakeSocks, by_name, reactor, until
from tests.support import (
    WHATSAPP,
    LoopbackCase,
    keep_signal_handlers,
    log_lines,
    make_settings,
    part_of,
)
from tests.tls_peers import TlsPeer, client_side
from whatsproxy import factory as factory_module
from whatsproxy import settling, tap
from whatsproxy.clienthello import ClientHello
from whatsproxy.codecs import SocksProxy
from whatsproxy.destination import Destination
from whatsproxy.factory import ProxyFactory
from whatsproxy.route import Route
from whatsproxy.service import ProxyService, StartupError
from whatsproxy.sniff import Kind, Sniffed
from whatsproxy.tap import Options, makeService, use_steady_time
from whatsproxy.transport import SingleProtocolFactory

ANY_PORT = f"tcp:0:interface={LOOPBACK}"


def make(case: SynchronousTestCase, *arguments: str) -> Any:
    """Return the whole service for a command line, as ``twistd -n whatsproxy`` makes it."""
    case.patch(settling, "raise_limit", lambda: None)  # whatever this machine's is
    case.patch(tap, "use_steady_time", lambda _: None)  # of the reactor that runs the tests
    options = Options()
    options.parseOptions([*arguments, "--log-level", "debug"])
    options.parent = {"nodaemon": True}
    return makeService(options)


class Login(FakeSocks):
    """Asks for a user and a password."""

    answers = (b"\x05\x02", b"\x01\x00", FakeSocks.reply)
    turns = 0

    def dataReceived(self, data: bytes) -> None:
        if self.turns == len(self.answers):
            self.received += data
            return
        self.heard += data
        self.write(self.answers[self.turns])
        self.turns += 1
        if self.turns == len(self.answers):
            self.request = data


class UsedTests(LoopbackCase):
    def setUp(self) -> None:
        super().setUp()
        self.server = self.listen(Login)
        clean = {k: v for k, v in os.environ.items() if not k.startswith("WHATSPROXY_")}
        self.patch(os, "environ", clean)

    def start(self, *arguments: str) -> ProxyService:
        # Its other part would take the signals of the process that runs the tests.
        service = part_of(make(self, *arguments), ProxyService)
        self.addCleanup(service.stopService)
        service.privilegedStartService()
        service.startService()
        self.factory = service.factory
        return service

    async def test_every_option(self) -> None:
        """Two listeners, the SOCKS server and its login, the chat's way, names, and figures."""
        url = f"socks5://me:s3cr%20et@{LOOPBACK}:{self.server.port}"
        service = self.start(
            *("--listen", ANY_PORT, "-l", ANY_PORT, "--socks5", url, "--metrics", ANY_PORT),
            *("--chat", "chat.test:77", "--allow", "a.test", "--allow", "*.b.test"),
        )
        await (await self.server.accepted()).ended()  # it was asked whether it serves
        login = b"\x05\x01\x02" + b"\x01\x02me\x07s3cr et"
        self.assertEqual(len(service._ports), 2)
        for port in service._ports:
            self.proxy_port = port.getHost().port
            for first, host, number in (
                (WHATSAPP, "chat.test", 77),
                (python_hello("a.test"), "a.test", 443),
                (python_hello("x.b.test"), "x.b.test", 443),
            ):
                _, upstream, _ = await self.joined(self.server, first)
                self.assertEqual(upstream.heard, login + by_name(host, number))
            # TLS to any other name ends here, and what is inside goes the same ways.
            for name in ("b.test", "x.a.test", "media.whatsapp.net"):
                number = len(self.server.peers) + 1
                client = TlsPeer(client_side(name, trust=None))
                endpoint = TCP4ClientEndpoint(reactor, LOOPBACK, self.proxy_port)
                await endpoint.connect(SingleProtocolFactory(client))
                client.write(WHATSAPP)
                upstream = await self.server.accepted(number)
                await upstream.got(WHATSAPP)
                self.assertEqual(upstream.heard, login + by_name("chat.test", 77))
                client.reset()
        assert service._metrics is not None
        operator = await self.dial(service._metrics.getHost().port)
        operator.write(b"GET /ready HTTP/1.0\r\n\r\n")
        await operator.ended()
        self.assertTrue(operator.received.endswith(b"\r\n\r\nready\n"))

    async def test_max_connections_and_timeouts(self) -> None:
        """Keys that have no option, from the environment."""
        os.environ["WHATSPROXY_SERVER_MAX_CONNECTIONS"] = "1"
        os.environ["WHATSPROXY_TIMEOUTS_SNIFF"] = "0.05"
        service = self.start("-l", ANY_PORT, "-m", "")
        self.assertIsNone(service._metrics)
        self.proxy_port = service._ports[0].getHost().port
        first = await self.client()
        await until(lambda: service.factory.ledger.live)
        await (await self.client()).ended()
        self.assertEqual(service.factory.ledger.rejected, 1)
        await first.ended()


class StartupTests(SynchronousTestCase):
    def test_a_start_that_fails(self) -> None:
        """It is said in the log and, though twistd has taken stderr over, on stderr."""
        keep_signal_handlers(self)
        lines = log_lines(self)
        real = io.StringIO()
        self.patch(sys, "stderr", sys.stderr)
        self.patch(sys, "__stderr__", real)
        service = make(self, "-l", "unix:/nowhere/at/all.sock", "-m", "")
        with self.assertRaises(StartupError):
            service.privilegedStartService()
        self.assertIs(sys.stderr, real)
        self.assertEqual(len([line for line in lines if line.startswith("cannot listen")]), 1)


class SettingTests(SynchronousTestCase):
    """What no option sets, and the file does."""

    def test_allow_ports(self) -> None:
        for ports, allowed in (((443,), True), ((80, 5222), False)):
            factory = ProxyFactory(Clock(), make_settings(policy={"allow_ports": ports}))
            hello = ClientHello("mmg.whatsapp.net", ())
            route = factory.router.route(Sniffed(Kind.TLS, hello))
            self.assertEqual(isinstance(route, Route), allowed, ports)

    def test_configured_upstreams_are_allowed(self) -> None:
        """A server name may name them, too: exactly them, with their port."""
        for port, allowed in ((443, True), (5222, False)):
            raw = (Destination("own.test", port),)
            factory = ProxyFactory(Clock(), make_settings(upstream={"raw": raw}))
            route = factory.router.route(Sniffed(Kind.TLS, ClientHello("own.test", ())))
            self.assertEqual(isinstance(route, Route), allowed, port)

    def test_the_operators_names_are_looked_up_apart(self) -> None:
        settings = make_settings(
            upstream={
                "chat": (Destination("chat.test", 1),),
                "xmpp": (Destination("xmpp.test", 1),),
                "raw": (Destination("raw.test", 1),),
            },
            socks5={"proxies": (SocksProxy(Destination("socks.test", 1)),)},
        )
        made: list[list[str]] = []
        self.patch(factory_module, "Resolver", lambda _, names: made.append(list(names)))
        ProxyFactory(Clock(), settings)
        self.assertEqual(made, [["chat.test", "xmpp.test", "raw.test", "socks.test"]])


class TimeTests(SynchronousTestCase):
    def test_no_step_of_the_wall_clock_counts(self) -> None:
        fake = MemoryReactorClock()
        use_steady_time(fake)
        self.assertIs(fake.seconds, time.monotonic)

    def test_not_once_it_is_in_use(self) -> None:
        fake = MemoryReactorClock()
        fake.callLater(1, lambda: None)
        use_steady_time(fake)
        self.assertEqual(fake.seconds(), 0)
