"""Errors of ours: one ends its connection, is logged once and counted, and touches nothing else."""

from typing import Any

from twisted.internet.task import Clock

from tests.peers import Peer, until
from tests.support import (
    LOCAL,
    RAW,
    WHATSAPP,
    FakeUpstream,
    LoopbackCase,
    make_settings,
    to_upstream,
)
from whatsproxy.listen_codecs import Listener
from whatsproxy.protocols import looking, proxy_header, sniffer
from whatsproxy.protocols.tunnel import Tunnel
from whatsproxy.reason import Reason


def broken(*_: object, **__: object) -> Any:
    raise RuntimeError("a bug")


class ErrorTests(LoopbackCase):
    """Beside a chat that goes on, whatever happens to others."""

    async def bystander(self, **sections: dict[str, Any]) -> tuple[Peer, Any]:
        upstreams = self.listen()
        self.start_proxy(to_upstream(upstreams.port, **sections))
        client, upstream, _ = await self.joined(upstreams, WHATSAPP)
        return client, upstream

    async def ended_by_the_error(self, client: Peer, bystander: tuple[Peer, Any]) -> None:
        await client.ended()
        client.close()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        assert self.factory is not None
        ledger = self.factory.ledger
        await until(lambda: len(ledger.live) == 1)
        self.assertEqual((ledger.ends[Reason.INTERNAL], ledger.errors), (1, 1))
        mine, theirs = bystander
        theirs.write(b"still here")
        await mine.got(b"still here")

    async def test_while_sniffing(self) -> None:
        bystander = await self.bystander()
        self.patch(sniffer, "sniff", broken)
        await self.ended_by_the_error(await self.client(RAW), bystander)

    async def test_while_reading_a_proxy_header(self) -> None:
        bystander = await self.bystander(server={"proxy_trusted": LOCAL})
        assert self.factory is not None
        self.patch(proxy_header, "parse_proxy_header", broken)
        door = self.factory.door_of(Listener("tcp:0", proxy_protocol=True))
        client = await self.dial(self.listen_with(door))
        client.write(b"PROXY UNKNOWN\r\n")
        await self.ended_by_the_error(client, bystander)

    async def test_while_choosing(self) -> None:
        bystander = await self.bystander()
        assert self.factory is not None
        self.patch(self.factory.router, "route", broken)
        await self.ended_by_the_error(await self.client(RAW), bystander)

    async def test_while_waiting_for_the_upstream(self) -> None:
        bystander = await self.bystander()
        assert self.factory is not None
        upstream = FakeUpstream()
        self.patch(self.factory, "upstream", upstream)
        client = await self.client(RAW)
        await until(lambda: upstream.asked)
        self.patch(Tunnel, "dataReceived", broken)
        client.write(b"more")
        await self.ended_by_the_error(client, bystander)

    async def test_when_the_time_has_come(self) -> None:
        """What a timer calls has nobody above it but the reactor."""
        self.clock = Clock()
        self.start_proxy(make_settings(), clock=self.clock, upstream=FakeUpstream())
        client = await self.client()
        await until(lambda: self.factory.ledger.live)
        self.patch(looking, "Refused", broken)
        self.clock.advance(10)
        await client.ended()
        client.close()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        await self.ended_with(Reason.INTERNAL)
