import ssl

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests import builders as b
from whatsproxy.clienthello import (
    HELLO_LIMIT,
    RECORD_COUNT_LIMIT,
    ClientHello,
    Unreadable,
    parse_client_hello,
)
from whatsproxy.incremental import NeedMore

NAME = "media.whatsapp.net"


class RealClientsTests(SynchronousTestCase):
    def test_python(self) -> None:
        for newest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            for name in (NAME, None):
                for protocols in ((), ("http/1.1",), ("h2", "http/1.1")):
                    data = b.python_hello(name, protocols, newest)
                    hello = b.check_prefix_law(self, parse_client_hello, data)
                    self.assertEqual(
                        hello, ClientHello(name, tuple(p.encode() for p in protocols)), newest
                    )

    def test_pyopenssl(self) -> None:
        for name in (NAME, None):
            for protocols in ((), (b"h2", b"http/1.1")):
                hello = b.check_prefix_law(
                    self, parse_client_hello, b.pyopenssl_hello(name, protocols)
                )
                self.assertEqual(hello, ClientHello(name, protocols))

    def test_spread_over_records(self) -> None:
        whole = b.python_hello(NAME, ["h2"])[5:]
        for size in (1, 2, 3, 4, 5, 100):
            sizes = [size] * min(RECORD_COUNT_LIMIT - 1, len(whole) // size)
            hello = b.check_prefix_law(self, parse_client_hello, b.records(whole, sizes))
            self.assertEqual(hello, ClientHello(NAME, (b"h2",)), size)

    def test_larger_than_8_kib(self) -> None:
        protocols = [f"{n:0250}" for n in range(40)]
        data = b.python_hello(NAME, protocols)
        self.assertGreater(len(data), 8192)
        expected = ClientHello(NAME, tuple(p.encode() for p in protocols))
        self.assertEqual(parse_client_hello(data), expected)
        self.assertEqual(parse_client_hello(b.records(data[5:], [3000, 3000])), expected)
        self.assertIsInstance(parse_client_hello(data[:-1]), NeedMore)


class LawTests(SynchronousTestCase):
    @given(b.hellos(), st.binary(max_size=20))
    def test_built(self, built: tuple[bytes, str | None, tuple[bytes, ...]], behind: bytes) -> None:
        data, name, protocols = built
        hello = b.check_prefix_law(self, parse_client_hello, data + behind)
        self.assertEqual(hello, ClientHello(name, protocols))
        self.assertIsInstance(parse_client_hello(data[:-1]), NeedMore)

    @settings(max_examples=150)
    @given(b.mutations())
    def test_mutated(self, data: bytes) -> None:
        b.check_prefix_law(self, parse_client_hello, data)

    @settings(max_examples=150)
    @given(st.binary(max_size=80), b.record_sizes)
    def test_arbitrary_message(self, body: bytes, sizes: list[int]) -> None:
        answer = b.check_prefix_law(
            self, parse_client_hello, b.records(b.handshake(body), sizes) + b"behind it"
        )
        self.assertNotEqual(answer, Unreadable.NOT_TLS)

    @given(st.binary(max_size=40))
    def test_arbitrary_extensions(self, extensions: bytes) -> None:
        data = b.record(b.message(b.server_names(b"a.b"), extensions))
        answer = b.check_prefix_law(self, parse_client_hello, data)
        self.assertIn(type(answer), (ClientHello, Unreadable))

    def test_too_many_records(self) -> None:
        # As many as are allowed are read; the decision against more needs no byte of the next one.
        whole = b.message_of(RECORD_COUNT_LIMIT, b.server_names(NAME.encode()))
        data = b.records(whole, [1] * RECORD_COUNT_LIMIT)
        self.assertEqual(b.check_prefix_law(self, parse_client_hello, data), ClientHello(NAME, ()))
        whole = b.message_of(RECORD_COUNT_LIMIT + 1, b.server_names(NAME.encode()))
        data = b.records(whole, [1] * RECORD_COUNT_LIMIT)
        answer = b.check_prefix_law(self, parse_client_hello, data)
        self.assertEqual(answer, Unreadable.MALFORMED)
        self.assertEqual(b.decided_at(parse_client_hello, data), 6 * RECORD_COUNT_LIMIT)

    def test_last_record_allowed_is_long(self) -> None:
        whole = b.message_of(1000, b.server_names(NAME.encode()))
        data = b.records(whole, [*([1] * (RECORD_COUNT_LIMIT - 1)), 4, 400])
        answer = b.check_prefix_law(self, parse_client_hello, data)
        self.assertEqual(answer, Unreadable.MALFORMED)


class NotTlsTests(SynchronousTestCase):
    def test_refused_at_the_first_wrong_byte(self) -> None:
        good = b.record(b.message())
        wrong = {0: b"\x15\x17\x80G", 1: b"\x02\x04\x00", 5: b"\x00\x02\x10"}
        for at, values in wrong.items():
            for value in values:
                data = good[:at] + bytes([value]) + good[at + 1 :]
                self.assertEqual(
                    b.check_prefix_law(self, parse_client_hello, data), Unreadable.NOT_TLS
                )
                self.assertEqual(b.decided_at(parse_client_hello, data), at + 1)

    def test_every_record_version(self) -> None:
        """The minor one is to be ignored (RFC 8446 5.1)."""
        for version in (*range(6), 255):
            data = b.record(b.message(), version=version)
            self.assertEqual(parse_client_hello(data), ClientHello(None, ()))

    def test_record_length(self) -> None:
        for length, expected in ((0, Unreadable.NOT_TLS), (2**14 + 1, Unreadable.NOT_TLS)):
            data = b"\x16\x03\x01" + length.to_bytes(2, "big")
            self.assertEqual(parse_client_hello(data), expected, length)
            self.assertIsInstance(parse_client_hello(data[:4]), NeedMore)
        self.assertEqual(parse_client_hello(b"\x16\x03\x01\x40\x00"), NeedMore(6))


class LimitTests(SynchronousTestCase):
    """The limit is one of all the bytes that arrive, record headers included."""

    def test_largest(self) -> None:
        data = b.record(b.message_of(HELLO_LIMIT - 5, b.server_names(b"a.b")))
        self.assertEqual(parse_client_hello(data), ClientHello("a.b", ()))
        self.assertEqual(parse_client_hello(data + b"behind"), ClientHello("a.b", ()))
        self.assertEqual(parse_client_hello(data[:100]), NeedMore(len(data)))
        self.assertIsInstance(parse_client_hello(data[:-1]), NeedMore)

    def test_one_more_is_refused_by_its_header(self) -> None:
        for size in (HELLO_LIMIT - 4, HELLO_LIMIT, HELLO_LIMIT + 1, 2**24 - 1):
            data = b"\x16\x03\x01\x40\x00\x01" + (size - 4).to_bytes(3, "big") + bytes(100)
            self.assertEqual(parse_client_hello(data), Unreadable.MALFORMED, size)
            self.assertEqual(b.decided_at(parse_client_hello, data), 9)

    def test_record_headers_count(self) -> None:
        for records, expected in ((4, ClientHello("a.b", ())), (5, Unreadable.MALFORMED)):
            whole = b.message_of(HELLO_LIMIT - 20, b.server_names(b"a.b"))
            data = b.records(whole, [1000] * (records - 1))
            # Around the headers, where something may change, and at the end.
            sizes = [
                *range(20),
                *range(990, 1020),
                *range(4000, 4060),
                *range(len(data) - 9, len(data) + 1),
            ]
            answer = b.check_prefix_law(self, parse_client_hello, data, sizes)
            self.assertEqual(answer, expected)


class MalformedTests(SynchronousTestCase):
    def check(self, data: bytes, expected: object = Unreadable.MALFORMED) -> None:
        self.assertEqual(b.check_prefix_law(self, parse_client_hello, data), expected)

    def test_bodies(self) -> None:
        body = b.message(b.server_names(b"a.b"))[4:]
        without = b.message()[4:-2]
        for wrong in (
            body[:33],  # ends in the random
            body[:34],  # no session id
            body[:34] + b"\xff" + body[35:],  # a session id past the end
            body[:35] + b"\xff\xff" + body[37:],  # cipher suites past the end
            without[:-2] + b"\xff\0",  # compression methods past the end
            without + b"\0",  # half a length of the extensions
            body + b"\0",  # something behind the extensions
            body[:-1],  # extensions past the end
        ):
            self.check(b.record(b.handshake(wrong)))
        self.check(b.record(b.handshake(without)), ClientHello(None, ()))

    def test_extensions(self) -> None:
        name = b.server_names(b"a.b")
        for wrong in (
            (name, name),
            (b.alpn(b"h2"), b.alpn(b"h2")),
            (b"\0",),
            (b"\x00\x63\x00\x05abcd",),
            (b.server_names(),),
            (b.server_names(b"a.b", b"c.d"),),
            (b.server_names(b"a.b", kind=1),),
            (b.server_names(b"a\0.b"),),
            (b.server_names(b"a" * 256),),
            (b.extension(b.SERVER_NAME, b""),),
            (b.extension(b.SERVER_NAME, name[4:] + b"\0"),),
            (b.alpn(b"h2", b""),),
            (b.extension(b.ALPN, b.alpn(b"h2")[4:] + b"\0"),),
            (b.extension(b.ALPN, b"\0\x03\x05h2"),),
        ):
            self.check(b.record(b.message(*wrong)))

    def test_records(self) -> None:
        whole = b.message(b.server_names(b"a.b"))
        for second in (
            b.record(whole[20:], kind=23),
            b.record(b""),
            b"\x16\x03\x01\x40\x01",
            b"\x16\x02\x01",
        ):
            self.check(b.record(whole[:20]) + second)

    def test_what_openssl_lets_pass(self) -> None:
        """An empty name is none; extensions that nobody reads may be there twice."""
        twice = (b.extension(99, b""), b.extension(99, b""))
        for extensions in (twice, (b.server_names(b""),)):
            self.check(b.record(b.message(*extensions)), ClientHello(None, ()))

    def test_empty_message(self) -> None:
        self.check(b.record(b"\x01\0\0\0"))
        self.check(b.records(b"\x01\0\0\0", [1, 1]))

    def test_names_that_are_unusual_but_readable(self) -> None:
        for sent, read in (
            (b"a" * 255, "a" * 255),
            (b"MEDIA.whatsapp.net.", "MEDIA.whatsapp.net."),
            (b"127.0.0.1", "127.0.0.1"),
            (b"fa\xc3\x9f.de", "fa\\xc3\\x9f.de"),
        ):
            self.check(b.record(b.message(b.server_names(sent))), ClientHello(read, ()))
