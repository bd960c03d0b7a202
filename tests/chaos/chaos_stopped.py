"""The process is stopped for a while (SIGSTOP), as a hypervisor does it, and then goes on."""

import asyncio
import signal
import threading

from tests.chaos.case import ChaosTestCase
from tests.chaos.orders import Order
from tests.chaos.transfers import HTTP, WAYS, Outcome
from tests.integration.programs import eventually
from tests.integration.traffic import dial, read_exactly

#: Seconds.
PAUSE = 2.0
BULK = 30_000_000


class StoppedTests(ChaosTestCase):
    """Nothing is cut, and not one byte is lost."""

    def test_in_the_middle_of_everything(self) -> None:
        """Bulk both ways and small talk, over every way in."""
        self.carry()
        jobs = [(way, self.site.order(BULK, BULK)) for way in WAYS if way not in HTTP]
        jobs += [(way, self.site.order(0, BULK, chunked=c)) for way in HTTP for c in (False, True)]
        jobs += [(way, self.site.order(BULK, 0)) for way in HTTP]

        async def together() -> list[Outcome]:
            done = await asyncio.gather(*(self.site.carry(way, order) for way, order in jobs))
            return [outcomes[-1] for outcomes in done]

        self.site.patience = 60
        with self.honest() as crowd:
            moved = self.service.figure("bytes_sent_total")
            bulk = asyncio.run_coroutine_threadsafe(together(), self.background.loop)
            eventually(
                lambda: self.service.figure("bytes_sent_total") > moved + BULK / 4, "bulk is on"
            )
            self.assertFalse(bulk.done())
            self.service.signal(signal.SIGSTOP)
            threading.Event().wait(PAUSE)
            self.service.signal(signal.SIGCONT)
            self.assertEqual({"complete"}, {outcome.how for outcome in bulk.result(90)})
            crowd.some_more()
        self.nothing_is_left()

    def test_time_limits_that_have_passed(self) -> None:
        """Who has spoken in time is not cut because nobody was there to hear it."""
        limit = PAUSE / 2
        limits = ("sniff", "http_head", "idle", "chat_idle")
        self.carry(config="".join(f"timeouts.{name} = {limit}\n" for name in limits))
        first, rest = b"\x00\x01raw", b'{"number": 1, "up": 0, "down": 0}\n'
        request = b"GET / HTTP/1.0\r\n\r\n"
        port = self.service.port
        with dial(port) as silent, dial(port) as half, dial(port) as tunnel:
            connects = "upstream_connect_seconds_count"
            before = self.service.figure(connects)
            half.sendall(request[:16])
            tunnel.sendall(first)
            eventually(lambda: self.service.figure(connects) > before, "there is a tunnel")
            self.service.signal(signal.SIGSTOP)
            silent.sendall(request)
            half.sendall(request[16:])
            tunnel.sendall(rest)
            threading.Event().wait(PAUSE)
            self.service.signal(signal.SIGCONT)
            for connection in (silent, half):
                self.assertTrue(connection.recv(100).startswith(b"HTTP/1.1 200 "))
            self.assertEqual(Order(1).receipt(), read_exactly(tunnel, 32))
        self.nothing_is_left()
