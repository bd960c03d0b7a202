"""SOCKS servers are asked at the start: one that does not serve is a warning, not an exit."""

import socket
from typing import Any

from tests.peers import LOOPBACK, FakeSocks, reactor, settled, until
from tests.socks5_attempt import LOGIN
from tests.support import LoopbackCase, log_lines, make_settings
from whatsproxy.codecs import Direct, SocksProxy
from whatsproxy.destination import Destination
from whatsproxy.service import ProxyService


class Refusing(FakeSocks):
    """Takes none of the methods."""

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        self.write(b"\x05\xff")


class ProbeTests(LoopbackCase):
    def start(self, port: int, credentials: Any = None, connect: float = 10.0) -> ProxyService:
        """Start a service that is to go out by a port of this machine."""
        proxies = (SocksProxy(Destination(LOOPBACK, port), credentials), Direct())
        self.lines = log_lines(self)
        settings = make_settings(
            server={"listen": (f"tcp:0:interface={LOOPBACK}",)},
            metrics={"listen": ""},
            socks5={"proxies": proxies},
            timeouts={"connect": connect},
        )
        service = ProxyService(reactor, settings)
        self.addCleanup(service.stopService)
        service.privilegedStartService()
        service.startService()
        return service

    def warnings(self) -> list[str]:
        return [line for line in self.lines if "does not serve" in line]

    async def test_a_server_that_serves(self) -> None:
        """Nothing is said; nothing is asked of it beyond the greeting; it is left in peace."""
        server = self.listen(FakeSocks)
        self.start(server.port)
        peer = await server.accepted()
        await peer.ended()
        self.assertEqual(peer.heard, b"\x05\x01\x00")
        self.assertEqual(self.warnings(), [])

    async def test_a_dead_server(self) -> None:
        """One warning, and the service is ready all the same."""
        with socket.socket() as unused:
            unused.bind((LOOPBACK, 0))
            service = self.start(unused.getsockname()[1])
            await until(self.warnings)
        self.assertIn("cannot be reached", self.warnings()[0])
        self.assertIsNone(service.state.not_ready)
        self.assertEqual(len(await settled(self.warnings)), 1)

    async def test_credentials(self) -> None:
        """They are tried, and never written down."""
        server = self.listen(Refusing)
        self.start(server.port, tuple(part.encode() for part in LOGIN["login"]))
        await until(self.warnings)
        self.assertEqual(server.peers[0].heard, b"\x05\x01\x02")
        (warning,) = self.warnings()
        self.assertIn("takes none of the methods", warning)
        self.assertIn(f"socks5://user:***@{LOOPBACK}:{server.port}", warning)
        self.assertNotIn("secret", "".join(self.lines))

    async def test_a_server_that_hangs(self) -> None:
        """It is given up after timeouts.connect."""
        server = self.listen()
        self.start(server.port, connect=0.05)
        await until(self.warnings)
        self.assertIn("did not answer in time", self.warnings()[0])
        await (await server.accepted()).gone()

    async def test_a_stop_meanwhile(self) -> None:
        """The probe is given up with the service, silently."""
        server = self.listen()
        service = self.start(server.port)
        peer = await server.accepted()
        await service.stopService()
        await peer.gone()
        self.assertEqual(self.warnings(), [])
