"""curl sends bodies of every kind, to nginx and to an origin that is particular about them."""

import hashlib
import random

from tests.integration.http_clients import HttpTestCase
from tests.integration.http_origins import ExpectingOrigin, Nginx
from tests.integration.http_wire import Message
from tests.integration.programs import Program
from tests.integration.traffic import dial, read_to_end

BODY = random.Random(12).randbytes(4 << 20)
DIGEST = hashlib.sha256(BODY).hexdigest()
#: More than the buffers of all sockets on the way hold, if nobody reads.
MANY = 8 << 20
#: curl's patience with a 100 that does not come: longer than that of the test.
PATIENT = ("--expect100-timeout", "60")
NO_EXPECTATION = ("--header", "Expect:")
PUT, POST = ("PUT", "2xx", "upstream"), ("POST", "2xx", "upstream")


class UploadTestCase(HttpTestCase):
    """A file to send, and an origin that is particular."""

    def setUp(self) -> None:
        super().setUp()
        self.file = self.directory / "upload"
        self.file.write_bytes(BODY)

    def from_stdin(self, *words: str) -> Program:
        """Return a curl that has ended: it read BODY from its standard input."""
        # Program speaks text: a shell feeds the bytes.
        curl = ("sh", "-c", 'exec "$@" < upload', "sh")
        program = self.start(*curl, *self.curl_words(*words))
        self.assertEqual(0, program.wait(), program.output())
        return program

    def expecting(self) -> ExpectingOrigin:
        origin = ExpectingOrigin(self.background)
        self.carry(origin.port)
        return origin

    def refused(self, status: int, url: str) -> None:
        """curl says that it was refused before it had sent anything."""
        with self.within(10, "a refusal that comes instead of 100"):
            curl = self.curled(
                *(*PATIENT, "--header", "Expect: 100-continue", "--output", "/dev/null"),
                *("--write-out", "%{http_code} %{size_upload}", "--upload-file", self.file, url),
            )
        self.assertEqual(f"{status} 0", curl)
        self.all_is_well({("PUT", "4xx", "upstream"): 1})

    def only_request(self, origin: ExpectingOrigin) -> Message:
        (request,) = origin.requests
        return request


class UploadTests(UploadTestCase):
    """Bodies with a length and without one, with 100-continue and without."""

    def test_with_a_length(self) -> None:
        nginx = Nginx(self)
        self.carry(nginx.port)
        for name, words in (("waits", PATIENT), ("does-not", NO_EXPECTATION)):
            self.curled("--fail", *words, "--upload-file", self.file, nginx.url(f"/put/{name}"))
            self.assertEqual(BODY, (nginx.site / "put" / name).read_bytes())
        self.all_is_well({PUT: 2})
        self.assertGreater(self.service.figure("bytes_received_total"), 2 * len(BODY))

    def test_chunked(self) -> None:
        nginx = Nginx(self)
        self.carry(nginx.port)
        for name, words in (("waits", PATIENT), ("does-not", NO_EXPECTATION)):
            self.from_stdin("--fail", *words, "--upload-file", "-", nginx.url(f"/put/{name}"))
            self.assertEqual(BODY, (nginx.site / "put" / name).read_bytes())
        self.all_is_well({PUT: 2})

    def test_the_origin_says_100(self) -> None:
        origin = self.expecting()
        with self.within(10, "a body that is asked for with 100"):
            digest = self.curled(
                *(*PATIENT, "--header", "Expect: 100-continue", "--data-binary", f"@{self.file}"),
                origin.url("/"),
            )
        self.assertEqual(DIGEST, digest)
        request = self.only_request(origin)
        self.assertEqual([b"100-continue"], request.tokens("expect"))
        self.assertEqual([str(len(BODY)).encode()], request.values("content-length"))
        self.all_is_well({POST: 1})

    def test_nginx_refuses_early(self) -> None:
        nginx = Nginx(self)
        self.carry(nginx.port)
        self.refused(413, nginx.url("/small/file"))

    def test_nginx_refuses_what_is_coming_already(self) -> None:
        nginx = Nginx(self)
        self.carry(nginx.port)
        status = self.curled(
            *(*NO_EXPECTATION, "--upload-file", self.file, nginx.url("/small/file")),
            *("--write-out", "%{http_code}", "--output", "/dev/null"),
        )
        self.assertEqual("413", status)
        self.all_is_well({("PUT", "4xx", "upstream"): 1})

    def test_a_client_that_reads_when_it_has_sent_all(self) -> None:
        nginx = Nginx(self)
        self.carry(nginx.port)
        url = nginx.url("/small/file")
        lines = [
            *(f"PUT {url} HTTP/1.1", f"Host: {url.split('/')[2]}"),
            *("Connection: close", f"Content-Length: {4 * MANY}"),
        ]
        with dial(self.service.port) as client, self.within(4, "a body that nobody wants"):
            client.sendall("\r\n".join([*lines, "", ""]).encode())
            for _ in range(4):
                client.sendall(bytes(MANY))
            self.assertRegex(read_to_end(client), rb"^HTTP/1\.1 413 ")
        self.all_is_well({("PUT", "4xx", "upstream"): 1})


class FurtherTests(UploadTestCase):
    """What does not depend on the way out."""

    def test_chunked_is_passed_on_chunked(self) -> None:
        origin = self.expecting()
        curl = self.from_stdin(*NO_EXPECTATION, "--upload-file", "-", origin.url("/"))
        self.assertEqual(DIGEST, curl.output("stdout"))
        request = self.only_request(origin)
        self.assertEqual([b"chunked"], request.tokens("transfer-encoding"))
        self.assertEqual([], request.values("content-length"))
        self.all_is_well({PUT: 1})

    def test_the_origin_refuses_early(self) -> None:
        origin = self.expecting()
        self.refused(413, origin.url("/full"))
        self.assertEqual(b"PUT /full HTTP/1.1", self.only_request(origin).start)

    def test_the_origin_refuses_the_expectation(self) -> None:
        origin = self.expecting()
        self.refused(417, origin.url("/stubborn"))
        self.assertEqual([b"100-continue"], self.only_request(origin).tokens("expect"))

    def test_http_1_0(self) -> None:
        origin = self.expecting()
        self.assertEqual(
            DIGEST, self.curled("--http1.0", "--upload-file", self.file, origin.url("/"))
        )
        self.all_is_well({PUT: 1})

    def test_no_body_at_all(self) -> None:
        origin = self.expecting()
        empty = hashlib.sha256(b"").hexdigest()
        self.assertEqual(empty, self.curled("--data", "", origin.url("/")))
        self.assertEqual(empty, self.curled("--request", "DELETE", origin.url("/")))
        self.assertEqual(
            [b"POST / HTTP/1.1", b"DELETE / HTTP/1.1"],
            [request.start for request in origin.requests],
        )
        self.assertEqual(2, sum(self.requests().values()))


class UploadBySocks5Tests(UploadTests):
    through_socks5 = True
