"""Large transfers arrive whole, or break off; and nothing of them is left.

Ten gigabytes, or as many bytes as are asked for, and by chance with a seed:

    make chaos CHAOS=tests.chaos.chaos_big_transfers BIG_BYTES=1000000000 BIG_SEED=7
"""

import json
import os
import sys
import time

from tests.chaos.case import ChaosTestCase
from tests.integration.programs import LOOPBACK

#: What is to arrive, on both sides together.
BYTES = int(os.environ.get("BIG_BYTES", "10_000_000_000"))
SEED = int(os.environ.get("BIG_SEED", "6"))
#: Seconds for a gigabyte, at the very least.
PATIENCE = 120


class BigTransferTests(ChaosTestCase):
    """Both ways at once, in random pieces, with stalls, half-closes and resets."""

    def setUp(self) -> None:
        super().setUp()
        self.log_file = self.directory / "log"
        self.parties = self.start(sys.executable, "-m", "tests.chaos.big", str(SEED))
        origin = int(self.parties.wait_for(r"^origin on (\d+)$")[1])
        self.carry("--chat", f"{LOOPBACK}:{origin}", ports=[origin])
        self.rounds = 0

    def transferred(self, amount: int) -> dict:
        """Transfer so many bytes, and return the account of it."""
        self.rounds += 1
        self.parties.say(f"{self.service.port} {amount}")
        patience = PATIENCE * (1 + amount / 1e9)
        self.parties.wait_for(rf"(?:^{{.*}}\n){{{self.rounds}}}", patience)
        account = json.loads(self.parties.output("stdout").splitlines()[-1])
        self.assertEqual([], account["failures"])
        self.assertEqual("", self.parties.output("stderr"))
        return account

    def test_whole(self) -> None:
        self.transferred(BYTES // 100)  # what is taken once is taken now
        self.note_rest()
        received, sent = self.counted()
        began, cpu = time.monotonic(), self.service.cpu()
        account = self.transferred(BYTES)
        took, cpu = time.monotonic() - began, self.service.cpu() - cpu
        print(f"{account} in {took:.0f} s, {cpu:.1f} s of the proxy's processor")
        self.assertGreater(account["whole"], 0)
        self.nothing_is_left()
        # What broke off has carried more than is known of it, but never less.
        after = self.counted()
        self.assertGreaterEqual(after[0] - received, account["bytes up"])
        self.assertGreaterEqual(after[1] - sent, account["bytes down"])

    def counted(self) -> tuple[float, float]:
        """Return the bytes that the proxy has counted: from clients, and to them."""
        return (
            self.service.figure("bytes_received_total"),
            self.service.figure("bytes_sent_total"),
        )
