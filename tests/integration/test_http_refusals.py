"""What the proxy itself says, to curl and to who opens its port in a browser."""

from tests.integration.http_clients import HttpTestCase
from tests.integration.http_origins import Nginx
from tests.integration.programs import free_port


class OwnAnswerTests(HttpTestCase):
    """Short answers that say why, and a page for who came by accident."""

    def said(self, status: int, *words: str, kind: str = "plain") -> str:
        """Return the body of the proxy's answer, which has this status and is short."""
        text = self.curled("--write-out", "\n%{http_code} %{content_type}", *words)
        body, _, last = text.rpartition("\n")
        self.assertRegex(last, rf"^{status} text/{kind}\b")
        self.assertTrue(0 < len(body) < 1000, body)
        return body

    def test_what_is_not_allowed(self) -> None:
        nginx = Nginx(self)
        self.carry(nginx.port, config="policy.allow_networks = []")
        urls = [
            f"http://elsewhere.test:{nginx.port}/",
            f"http://127.0.0.1:{nginx.port}/",
            f"http://[::1]:{nginx.port}/",
            f"http://origin.test:{nginx.tls_port}/",
        ]
        for url in urls:
            self.refused(url, 403, "allow")
        nginx.seen(0)
        self.all_is_well({("GET", "4xx", "proxy"): 4, ("CONNECT", "4xx", "proxy"): 4})

    def refused(self, url: str, status: int, reason: str) -> None:
        """Ask for ``url``, and for a tunnel to there; both in vain."""
        self.assertIn(reason, self.said(status, url))
        tunnel = self.curl("--proxytunnel", "--write-out", "%{http_connect}", url)
        self.assertEqual(56, tunnel.wait(), tunnel.output())
        self.assertEqual(str(status), tunnel.output("stdout"))

    def nobody_there(self) -> None:
        """Look for somebody at a port and at a name that nobody has."""
        port = free_port()
        self.carry(port, options=("--allow", "nowhere.invalid"))
        self.refused(f"http://origin.test:{port}/", 502, "refused")
        self.refused(f"http://nowhere.invalid:{port}/", 502, "")
        self.assertEqual(
            {("GET", "5xx", "proxy"): 2, ("CONNECT", "5xx", "proxy"): 2}, self.requests()
        )
        self.assertNotIn("Traceback", self.service.output())

    def test_nobody_there(self) -> None:
        self.nobody_there()

    def test_nobody_there_behind_socks5(self) -> None:
        self.through_socks5 = True
        self.nobody_there()

    def test_opened_in_a_browser(self) -> None:
        service = self.carry()
        url = f"http://127.0.0.1:{service.port}/"
        page = self.said(200, "--noproxy", "*", url, kind="html")
        self.assertNotRegex(page.lower(), "whatsproxy|twisted")
        self.all_is_well({("GET", "2xx", "proxy"): 1})

    def test_a_web_server_behind(self) -> None:
        nginx = Nginx(self)
        nginx.add("index.html", b"<h1>Roses</h1>")
        service = self.carry(config=f'upstream.web = "127.0.0.1:{nginx.port}"')
        url = f"http://127.0.0.1:{service.port}"
        for path, status in (("/", 200), ("/nowhere", 404)):
            shown = self.curled("--noproxy", "*", "--include", url + path)
            self.assertRegex(shown, rf"^HTTP/1.1 {status} ")
            self.assertRegex(shown, r"(?m)^Server: nginx")
        self.assertEqual(b"<h1>Roses</h1>", self.fetched("--noproxy", "*", url + "/"))
        self.assertIn(f"GET 127.0.0.1:{service.port}/ 200", nginx.seen(3)[0][1])
        # What is passed on untouched is not looked into, so there is nothing to count.
        self.all_is_well({})
