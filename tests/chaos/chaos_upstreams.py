"""Upstreams that refuse, hang, break off, end one direction, babble or trickle, over every way in.

Each victim sees what its protocol can tell; the honest clients beside them notice nothing; and when
all is over nothing is left.
"""

import socket
from collections.abc import Sequence
from typing import Any

from tests.chaos.case import ChaosTestCase
from tests.chaos.orders import PIECE
from tests.chaos.transfers import HTTP, TUNNELS, WAYS, Site
from tests.integration.programs import LOOPBACK, free_port
from tests.integration.third_party import danted

#: More than the buffers between an origin and its client hold, in small writes.
SOME, MANY = 150_000, 1_500_000
#: Ways to places that the client names.
NAMED = ("connect", "tls/connect", "upgrade", *HTTP)
LIMITS = """
timeouts.idle = 1
timeouts.chat_idle = 1
timeouts.http_answer = 1
timeouts.connect = 1
"""


class UpstreamTests(ChaosTestCase):
    """Dialled directly."""

    #: Ways on which the loss of a connection must not look like its end.
    telling: Sequence[str] = WAYS

    def setUp(self) -> None:
        super().setUp()
        # Nobody listens on the one, and nobody accepts on the other, whose queue is full.
        self.nowhere = free_port()
        self.deaf = self.enterContext(socket.create_server((LOOPBACK, 0), backlog=0))
        for _ in range(2):
            waiting = self.enterContext(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(self.deaf.getsockname())
        ports = (self.nowhere, self.deaf.getsockname()[1])
        self.carry(*self.hops(), ports=ports, config=LIMITS)

    def hops(self) -> tuple[str, ...]:
        """Return the options that say which way is out."""
        return ()

    def victims(
        self, fault: str, ways: Sequence[str] = WAYS, times: int = 4, **order: int
    ) -> dict[str, set[str]]:
        """Let transfers fail beside honest ones; return how they ended, by their ways in."""
        jobs = [
            (way, self.site.order(**order, fault=fault, chunked=bool(i % 2)))
            for i in range(times)
            for way in ways
        ]
        with self.honest():
            outcomes = self.transfers(jobs)
        found: dict[str, set[str]] = {}
        for (way, job), outcome in zip(jobs, outcomes, strict=True):
            self.assertNotIn(outcome.how, ("wrong", "late"), outcome)
            if fault == "end" and outcome.how == "short":
                self.assertEqual(job.after, outcome.got, "of what was sent before the end")
            found.setdefault(way, set()).add(outcome.how)
        self.nothing_is_left()
        return found

    def test_resets_in_the_middle(self) -> None:
        """Whoever can be told is told: no answer that was cut off looks like a whole one."""
        found = self.victims("reset", up=1000, down=MANY, after=SOME)
        for way in WAYS:
            expected = {"broken"} if way in self.telling else {"broken", "short"}
            self.assertLessEqual(found[way], expected, way)

    def test_resets_at_once(self) -> None:
        found = self.victims("reset", down=1000)
        for way in WAYS:
            expected = {"broken"} if way in self.telling else {"broken", "short"}
            if way in HTTP:
                expected |= {"refused"}  # where there is no answer yet, it is ours
            self.assertLessEqual(found[way], expected, way)

    def test_ends_its_direction(self) -> None:
        """What was sent has come, and what the client still has to send goes on to arrive."""
        # An origin in TLS cannot do that.
        ways = [way for way in TUNNELS if way != "through"]
        first = self.site.numbers
        found = self.victims("end", ways, up=2 * MANY, down=2 * SOME, after=SOME)
        self.assertEqual({way: {"short"} for way in ways}, found)
        uploads = [u.how for number, u in self.origins.uploads.items() if number > first]
        self.assertEqual({"complete"}, set(uploads))

    def test_ends_in_a_body(self) -> None:
        """HTTP knows how long it should have been."""
        found = self.victims("end", HTTP, up=1000, down=2 * SOME, after=SOME)
        self.assertEqual({way: {"broken"} for way in HTTP}, found)

    def test_hangs(self) -> None:
        """The time limit for silence breaks it off: what it was about had not ended."""
        found = self.victims("hang", up=1000, down=1000, after=500)
        self.assertEqual({way: {"broken"} for way in WAYS}, found)

    def test_does_not_read(self) -> None:
        """The client must wait, and memory is not what waits for it."""
        before = self.service.resident()
        ways = tuple(TUNNELS)
        found = self.victims("unread", ways, up=50_000_000, down=1000)
        self.assertNotIn("complete", {how for hows in found.values() for how in hows})
        grown = self.service.resident() - before
        self.assertLess(grown, 4 * len(ways) * 4 * PIECE + 20_000_000)

    def test_babbles(self) -> None:
        """In a tunnel that is the stream; in HTTP it is refused, or breaks the answer off."""
        found = self.victims("garbage", tuple(TUNNELS), down=SOME, after=1000)
        self.assertEqual({way: {"complete"} for way in TUNNELS}, found)
        found = self.victims("garbage", HTTP, down=SOME)
        self.assertEqual({way: {"refused"} for way in HTTP}, found)

    def test_trickles(self) -> None:
        """Slower in all than every time limit, but never silent: all of it arrives."""
        found = self.victims("trickle", down=1100, after=1000)
        self.assertEqual({way: {"complete"} for way in WAYS}, found)

    def test_refuses_or_does_not_accept(self) -> None:
        """An answer of our own says so."""
        places: list[Any] = [(self.nowhere, 502), (self.deaf.getsockname()[1], 504)]
        for port, status in places:
            there = Site(self.service.port, port, self.trust)
            jobs = [(way, there.order(down=10)) for way in NAMED] * 4
            with self.honest():
                outcomes = self.transfers(jobs, there)
            said = {(outcome.how, outcome.status) for outcome in outcomes}
            self.assertEqual({("refused", status)}, said)
        self.nothing_is_left()


class BySocks5Tests(UpstreamTests):
    """By way of danted, which makes an end of a break: only what is inside can tell them apart."""

    telling = (*HTTP, "through")

    def hops(self) -> tuple[str, ...]:
        _, port = danted(self)
        return ("-s", f"socks5://{LOOPBACK}:{port}")
