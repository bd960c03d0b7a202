"""``twistd whatsproxy`` as a subprocess, and what its pages tell."""

import http.client
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.integration.programs import (
    DEADLINE,
    LOOPBACK,
    TWISTD,
    Program,
    ProgramTestCase,
    environment,
    eventually,
)

ANY_PORT = f"tcp:0:interface={LOOPBACK}"
#: The tests' origins are on this machine, and all their clients are one: keys and variables.
LOCAL = {
    ("allow_networks", "WHATSPROXY_POLICY_ALLOW_NETWORKS"): "127.0.0.0/8,::1",
    ("max_per_client", "WHATSPROXY_CLIENTS_MAX_PER_CLIENT"): "0",
    ("rate_per_client", "WHATSPROXY_CLIENTS_RATE_PER_CLIENT"): "0",
}
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
KINDS = ["http", "connect", "tls", "xmpp", "whatsapp", "raw", "undetected", "rejected"]


class Proxy(Program):
    """A running proxy: one listener and the metrics, both on ports of the system's choice."""

    def ready(self) -> None:
        """Wait until it has told its ports and serves."""
        self.port = int(self.wait_for(r"listening on \S*?:(\d+) ")[1])
        self.pages = int(self.wait_for(r"metrics on http://[^/]*:(\d+)/metrics")[1])
        eventually(lambda: self.get("/ready")[0] == 200, "/ready says 200")

    def get(self, path: str, accept: str = "text/plain") -> tuple[int, str, str]:
        """Return status, content type and text of a page on the metrics listener."""
        connection = http.client.HTTPConnection(LOOPBACK, self.pages, timeout=DEADLINE)
        try:
            connection.request("GET", path, headers={"Accept": accept})
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Content-Type", ""), answer.read().decode()
        finally:
            connection.close()

    def families(self, accept: str = OPENMETRICS) -> dict[str, Metric]:
        """Return the metric families by name, read by prometheus-client's own parser."""
        _, kind, text = self.get("/metrics", accept)
        parse = parse_openmetrics if kind.startswith("application/openmetrics") else parse_text
        return {family.name: family for family in parse(text)}

    def figure(self, name: str, **labels: str) -> float:
        """Return the value of the sample ``whatsapp_proxy_<name>``; 0 when there is none."""
        return sum(
            sample.value
            for family in self.families().values()
            for sample in family.samples
            if sample.name == f"whatsapp_proxy_{name}" and labels.items() <= sample.labels.items()
        )

    def ends(self) -> dict[str, int]:
        """Return how many connections ended for which reason, without the zeros."""
        return {
            sample.labels["reason"]: int(sample.value)
            for family in self.families().values()
            for sample in family.samples
            if sample.name == "whatsapp_proxy_connections_ended_total" and sample.value
        }

    def kinds(self) -> dict[str, int]:
        """Return how many connections were of which kind, without the zeros."""
        return {
            kind: int(count)
            for kind in KINDS
            if (count := self.figure("protocol_connections", protocol=kind))
        }

    def wait_for_ends(self, expected: dict[str, int]) -> None:
        """Wait until exactly the connections ``expected`` by reason have ended."""

        def check() -> bool:
            return self.ends() == expected

        try:
            eventually(check, "connections ended")
        except AssertionError:
            raise AssertionError(f"ended {self.ends()}, not {expected}") from None

    def wait_for_orderly_ends(self, count: int) -> None:
        """Wait until so many connections have ended, each by one side's closing it.

        Where TLS says goodbye, both sides close at about the same time: either may be the first.
        """

        def check() -> bool:
            return sum(self.ends().values()) == count

        eventually(check, f"{count} connections ended")
        ends = self.ends()
        assert ends.keys() <= {"client_closed", "upstream_closed"}, ends

    def draining(self) -> bool:
        """Tell whether /ready says 503."""
        return self.get("/ready")[0] == 503


class ProxyTestCase(ProgramTestCase):
    """A test that starts the proxy."""

    def twistd(self, *options: str | Path, env: dict[str, str] | None = None) -> Proxy:
        """Start ``twistd whatsproxy`` in the foreground with these options only."""
        argv = [TWISTD, "--nodaemon", "--pidfile=", "whatsproxy", *options]
        proxy = Proxy([str(word) for word in argv], self.directory, environment(**(env or {})))
        self.addCleanup(proxy.stop)
        return proxy

    def proxy(
        self, *options: str | Path, config: str = "", env: dict[str, str] | None = None
    ) -> Proxy:
        """Start a proxy on free ports, configured by ``config``, and wait until it listens.

        What ``config`` does not say of clients and networks allows the tests' peers.
        """
        file = self.write("whatsproxy.toml", config)
        local = {key: value for (name, key), value in LOCAL.items() if name not in config}
        options = ("-c", file, "-l", ANY_PORT, "-m", ANY_PORT, *options)
        proxy = self.twistd(*options, env=local | (env or {}))
        proxy.ready()
        return proxy
