"""A SOCKS server that is killed, stopped and started again under load."""

import signal

from tests.chaos.case import ChaosTestCase, Crowd
from tests.chaos.transfers import HTTP, TUNNELS, WAYS
from tests.integration.programs import LOOPBACK
from tests.integration.third_party import microsocks

CLIENTS = 24
#: Ways on which a transfer that was cut off cannot look like a whole one, whatever the cause.
SELF_CONTAINED = {*HTTP, "through"}


class SocksTests(ChaosTestCase):
    """microsocks, with clients that never rest."""

    def setUp(self) -> None:
        super().setUp()
        self.server, self.port = microsocks(self)

    def start_proxy(self, *ports: int, config: str = "") -> None:
        hops = [word for port in ports for word in ("-s", f"socks5://{LOOPBACK}:{port}")]
        self.carry(*hops, config=config)

    def all_is_over(self, crowd: Crowd, *reasons: str) -> None:
        """See that everything that failed is explained by a SOCKS server's death."""
        for outcome in crowd.failures:
            hows = {"broken", "refused"}
            if outcome.detail.partition(":")[0] not in SELF_CONTAINED:
                hows.add("short")
            self.assertIn(outcome.how, hows, outcome)
        explained = {"client_closed", "upstream_closed", "upstream_reset", "answered", *reasons}
        self.assertLessEqual(self.service.ends().keys(), explained)
        self.nothing_is_left()

    def test_killed_and_restarted(self) -> None:
        """Three times; as soon as it is back everything works again."""
        self.start_proxy(self.port)
        with self.crowd(CLIENTS) as crowd:
            for _ in range(3):
                crowd.some_more()
                self.server.kill()
                crowd.some_more()  # each of them fails at least once
                self.server, _ = microsocks(self, self.port)
                crowd.some_more()
                failed = len(crowd.failures)
                crowd.some_more()
                self.assertEqual(failed, len(crowd.failures), "all is well again")
        self.assertGreater(len(crowd.failures), 3 * CLIENTS)
        self.all_is_over(crowd, "client_reset", "socks_unreachable", "socks_lost")

    def test_frozen(self) -> None:
        """Connections wait for it, and go on as if nothing had been."""
        self.start_proxy(self.port)
        with self.honest(CLIENTS) as crowd:
            self.server.signal(signal.SIGSTOP)
            crowd.stands_still()
            self.server.signal(signal.SIGCONT)
        self.all_is_over(crowd)

    def test_frozen_for_too_long(self) -> None:
        """Who comes meanwhile is told after timeouts.connect."""
        self.start_proxy(self.port, config="timeouts.connect = 0.5")
        self.server.signal(signal.SIGSTOP)
        ways = [way for way in WAYS if way != "through"] * 2
        outcomes = self.transfers([(way, self.site.order(down=10)) for way in ways])
        self.server.signal(signal.SIGCONT)
        for way, outcome in zip(ways, outcomes, strict=True):
            in_http = way in HTTP or way.endswith("connect") or way == "upgrade"
            self.assertEqual("refused" if in_http else "short", outcome.how, (way, outcome))
        with self.honest():
            pass
        self.nothing_is_left()
        # A connection whose request has failed goes on.
        tunnels = [way for way in ways if way in TUNNELS and way != "upgrade"]
        self.assertEqual(len(tunnels), self.service.ends()["socks_timeout"])

    def test_another_one_takes_over(self) -> None:
        """With a second server listed no new connection fails when the first one is dead."""
        _, other = microsocks(self)
        self.start_proxy(self.port, other)
        with self.crowd(CLIENTS) as crowd:
            crowd.some_more()
            self.server.kill()
            crowd.some_more()
            failed = len(crowd.failures)
            crowd.some_more()
            self.assertEqual(failed, len(crowd.failures))
        self.all_is_over(crowd, "client_reset")
