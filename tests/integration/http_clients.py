"""What tests of HTTP have in common: the proxy in between, curl, and how a test ends."""

from collections.abc import Sequence
from pathlib import Path

from tests.integration.http_origins import NAMES
from tests.integration.programs import LOOPBACK, Program, eventually, installed, sandboxed
from tests.integration.proxy import Proxy, ProxyTestCase
from tests.integration.third_party import microsocks

#: Method, class of status, and who answered.
Requests = dict[tuple[str, str, str], int]


class HttpTestCase(ProxyTestCase):
    """HTTP through the running service, which goes out directly.

    A subclass with ``through_socks5`` does everything again, out by way of microsocks.
    """

    through_socks5 = False

    def setUp(self) -> None:
        sandboxed()
        super().setUp()

    def carry(self, *ports: int, config: str = "", options: Sequence[str] = ()) -> Proxy:
        """Start the proxy; clients may go to these ports of the origins' names."""
        allowed = [word for name in NAMES for word in ("--allow", name)]
        if self.through_socks5:
            self.socks5, port = microsocks(self)
            allowed += ["-s", f"socks5://{LOOPBACK}:{port}"]
        config = f"policy.allow_ports = {list(ports)}\n{config}"
        self.service = self.proxy(*allowed, *options, config=config)
        return self.service

    @property
    def by_proxy(self) -> str:
        """The URL of the proxy."""
        return f"http://{LOOPBACK}:{self.service.port}"

    def curl_words(self, *words: str | Path) -> list[str | Path]:
        """Return the command line of a curl with no settings but these."""
        settings = ("--disable", "--silent", "--show-error", "--noproxy", "", "--max-time", "20")
        return [installed("curl"), *settings, "--proxy", self.by_proxy, *words]

    def curl(self, *words: str | Path) -> Program:
        """Start curl."""
        return self.start(*self.curl_words(*words))

    def curled(self, *words: str | Path) -> str:
        """Return what curl writes to its standard output; it must be content."""
        curl = self.curl(*words)
        curl.leave()
        self.assertEqual(0, curl.wait(), curl.output())
        return curl.output("stdout")

    def fetched(self, *words: str | Path) -> bytes:
        """Return the body that curl gets; an answer of 400 or more is a failure."""
        file = self.directory / "fetched"
        file.unlink(missing_ok=True)
        self.curled("--fail", "--output", file, *words)
        return file.read_bytes()

    def requests(self) -> Requests:
        """Return the figures of the proxy for requests, without the zeros."""
        return {
            (labels["method"], labels["status"], labels["answered_by"]): int(sample.value)
            for family in self.service.families().values()
            for sample in family.samples
            if sample.name == "whatsapp_proxy_http_requests_total" and sample.value
            for labels in [sample.labels]
        }

    def all_is_well(self, expected: Requests) -> None:
        """See that these requests were counted, and that nothing was logged as an error."""
        try:
            eventually(lambda: self.requests() == expected, "requests counted", 5)
        except AssertionError:
            self.assertEqual(expected, self.requests())
        # At once, that is: before any limit for those who do not end by themselves.
        eventually(lambda: self.service.figure("connections_active") == 0, "all have ended", 4)
        self.no_error_is_logged()

    def no_error_is_logged(self) -> None:
        """See that the proxy met nothing that it does not know; and went the way that it should."""
        self.assertNotIn("Traceback", self.service.output())
        self.assertNotRegex(self.service.output(), r"(?m)^\S+ (error|critical) ")
        self.assertEqual(0, self.service.figure("connections_ended_total", reason="internal"))
        if self.through_socks5:
            self.assertIn("connected to", self.socks5.output())
