"""curl through the forward proxy and through CONNECT: nginx, Python's server, both ways out."""

import random

from tests.integration.http_clients import HttpTestCase
from tests.integration.http_origins import Nginx, PythonServer
from tests.integration.http_wire import Connection

BODY = random.Random(11).randbytes(4 << 20)
OK = ("GET", "2xx", "upstream")


class ForwardTests(HttpTestCase):
    """Plain requests, in absolute form."""

    def setUp(self) -> None:
        super().setUp()
        self.nginx = Nginx(self)
        self.small = self.nginx.add("small.txt", b"a small file\n")

    def carry_nginx(self) -> None:
        self.carry(self.nginx.port, self.nginx.tls_port)

    def test_get(self) -> None:
        self.carry_nginx()
        self.nginx.add("big", BODY)
        self.assertEqual(BODY, self.fetched(self.nginx.url("/big")))
        seen = f"http GET origin.test:{self.nginx.port}/big 200"
        self.assertEqual([seen], [line for _, line in self.nginx.seen(1)])
        self.all_is_well({OK: 1})
        self.assertEqual({"http": 1}, self.service.kinds())

    def test_head(self) -> None:
        self.carry_nginx()
        url = self.nginx.url("/small.txt")
        head = self.curled("--head", url)
        self.assertIn("HTTP/1.1 200 ", head)
        self.assertIn(f"Content-Length: {len(self.small)}\n", head)
        # The connection is good for more, for nothing follows the head.
        twice = self.curled("--head", url, url, "--write-out", "%{num_connects},")
        self.assertRegex(twice, r"(?s)1,.*0,$")
        self.all_is_well({("HEAD", "2xx", "upstream"): 3})

    def test_nothing_and_not_modified(self) -> None:
        self.carry_nginx()
        url, tag = self.nginx.url("/small.txt"), self.directory / "tag"
        self.curled("--etag-save", tag, "--output", "/dev/null", url)
        self.assertRegex(tag.read_text(), r'"[0-9a-f-]+"')
        codes = self.curled(
            *("--write-out", "%{http_code} %{size_download} %{num_connects},"),
            *("--header", f"If-None-Match: {tag.read_text().strip()}", url, url),
            *(self.nginx.url("/nothing"), self.nginx.url("/nothing")),
        )
        self.assertEqual("304 0 1,304 0 0,204 0 0,204 0 0,", codes)
        self.all_is_well({OK: 3, ("GET", "3xx", "upstream"): 2})

    def test_resume(self) -> None:
        self.carry_nginx()
        self.nginx.add("big", BODY)
        part = self.directory / "part"
        part.write_bytes(BODY[:1_234_567])
        url = self.nginx.url("/big")
        code = self.curled("-C", "-", "--output", part, "--write-out", "%{http_code}", url)
        self.assertEqual("206", code)
        self.assertEqual(BODY, part.read_bytes())
        self.assertEqual(BODY[10:21], self.fetched("--range", "10-20", url))
        self.all_is_well({OK: 2})

    def test_http_1_0(self) -> None:
        self.carry_nginx()
        url = self.nginx.url("/small.txt")
        self.assertEqual(self.small, self.fetched("--http1.0", url))
        # It may ask for keep-alive, and may be denied: it is content either way.
        twice = self.curled("--http1.0", "--header", "Connection: keep-alive", url, url)
        self.assertEqual(2 * self.small.decode(), twice)
        self.all_is_well({OK: 3})

    def test_several_origins_on_one_connection(self) -> None:
        python = PythonServer(self)
        (python.site / "page").write_bytes(BODY[: 1 << 16])
        self.carry(self.nginx.port, python.port)
        urls = [
            *(self.nginx.url("/small.txt"), self.nginx.url("/small.txt")),
            *(
                python.url("/page"),
                python.url("/page"),
                self.nginx.url("/small.txt", "static.test"),
            ),
        ]
        files = [self.directory / f"got-{i}" for i in range(len(urls))]
        options = [word for file in files for word in ("--output", file)]
        made = self.curled("--write-out", "%{http_code} %{num_connects},", *options, *urls)
        self.assertEqual("200 1,200 0,200 0,200 0,200 0,", made)
        bodies = [self.small, self.small, BODY[: 1 << 16], BODY[: 1 << 16], self.small]
        self.assertEqual(bodies, [file.read_bytes() for file in files])
        (first, _), (second, _), (third, line) = self.nginx.seen(3)
        self.assertEqual(first, second, "the connection to the origin was not used again")
        self.assertNotEqual(first, third, "the connection to one name served another")
        self.assertIn(f"GET static.test:{self.nginx.port}/small.txt", line)
        self.all_is_well({OK: 5})
        self.assertEqual(1, self.service.figure("connections_total"))

    def test_no_connection_is_shared_by_clients(self) -> None:
        self.carry_nginx()

        async def two_clients() -> None:
            clients = [await Connection.to(self.service.port) for _ in range(2)]
            for _ in range(2):
                for client in clients:
                    answer = await client.fetch(self.nginx.url("/small.txt"))
                    self.assertEqual(self.small, answer.body)
            for client in clients:
                client.close()

        self.background.run(two_clients())
        self.all_is_well({OK: 4})
        one, two, three, four = (serial for serial, _ in self.nginx.seen(4))
        self.assertEqual((one, two), (three, four))
        self.assertNotEqual(one, two)

    def test_pipelining(self) -> None:
        self.carry_nginx()
        paths = ["/small.txt", "/nothing", "/big", "/small.txt"]
        self.nginx.add("big", BODY)

        async def pipeline() -> list[bytes]:
            client = await Connection.to(self.service.port)
            for path in paths:
                client.ask(self.nginx.url(path))
            bodies = [(await client.answer()).body for _ in paths]
            client.close()
            return bodies

        self.assertEqual([self.small, b"", BODY, self.small], self.background.run(pipeline()))
        self.all_is_well({OK: 4})

    def test_python_server(self) -> None:
        for protocol in ("HTTP/1.0", "HTTP/1.1"):
            with self.subTest(protocol):
                self.fetch_from_python(protocol)

    def fetch_from_python(self, protocol: str) -> None:
        python = PythonServer(self, protocol)
        (python.site / "big").write_bytes(BODY)
        (python.site / "directory").mkdir()
        self.carry(python.port)
        self.assertEqual(BODY, self.fetched(python.url("/big")))
        self.assertIn(b'<a href="big">', self.fetched(python.url("/")))
        redirected = self.curled(
            *("--location", "--write-out", "%{num_redirects} %{http_code}"),
            *("--output", "/dev/null", python.url("/directory")),
        )
        self.assertEqual("1 200", redirected)
        missing = self.curled("--write-out", "%{http_code}", "--head", python.url("/nowhere"))
        self.assertTrue(missing.endswith("404"), missing)
        redirect = ("GET", "3xx", "upstream")
        self.all_is_well({OK: 3, redirect: 1, ("HEAD", "4xx", "upstream"): 1})


class ConnectTests(HttpTestCase):
    """Tunnels, to HTTPS and to plain HTTP."""

    def setUp(self) -> None:
        super().setUp()
        self.nginx = Nginx(self)
        self.nginx.add("big", BODY)

    def test_https(self) -> None:
        self.carry(self.nginx.tls_port)
        url = self.nginx.secure_url("/big")
        trust = ("--cacert", self.nginx.trust)
        self.assertEqual(BODY, self.fetched(*trust, url))
        certificate = self.nginx.identity.certificate.cert_chain_pems[0].bytes().decode().strip()
        shown = self.curled(*trust, "--write-out", "%{certs}", "--output", "/dev/null", url)
        self.assertIn(certificate, shown, "the certificate is not the origin's")
        self.assertEqual({"connect": 2}, self.service.kinds())
        self.assertGreater(self.service.figure("bytes_sent_total"), 2 * len(BODY))
        self.all_is_well({("CONNECT", "2xx", "proxy"): 2})

    def test_several_on_one_tunnel(self) -> None:
        self.carry(self.nginx.tls_port)
        urls = [self.nginx.secure_url("/big")] * 3
        options = [word for _ in urls for word in ("--output", "/dev/null")]
        made = self.curled(
            *("--cacert", self.nginx.trust, "--write-out", "%{http_code} %{num_connects},"),
            *(*options, *urls),
        )
        self.assertEqual("200 1,200 0,200 0,", made)
        self.all_is_well({("CONNECT", "2xx", "proxy"): 1})

    def test_plain_http_by_tunnel(self) -> None:
        self.carry(self.nginx.port)
        self.assertEqual(BODY, self.fetched("--proxytunnel", self.nginx.url("/big")))
        self.assertEqual({"connect": 1}, self.service.kinds())
        self.all_is_well({("CONNECT", "2xx", "proxy"): 1})

    def test_upload_by_tunnel(self) -> None:
        self.carry(self.nginx.tls_port)
        file = self.directory / "upload"
        file.write_bytes(BODY)
        url = self.nginx.secure_url("/put/here")
        self.curled("--fail", "--cacert", self.nginx.trust, "--upload-file", file, url)
        self.assertEqual(BODY, (self.nginx.site / "put" / "here").read_bytes())
        self.all_is_well({("CONNECT", "2xx", "proxy"): 1})


class ForwardBySocks5Tests(ForwardTests):
    through_socks5 = True


class ConnectBySocks5Tests(ConnectTests):
    through_socks5 = True
