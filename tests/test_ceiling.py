"""What waits in memory for slow peers, in all: when it is too much, each has to do with less."""

from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.trial.unittest import SynchronousTestCase

from tests.flood import buffered, fill, pattern, slow_down
from tests.peers import settled, until
from tests.support import (
    FAST,
    RAW,
    FakeUpstream,
    LoopbackCase,
    log_lines,
    make_settings,
    to_upstream,
)
from tests.tls_support import TlsCase
from whatsproxy.ceiling import RELIEF, SCARCE, TICK, Ceiling
from whatsproxy.factory import ProxyFactory
from whatsproxy.reason import Reason
from whatsproxy.session import Ledger, Session
from whatsproxy.settings import ServerSettings
from whatsproxy.transport import AMPLE, set_buffer, unsent

MOST = 1000


class FakeTransport(FileDescriptor):
    """Holds so many bytes that the kernel has not taken; nobody takes them."""

    connected = 1

    def __init__(self, waiting: int = 0) -> None:
        super().__init__(Clock())
        self.hold(waiting)

    def hold(self, waiting: int) -> None:
        """Hold them in all the places where Twisted does, behind what is sent already."""
        self.offset = 7
        self.dataBuffer = bytes(7 + waiting // 2)
        self._tempDataBuffer = [bytes(waiting - waiting // 2)]
        self._tempDataLen = waiting - waiting // 2

    def startWriting(self) -> None:
        pass


class FakeHolder:
    """Whoever holds a session: its bytes, its transports, and how often it was asked."""

    def __init__(self, kept: int = 0, *waiting: int) -> None:
        self.kept = kept
        self.transports = [FakeTransport(size) for size in waiting]
        self.asked = 0

    def held(self) -> int:
        self.asked += 1
        return self.kept + sum(map(unsent, self.transports))

    def limit(self, size: int) -> None:
        for transport in self.transports:
            set_buffer(transport, size)

    @property
    def sizes(self) -> list[int]:
        """What its transports may read at a time."""
        return [transport.bufferSize for transport in self.transports]


class CeilingCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.ledger = Ledger(self.clock.seconds)
        self.ceiling = Ceiling(self.clock, self.ledger, MOST)
        self.ceiling.watch()
        self.lines = log_lines(self)

    def session(self, kept: int = 0, *waiting: int) -> Any:
        """Open a session that has moved something, with a FakeHolder."""
        session = self.ledger.open()
        session.holder = FakeHolder(kept, *waiting)
        session.received += 1
        return session

    def look(self) -> int:
        self.clock.advance(TICK)
        return self.ceiling.buffered


class CountTests(CeilingCase):
    def test_all_of_it(self) -> None:
        """What holders keep, and what their transports do."""
        self.session(5)
        self.session(0, 10, 20)
        self.session(100, 200)
        self.ledger.open()  # nobody holds it yet
        self.assertEqual(self.look(), 335)

    def test_each_look_is_new(self) -> None:
        session = self.session(0, 10)
        self.assertEqual((self.look(), self.look()), (10, 10))
        session.holder.transports[0].hold(3)
        self.assertEqual(self.look(), 3)  # though nothing moved
        session.holder.transports[0].hold(0)
        self.assertEqual(self.look(), 0)
        session.holder.transports[0].hold(8)
        session.sent += 1
        self.assertEqual(self.look(), 8)

    def test_who_has_gone(self) -> None:
        session = self.session(0, 10)
        other = self.session(0, 1)
        self.assertEqual(self.look(), 11)
        session.close(Reason.NO_DATA)
        self.assertEqual(self.look(), 1)
        other.holder = None
        self.assertEqual(self.look(), 0)

    def test_an_idle_crowd_costs_nothing(self) -> None:
        """Who has not moved, and has nothing waiting, is not asked again."""
        crowd = [self.session(0, 0, 0) for _ in range(100)]
        busy = self.session(0, 10)
        for _ in range(5):
            self.look()
        self.assertEqual({session.holder.asked for session in crowd}, {1})
        self.assertEqual(busy.holder.asked, 5)
        crowd[0].received += 1
        crowd[1].sent += 1
        for _ in range(5):
            self.look()
        self.assertEqual([s.holder.asked for s in crowd[:3]], [2, 2, 1])

    def test_nothing_said_yet(self) -> None:
        """A session is looked at once before it has moved: a tunnel may hold early bytes."""
        session = self.session(4)
        session.received = 0
        self.assertEqual(self.look(), 4)


class ScarceTests(CeilingCase):
    def test_below(self) -> None:
        session = self.session(0, MOST // 2, MOST // 2)
        self.look()
        self.assertEqual(session.holder.sizes, [AMPLE, AMPLE])
        self.assertFalse(self.ceiling.scarce)
        self.assertEqual(self.lines, [])

    def test_above(self) -> None:
        """All have less, whoever has caused it; and so have those who come later."""
        one, other = self.session(0, MOST, 0), self.session(0, 1)
        idle = self.session(0, 0, 0)
        self.ledger.open()
        self.clock.advance(TICK - 0.001)
        self.assertEqual(one.holder.sizes, [AMPLE, AMPLE])
        self.clock.advance(0.001)
        for session in (one, other, idle):
            self.assertEqual(set(session.holder.sizes), {SCARCE})
        self.assertTrue(self.ceiling.scarce)
        late = self.session(0, 0)
        self.ceiling.apply_to(late.holder)
        self.assertEqual(late.holder.sizes, [SCARCE])

    def test_relief(self) -> None:
        """Not before a quarter of it is free, and step by step: it would go to and fro."""
        session, other = self.session(0, MOST + 1), self.session(0, 0)
        self.look()
        (transport,) = session.holder.transports
        for waiting, size in (
            (MOST, SCARCE),
            (int(MOST * RELIEF) + 1, SCARCE),
            (int(MOST * RELIEF), 2 * SCARCE),
            (MOST, 2 * SCARCE),
            (0, 4 * SCARCE),
            (MOST + 1, SCARCE),
            *((0, SCARCE << step) for step in range(1, 4)),
            (0, AMPLE),
            (0, AMPLE),
        ):
            transport.hold(waiting)
            session.sent += 1
            self.look()
            self.assertEqual(session.holder.sizes + other.holder.sizes, [size] * 2, waiting)
            self.assertEqual(self.ceiling.scarce, size < AMPLE)

    def test_log(self) -> None:
        """Once when it begins, and once when it is over."""
        session = self.session(0, MOST + 1)
        for _ in range(10):
            self.look()
        (line,) = self.lines
        self.assertIn("max_buffered = 1000 passed: 1001 bytes wait", line)
        session.holder.transports[0].hold(10)
        for _ in range(10):
            self.look()
        self.assertEqual(self.lines[1:], ["10 bytes wait: reading as usual"])


class TimerTests(CeilingCase):
    def test_one(self) -> None:
        for _ in range(3):
            self.ceiling.watch()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.look()
        self.ceiling.watch()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_rest(self) -> None:
        self.session(0, MOST + 1)
        self.look()
        self.ceiling.rest()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual((self.ceiling.buffered, self.ceiling.scarce), (0, False))
        self.ceiling.rest()
        self.ceiling.watch()
        self.assertEqual(self.look(), MOST + 1)
        self.assertTrue(self.ceiling.scarce)

    def test_used(self) -> None:
        """It runs while there is a session, and only then."""
        clock = Clock()
        factory = ProxyFactory(clock, make_settings(server={"max_buffered": 5_000_000}))
        self.assertEqual(factory.ceiling._most, 5_000_000)
        self.assertEqual(clock.getDelayedCalls(), [])
        for _ in range(2):
            for _ in range(2):
                self.assertIsNotNone(factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1)))
            self.assertEqual(factory.clock.getDelayedCalls(), [factory.ceiling._timer])
            for left in (1, 0):
                next(iter(factory.ledger.live)).close(Reason.NO_DATA)
                self.assertEqual(len(clock.getDelayedCalls()), left)
        self.assertGreaterEqual(ServerSettings().max_buffered, 64 << 20)


class TransportTests(SynchronousTestCase):
    def test_unsent(self) -> None:
        self.assertEqual(unsent(FakeTransport(0)), 0)
        self.assertEqual(unsent(FakeTransport(1001)), 1001)
        self.assertEqual(unsent(object()), 0)  # another kind of transport: it does not tell

    def wrapped(self, transport: Any, waiting: list[bytes] | None = None) -> Any:
        """Return a stack of two wrappers on a transport, as TLS in haproxy: is one."""
        factory = WrappingFactory(None)
        inner, outer = ProtocolWrapper(factory, None), ProtocolWrapper(factory, None)
        inner.transport, outer.transport = transport, inner
        if waiting is not None:
            outer._appSendBuffer = waiting
        return outer

    def test_wrappers(self) -> None:
        """What TLS has not encrypted yet counts, and what it has does; the size is the socket's."""
        transport = FakeTransport(100)
        self.assertEqual(unsent(self.wrapped(transport)), 100)
        self.assertEqual(unsent(self.wrapped(transport, [b"abc", b"de"])), 105)
        set_buffer(self.wrapped(transport), SCARCE)
        self.assertEqual(transport.bufferSize, SCARCE)

    def test_a_producer_is_paused_earlier(self) -> None:
        """What Twisted does with the size: more than that waits, and nobody reads for it."""
        paused: list[bool] = []

        class Producer:
            def pauseProducing(self) -> None:
                paused.append(True)

        for size, sent, expected in ((AMPLE, SCARCE + 1, []), (SCARCE, SCARCE + 1, [True])):
            transport = FakeTransport()
            transport.producer, transport.streamingProducer = Producer(), True
            set_buffer(transport, size)
            transport.write(bytes(sent))
            self.assertEqual(paused, expected)


class LoopbackTests(LoopbackCase):
    async def stalled(self, most: int) -> Any:
        """Return a session whose client reads nothing; at least half of AMPLE waits for it.

        ``most`` bytes may wait in all.
        """
        self.clock = Clock()
        upstreams = self.listen()
        settings = to_upstream(upstreams.port, server={"max_buffered": most})
        self.start_proxy(settings, clock=self.clock)
        client, self.upstream, self.relay = await self.joined(upstreams)
        self.slow = slow_down(client)
        session = self.relay.session
        through = self.relay._client.transport
        self.sent = await fill(self.upstream, through, lambda: session.sent)
        return session

    async def test_a_reader_that_stalls(self) -> None:
        """Real buffers: beyond the ceiling nothing more is read, until the reader has read."""
        session = await self.stalled(AMPLE // 4)
        client, upstream = self.relay._client.transport, self.relay._upstream.transport
        waiting = buffered(client)
        self.clock.advance(TICK)
        self.assertEqual(self.factory.ceiling.buffered, waiting)
        self.assertEqual((client.bufferSize, upstream.bufferSize), (SCARCE, SCARCE))
        self.upstream.write(pattern(self.sent, 1 << 20))
        await until(lambda: client.producerPaused)
        await settled(lambda: session.sent)
        # One read more, of no more than is allowed now: that has paused the sender.
        self.assertLessEqual(buffered(client), waiting + SCARCE)
        self.slow.go_on()
        await self.slow.counted(self.sent + (1 << 20))
        while self.factory.ceiling.scarce:
            self.clock.advance(TICK)
        self.assertEqual(self.factory.ceiling.buffered, 0)
        self.assertEqual((client.bufferSize, upstream.bufferSize), (AMPLE, AMPLE))

    async def test_below(self) -> None:
        session = await self.stalled(AMPLE * 4)
        self.clock.advance(TICK)
        self.assertGreater(session.buffered, 0)
        self.assertEqual(self.relay._client.transport.bufferSize, AMPLE)

    async def test_early_bytes(self) -> None:
        """What a client sends before its upstream is there counts, too."""
        clock = Clock()
        fake = FakeUpstream()
        factory = self.start_proxy(make_settings(), clock=clock, upstream=fake)
        await self.client(RAW)
        await until(lambda: fake.asked)
        clock.advance(TICK)
        self.assertEqual(factory.ceiling.buffered, len(RAW))


class TlsTests(TlsCase):
    async def test_a_reader_that_stalls(self) -> None:
        """What waits under TLS is counted, and the socket under it is told to read less."""
        clock = Clock()
        self.start(server={"max_buffered": AMPLE // 4}, clock=clock)
        client, upstream = await self.joined_tls(RAW)
        client.transport.pauseProducing()
        session: Session = self.session()
        relay: Any = session.holder
        tls = relay._client.transport
        bottom = tls if FAST else tls.transport
        await fill(upstream, bottom, lambda: session.sent)
        clock.advance(TICK)
        self.assertGreaterEqual(session.buffered, buffered(bottom))
        self.assertGreater(session.buffered, AMPLE // 4)
        self.assertEqual(bottom.bufferSize, SCARCE)
        self.assertEqual(relay._upstream.transport.bufferSize, SCARCE)
        upstream.reset()
        client.transport.resumeProducing()
