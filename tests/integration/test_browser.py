"""Chromium, headless, loads a page of many parts from several origins."""

import base64
import hashlib
import json
import struct
import zlib
from collections.abc import Callable

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate

from tests.integration.http_clients import HttpTestCase
from tests.integration.http_origins import NAMES, Nginx
from tests.integration.programs import environment, installed

#: Parts of the page: pictures of so many shapes, style sheets, scripts, and things to fetch.
PICTURES, STYLES, SCRIPTS, FETCHES = 24, 6, 6, 6
PARTS = PICTURES + STYLES + SCRIPTS + FETCHES
BULK = bytes(range(256)) * 2048

#: Counts what was loaded whole, by what it is, and writes that into the page.
SCRIPT = """
const loaded = {pictures: 0, styles: 0, scripts: 0, fetches: 0, failed: []};
function show() {
    document.getElementById("result").textContent = JSON.stringify(loaded);
}
function part(url, make, check) {
    const element = make();
    element.onload = () => {
        if (check(element)) loaded[kind(element)] += 1; else loaded.failed.push(url);
        show();
    };
    element.onerror = () => { loaded.failed.push(url); show(); };
    element[element.tagName === "LINK" ? "href" : "src"] = url;
    document.body.append(element);
}
function kind(element) {
    return {IMG: "pictures", LINK: "styles", SCRIPT: "scripts"}[element.tagName];
}
function style() {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    return link;
}
async function bulk(url) {
    try {
        const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
        if (bytes.length !== SIZE || !bytes.every((b, i) => b === i % 256)) throw "different";
        loaded.fetches += 1;
    } catch (e) {
        loaded.failed.push(`${url}: ${e}`);
    }
    show();
}
"""


def picture(width: int, height: int) -> bytes:
    """Return a grey PNG of this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x80" * width) * height)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


class BrowserTests(HttpTestCase):
    """The page itself says what arrived: decoded, applied, run, and byte by byte."""

    def setUp(self) -> None:
        super().setUp()
        self.nginx = Nginx(self)

    def publish(self, url: Callable[[str, str], str]) -> None:
        """Write the page and its parts, which are spread over all of the origins."""
        calls = []
        for i in range(PICTURES):
            self.nginx.add(f"{i}.png", picture(10 + i, 20))
            where = url(f"/{i}.png", NAMES[i % len(NAMES)])
            calls.append(f'part("{where}", () => new Image(), e => e.naturalWidth === {10 + i});')
        for i in range(STYLES):
            self.nginx.add(f"{i}.css", f"#style-{i} {{ width: {100 + i}px }}".encode())
            where = url(f"/{i}.css", NAMES[i % len(NAMES)])
            width = f'getComputedStyle(document.getElementById("style-{i}")).width'
            calls.append(f'part("{where}", style, () => {width} === "{100 + i}px");')
        for i in range(SCRIPTS):
            self.nginx.add(f"{i}.js", f"window.script{i} = {i};".encode())
            where = url(f"/{i}.js", NAMES[i % len(NAMES)])
            make = '() => document.createElement("script")'
            calls.append(f'part("{where}", {make}, () => window.script{i} === {i});')
        for i in range(FETCHES):
            self.nginx.add(f"{i}.bin", BULK)
            # From the page's own origin: another would have to permit it.
            calls.append(f'bulk("{url(f"/{i}.bin", NAMES[0])}");')
        styled = "".join(f'<div id="style-{i}"></div>' for i in range(STYLES))
        script = SCRIPT.replace("SIZE", str(len(BULK))) + "\n".join(calls)
        body = f'<p id="result"></p>{styled}<script>{script}</script>'
        head = '<meta charset="utf-8"><link rel="icon" href="data:,">'
        page = f"<!DOCTYPE html><html><head>{head}</head><body>{body}</body></html>"
        self.nginx.add("page.html", page.encode())

    def open(self, url: str) -> str:
        """Return the page as Chromium has it when everything has come to rest."""
        home = self.directory / "home"
        home.mkdir()
        key = load_pem_x509_certificate(
            self.nginx.identity.certificate.cert_chain_pems[0].bytes()
        ).public_key()
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        pin = base64.b64encode(hashlib.sha256(spki).digest()).decode()
        browser = self.start(
            *(installed("chromium"), "--headless", "--no-sandbox", "--disable-gpu"),
            *("--disable-quic", "--no-first-run", "--disable-background-networking"),
            *("--disable-component-update", "--disable-sync", "--disable-extensions"),
            *("--disable-dev-shm-usage", f"--user-data-dir={home / 'data'}"),
            # Nobody's certificate but the origin's: not an authority, which is another database.
            f"--ignore-certificate-errors-spki-list={pin}",
            *(f"--proxy-server={self.by_proxy}", "--virtual-time-budget=30000", "--dump-dom", url),
            env=environment(HOME=str(home), XDG_CONFIG_HOME=str(home), XDG_CACHE_HOME=str(home)),
        )
        self.assertEqual(0, browser.wait(), browser.output())
        return browser.output("stdout")

    def loads(self, url: Callable[[str, str], str]) -> None:
        self.publish(url)
        self.carry(self.nginx.port, self.nginx.tls_port)
        page = self.open(url("/page.html", NAMES[0]))
        self.assertIn('<p id="result">{', page)
        result = page.split('<p id="result">')[1].split("</p>")[0]
        expected = {
            "pictures": PICTURES,
            "styles": STYLES,
            "scripts": SCRIPTS,
            "fetches": FETCHES,
            "failed": [],
        }
        self.assertEqual(expected, json.loads(result))
        seen = self.nginx.seen(1 + PARTS)
        self.assertEqual({"200"}, {line.rpartition(" ")[2] for _, line in seen})
        self.no_error_is_logged()

    def test_http(self) -> None:
        self.loads(self.nginx.url)
        self.assertEqual(1 + PARTS, self.requests()["GET", "2xx", "upstream"])
        # It used its connections again, and the proxy those to the origin.
        self.assertLess(self.service.kinds()["http"], PARTS)
        self.assertLess(len({serial for serial, _ in self.nginx.seen(1 + PARTS)}), PARTS)

    def test_https(self) -> None:
        self.loads(self.nginx.secure_url)
        self.assertGreaterEqual(self.requests()["CONNECT", "2xx", "proxy"], len(NAMES))
        self.assertNotIn(("GET", "2xx", "upstream"), self.requests())
        self.assertGreaterEqual(self.service.kinds()["connect"], len(NAMES))


class BrowserBySocks5Tests(BrowserTests):
    through_socks5 = True
