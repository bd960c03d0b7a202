"""The hub itself: who is on it, whose turn it is, and how much may wait.

That its transports do what Twisted's do is test_conformance's.
"""

import contextlib
import gc
import os
import socket
from typing import Any

from twisted.python.failure import Failure

from tests.hub_support import Dialler, HubCase, Planted, Producer
from tests.peers import LOOPBACK, Peer, reactor, settled, turn, until
from whatsproxy import hub, hub_port, hub_transport


class PresenceTests(HubCase):
    """The reactor knows the hub while there is a socket on it."""

    def is_there(self) -> bool:
        return self.fast.hub in reactor.getReaders()

    async def test_first_and_last(self) -> None:
        """A listener is on it, too; and what it has let in stays when it goes."""
        self.assertFalse(self.is_there())
        listener = self.listen()
        self.assertTrue(self.is_there())
        bares = [self.dial(listener.port) for _ in range(3)]
        await listener.accepted(3)
        await self.ports.pop().stopListening()
        for bare, peer in zip(bares, listener.peers, strict=True):
            self.assertTrue(self.is_there())
            bare.close()
            await until(lambda peer=peer: peer.eof)
            peer.close()
            await peer.gone()
        self.assertFalse(self.is_there())

    async def test_an_attempt_counts(self) -> None:
        with socket.create_server((LOOPBACK, 0)) as server:
            connector = self.fast.connectTCP(LOOPBACK, server.getsockname()[1], Dialler())
            self.assertTrue(self.is_there())
            self.assertEqual(self.fast.hub.owners, [connector])
            connector.stopConnecting()
            self.assertEqual(self.fast.hub.owners, [])
            await turn()
            self.assertFalse(self.is_there())

    async def test_a_leak_is_found(self) -> None:
        """Who holds a socket is named, and only that."""
        peer, bare = await self.pair()
        other, _ = await self.pair()
        while self.ports:
            await self.ports.pop().stopListening()
        bare.close()
        await until(lambda: peer.eof)
        peer.close()
        await peer.gone()
        self.assertEqual(self.fast.hub.owners, [other.transport])

    async def test_descriptors(self) -> None:
        """Connections come and go, and so do their descriptors, the pool's pipes included."""
        await self.pair()  # what is opened once is open now
        gc.collect()  # what other tests have left to be closed is closed
        before = len(os.listdir("/proc/self/fd"))
        held = [await self.pair() for _ in range(5)]
        for peer, bare in held:
            peer.reset()
            await peer.gone()
            bare.close()
        listeners = len(held)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before + listeners)


class ReuseTests(HubCase):
    """A descriptor's number is soon another's: events are hints."""

    async def test_within_a_batch(self) -> None:
        """One that is told first closes another's socket, and its number is connected anew."""
        listener = self.listen()
        got: list[Any] = []

        class Replacing(Peer):
            def dataReceived(self, data: bytes) -> None:
                victim = victims.pop()
                number = victim.transport.getHandle().fileno()
                victim.transport.fail(Failure(Planted()))
                dialler = Dialler()
                fast.connectTCP(LOOPBACK, server.getsockname()[1], dialler)
                (owner,) = [o for o in fast.hub.owners if getattr(o, "_factory", 0) is dialler]
                got.append((dialler, victim, owner._socket.fileno() == number))

        fast = self.fast
        with socket.create_server((LOOPBACK, 0)) as server:
            listener.build = Replacing
            bares = [self.dial(listener.port) for _ in range(2)]
            await listener.accepted(2)
            victims = [*reversed(listener.peers)]
            # Both have news; whoever is told first, the other's is not for the newcomer.
            listener.peers[1].dataReceived = listener.peers[0].dataReceived  # type: ignore[method-assign]  # one hears for both
            for bare in bares:
                bare.sendall(b"news")
            await until(lambda: got)
            dialler, victim, same = got[0]
            self.assertTrue(same, "the number was not used again")
            await until(lambda: dialler.peer.transport)
            self.assertEqual((dialler.failed, dialler.peer.received), (None, b""))
            self.assertIs(victim.lost.type, Planted)


class FairnessTests(HubCase):
    """Nobody is starved."""

    async def test_budget(self) -> None:
        """One that has much to read lets another have its turn in between."""
        self.patch(hub_transport, "BUDGET", 64 * 1024)
        order: list[str] = []

        class Bulk(Peer):
            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                order.append("bulk")

        class Chat(Peer):
            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                order.append("chat")

        bulk, much = await self.pair(Bulk)
        chat, little = await self.pair(Chat)
        bulk.transport.bufferSize = 16 * 1024
        bulk.transport.pauseProducing()
        sent = await self.fill(much)
        self.assertGreater(sent, 256 * 1024)
        bulk.transport.resumeProducing()
        little.sendall(b"x")
        await chat.got(b"x")
        await until(lambda: len(bulk.received) >= sent)
        self.assertLessEqual(order.index("chat"), 2 * 64 / 16)
        self.assertGreater(order.count("bulk"), 16)

    async def fill(self, bare: socket.socket) -> int:
        """Send as much as the kernel takes."""
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += bare.send(bytes(1 << 16))
        return int(await settled(lambda: sent))

    async def test_more_than_a_batch(self) -> None:
        """Events that do not fit come in the next turn."""
        self.patch(hub, "BATCH", 2)
        listener = self.listen()
        bares = [self.dial(listener.port) for _ in range(7)]
        await listener.accepted(7)
        for bare in bares:
            bare.sendall(b"x")
        for peer in listener.peers:
            await peer.got(b"x")

    async def test_more_than_are_let_in_at_a_time(self) -> None:
        self.patch(hub_port, "ACCEPTS", 2)
        listener = self.listen()
        for _ in range(7):
            self.dial(listener.port)
        await listener.accepted(7)


class LimitTests(HubCase):
    """How much is read, and waits, is the transport's bufferSize."""

    async def test_read(self) -> None:
        sizes: list[int] = []

        class Measuring(Peer):
            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                sizes.append(len(data))

        peer, bare = await self.pair(Measuring)
        peer.transport.bufferSize = 1000
        peer.transport.pauseProducing()
        bare.sendall(bytes(10_500))
        peer.transport.resumeProducing()
        await until(lambda: len(peer.received) == 10_500)
        self.assertEqual(sizes, [1000] * 10 + [500])

    async def test_unsent(self) -> None:
        """What waits is known; what is more than the limit pauses, and an empty buffer resumes."""
        heard: list[str] = []
        producer = Producer(heard)
        peer, bare = await self.pair()
        transport = peer.transport
        transport.registerProducer(producer, True)
        transport.bufferSize = 1000
        written = 0
        while not transport.unsent:
            peer.write(bytes(1 << 20))
            written += 1 << 20
        # The rest of what the kernel did not take is far more than the limit.
        self.assertEqual(heard, ["pause"])
        held = transport.unsent
        peer.write(b"x")
        self.assertEqual((transport.unsent, heard), (held + 1, ["pause"]))
        received = 0
        while received < written + 1:
            received += len(self.all_of(bare))
            await turn()
        self.assertEqual((transport.unsent, heard), (0, ["pause", "resume"]))
        peer.write(bytes(1000))
        await turn()
        self.assertEqual(heard, ["pause", "resume"])

    async def test_one_producer(self) -> None:
        peer, _ = await self.pair()
        peer.transport.registerProducer(Producer([]), True)
        self.assertRaises(RuntimeError, peer.transport.registerProducer, Producer([]), True)
        peer.transport.unregisterProducer()
        self.assertRaises(RuntimeError, peer.transport.registerProducer, Producer([]), False)

    async def test_too_late(self) -> None:
        """A producer that comes when all is over is stopped."""
        peer, _ = await self.pair()
        peer.reset()
        await peer.gone()
        heard: list[str] = []
        peer.transport.registerProducer(Producer(heard), True)
        self.assertEqual(heard, ["stop"])
