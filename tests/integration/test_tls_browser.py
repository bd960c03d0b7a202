"""Chromium, headless, to whom this is an HTTPS proxy, loads a page of many parts."""

import json
import re

from tests.integration.programs import LOOPBACK, environment, installed, sandboxed
from tests.integration.third_party import authority
from tests.integration.tls_clients import PROXY_NAME, TlsTestCase
from tests.integration.tls_origins import HttpOrigin, HttpsOrigin, Presented, present

NAMES = ("origin.test", "static.test", "images.test")
PARTS = 24
BULK = bytes(range(256)) * 1024
#: Fetches every part, checks each byte, and writes into the page what has come.
SCRIPT = """
const result = {good: 0, bad: []};
const show = () => document.getElementById("result").textContent = JSON.stringify(result);
async function part(url) {
    try {
        const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
        if (bytes.length !== SIZE || !bytes.every((b, i) => b === i % 256)) throw "different";
        result.good += 1;
    } catch (e) { result.bad.push(`${url}: ${e}`); }
    show();
}
URLS.forEach(part);
"""


class BrowserTests(TlsTestCase):
    """The page itself says what arrived, byte by byte."""

    def setUp(self) -> None:
        sandboxed()
        super().setUp()

    def loads(self, origin: HttpOrigin, scheme: str, certificates: list[Presented]) -> None:
        """Let the browser load the page; it trusts nobody but these."""
        places = [f"{scheme}://{name}:{origin.port}" for name in NAMES]
        urls = [f"{places[i % len(places)]}/{i}" for i in range(PARTS)]
        script = SCRIPT.replace("SIZE", str(len(BULK))).replace("URLS", json.dumps(urls))
        head = '<meta charset="utf-8"><link rel="icon" href="data:,">'
        body = f'<p id="result"></p><script>{script}</script>'
        page = f"<!DOCTYPE html><html><head>{head}</head><body>{body}</body></html>"
        origin.pages["/page"] = ("text/html", page.encode())
        allowed = [word for name in NAMES for word in ("--allow", name)]
        identity, config = self.own(PROXY_NAME)
        ports = f"policy.allow_ports = [{origin.port}]\n"
        self.service = self.proxy(*allowed, config=ports + config)
        said = self.browse(f"{places[0]}/page", [present(identity), *certificates])
        found = re.search(r'<p id="result">(.*?)</p>', said)
        assert found is not None, said
        self.assertEqual({"good": PARTS, "bad": []}, json.loads(found[1]))
        self.assertEqual(1 + PARTS, len(origin.requests), origin.requests)
        # It came in TLS, and nothing went past it.
        kinds = self.service.kinds()
        self.assertEqual({"tls"}, kinds.keys())
        self.assertLessEqual(kinds["tls"], 1 + PARTS)
        self.nothing_is_wrong(self.service)

    def browse(self, url: str, certificates: list[Presented]) -> str:
        """Return the page as Chromium has it when everything has come to rest."""
        home = self.directory / "home"
        home.mkdir()
        pins = ",".join(presented.pin.removeprefix("sha256/") for presented in certificates)
        browser = self.start(
            *(installed("chromium"), "--headless", "--no-sandbox", "--disable-gpu"),
            *("--disable-quic", "--no-first-run", "--disable-background-networking"),
            *("--disable-component-update", "--disable-sync", "--disable-extensions"),
            *("--disable-dev-shm-usage", f"--user-data-dir={home / 'data'}"),
            f"--ignore-certificate-errors-spki-list={pins}",
            f"--proxy-server=https://{PROXY_NAME}:{self.service.port}",
            f"--host-resolver-rules=MAP {PROXY_NAME} {LOOPBACK}",
            *("--virtual-time-budget=30000", "--dump-dom", url),
            env=environment(HOME=str(home), XDG_CONFIG_HOME=str(home), XDG_CACHE_HOME=str(home)),
        )
        self.assertEqual(0, browser.wait(40), browser.output())
        return browser.output("stdout")

    def test_http(self) -> None:
        self.loads(HttpOrigin(self, 0, BULK), "http", [])
        labels = {"method": "GET", "status": "2xx", "answered_by": "upstream"}
        self.assertEqual(1 + PARTS, self.service.figure("http_requests_total", **labels))
        # It used its connections again.
        self.assertLess(self.service.kinds()["tls"], PARTS)

    def test_https(self) -> None:
        origin = HttpsOrigin(self, 0, BULK)
        identity = authority(*NAMES)
        origin.show(present(identity))
        self.loads(origin, "https", [present(identity)])
        labels = {"method": "CONNECT", "status": "2xx", "answered_by": "proxy"}
        self.assertGreaterEqual(self.service.figure("http_requests_total", **labels), len(NAMES))
