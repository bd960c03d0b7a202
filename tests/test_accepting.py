"""Acceptor: listeners that pause when descriptors are short, resume, and never spin."""

import errno
import os
import socket
import tempfile
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock

from tests.peers import LOOPBACK, Listener, Peer, reactor, settled, until
from tests.support import LoopbackCase, log_lines
from tests.test_service import ServiceCase
from whatsproxy import accepting
from whatsproxy.accepting import GROWTH, POLL, REMIND, Acceptor
from whatsproxy.descriptors import EXHAUSTED, FILES, KEPT, PER_CONNECTION
from whatsproxy.transport import SingleProtocolFactory

LOT = 2


class Room:
    """In room()'s place: ``free`` descriptors, of which each client here takes two."""

    def __init__(self) -> None:
        self.free = 1000
        self.asked: list[tuple[int, int]] = []

    def __call__(self, wanted: int, kept: int) -> int:
        self.asked.append((wanted, kept))
        return min(wanted, max(self.free, 0))


class AcceptorCase(LoopbackCase):
    def setUp(self) -> None:
        super().setUp()
        self.room = Room()
        self.patch(accepting, "room", self.room)
        self.patch(accepting, "below", lambda number, kept: False)  # always look twice
        self.clock = Clock()
        self.changes: list[bool] = []
        self.lines = log_lines(self)
        self.acceptor = Acceptor(self.clock, 10, LOT, self.changes.append)

    def watched(self, **keys: Any) -> tuple[Listener, Any]:
        """Listen by leave of the acceptor."""
        listener = Listener(self.peer)
        self._listeners.append(listener)
        port = reactor.listenTCP(0, listener, interface=LOOPBACK, **keys)
        self.addCleanup(port.stopListening)
        listener.port = port.getHost().port
        self.acceptor.watch(port)
        return listener, port

    def peer(self) -> Peer:
        self.room.free -= PER_CONNECTION
        return Peer()

    def told(self) -> list[str]:
        return [line for line in self.lines if "descriptors" in line or "accepting" in line]

    async def assertWaiting(self, listener: Listener, inside: int) -> None:
        """Nobody else comes in, and the reactor has nothing to do with who waits."""
        self.assertEqual(await settled(lambda: len(listener.peers)), inside)
        self.assertFalse([r for r in reactor.getReaders() if r in self.acceptor._ports])

    async def pause(self, listener: Listener) -> None:
        """Let a client find that there is no room, with nobody inside."""
        self.room.free = 0
        await self.dial(listener.port)
        await until(lambda: self.changes[-1:] == [True], "no pause")
        await self.assertWaiting(listener, 0)


class PauseTests(AcceptorCase):
    async def test_enough(self) -> None:
        listener, port = self.watched()
        client = await self.dial(listener.port)
        inside = await listener.accepted()
        client.write(b"hello")
        await inside.got(b"hello")
        self.assertIn(port, reactor.getReaders())
        self.assertEqual(set(self.room.asked), {(PER_CONNECTION, 10)})
        self.assertEqual((self.changes, self.told(), self.clock.getDelayedCalls()), ([], [], []))

    async def test_pause_and_resume(self) -> None:
        """Each that comes in has room for itself and its upstream; the last lot ends the pause."""
        listener, port = self.watched()
        await self.pause(listener)
        clients = [await self.dial(listener.port) for _ in range(3)]
        for free, inside in ((0, 0), (1, 0), (2, 1), (3, 2)):
            self.room.free = free
            self.clock.advance(POLL)
            await until(lambda inside=inside: len(listener.peers) >= inside)
            await self.assertWaiting(listener, inside)
        self.assertEqual(self.changes, [True])
        self.room.free = 1000
        self.clock.advance(POLL)
        await listener.accepted(4)
        self.clock.advance(POLL)  # the lot was used up: they may be many
        self.assertEqual(self.changes, [True])
        self.clock.advance(POLL)
        self.assertEqual((self.changes, self.clock.getDelayedCalls()), ([True, False], []))
        self.assertIn(port, reactor.getReaders())
        await self.dial(listener.port)
        await listener.accepted(5)
        self.assertEqual([client.lost for client in clients], [None] * 3)
        why, over = self.told()
        self.assertIn("the last 10 are kept", why)
        self.assertRegex(over, r"accepting again, after 0\.\d s")
        self.assertFalse([line for line in self.told() if LOOPBACK in line])

    async def test_one_descriptor(self) -> None:
        """It is too few for a client and its upstream."""
        listener, _ = self.watched()
        self.room.free = 1
        await self.dial(listener.port)
        await until(lambda: self.changes == [True], "no pause")
        await self.assertWaiting(listener, 0)

    async def test_nobody_waits(self) -> None:
        """However little room there is: the next one will be asked again."""
        listener, port = self.watched()
        await self.pause(listener)
        self.room.free = 4
        self.clock.advance(POLL)
        await listener.accepted()  # which leaves two
        self.clock.advance(POLL)
        self.assertEqual(self.changes, [True])
        await settled(lambda: len(listener.peers), 5)
        self.clock.advance(POLL)
        self.assertEqual(self.changes, [True, False])
        self.assertIn(port, reactor.getReaders())

    async def test_a_crowd(self) -> None:
        """With enough room lots grow, and nobody waits for ever behind a crowd."""
        listener, _ = self.watched()
        await self.pause(listener)
        self.room.free, lot, inside = 10_000, LOT, 0
        while self.changes == [True]:
            while await settled(lambda: len(listener.peers), 3) + lot >= len(self._dialled):
                await self.dial(listener.port)
            self.clock.advance(POLL)
            inside += lot
            if self.changes == [True]:
                await listener.accepted(inside)
                await self.assertWaiting(listener, inside)
                lot *= 2
        self.assertEqual(lot, GROWTH * LOT)
        await listener.accepted(len(self._dialled))

    async def test_all_listeners(self) -> None:
        """They share the descriptors, and share them fairly enough."""
        listener, port = self.watched()
        other, other_port = self.watched()
        await self.pause(listener)
        self.assertFalse({port, other_port} & set(reactor.getReaders()))
        await self.dial(other.port)
        self.room.free = 4
        self.clock.advance(POLL)
        await listener.accepted()
        await other.accepted()
        self.assertTrue(self.changes == [True])

    async def test_what_the_system_says(self) -> None:
        """Each of the errors pauses; its retries are the timer's, not the reactor's."""
        listener, port = self.watched()
        bare = socket.socket._accept
        for number in EXHAUSTED:
            calls = []

            def accept(it: Any, number: int = number, calls: Any = calls) -> Any:
                if it is not port.socket:
                    return bare(it)
                calls.append(number)
                raise OSError(number, os.strerror(number))

            self.changes.clear()
            with_patch = self.patch(socket.socket, "_accept", accept)
            await self.dial(listener.port)
            await until(lambda: self.changes == [True], "no pause")
            await self.assertWaiting(listener, 0)
            self.assertEqual(len(calls), 1)
            self.clock.advance(POLL)
            await until(lambda calls=calls: len(calls) == 2, "no further attempt")
            await self.assertWaiting(listener, 0)
            self.assertEqual(self.changes, [True])
            with_patch.restore()
            for _ in range(3):
                self.clock.advance(POLL)
                await settled(lambda: len(listener.peers), 5)
            self.assertEqual(self.changes, [True, False])
            while listener.peers:
                await listener.accepted()
                listener.peers.pop().reset()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertFalse([line for line in self.lines if "reserved" in line or LOOPBACK in line])

    async def test_other_errors(self) -> None:
        """These are Twisted's affair."""
        listener, port = self.watched()
        bare = socket.socket._accept
        errors = [errno.ECONNABORTED, errno.EPERM, errno.EAGAIN]

        def accept(it: Any) -> Any:
            if it is port.socket and errors:
                number = errors.pop()
                raise OSError(number, os.strerror(number))
            return bare(it)

        self.patch(socket.socket, "_accept", accept)
        await self.dial(listener.port)
        await listener.accepted()
        self.assertEqual((errors, self.changes), ([], []))


class StopTests(AcceptorCase):
    async def test_while_paused(self) -> None:
        listener, port = self.watched()
        await self.pause(listener)
        self.acceptor.forget(port)
        await port.stopListening()
        self.assertEqual((self.changes, self.clock.getDelayedCalls()), ([True, False], []))
        with self.assertRaises(ConnectionRefusedError):
            await self.dial(listener.port)

    async def test_one_of_two(self) -> None:
        """The other one goes on."""
        listener, port = self.watched()
        other, _ = self.watched()
        await self.pause(listener)
        self.acceptor.forget(port)
        await port.stopListening()
        self.assertEqual(self.changes, [True])
        await self.dial(other.port)
        self.room.free = 1000
        self.clock.advance(POLL)
        await other.accepted()
        self.clock.pump([POLL] * 2)
        self.assertEqual(self.changes, [True, False])

    async def test_by_somebody_else(self) -> None:
        """A port that was closed behind our back is not begun anew."""
        listener, port = self.watched()
        await self.pause(listener)
        stopping = port.stopListening()
        self.room.free = 1000
        self.clock.advance(POLL)
        await stopping
        self.clock.advance(POLL)
        self.assertEqual(self.changes, [True, False])
        self.assertNotIn(port, reactor.getReaders())


class LogTests(AcceptorCase):
    async def flap(self, listener: Listener) -> None:
        await self.pause(listener)
        self.room.free = 1000
        for _ in range(3):
            self.clock.advance(POLL)
            await settled(lambda: len(listener.peers), 5)
        self.assertIs(self.changes[-1], False)
        while listener.peers:
            listener.peers.pop().reset()

    async def test_flapping(self) -> None:
        """One pair of lines a minute."""
        listener, _ = self.watched()
        for _ in range(4):
            await self.flap(listener)
        self.assertEqual((len(self.changes), len(self.told())), (8, 2))
        self.clock.advance(REMIND)
        await self.flap(listener)
        self.assertEqual(len(self.told()), 4)

    async def test_a_pause_that_stays(self) -> None:
        """It is told later when it began within that minute."""
        listener, _ = self.watched()
        await self.flap(listener)
        await self.pause(listener)
        self.assertEqual(len(self.told()), 2)
        self.clock.pump([1.0] * int(REMIND))
        self.assertEqual(len(self.told()), 3)


class KindTests(AcceptorCase):
    async def check(self, port: Any, connect: Any) -> None:
        listener = self._listeners[-1]
        self.acceptor.watch(port)
        host = port.getHost()
        self.room.free = 0
        await connect(host)
        await until(lambda: self.changes == [True], "no pause")
        await self.assertWaiting(listener, 0)
        self.room.free = 1000
        self.clock.advance(POLL)
        peer = await listener.accepted()
        self.assertTrue(peer.transport.getPeer())
        self.acceptor.forget(port)
        await port.stopListening()
        peer.reset()

    async def dialled(self, host: Any) -> None:
        await self.dial(host.port)

    async def test_tcp(self) -> None:
        await self.check(reactor.listenTCP(0, self.factory_of(), interface=LOOPBACK), self.dialled)

    async def test_tcp6(self) -> None:
        """An IPv6 socket, which takes IPv4 too."""
        port = reactor.listenTCP(0, self.factory_of(), interface="::")
        await self.check(port, self.dialled)

    async def test_adopted(self) -> None:
        """As from systemd: whoever passed the socket still has it afterwards."""
        with socket.create_server((LOOPBACK, 0)) as passed:
            passed.setblocking(False)
            port = reactor.adoptStreamPort(passed.fileno(), socket.AF_INET, self.factory_of())
            await self.check(port, self.dialled)
            await self.dial(passed.getsockname()[1])

    async def test_unix(self) -> None:
        path = os.path.join(tempfile.mkdtemp(), "s")  # a short one: the kernel takes 108 bytes
        self.addCleanup(os.rmdir, os.path.dirname(path))

        async def connect(_: Any) -> None:
            peer = Peer()
            self._dialled.append(peer)
            await UNIXClientEndpoint(reactor, path).connect(SingleProtocolFactory(peer))

        await self.check(reactor.listenUNIX(path, self.factory_of()), connect)
        self.assertFalse(os.path.exists(path))

    def test_other_kinds(self) -> None:
        """What is not Twisted's own accepts as it likes."""
        port: Any = object()
        self.acceptor.watch(port)
        self.acceptor.forget(port)

    def factory_of(self) -> Listener:
        listener = Listener()
        self._listeners.append(listener)
        return listener


class ServiceTests(ServiceCase):
    """The service's own listeners: clients wait, the operator does not."""

    def setUp(self) -> None:
        super().setUp()
        self.free = {KEPT: 1000, FILES: 1000}
        self.patch(accepting, "room", lambda wanted, kept: min(wanted, self.free[kept]))

    async def test_clients_wait(self) -> None:
        service = self.start()
        ledger = service.factory.ledger
        self.free[KEPT] = 0
        client = await self.dial(self.proxy_port)
        await until(lambda: ledger.accept_paused, "no pause")
        self.assertEqual(await self.ready(), "503 not ready: out of descriptors")
        figures = await self.page("/metrics")
        self.assertIn("whatsapp_proxy_accept_paused 1.0\n", figures)
        self.assertIn("whatsapp_proxy_accept_pauses_total 1.0\n", figures)
        self.assertEqual(ledger.accepted, 0)
        self.free[KEPT] = 1000
        self.clock.advance(POLL)
        await until(lambda: ledger.accepted == 1, "the client still waits")
        self.clock.advance(POLL)
        self.assertEqual(await self.ready(), "200 ready")
        self.assertIn("whatsapp_proxy_accept_paused 0.0\n", await self.page("/metrics"))
        client.reset()

    async def test_the_operator_waits_too_in_the_end(self) -> None:
        """For the last descriptors, which the log and the certificates need."""
        self.start()
        self.free[FILES] = 0
        asked = ensureDeferred(self.ready())
        await until(lambda: len(self.scheduled()) == 1, "no pause")
        await settled(lambda: asked.called)
        self.assertNoResult(asked)
        self.free[FILES] = 1000
        self.clock.advance(POLL)
        self.assertEqual(await asked, "200 ready")

    async def test_drain_while_paused(self) -> None:
        service = self.start()
        self.free[KEPT] = 0
        await self.dial(self.proxy_port)
        await until(lambda: service.factory.ledger.accept_paused, "no pause")
        await service.drain()
        self.assertEqual((self.scheduled(), service.state.paused), ([], False))
        await self.assertRefused(self.proxy_port)
        self.assertEqual(await self.ready(), "503 not ready: draining")

    async def test_stop_while_paused(self) -> None:
        service = self.start()
        self.free = {KEPT: 0, FILES: 0}
        await self.dial(self.proxy_port)
        await self.dial(self.metrics_port)
        await until(lambda: len(self.scheduled()) == 2, "no pause")
        await service.stopService()
        self.assertEqual(self.scheduled(), [])
        await self.assertRefused(self.proxy_port)
        await self.assertRefused(self.metrics_port)

    async def page(self, path: str) -> str:
        peer = await self.dial(self.metrics_port)
        peer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        await peer.ended()
        return peer.received.decode()
