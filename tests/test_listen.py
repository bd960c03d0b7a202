"""What the service listens on, and a start that fails."""

import os
import re
import socket
import tempfile
from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock, patch

from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import ServerFactory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.peers import LOOPBACK, reactor
from tests.support import LoopbackCase, log_lines, make_settings
from whatsproxy import listeners as listeners_module
from whatsproxy.listeners import dual_stack, endpoint_of, listeners_of
from whatsproxy.service import ProxyService, StartupError
from whatsproxy.settings import ServerSettings

ANY_PORT = f"tcp:0:interface={LOOPBACK}"


class BindTests(LoopbackCase):
    def occupied(self) -> str:
        """Return the description of a port that is in use."""
        s = socket.socket()
        self.addCleanup(s.close)
        s.bind((LOOPBACK, 0))
        s.listen()
        return f"tcp:{s.getsockname()[1]}:interface={LOOPBACK}"

    async def check(self, key: str, settings: Callable[[str], Any], description: str) -> None:
        lines = log_lines(self)
        service = ProxyService(reactor, settings(description))
        with self.assertRaises(StartupError) as caught:
            service.privilegedStartService()
        for part in (f"[{key}] listen", description, "Address already in use"):
            self.assertIn(part, str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))
        self.assertIsInstance(caught.exception, SystemExit)
        self.assertIsInstance(caught.exception, Exception)
        (port,) = re.findall(r"listening on 127\.0\.0\.1:(\d+) ", "\n".join(lines))
        with self.assertRaises(ConnectionRefusedError):
            await self.dial(int(port))
        self.assertEqual(service.state.not_ready, "starting")

    async def test_second_listener(self) -> None:
        """One line that names the key, and the listeners that were bound are closed again."""
        await self.check(
            "server", lambda d: make_settings(server={"listen": (ANY_PORT, d)}), self.occupied()
        )

    async def test_metrics(self) -> None:
        def settings(description: str) -> Any:
            return make_settings(server={"listen": (ANY_PORT,)}, metrics={"listen": description})

        await self.check("metrics", settings, self.occupied())

    def test_unix_socket_is_removed(self) -> None:
        """Before the exception is out: nobody is left to do it later."""
        path = os.path.join(tempfile.mkdtemp(), "s")  # a short one: the kernel takes 108 bytes
        self.addCleanup(os.rmdir, os.path.dirname(path))
        listen = (f"unix:{path}", self.occupied())
        with self.assertRaises(StartupError):
            ProxyService(reactor, make_settings(server={"listen": listen})).privilegedStartService()
        self.assertFalse(os.path.exists(path))

    def test_unix_socket(self) -> None:
        """Whatever cannot be bound, for whatever reason."""
        description = "unix:/nowhere/at/all/whatsproxy.sock"
        service = ProxyService(reactor, make_settings(server={"listen": (description,)}))
        with self.assertRaises(StartupError) as caught:
            service.privilegedStartService()
        self.assertIn(description, str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))


class ListenTests(SynchronousTestCase):
    def bound(self, **server: Any) -> list[Any]:
        """Return what a service binds: port, backlog and interface of each."""
        fake = MemoryReactorClock()
        settings = make_settings(server={"fast": False, **server})  # on the fake, not on the hub
        ProxyService(fake, settings).privilegedStartService()
        return [(port, backlog, interface) for port, _, backlog, interface in fake.tcpServers]

    def endpoints(self, settings: ServerSettings) -> list[str]:
        return [listener.endpoint for listener in listeners_of(settings)]

    def test_defaults(self) -> None:
        self.patch(listeners_module, "dual_stack", lambda: True)
        self.assertEqual(self.bound(), [(8443, 4096, "::"), (8199, 4096, "127.0.0.1")])

    def test_without_ipv6(self) -> None:
        """The default becomes IPv4 alone; what was asked for stays as it is."""

        def only_ipv4(family: int = socket.AF_INET, *rest: Any, **named: Any) -> Any:
            if family == socket.AF_INET6:
                raise OSError(97, "Address family not supported by protocol")
            return original(family, *rest, **named)

        original = socket.socket
        self.patch(socket, "socket", only_ipv4)
        self.assertEqual(self.bound()[0], (8443, 4096, ""))
        self.assertEqual(self.bound(listen=("tcp6:8444",))[0], (8444, 4096, "::"))

    def test_default_is_recognised(self) -> None:
        self.patch(listeners_module, "dual_stack", lambda: None)
        self.assertEqual(self.endpoints(ServerSettings()), ["tcp:8443"])
        asked_for = ServerSettings(listen=("tcp6:1", "unix:/x"))
        self.assertEqual(self.endpoints(asked_for), ["tcp6:1", "unix:/x"])

    def test_families_apart(self) -> None:
        """Where ``::`` does not take IPv4 (net.ipv6.bindv6only=1), the default is two listeners."""
        self.patch(listeners_module, "dual_stack", lambda: False)
        self.assertEqual(self.endpoints(ServerSettings()), ["tcp6:8443", "tcp:8443"])

    def test_dual_stack(self) -> None:
        answers = {0: True, 1: False}
        for only_v6, expected in answers.items():
            fake = MagicMock()
            fake.return_value.__enter__.return_value.getsockopt.return_value = only_v6
            with patch.object(socket, "socket", fake):
                self.assertEqual(dual_stack(), expected)

    def test_metrics_off(self) -> None:
        fake = MemoryReactorClock()
        settings = make_settings(
            server={"listen": ("tcp:1",), "fast": False}, metrics={"listen": ""}
        )
        ProxyService(fake, settings).privilegedStartService()
        self.assertEqual(len(fake.tcpServers), 1)

    def test_backlog(self) -> None:
        """Added once, where the kind of endpoint takes one and the operator has given none."""
        for given, expected in (
            ("tcp:8443", (8443, 4096, "")),
            ("tcp:port=8443", (8443, 4096, "")),
            ("tcp6:8443:interface=\\:\\:1", (8443, 4096, "::1")),
            ("tcp:8443:backlog=50", (8443, 50, "")),
            ("tcp:8443:backlog=50:interface=127.0.0.1", (8443, 50, "127.0.0.1")),
        ):
            self.assertEqual(self.bound(listen=(given,))[0], expected)

    def test_backlog_of_unix_sockets(self) -> None:
        for description, backlog in (("unix:x.sock", 4096), ("unix:x.sock:backlog=50", 50)):
            fake = MemoryReactorClock()
            endpoint_of(fake, description).listen(ServerFactory())
            self.assertEqual(fake.unixServers[0][2], backlog)

    def test_bad_descriptions(self) -> None:
        """They fail as Twisted's own do, whatever is added to them."""
        for bad in ("tcp:x", "tcp:1:nonsense=1", "tcp", "nonsense:1", "unix"):
            with self.assertRaises((ValueError, TypeError), msg=bad):
                endpoint_of(MemoryReactorClock(), bad)
