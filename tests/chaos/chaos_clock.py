"""A wall clock that jumps, forwards and back, under live connections (libfaketime moves it)."""

import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.chaos.case import ChaosTestCase
from tests.integration.programs import eventually, missing
from tests.integration.tls_clients import tls_dial
from tests.integration.traffic import dial, ends, read_to_end

HOUR, DAY = 3600, 86400
#: Seconds for silent clients here.
SILENCE = 1.0


def fake_clock() -> str:
    """Return the library that moves the clock, or skip the calling test."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        missing("libfaketime")
    return str(found[0])


class ClockTests(ChaosTestCase):
    """Nothing is cut, nothing is held, whatever the wall clock does."""

    def setUp(self) -> None:
        super().setUp()
        self.offset = self.directory / "offset"
        self.jump(0)
        env = {
            "LD_PRELOAD": fake_clock(),
            "FAKETIME_TIMESTAMP_FILE": str(self.offset),
            "FAKETIME_NO_CACHE": "1",
            # As in the world: only the wall clock can be set.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.carry(config=f"timeouts.sniff = {SILENCE}\ntimeouts.tls_handshake = 2", env=env)

    def jump(self, seconds: int) -> None:
        """Let the proxy's wall clock be so far ahead of ours."""
        new = self.offset.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self.offset)

    def logged_at(self) -> datetime:
        """Return the time of the last line of the log."""
        line = self.service.output("stdout").splitlines()[-1]
        return datetime.fromisoformat(line.split(" ")[0])

    def test_jumps(self) -> None:
        """Clients of every kind go on, and the log shows that the clock did jump."""
        with self.honest() as crowd:
            for seconds in (2 * HOUR, -DAY, 40 * DAY, 0):
                self.jump(seconds)
                crowd.some_more()
                wanted = datetime.now(UTC) + timedelta(seconds=seconds)
                self.assertLess(abs(self.logged_at() - wanted), timedelta(minutes=1))
        self.nothing_is_left()

    def test_time_limits(self) -> None:
        """A silent client gets its time, no less after a jump forwards, no more after one back."""
        for seconds in (HOUR, -HOUR):
            self.jump(0)
            with dial(self.service.port) as silent:
                eventually(lambda: self.service.figure("connections_active") == 1, "it is in")
                began = time.monotonic()
                self.jump(seconds)
                with dial(self.service.port) as talker:
                    # Whatever asks for the time now sees the jump.
                    talker.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    self.assertIn(b"200 OK", read_to_end(talker))
                self.assertTrue(ends(silent))
                took = time.monotonic() - began
            self.assertGreater(took, SILENCE / 2, f"cut by a jump of {seconds} s")
        self.assertEqual(2, self.service.ends()["no_data"])
        self.nothing_is_left()

    def test_a_certificate_that_has_ended_meanwhile(self) -> None:
        """After two years it is another one, by itself, and nobody's connection is touched."""
        request = b"GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n"
        with tls_dial(self.service.port) as old:
            old.sendall(request)
            self.assertTrue(old.recv(9999).startswith(b"HTTP/1.1 200 "))
            before = old.getpeercert(binary_form=True)
            with self.honest():
                self.jump(2 * 365 * DAY)
                self.service.signal(signal.SIGHUP)
                expiry = "certificate_expiry_timestamp_seconds"
                later = time.time() + 800 * DAY
                eventually(lambda: self.service.figure(expiry) > later, "it is a new one")
            old.sendall(request)
            self.assertTrue(old.recv(9999).startswith(b"HTTP/1.1 200 "))
            with tls_dial(self.service.port) as new:
                self.assertNotEqual(before, new.getpeercert(binary_form=True))
        self.nothing_is_left()
