from twisted.trial.unittest import SynchronousTestCase

from tests import http_builders as b
from whatsproxy.http1.errors import (
    BadMessageError,
    BodyTooLargeError,
    HeadTooLargeError,
    MessageError,
    NotCarriedError,
    WrongVersionError,
)
from whatsproxy.http1.heads import (
    Body,
    Framing,
    Limits,
    check_request,
    check_response,
    check_trailers,
)
from whatsproxy.reason import Reason

#: What is wrong with a field line, whatever the message; and what the error has to say.
BAD_FIELDS: list[tuple[bytes, str]] = [
    (b" folded", "obs-fold"),
    (b"\tfolded: x", "obs-fold"),
    (b"X", "no colon"),
    (b"X : x", "white space before"),
    (b"X\t: x", "white space before"),
    (b": x", "not a token"),
    (b"X Y: x", "not a token"),
    (b"X(: x", "not a token"),
    (b"\xe9: x", "not a token"),
    (b"X\0: x", "not a token"),
    *((b"X: a%cb" % code, "control character") for code in (0, 1, 8, 11, 12, 27, 31, 127)),
    (b"X: a\rb", "control character"),
    (b"X: a\nb", "control character"),
    (b"Content-Length: 1\r\nTransfer-Encoding: chunked", "Content-Length and Transfer-Encoding"),
    (b"Transfer-Encoding: chunked\r\nContent-Length: 1", "Content-Length and Transfer-Encoding"),
    (b"Content-Length: 0\r\nTransfer-Encoding: gzip", "Content-Length and Transfer-Encoding"),
    (b"Content-Length: 1\r\ncontent-length: 1", "more than one Content-Length"),
    (b"Content-Length: 1\r\nX: 1\r\nContent-Length: 2", "more than one Content-Length"),
    *(
        (b"Content-Length: " + value, "not a number of bytes")
        for value in (
            *(b"", b"-1", b"+1", b"1.0", b"0x1", b"1 1", b"1, 1", b"1,1", b"1,", b"1e1", b"1_0"),
            *(b"\xb9", b"\xa01", b"9" * 19, b"0" * 19, b"chunked", b'"1"'),
        )
    ),
    (b"Transfer-Encoding: chunked\r\nTransfer-encoding: chunked", "more than one Transfer-Enc"),
    (b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", "more than one Transfer-Encoding"),
    *(
        (b"Transfer-Encoding: " + value, "not chunked")
        for value in (
            *(b"", b"gzip", b"identity", b"identity, chunked", b"chunked, chunked", b"xchunked"),
            *(b"chunked, gzip", b"chunked,", b",chunked", b"chunked;q=1", b"gzip;q=1, chunked"),
            *(b'"chunked"', b"chunked\xa0", b"\xa0chunked", b"chunked chunked", b"gzip,, chunked"),
            *(b"chunked, gzip, chunked", b"gzip, chunked, identity", b"g\xe9, chunked"),
        )
    ),
    (b"Content_Length: 1", "underscore"),
    (b"transfer_Encoding: chunked", "underscore"),
    *(
        (b"Connection: " + value, "frames or routes")
        for value in (b"Host", b"close, content-length", b"Transfer-Encoding,x", b"x,\thost\t,y")
    ),
    (b"Connection: x\r\nX: y\r\nconnection: hOST", "frames or routes"),
]
NOT_CARRIED = (
    b"gzip, chunked",
    b"GZIP,Chunked",
    b"deflate , gzip\t, chunked",
    b"xchunked, chunked",
)
GOOD_FIELDS = (
    *(b"X:", b"X:\t ", b"X: \t", b"X:a\tb", b"X: \xff\x80\xa0\x85", b"X: a:b", b"x: a", b"X: y"),
    *(b"!#$%&'*+-.^_`|~: x", b"Connection: close, x", b"Connection: ,", b"Connection: ", b"0: 0"),
    *(b"Contentlength: 1", b"Content-Lengths: 1", b"Content--Length: 1", b"TE: trailers"),
)
FRAMINGS: list[tuple[bytes, Framing]] = [
    (b"Content-Length: 0", 0),
    (b"CONTENT-length:7", 7),
    (b"Content-Length: \t 007 \t", 7),
    (b"Content-Length: " + b"9" * 18, 10**18 - 1),
    (b"Content-Length: " + b"0" * 17 + b"5", 5),
    (b"Transfer-Encoding: chunked", Body.CHUNKED),
    (b"transfer-ENCODING:\t cHUNKed\t ", Body.CHUNKED),
]


class HeadsCase(SynchronousTestCase):
    def refuse(self, head: bytes, kind: type[MessageError], text: str, **limits: int) -> None:
        """Insist that it is refused, as a request or, by its first line, as a response."""
        with self.assertRaisesRegex(MessageError, text, msg=head) as caught:
            if head.startswith(b"HTTP"):
                check_response(head, Limits(**limits), to_head=False)
            else:
                check_request(head, Limits(**limits))
        self.assertIs(type(caught.exception), kind, head)


class RequestTests(HeadsCase):
    def test_line(self) -> None:
        for line in (
            *(b"GET / HTTP/1.1", b"get * HTTP/1.0", b"M-SEARCH http://h/?# HTTP/1.1"),
            *(b"!#$%&'*+-.^_`|~0 ~ HTTP/1.1", b"A" * 99 + b" " + b"!" * 999 + b" HTTP/1.1"),
        ):
            self.assertEqual(check_request(b.get(line=line), Limits()), 0, line)

    def test_bad_line(self) -> None:
        for line in (
            *(b"", b"GET", b"GET /", b"GET / ", b"GET  / HTTP/1.1", b"GET /  HTTP/1.1"),
            *(b"GET / HTTP/1.1 ", b" GET / HTTP/1.1", b"GET\t/ HTTP/1.1", b"GET /\tHTTP/1.1"),
            *(b"GET / HTTP/1", b"GET / HTTP/1.10", b"GET / HTTP/01.1", b"GET / http/1.1"),
            *(b"GET / HTTP/1,1", b"GET / HTTP 1.1", b"GET / HTTPS/1.1", b"G(T / HTTP/1.1"),
            *(
                b"GET /\xe9 HTTP/1.1",
                b"GET /\x7f HTTP/1.1",
                b"GET /\0 HTTP/1.1",
                b"G\xcbT / HTTP/1.1",
            ),
            *(b"GET / x HTTP/1.1", b" / HTTP/1.1", b"GET / HTTP/1.\xb9", b"GET / HTTP/1.1\r"),
            *(b"\nGET / HTTP/1.1", b"GET / HTTP/1.1\n", b"GET /\x0b HTTP/1.1", b"GET: / HTTP/1.1"),
        ):
            self.refuse(b.get(line=line), BadMessageError, "request line")

    def test_version(self) -> None:
        for version in (b"0.9", b"1.2", b"2.0", b"1.9", b"2.1", b"0.0", b"3.0"):
            line = b"GET / HTTP/" + version
            self.refuse(b.get(line=line), WrongVersionError, r"only HTTP/1\.0 and HTTP/1\.1")
        # What a client of HTTP/2 begins with.
        self.refuse(b"PRI * HTTP/2.0\r\n\r\n", WrongVersionError, "only HTTP")

    def test_host(self) -> None:
        self.refuse(b"GET / HTTP/1.1\r\n\r\n", BadMessageError, "requires a Host")
        for second in (b"Host: a.test", b"host: b.test", b"HOST:"):
            for version in (b"1.1", b"1.0"):
                head = b.get(second, line=b"GET / HTTP/" + version)
                self.refuse(head, BadMessageError, "more than one Host")
        self.assertEqual(check_request(b"GET / HTTP/1.0\r\n\r\n", Limits()), 0)
        self.assertEqual(check_request(b.head(b"GET / HTTP/1.1", b"hOST:"), Limits()), 0)

    def test_fields(self) -> None:
        for line in GOOD_FIELDS:
            self.assertEqual(check_request(b.get(line), Limits()), 0, line)
        for line, text in BAD_FIELDS:
            self.refuse(b.get(line), BadMessageError, text)
            self.refuse(b.get(b"X: y", line, b"Y: z"), BadMessageError, text)
        self.refuse(b.head(b"GET / HTTP/1.1", b" Host: a.test"), BadMessageError, "obs-fold")

    def test_framing(self) -> None:
        for line, framing in FRAMINGS:
            self.assertEqual(check_request(b.get(line), Limits()), framing, line)
        for coding in NOT_CARRIED:
            head = b.get(b"Transfer-Encoding: " + coding)
            self.refuse(head, NotCarriedError, "no transfer coding but chunked")

    def test_old_version_has_no_transfer_encoding(self) -> None:
        for coding in (b"chunked", b"gzip, chunked", b"identity"):
            head = b.get(b"Transfer-Encoding: " + coding, line=b"POST / HTTP/1.0")
            self.refuse(head, BadMessageError, r"HTTP/1\.0 has no Transfer-Encoding")

    def test_connect(self) -> None:
        line = b"CONNECT a.test:443 HTTP/1.1"
        self.assertEqual(check_request(b.get(line=line), Limits()), 0)
        self.assertEqual(check_request(b.get(b"Content-Length: 0", line=line), Limits()), 0)
        for body in (b"Content-Length: 1", b"Transfer-Encoding: chunked"):
            self.refuse(b.get(body, line=line), BadMessageError, "CONNECT has no body")

    def test_body_limit(self) -> None:
        head = b.get(b"Content-Length: 5")
        for body in (0, 5, 6):
            self.assertEqual(check_request(head, Limits(body=body)), 5)
        self.refuse(head, BodyTooLargeError, "5 bytes is too large", body=4)

    def test_field_limit(self) -> None:
        head = b.get(b"X: y", b"X: z")
        self.assertEqual(check_request(head, Limits(fields=3)), 0)
        self.refuse(head, HeadTooLargeError, "more than 2 fields", fields=2)


class ResponseTests(HeadsCase):
    def check(self, head: bytes, *, to_head: bool = False) -> tuple[int, Framing]:
        return check_response(head, Limits(body=1), to_head=to_head)

    def test_line(self) -> None:
        for rest in (b"", b" ", b" OK", b"  OK\t ", b" \xff\xa0", b" HTTP/1.1 404"):
            for version in (b"1.0", b"1.1"):
                head = b.answer(line=b"HTTP/" + version + b" 200" + rest)
                self.assertEqual(self.check(head), (200, Body.UNTIL_CLOSE), rest)

    def test_bad_line(self) -> None:
        for line in (
            *(b"HTTP/1.1", b"HTTP/1.1 ", b"HTTP/1.1 20", b"HTTP/1.1 2000", b"HTTP/1.1 099"),
            *(b"HTTP/1.1  200 OK", b"HTTP/1.1\t200 OK", b"HTTP/1.1 200\tOK", b"HTTP/1.1 200OK"),
            *(b"HTTP/1.1 200 O\0K", b"HTTP/1.1 200 O\x7fK", b"HTTP/1.1 200 O\rK", b"HTTP/1 200"),
            *(b"HTTP/1.1 +20", b"HTTP/1.1 2\xb90", b"HTTP/11 200", b"HTTP/1.11 200", b"HTTPS 200"),
        ):
            self.refuse(b.answer(line=line), BadMessageError, "status line")
        for line in (b"", b"http/1.1 200 OK", b" HTTP/1.1 200 OK", b"ICY 200 OK", b"200 OK"):
            with self.assertRaisesRegex(BadMessageError, "status line", msg=line):
                self.check(b.answer(line=line))

    def test_version(self) -> None:
        for version in (b"0.9", b"1.2", b"2.0"):
            head = b.answer(line=b"HTTP/%b 200 OK" % version)
            self.refuse(head, WrongVersionError, "only HTTP")

    def test_fields(self) -> None:
        for line in (*GOOD_FIELDS, b"Host: x", b"Host: x\r\nHost: y"):
            self.assertEqual(self.check(b.answer(line)), (200, Body.UNTIL_CLOSE), line)
        for line, text in BAD_FIELDS:
            self.refuse(b.answer(line), BadMessageError, text)
            # That there is no body makes it no better.
            for status in (204, 304):
                head = b.answer(line, line=b"HTTP/1.1 %d x" % status)
                self.refuse(head, BadMessageError, text)
            with self.assertRaisesRegex(BadMessageError, text):
                self.check(b.answer(line), to_head=True)
        self.refuse(b.answer(b"X: y"), HeadTooLargeError, "more than 0 fields", fields=0)

    def test_framing(self) -> None:
        for line, framing in FRAMINGS:
            self.assertEqual(self.check(b.answer(line)), (200, framing), line)
            self.assertEqual(self.check(b.answer(line), to_head=True), (200, 0), line)
            unmodified = b.answer(line, line=b"HTTP/1.1 304 x")
            self.assertEqual(self.check(unmodified), (304, 0), line)
        self.assertEqual(self.check(b.answer(), to_head=True), (200, 0))
        old = b.answer(b"Transfer-Encoding: chunked", line=b"HTTP/1.0 200 OK")
        self.refuse(old, BadMessageError, r"HTTP/1\.0 has no Transfer-Encoding")
        for coding in NOT_CARRIED:
            head = b.answer(b"Transfer-Encoding: " + coding)
            self.refuse(head, NotCarriedError, "no transfer coding but chunked")

    def test_never_with_a_body(self) -> None:
        for status in (100, 101, 103, 199, 204):
            line = b"HTTP/1.1 %d x" % status
            self.assertEqual(self.check(b.answer(line=line)), (status, 0))
            self.assertEqual(self.check(b.answer(b"Content-Length: 0", line=line)), (status, 0))
            for body in (b"Content-Length: 1", b"Transfer-Encoding: chunked"):
                text = f"status {status} has no body"
                self.refuse(b.answer(body, line=line), BadMessageError, text)


class TrailerTests(SynchronousTestCase):
    def refuse(self, section: bytes, kind: type[MessageError], text: str) -> None:
        with self.assertRaisesRegex(kind, text, msg=section):
            check_trailers(section, Limits(fields=2))

    def test_good(self) -> None:
        for line in (b"X: y", b"Digest: a=b", b"X:", b"X: \xff\r\nY: z", b"Proxy: x", b"Hosts: x"):
            check_trailers(line + b"\r\n\r\n", Limits(fields=2))

    def test_what_belongs_into_the_head(self) -> None:
        for name in (
            *(b"Host", b"content-length", b"Transfer-Encoding", b"Connection", b"Upgrade", b"TE"),
            *(b"Trailer", b"EXPECT", b"Proxy-Authorization", b"proxy-x"),
        ):
            for line in (name + b": 1", b"X: y\r\n" + name + b":x"):
                self.refuse(line + b"\r\n\r\n", BadMessageError, "belongs into the head")
        self.refuse(b"Content_Length: 1\r\n\r\n", BadMessageError, "underscore")

    def test_bad(self) -> None:
        for line, text in BAD_FIELDS[: BAD_FIELDS.index((b"X: a\nb", "control character"))]:
            self.refuse(line + b"\r\n\r\n", BadMessageError, text)
        self.refuse(b"A: 1\r\nB: 2\r\nC: 3\r\n\r\n", HeadTooLargeError, "more than 2 fields")


class ReasonTests(SynchronousTestCase):
    def test_each_error_has_its_own(self) -> None:
        for kind, reason in (
            (BadMessageError, Reason.BAD_REQUEST),
            (HeadTooLargeError, Reason.HEAD_TOO_LARGE),
            (BodyTooLargeError, Reason.BODY_TOO_LARGE),
            (NotCarriedError, Reason.NOT_IMPLEMENTED),
            (WrongVersionError, Reason.HTTP_VERSION),
        ):
            self.assertIs(kind("text").reason, reason)
