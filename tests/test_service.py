"""The service: binding, readiness, and an orderly end, in steps."""

from typing import Any

from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from zope.interface import directlyProvides, providedBy

from tests.builders import python_hello
from tests.peers import LOOPBACK, Listener, reactor, until
from tests.support import WHATSAPP, FakeUpstream, LoopbackCase, log_lines, to_upstream
from whatsproxy.drain import CUT_LIMIT
from whatsproxy.reason import Reason
from whatsproxy.service import ProxyService

ANY_PORT = f"tcp:0:interface={LOOPBACK}"


class ClockedReactor:
    """The reactor with a clock of the test's own."""

    def __init__(self) -> None:
        directlyProvides(self, providedBy(reactor))
        self.clock = Clock()
        self.callLater = self.clock.callLater
        self.seconds = self.clock.seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class ServiceCase(LoopbackCase):
    upstreams: Listener

    def start(self, **sections: dict[str, Any]) -> ProxyService:
        """Run a service on ports of the kernel's choice."""
        self.upstreams = self.listen()
        self.reactor = ClockedReactor()
        self.clock = self.reactor.clock
        self.lines = log_lines(self)
        defaults = {"server": {"listen": (ANY_PORT,)}, "metrics": {"listen": ANY_PORT}}
        settings = to_upstream(self.upstreams.port, **{**defaults, **sections})
        service = ProxyService(self.reactor, settings)
        self.addCleanup(service.stopService)
        service.privilegedStartService()
        service.startService()
        self.factory = service.factory
        self.proxy_port = service._ports[0].getHost().port
        assert service._metrics is not None
        self.metrics_port = service._metrics.getHost().port
        return service

    async def ready(self) -> str:
        """Ask /ready; return status and text."""
        peer = await self.dial(self.metrics_port)
        peer.write(b"GET /ready HTTP/1.0\r\n\r\n")
        await peer.ended()
        head, _, text = peer.received.decode().partition("\r\n\r\n")
        return f"{head.split()[1]} {text.strip()}"

    async def assertRefused(self, port: int) -> None:
        with self.assertRaises(ConnectionRefusedError):
            await self.dial(port)

    def scheduled(self) -> list[Any]:
        """Return what is scheduled, but for the web server's own clock."""
        calls = self.clock.getDelayedCalls()
        return [call for call in calls if call.func.__name__ != "_updateLogDateTime"]

    def drained(self) -> list[str]:
        return [line for line in self.lines if line.startswith("drain")]


class DrainTests(ServiceCase):
    async def test_nothing_to_wait_for(self) -> None:
        service = self.start()
        self.assertEqual(await self.ready(), "200 ready")
        done = service.drain()
        self.assertEqual(await self.ready(), "503 not ready: draining")
        await done
        await self.assertRefused(self.proxy_port)
        self.assertEqual(
            self.drained(),
            [
                "draining: 0 connections, 30 s for them to finish",
                "drained: 0 connections finished, 0 cut",
            ],
        )
        self.assertEqual(self.scheduled(), [])

    async def test_steps(self) -> None:
        """503 and still accepting; then not accepting; then waiting; then cutting."""
        service = self.start(timeouts={"lame_duck": 5.0, "shutdown": 30.0})
        finishing, finishing_upstream, _ = await self.joined(self.upstreams, WHATSAPP)
        done = service.drain()
        self.assertEqual(await self.ready(), "503 not ready: draining")
        self.clock.advance(4.9)
        staying, staying_upstream, _ = await self.joined(self.upstreams, WHATSAPP)
        self.clock.advance(0.1)
        await self.assertRefused(self.proxy_port)

        for client, upstream in (
            (finishing, finishing_upstream),
            (staying, staying_upstream),
        ):
            upstream.write(b"still here")
            await client.got(b"still here")
        finishing.end()
        finishing_upstream.end()
        await until(lambda: len(service.factory.ledger.live) == 1)
        self.clock.pump([1.0] * 29)
        self.assertNoResult(done)
        self.assertIsNone(staying.lost)
        self.clock.advance(1.0)
        await done
        await staying.gone()
        await staying_upstream.gone()
        self.assertEqual(self.drained()[-1], "drained: 1 connections finished, 1 cut")
        self.assertEqual(service.factory.ledger.ends[Reason.SHUTDOWN], 1)
        self.assertEqual(self.scheduled(), [])

    async def test_done_with_the_last_connection(self) -> None:
        service = self.start()
        client, upstream, _ = await self.joined(self.upstreams, WHATSAPP)
        done = service.drain()
        await self.assertRefused(self.proxy_port)
        client.write(b"the end")
        client.end()
        await upstream.ended()
        self.assertEqual(upstream.received, WHATSAPP + b"the end")
        self.assertNoResult(done)
        upstream.end()
        await done
        self.assertEqual(self.drained()[-1], "drained: 1 connections finished, 0 cut")

    async def test_every_stage_is_cut(self) -> None:
        """A sniffer, a tunnel, a relay, and one that is being refused: none outlives the limit."""
        service = self.start(timeouts={"shutdown": 4.0})
        silent = await self.client()
        relayed, _, _ = await self.joined(self.upstreams, WHATSAPP)
        refused = await self.client(python_hello("example.com"))
        await refused.ended()
        service.factory.upstream = FakeUpstream()
        waiting = await self.client(WHATSAPP)
        await until(lambda: sum(s.kind is not None for s in service.factory.ledger.live) == 3)
        done = service.drain()
        self.clock.advance(3.0)
        self.assertEqual(len(service.factory.ledger.live), 4)
        self.clock.advance(1.0)
        await done
        for client in (silent, relayed, waiting):
            await client.gone()
        # The one that had been refused was over before, whatever it was waiting for.
        self.assertEqual(self.drained()[-1], "drained: 0 connections finished, 4 cut")

    async def test_one_that_does_not_go(self) -> None:
        """The process ends without it, after CUT_LIMIT seconds."""

        class Stubborn:
            def drain(self) -> None:
                raise RuntimeError("a bug")

            def abort(self, reason: Reason) -> None:
                raise RuntimeError("another")

            def held(self) -> int:
                return 0

        service = self.start()
        await self.joined(self.upstreams, WHATSAPP)
        (session,) = service.factory.ledger.live
        session.holder = Stubborn()
        service.drain()
        done = service.drain()
        self.clock.advance(CUT_LIMIT - 0.1)
        self.assertNoResult(done)
        self.clock.advance(0.1)
        await done
        self.assertEqual(self.drained()[-1], "drained: 0 connections finished, 1 cut")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    async def test_a_second_call_cuts(self) -> None:
        for lame_duck in (0.0, 60.0):
            service = self.start(timeouts={"lame_duck": lame_duck})
            client, _, _ = await self.joined(self.upstreams, WHATSAPP)
            first, second = service.drain(), service.drain()
            await client.gone()
            await second
            self.successResultOf(first)
            await self.assertRefused(self.proxy_port)
            self.assertEqual(self.drained()[-1], "drained: 0 connections finished, 1 cut")
            self.assertEqual(self.scheduled(), [])

    async def test_more_calls_change_nothing(self) -> None:
        service = self.start()
        await self.joined(self.upstreams, WHATSAPP)
        for _ in range(5):
            done = service.drain()
        await done
        self.assertEqual(self.drained()[-1], "drained: 0 connections finished, 1 cut")
        await service.drain()
        self.assertEqual(len(self.drained()), 2)


class StopTests(ServiceCase):
    async def assertReleased(self, service: ProxyService) -> None:
        await service.stopService()
        self.assertEqual(service.factory.ledger.live, set())
        await self.assertRefused(self.proxy_port)
        await self.assertRefused(self.metrics_port)
        self.assertEqual(self.scheduled(), [])
        self.assertFalse(service.running)

    async def test_with_connections(self) -> None:
        service = self.start()
        client, upstream, _ = await self.joined(self.upstreams, WHATSAPP)
        await self.assertReleased(service)
        await client.gone()
        await upstream.gone()

    async def test_without(self) -> None:
        await self.assertReleased(self.start())

    async def test_in_the_middle_of_a_drain(self) -> None:
        for lame_duck in (0.0, 60.0):
            service = self.start(timeouts={"lame_duck": lame_duck})
            await self.joined(self.upstreams, WHATSAPP)
            done = service.drain()
            await self.assertReleased(service)
            self.successResultOf(done)

    async def test_after_a_drain(self) -> None:
        service = self.start()
        await service.drain()
        await self.assertReleased(service)
