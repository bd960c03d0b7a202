"""A hundred thousand connections in a row leave nothing behind."""

import json
import sys
import time

from tests.chaos.case import ChaosTestCase
from tests.chaos.swarm import PROGRAMME
from tests.integration.programs import LOOPBACK

CONNECTIONS, WORKERS = 100_000, 16
#: Before that: until there its heap grows, and from about 80,000 on it does not grow at all.
WARM_UP = 20_000
#: Resident memory may be so much more in the end.
GROWTH = 1.05


class LeakTests(ChaosTestCase):
    """Of every kind, with every kind of end: descriptors, memory and objects are as before."""

    def setUp(self) -> None:
        super().setUp()
        self.log_file = self.directory / "log"
        self.swarm = self.start(sys.executable, "-m", "tests.chaos.swarm", str(WORKERS))
        found = self.swarm.wait_for(r"^origin on (\d+), none on (\d+)$")
        ports = [int(port) for port in found.groups()]
        self.carry("--chat", f"{LOOPBACK}:{ports[0]}", ports=ports)
        self.rounds = 0

    def connections(self, count: int) -> None:
        """Make so many connections, all of which go as they should."""
        count -= count % (WORKERS * len(PROGRAMME))
        self.rounds += 1
        before = self.service.figure("connections_total")
        self.swarm.say(f"{self.service.port} {count}")
        self.swarm.wait_for(rf"(?:^{{.*}}\n){{{self.rounds}}}", 240)
        done = json.loads(self.swarm.output("stdout").splitlines()[-1])
        each = count // len(PROGRAMME)
        expected: dict[str, int] = {}
        for kind in PROGRAMME:
            expected[kind.__name__] = expected.get(kind.__name__, 0) + each
        self.assertEqual(expected, done)
        self.assertEqual(count, self.service.figure("connections_total") - before)

    def test_a_hundred_thousand(self) -> None:
        self.connections(WARM_UP)
        self.note_rest()
        memory, objects = self.service.resident(), self.service.objects()
        began, cpu = time.monotonic(), self.service.cpu()
        self.connections(CONNECTIONS)
        took, cpu = time.monotonic() - began, self.service.cpu() - cpu
        print(f"{CONNECTIONS:,} connections in {took:.0f} s, {cpu:.0f} s of the proxy's processor")
        self.nothing_is_left()
        after = self.service.resident(), self.service.objects()
        more = {k: (objects[k], v) for k, v in after[1].items() if v > objects[k]}
        print(f"resident: {memory >> 10} KiB before, {after[0] >> 10} KiB after; objects: {more}")
        self.assertLess(after[0], GROWTH * memory)
        # Of no type there are more, but for the few that a page or a timer may hold just now.
        self.assertLess(sum(now - then for then, now in more.values()), 200, more)
