"""The hub's facade is a reactor: attempts to connect, listeners, and what it does not do itself."""

import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from typing import Any

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IConnector,
    IReactorSocket,
    IReactorTCP,
    IReactorTime,
    IReactorUNIX,
    ITCPTransport,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from tests.hub_support import Dialler, HubCase
from tests.peers import LOOPBACK, Listener, reactor, settled, turn, until
from tests.support import log_lines
from whatsproxy.hub_reactor import HubReactor
from whatsproxy.hub_transport import HubTransport


class _Timed:
    """The reactor, but its time is a test's."""

    def __init__(self) -> None:
        self.clock = Clock()

    def callLater(self, *arguments: Any) -> Any:
        return self.clock.callLater(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class ConnectTests(HubCase):
    """Attempts come out as Twisted's do."""

    async def both(
        self, host: str, port: int, bind: tuple[str, int] | None = None
    ) -> tuple[Failure, Failure]:
        """Fail to connect, once by the reactor and once by the hub."""
        failures = []
        for subject in (reactor, self.fast):
            dialler = Dialler()
            subject.connectTCP(host, port, dialler, bindAddress=bind)
            self.assertEqual(dialler.heard, ["started"], "before the caller has the connector")
            await until(lambda dialler=dialler: "stopped" in dialler.heard)
            self.assertEqual(dialler.heard, ["started", "failed", "stopped"])
            failures.append(dialler.failed)
        twisted, fast = failures
        assert twisted is not None
        assert fast is not None
        return twisted, fast

    async def fails_alike(self, kind: type, *where: Any) -> None:
        twisted, fast = await self.both(*where)
        self.assertIs(fast.type, twisted.type)
        self.assertIs(fast.type, kind)
        self.assertEqual(str(fast.value), str(twisted.value))
        self.assertEqual(fast.value.osError, twisted.value.osError)

    async def test_refused(self) -> None:
        with socket.create_server((LOOPBACK, 0)) as gone:
            port = gone.getsockname()[1]
        await self.fails_alike(error.ConnectionRefusedError, LOOPBACK, port)

    async def test_no_such_network(self) -> None:
        """The kernel says so at once: a multicast group takes no connections."""
        twisted, fast = await self.both("224.0.0.1", 9)
        self.assertIs(fast.type, twisted.type)
        self.assertTrue(issubclass(fast.type, error.ConnectError))

    async def test_bind(self) -> None:
        with socket.create_server((LOOPBACK, 0)) as server:
            where = server.getsockname()
            await self.fails_alike(error.ConnectBindError, LOOPBACK, where[1], where)

    async def test_bound(self) -> None:
        """The connection comes from where it is to come from."""
        with socket.create_server((LOOPBACK, 0)) as server:
            dialler = Dialler()
            self.fast.connectTCP(*server.getsockname(), dialler, bindAddress=("127.0.0.5", 0))
            bare, where = server.accept()
            self.bare.append(bare)
            await until(lambda: dialler.peer.transport)
            self.assertEqual(where[0], "127.0.0.5")
            host = dialler.peer.transport.getHost()
            self.assertEqual((host.host, host.port), where)
            self.assertEqual(dialler.heard, ["started"])

    async def test_time_is_up(self) -> None:
        """A listener whose queue is full does not answer."""
        timed = _Timed()
        fast = HubReactor(timed)
        with socket.create_server((LOOPBACK, 0), backlog=0) as full:
            for _ in range(2):
                bare = socket.socket()
                bare.setblocking(False)
                bare.connect_ex(full.getsockname())
                self.bare.append(bare)
            dialler, forever = Dialler(), Dialler()
            fast.connectTCP(*full.getsockname(), dialler, timeout=7)
            endless = fast.connectTCP(*full.getsockname(), forever, timeout=None)
            await settled(lambda: dialler.heard)
            timed.clock.advance(6.9)
            self.assertEqual(dialler.heard, ["started"])
            timed.clock.advance(0.2)
            self.assertEqual(dialler.heard, ["started", "failed", "stopped"])
            assert dialler.failed is not None
            self.assertIs(dialler.failed.type, error.TimeoutError)
            timed.clock.advance(1e6)
            self.assertEqual(forever.heard, ["started"])
            endless.stopConnecting()
        self.assertEqual((fast.hub.owners, timed.clock.getDelayedCalls()), ([], []))

    async def test_no_timer_is_left(self) -> None:
        timed = _Timed()
        fast = HubReactor(timed)
        with socket.create_server((LOOPBACK, 0)) as server:
            dialler = Dialler()
            fast.connectTCP(*server.getsockname(), dialler, timeout=7)
            await until(lambda: dialler.peer.transport)
            self.assertEqual(timed.clock.getDelayedCalls(), [])
            dialler.peer.reset()
            await dialler.peer.gone()

    async def test_given_up(self) -> None:
        """At any time before it is connected; once."""
        with socket.create_server((LOOPBACK, 0)) as server:
            for stop in ("stopConnecting", "disconnect"):
                dialler = Dialler()
                connector = self.fast.connectTCP(*server.getsockname(), dialler)
                getattr(connector, stop)()
                getattr(connector, stop)()
                self.assertEqual(dialler.heard, ["started", "failed", "stopped"])
                assert dialler.failed is not None
                self.assertIs(dialler.failed.type, error.UserError)

    async def test_given_up_when_it_has_failed(self) -> None:
        """What was about to be told is not told any more."""
        dialler = Dialler()
        self.fast.connectTCP("224.0.0.1", 9, dialler).stopConnecting()
        await settled(lambda: dialler.heard)
        self.assertEqual(dialler.heard, ["started", "failed", "stopped"])
        assert dialler.failed is not None
        self.assertIs(dialler.failed.type, error.UserError)

    async def test_addresses(self) -> None:
        """Both ends have the names that Twisted gives them, IPv6 too."""
        for host, kind in ((LOOPBACK, IPv4Address), ("::1", IPv6Address)):
            listener = Listener()
            port = self.fast.listenTCP(0, listener, interface=host)
            self.ports.append(port)
            there = kind("TCP", host, port.getHost().port)
            self.assertEqual(port.getHost(), there)
            dialler = Dialler()
            self.assertEqual(
                self.fast.connectTCP(host, there.port, dialler).getDestination(), there
            )
            accepted = await listener.accepted()
            await until(lambda dialler=dialler: dialler.peer.transport)
            ours, theirs = dialler.peer.transport, accepted.transport
            self.assertEqual((dialler.address, ours.getPeer(), theirs.getHost()), (there,) * 3)
            self.assertEqual(ours.getHost(), theirs.getPeer())
            self.assertIsInstance(ours.getHost(), kind)
            for peer in (accepted, dialler.peer):
                peer.reset()
                await peer.gone()


class FacadeTests(HubCase):
    """Where a reactor is wanted, this is one."""

    async def test_interfaces(self) -> None:
        for interface in (IReactorTCP, IReactorSocket, IReactorTime, IReactorUNIX):
            self.assertTrue(interface.providedBy(self.fast), interface)
        peer, _ = await self.pair()
        self.assertTrue(ITCPTransport.providedBy(peer.transport))
        with socket.create_server((LOOPBACK, 0)) as server:
            connector = self.fast.connectTCP(*server.getsockname(), Dialler())
            verifyObject(IConnector, connector)
            connector.stopConnecting()

    async def test_delegated(self) -> None:
        fired: Deferred[None] = Deferred()
        self.fast.callLater(0, fired.callback, None)
        await fired

    async def test_adopted(self) -> None:
        """A socket that somebody else has bound stays theirs; a unix one is the reactor's."""
        listener = Listener()
        with socket.create_server((LOOPBACK, 0)) as bound:
            bound.setblocking(False)
            port = self.fast.adoptStreamPort(bound.fileno(), bound.family, listener)
            self.ports.append(port)
            self.dial(bound.getsockname()[1])
            peer = await listener.accepted()
        self.assertIs(type(peer.transport), HubTransport)
        self.dial(port.getHost().port)
        await listener.accepted(2)

        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("")  # the kernel finds a name that is no file's
            bound.listen()
            bound.setblocking(False)
            port = self.fast.adoptStreamPort(bound.fileno(), bound.family, Listener())
            self.assertIs(port.reactor, reactor)
            await port.stopListening()

    async def test_stopped_listening(self) -> None:
        """The Deferred fires when the port is closed, not before, though in one's own doing."""
        port = self.fast.listenTCP(0, Listener(), interface=LOOPBACK)
        where = (LOOPBACK, port.getHost().port)
        stopped = port.stopListening()
        self.assertFalse(stopped.called)
        await stopped
        self.assertRaises(ConnectionRefusedError, socket.create_connection, where)

    @contextlib.contextmanager
    def no_descriptors(self) -> Iterator[None]:
        """Let there be none to be had."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        filling = [os.dup(0) for _ in range(8)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(filling), hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for number in filling:
                os.close(number)

    async def test_no_room(self) -> None:
        """Out of descriptors a listener says so, and goes on when there are some again."""
        await turn()  # the reactor runs, which took some
        listener = self.listen()
        bare = self.dial(listener.port)
        lines = log_lines(self)
        with self.no_descriptors():
            await until(lambda: any("cannot accept" in line for line in lines))
            self.assertEqual(listener.peers, [])
        bare.sendall(b"patient")
        await (await listener.accepted()).got(b"patient")

    async def test_closing_takes_no_descriptor(self) -> None:
        losing, _ = await self.pair()
        aborting, _ = await self.pair()
        with self.no_descriptors():
            losing.close()
            aborting.reset()
            dialler = Dialler()
            self.fast.connectTCP(LOOPBACK, 9, dialler)
            await losing.gone()
            await aborting.gone()
            await until(lambda: dialler.failed)
            self.assertEqual(dialler.heard, ["started", "failed", "stopped"])
