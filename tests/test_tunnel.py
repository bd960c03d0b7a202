"""The tunnel: what happens between the decision and the upstream's arrival."""

from typing import Any

from twisted.internet.defer import fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock

from tests.builders import python_hello
from tests.flood import pattern
from tests.peers import Peer, reactor, settled, until
from tests.socks5_attempt import ToServer
from tests.support import (
    RAW,
    WHATSAPP,
    XMPP,
    FakeUpstream,
    LoopbackCase,
    make_settings,
    through_socks,
)
from whatsproxy import relay as relay_module
from whatsproxy.idle_watch import IdleWatch
from whatsproxy.protocols.tunnel import EARLY_LIMIT, Tunnel
from whatsproxy.reason import Reason
from whatsproxy.session import Session
from whatsproxy.upstream import Upstream

MIB = 1 << 20


class WaitingCase(LoopbackCase):
    """The upstream arrives when the test says so."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.upstreams = self.listen()
        self.upstream = FakeUpstream()
        self.proxy = self.start_proxy(make_settings(), clock=self.clock, upstream=self.upstream)

    async def waiting(self, first: bytes = RAW) -> tuple[Peer, Tunnel]:
        """Connect a client whose tunnel waits for its upstream."""
        client = await self.client(first)
        await until(lambda: self.upstream.asked)
        return client, self.tunnel()

    def session(self) -> Session:
        (session,) = self.proxy.ledger.live
        return session

    def tunnel(self) -> Tunnel:
        holder = self.session().holder
        assert isinstance(holder, Tunnel)
        return holder

    async def arrive(self) -> Any:
        """Let the upstream arrive; return its far end."""
        number = len(self.upstreams.peers) + 1
        arrival = await self.arrival(self.upstreams.port)
        self.upstream.last.callback(arrival)
        return await self.upstreams.accepted(number)


class EarlyTests(WaitingCase):
    async def test_early_bytes(self) -> None:
        """What came before the upstream is delivered first, in order, exactly."""
        client, tunnel = await self.waiting()
        for number in range(10):
            client.write(b"early %d " % number)
            await until(lambda n=number: b"early %d " % n in tunnel._early)
        upstream = await self.arrive()
        client.write(b"late")
        await upstream.got(RAW + b"".join(b"early %d " % n for n in range(10)) + b"late")

    async def test_a_lot(self) -> None:
        """Beyond EARLY_LIMIT the client must wait; then all of it arrives."""
        client, tunnel = await self.waiting()
        early = b"".join(pattern(n * MIB, MIB) for n in range(16))
        client.write(early)
        await until(lambda: len(tunnel._early) > EARLY_LIMIT)
        kept = await settled(lambda: len(tunnel._early))
        self.assertLessEqual(kept, 2 * EARLY_LIMIT + len(RAW))
        upstream = await self.arrive()
        await upstream.got(RAW + early)
        upstream.write(b"thanks")
        await client.got(b"thanks")

    async def test_a_lot_and_no_upstream(self) -> None:
        """A client that waits is let go in order, too: FIN, not a reset, whatever it had sent."""
        client, tunnel = await self.waiting()
        client.write(b"x" * 2 * EARLY_LIMIT)
        await until(lambda: len(tunnel._early) > EARLY_LIMIT)
        self.upstream.last.errback(ConnectionRefusedError())
        await client.ended()
        self.assertFalse(client.lost)
        client.end()
        await client.gone()
        await self.ended_with(Reason.UPSTREAM_REFUSED)

    async def test_the_client_ends_first(self) -> None:
        """What it had said is delivered, then its FIN; the answer comes back."""
        client, tunnel = await self.waiting()
        client.write(b"all I have")
        client.end()
        await until(lambda: tunnel._ended)
        upstream = await self.arrive()
        await upstream.ended()
        self.assertEqual(upstream.received, RAW + b"all I have")
        upstream.write(b"answer" * MIB)
        await client.got(b"answer" * MIB)
        upstream.end()
        await client.gone()
        await self.ended_with(Reason.CLIENT_CLOSED)

    async def test_the_client_ends_and_there_is_no_upstream(self) -> None:
        client, tunnel = await self.waiting()
        client.end()
        await until(lambda: tunnel._ended)
        self.upstream.last.errback(ConnectionRefusedError())
        await client.gone()
        await self.ended_with(Reason.UPSTREAM_REFUSED)

    async def test_the_upstream_speaks_first(self) -> None:
        client, _ = await self.waiting()
        upstream = await self.arrive()
        upstream.write(b"welcome")
        await client.got(b"welcome")


class GoneTests(WaitingCase):
    async def test_the_client_breaks_off(self) -> None:
        """The connect is cancelled; nothing is left."""
        client, _ = await self.waiting()
        client.reset()
        await self.ended_with(Reason.CLIENT_RESET)
        self.assertEqual(self.upstream.cancelled, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_the_client_closes(self) -> None:
        """Without half-close on its side: the end is seen as FIN, the reset at the first byte."""
        client, tunnel = await self.waiting()
        client.close()
        await until(lambda: tunnel._ended)
        upstream = await self.arrive()
        await upstream.got(RAW)
        upstream.write(b"nobody is there" * MIB)
        await until(lambda: not self.proxy.ledger.live or upstream.lost or upstream.eof)
        upstream.reset()

    async def test_nothing_comes_after_an_abort(self) -> None:
        """The transport is gone a moment later: no upstream may arrive in between."""
        client, tunnel = await self.waiting()
        tunnel.abort(Reason.SHUTDOWN)
        self.assertEqual(self.upstream.cancelled, 1)
        await client.gone()
        await self.ended_with(Reason.SHUTDOWN)

    async def test_the_service_aborts(self) -> None:
        client, tunnel = await self.waiting()
        tunnel.abort(Reason.SHUTDOWN)
        await client.gone()
        await self.ended_with(Reason.SHUTDOWN)
        self.assertEqual(self.upstream.cancelled, 1)


class RealCancelTests(LoopbackCase):
    async def test_a_client_leaves_a_hanging_connect(self) -> None:
        """With a real upstream: the SOCKS server sees its connection end as well."""
        server = self.listen()  # it never answers
        self.start_proxy(through_socks(server.port))
        client = await self.client(WHATSAPP)
        await (await server.accepted()).got(b"\x05\x01\x00")
        client.reset()
        await server.peers[0].gone()
        await self.ended_with(Reason.CLIENT_RESET)


class SynchronousTests(WaitingCase):
    """An upstream that is there, or is not, before connect() returns."""

    async def test_success(self) -> None:
        for first in (RAW, WHATSAPP, XMPP, python_hello("media.whatsapp.net")):
            arrival = await self.arrival(self.upstreams.port)
            self.upstream.answer = lambda a=arrival: succeed(a)
            client = await self.client(first)
            upstream = await self.upstreams.accepted(len(self.upstreams.peers))
            await upstream.got(first)
            client.write(b"more")
            await upstream.got(first + b"more")
            upstream.write(b"answer")
            await client.got(b"answer")

    async def test_failure(self) -> None:
        self.upstream.answer = lambda: fail(ConnectionRefusedError())
        client = await self.client(RAW)
        await client.ended()
        client.close()
        await self.ended_with(Reason.UPSTREAM_REFUSED)


class UnexpectedTests(WaitingCase):
    async def test_an_unknown_failure(self) -> None:
        """It is logged with its traceback, and counted as ours."""
        client, _ = await self.waiting()
        self.upstream.last.errback(RuntimeError("a bug"))
        await client.ended()
        client.close()
        await self.ended_with(Reason.INTERNAL)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_an_error_while_joining(self) -> None:
        """Both connections end."""

        def broken(*_: object) -> None:
            raise RuntimeError("a bug")

        self.patch(IdleWatch, "add", broken)
        client, _ = await self.waiting()
        upstream = await self.arrive()
        await client.ended()
        await upstream.ended()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        await self.ended_with(Reason.INTERNAL)

    async def test_an_error_before_the_transports_are_joined(self) -> None:
        """The same at the very beginning of the relay."""

        def broken(*_: object) -> None:
            raise OSError(22, "Invalid argument")

        self.patch(relay_module, "hand_over", broken)
        client, _ = await self.waiting()
        upstream = await self.arrive()
        await client.ended()
        await upstream.ended()
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        await self.ended_with(Reason.INTERNAL)

    async def test_an_error_when_the_upstream_arrives(self) -> None:
        """It ends this connection, whatever it is; so does one in saying that none has come."""

        def broken(*_: object) -> bytes:
            raise RuntimeError("a bug")

        self.patch(Tunnel, "connected", broken)
        self.patch(Tunnel, "last_word", broken)
        client, _ = await self.waiting()
        upstream = await self.arrive()
        await client.ended()
        await upstream.ended()
        await self.ended_with(Reason.INTERNAL)
        self.upstream.asked.clear()
        other, _ = await self.waiting()
        self.upstream.last.errback(ConnectionRefusedError())
        await other.ended()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)
        await self.ended_with(Reason.INTERNAL, Reason.INTERNAL)


class BrokenLegTests(LoopbackCase):
    """A leg that raises where it should fail is a bug, and must not leave a client hanging."""

    async def check(self, *legs: Any) -> None:
        self.start_proxy(make_settings(), clock=Clock(), upstream=Upstream(reactor, legs, 5.0))
        client = await self.client(RAW)
        await client.ended()
        client.close()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        await self.ended_with(Reason.INTERNAL)

    @staticmethod
    def broken(*_: object) -> Any:
        raise RuntimeError("a bug")

    @staticmethod
    def refused(*_: object) -> Any:
        server = ToServer()
        server.fail(ConnectionRefusedError())
        return server

    async def test_the_first(self) -> None:
        await self.check(self.broken)

    async def test_the_second(self) -> None:
        await self.check(self.refused, self.broken)
