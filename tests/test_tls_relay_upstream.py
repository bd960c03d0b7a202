"""TLS at the upstream's side of the relay, and before that side is there; lingering ends."""

from typing import Any

from twisted.internet.error import ConnectionDone

from tests.flood import PIECE, Flood, buffered, pattern
from tests.peers import settled, until
from tests.support import WHATSAPP, FakeUpstream
from tests.test_tls_relay import MIB, RelayCase
from tests.tls_peers import CA, TlsFlood, TlsPeer, server_context
from tests.tls_support import TlsCase, ca_file
from whatsproxy.destination import Destination
from whatsproxy.lingering import LINGER
from whatsproxy.protocols.tunnel import Tunnel
from whatsproxy.reason import Reason


class EarlyTests(TlsCase):
    """Before the upstream is there."""

    async def waiting(self) -> tuple[TlsPeer, FakeUpstream]:
        fake = FakeUpstream()
        self.proxy = self.start(fake=fake)
        client = await self.secured(WHATSAPP)
        await until(lambda: fake.asked)
        return client, fake

    async def test_goodbye(self) -> None:
        """What it had said still goes out."""
        client, fake = await self.waiting()
        client.write(b"all I have")
        client.close()
        await settled(lambda: len(self.proxy.ledger.live), 20)
        arrival = await self.arrival(self.upstreams.port)
        self.assertEqual(fake.cancelled, 0)
        fake.last.callback(arrival)
        upstream = await self.upstreams.accepted()
        await upstream.ended()
        self.assertEqual(upstream.received, WHATSAPP + b"all I have")
        upstream.close()
        await self.ended_with(Reason.CLIENT_CLOSED)

    async def test_the_service_stops_meanwhile(self) -> None:
        """The upstream, which is all that is left, is cut."""
        client, fake = await self.waiting()
        client.close()
        await settled(lambda: len(self.proxy.ledger.live), 20)
        session = self.session()
        fake.last.callback(await self.arrival(self.upstreams.port))
        upstream = await self.upstreams.accepted()
        await upstream.ended()
        session.holder.abort(Reason.SHUTDOWN)
        await until(lambda: not self.proxy.ledger.live)

    async def test_breaking_off(self) -> None:
        for leave in (TlsPeer.end, TlsPeer.reset):
            client, fake = await self.waiting()
            leave(client)
            await self.ended_with(Reason.CLIENT_RESET)
            self.assertEqual(fake.cancelled, 1)

    async def test_early_bytes(self) -> None:
        client, fake = await self.waiting()
        client.write(b"x" * PIECE)
        tunnel = self.session().holder
        assert isinstance(tunnel, Tunnel)
        await until(lambda: len(tunnel._early) == PIECE + len(WHATSAPP))
        fake.last.callback(await self.arrival(self.upstreams.port))
        await (await self.upstreams.accepted()).got(WHATSAPP + b"x" * PIECE)


class UpstreamTests(TlsCase):
    """TLS at the upstream's side; a client in TLS, or not."""

    def setUp(self) -> None:
        super().setUp()
        context = server_context(CA.issue_cert("chat.test"))
        self.servers = self.listen_tls(context)
        self.proxy = self.start(
            places={("chat.test", 1): self.servers},
            tls={"upstream_ca_file": ca_file()},
            upstream={"chat": (Destination("chat.test", 1, tls=True),)},
        )

    async def pairs(self) -> list[tuple[Any, TlsPeer]]:
        """Connect one client of each sort."""
        pairs = []
        for sort in (self.client, self.secured):
            client = await sort(WHATSAPP)
            upstream = await self.servers.accepted(len(self.servers.peers) + 1)
            await upstream.got(WHATSAPP)
            pairs.append((client, upstream))
        return pairs

    async def test_bytes(self) -> None:
        for client, upstream in await self.pairs():
            upstream.write(b"welcome" * MIB)
            await client.got(b"welcome" * MIB)
            client.write(b"thanks" * MIB)
            await upstream.got(WHATSAPP + b"thanks" * MIB)

    async def test_a_stalled_upstream(self) -> None:
        for client, upstream in await self.pairs():
            upstream.count_pattern()
            upstream.transport.pauseProducing()
            sent = 0
            flood = (TlsFlood if isinstance(client, TlsPeer) else Flood)(client, 24 * MIB)
            sent = await settled(lambda f=flood: f.sent, 200)
            self.assertLess(sent, 24 * MIB)
            upstream.transport.resumeProducing()
            await upstream.counted(24 * MIB)

    async def test_the_client_ends(self) -> None:
        for client, upstream in await self.pairs():
            client.write(b"last")
            client.close()
            await upstream.told()
            self.assertEqual(upstream.received, WHATSAPP + b"last")
            upstream.close()
        await self.ended_with(*[Reason.CLIENT_CLOSED] * 2)

    async def test_the_upstream_ends(self) -> None:
        for leave in (TlsPeer.close, lambda peer: (peer.notify(), flush_and_reset(peer))):
            for client, upstream in await self.pairs():
                upstream.write(b"last")
                leave(upstream)
                await client.ended()
                self.assertFalse(client.lost and not client.lost.check(ConnectionDone))
                self.assertEqual(client.received, b"last")
                if isinstance(client, TlsPeer):
                    self.assertTrue(client.notified)
                client.close()
        await self.ended_with(*[Reason.UPSTREAM_CLOSED] * 4)

    async def test_the_upstream_breaks_off(self) -> None:
        """FIN without close_notify, or RST: a plain client sees a reset, too."""
        for leave in (TlsPeer.end, TlsPeer.reset):
            for client, upstream in await self.pairs():
                leave(upstream)
                self.assertFalse((await client.gone()).check(ConnectionDone))
                self.assertFalse(getattr(client, "notified", False))
        await self.ended_with(*[Reason.UPSTREAM_RESET] * 4)

    async def test_an_answer_is_cut_after_the_client_has_ended(self) -> None:
        """We have said goodbye; the upstream, which still had to answer, has not."""
        plain, upstream = (await self.pairs())[0]
        plain.end()
        await upstream.told()
        upstream.write(b"half an answ")
        await plain.got(b"half an answ")
        upstream.end()
        self.assertFalse((await plain.gone()).check(ConnectionDone))

    async def test_the_client_breaks_off(self) -> None:
        for client, upstream in await self.pairs():
            client.reset()
            await upstream.truncated()
        await self.ended_with(*[Reason.CLIENT_RESET] * 2)


def flush_and_reset(peer: TlsPeer) -> None:
    """Break off behind what the kernel has taken."""
    peer.transport.doWrite()
    peer.reset()


class LingeringTests(RelayCase):
    async def test_the_upstream_goes_on_sending(self) -> None:
        """To a client that has said goodbye: it is drained, and given LINGER seconds."""
        client, upstream, _ = await self.joined()
        client.close()
        await upstream.ended()
        upstream.write(pattern(0, MIB))
        await settled(lambda: buffered(upstream.transport), 10)
        self.assertFalse(upstream.lost)
        self.assertEqual(len(self.proxy.ledger.live), 1)
        self.clock.advance(LINGER + 0.1)
        await self.ended_with(Reason.CLIENT_CLOSED)

    async def test_cut_while_lingering(self) -> None:
        """The client is gone already; the service can still break off what is left."""
        client, upstream, relay = await self.joined()
        client.close()
        await upstream.ended()
        await client.gone()
        relay.abort(Reason.SHUTDOWN)
        await self.ended_with(Reason.SHUTDOWN)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_cut_while_the_client_lingers(self) -> None:
        """The same the other way round."""
        client, upstream, relay = await self.joined()
        upstream.end()
        await client.told()
        relay.abort(Reason.SHUTDOWN)
        await upstream.gone()
        await self.ended_with(Reason.SHUTDOWN)
