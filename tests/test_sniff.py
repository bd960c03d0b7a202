from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests import builders as b
from whatsproxy.clienthello import ClientHello
from whatsproxy.incremental import NeedMore
from whatsproxy.sniff import SNIFF_LIMIT, Kind, Sniffed, sniff

NOISE = b"\x00\x00\x24\x12\x22\x0a\x20" + bytes(range(32))
ED = b"ED\x00\x01"


class KindsTests(SynchronousTestCase):
    """Each opening, its kind, and how many of its bytes decide: never one more is waited for."""

    def check(self, opening: bytes, kind: Kind, size: int, *, origin_form: bool = False) -> None:
        answer = b.check_prefix_law(self, sniff, opening)
        self.assertEqual(answer, Sniffed(kind, origin_form=origin_form), opening)
        self.assertEqual(b.decided_at(sniff, opening), size, opening)

    def test_whatsapp(self) -> None:
        for intro in b.INTROS:
            self.check(intro + NOISE, Kind.WHATSAPP, 4)
        self.check(b"WA\x00\x1f", Kind.WHATSAPP, 4)
        self.check(b"WA\x09\x0d", Kind.WHATSAPP, 4)

    def test_whatsapp_behind_an_edge_routing_header(self) -> None:
        for size in (0, 1, 2, 17, 300):
            opening = ED + b.vector(3, b"W" * size) + b"WA\x06\x02" + NOISE
            self.check(opening, Kind.WHATSAPP, 7 + size + 2)

    def test_nearly_whatsapp(self) -> None:
        self.check(b"WATCH /x HTTP/1.1\r\n", Kind.HTTP, 7, origin_form=True)
        self.check(b"WA\x06\x20", Kind.RAW, 4)
        self.check(b"WA\x20\x06", Kind.RAW, 4)
        self.check(b"wa\x06\x02", Kind.RAW, 3)
        self.check(b"WB\x06\x02", Kind.RAW, 3)
        self.check(b"\x57\xc1\x06\x02", Kind.RAW, 2)
        self.check(b"ED\x00\x02\x00\x00\x00WA\x06\x02", Kind.RAW, 4)
        self.check(b"ED\x01\x01", Kind.RAW, 3)
        self.check(b"EDIT /x", Kind.HTTP, 6, origin_form=True)
        self.check(ED + b.vector(3, b"blob") + b"WB", Kind.RAW, 13)
        self.check(ED + b.vector(3, b"blob") + b"ED", Kind.RAW, 12)

    def test_xmpp(self) -> None:
        for opening in (
            b"<?xml version='1.0'?><stream:stream to='example.org'>",
            b"<stream:stream to='example.org'>",
            b"<stream to='example.org'>",
        ):
            size = 5 if opening.startswith(b"<?") else 7
            for before in (b"", b"\r\n \t\n", b.BOM, b.BOM + b" \n", b" " * 1000):
                self.check(before + opening, Kind.XMPP, len(before) + size)

    def test_nearly_xmpp(self) -> None:
        self.check(b"<html>", Kind.RAW, 2)
        self.check(b"<?XML version='1.0'?>", Kind.RAW, 3)
        self.check(b"<strand>", Kind.RAW, 5)
        self.check(b" GET / HTTP/1.1\r\n", Kind.RAW, 2)
        self.check(b"\xef\xbb<?xml", Kind.RAW, 3)
        self.check(b.BOM + b.BOM + b"<?xml", Kind.RAW, 4)
        self.check(b" " + b.BOM + b"<?xml", Kind.RAW, 2)
        self.check(b"\x0b<?xml", Kind.RAW, 1)

    def test_http(self) -> None:
        for opening, size in (
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 5),
            (b"PROPFIND /dav HTTP/1.1\r\n", 10),
            (b"M-SEARCH * HTTP/1.1\r\n", 11),
            (b"OPTIONS * HTTP/1.1\r\n", 10),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 6),
            (b"get /", 5),
            (b"!#$%&'*+-.^_`|~ /", 17),
            (b"CONNECT / HTTP/1.1", 9),
            (b"A" * 32 + b" /", 34),
        ):
            self.check(opening, Kind.HTTP, size, origin_form=True)
            self.check(b"\r\n" + opening, Kind.HTTP, 2 + size, origin_form=True)

    def test_http_for_a_proxy(self) -> None:
        for opening, size in (
            (b"GET http://example.org/ HTTP/1.1\r\n", 11),
            (b"GET HTTPS://example.org/ HTTP/1.1\r\n", 12),
            (b"GET " + b"s" * 32 + b"://", 39),
        ):
            self.check(opening, Kind.HTTP, size)
            self.check(b"\r\n" + opening, Kind.HTTP, 2 + size)

    def test_connect(self) -> None:
        for target in (b"example.org:443", b"[::1]:443", b"1.2.3.4:5222", b"_x.y:1"):
            self.check(b"CONNECT " + target + b" HTTP/1.1\r\n", Kind.CONNECT, 9)

    def test_nearly_http(self) -> None:
        for opening, size in (
            (b"GETAWAY\r\n", 8),
            (b"\r\n\r\nGET / HTTP/1.1\r\n", 5),
            (b"\rGET / HTTP/1.1\r\n", 2),
            (b"GET\r\n", 4),
            (b"GET  / HTTP/1.1\r\n", 5),
            (b"GET\t/ HTTP/1.1\r\n", 4),
            (b" GET /", 2),
            (b"G\xcbT /", 2),
            (b"GET ?x", 5),
            (b"GET *x", 6),
            (b"GET http:/x", 11),
            (b"GET http:x", 10),
            (b"GET 1http://x", 5),
            (b"connect example.org:443", 21),
            (b"CONNECT\n\naccept-version:1.2\n\n\0", 8),
            (b"CONNECTED\nversion:1.2\n", 10),
            (b"CONNECT :443", 9),
            (b"CONNECT \r\n", 9),
            (b"A" * 33 + b" /", 33),
            (b"GET " + b"s" * 33 + b"://", 37),
        ):
            self.check(opening, Kind.RAW, size)

    def test_raw(self) -> None:
        for opening, size in (
            (b"SSH-2.0-OpenSSH_9.6\r\n", 20),
            (b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u1\r\n", 39),
            (b"\x00\x00\x24\x12", 1),
            (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", 11),
            (b"\r\n\r\n\x00\r\nQUIT\n", 5),
            (b"220 smtp.example.org ESMTP\r\n", 21),
            (b"\x80\x2e\x01\x00\x02", 1),
            (b"\x16\x03\x01\x00\x05\x02", 6),
            (b"\x13BitTorrent protocol", 1),
            (b"\xff", 1),
        ):
            self.check(opening, Kind.RAW, size)

    def test_nothing_yet(self) -> None:
        self.assertEqual(sniff(b""), NeedMore(1))


class TlsTests(SynchronousTestCase):
    def test_hello(self) -> None:
        expected = Sniffed(Kind.TLS, ClientHello("media.whatsapp.net", (b"h2",)))
        data = b.python_hello("media.whatsapp.net", ["h2"])
        self.assertEqual(b.check_prefix_law(self, sniff, data + b"behind"), expected)
        self.assertEqual(b.decided_at(sniff, data + b"behind"), len(data))
        spread = b.records(data[5:], [1, 2, 3, 50])
        self.assertEqual(b.check_prefix_law(self, sniff, spread), expected)

    def test_malformed_hello_is_tls_all_the_same(self) -> None:
        data = b.record(b.message(b.server_names(b"a\0.b")))
        self.assertEqual(b.check_prefix_law(self, sniff, data), Sniffed(Kind.TLS, None))


class LimitTests(SynchronousTestCase):
    def test_edge_routing_blob(self) -> None:
        longest = SNIFF_LIMIT - 9
        data = ED + longest.to_bytes(3, "big")
        self.assertEqual(sniff(data), NeedMore(7 + longest + 1))
        self.assertEqual(sniff(data + bytes(longest) + b"W"), NeedMore(SNIFF_LIMIT))
        self.assertEqual(sniff(data + bytes(longest) + b"WA\x06\x02"), Sniffed(Kind.WHATSAPP))
        self.assertEqual(sniff(data + bytes(longest) + b"XX"), Sniffed(Kind.RAW))
        # One byte more could never be seen whole: known by the length, not by waiting.
        self.assertEqual(sniff(ED + (longest + 1).to_bytes(3, "big")), Sniffed(Kind.RAW))
        for length in (b"\x00\xff\xff", b"\x01\x00\x00", b"\xff\xff\xff"):
            self.assertEqual(sniff(ED + length), Sniffed(Kind.RAW))

    def test_white_space(self) -> None:
        fits = b" " * (SNIFF_LIMIT - 5) + b"<?xml"
        self.assertEqual(sniff(fits), Sniffed(Kind.XMPP))
        self.assertEqual(sniff(fits + bytes(100)), Sniffed(Kind.XMPP))
        for data in (b" " + fits, b" " * SNIFF_LIMIT, b" " * (SNIFF_LIMIT + 100)):
            self.assertIsInstance(sniff(data), NeedMore)

    def test_hello(self) -> None:
        fits = b.record(b.message_of(SNIFF_LIMIT - 5, b.server_names(b"a.b")))
        self.assertEqual(sniff(fits), Sniffed(Kind.TLS, ClientHello("a.b", ())))
        too_long = b.record(b.message_of(SNIFF_LIMIT - 4, b.server_names(b"a.b")))
        self.assertEqual(sniff(too_long), Sniffed(Kind.TLS, None))
        self.assertEqual(b.decided_at(sniff, too_long), 9)


class LawTests(SynchronousTestCase):
    @settings(max_examples=40)
    @given(st.binary(max_size=40), st.data())
    def test_every_kind(self, behind: bytes, data: st.DataObject) -> None:
        for kind, openings in b.OPENINGS.items():
            opening = data.draw(openings, kind.value)
            answer = b.check_prefix_law(self, sniff, opening + behind)
            self.assertEqual(answer.kind, kind, opening)
            self.assertEqual(sniff(opening), answer)

    @settings(max_examples=200)
    @given(b.mutations())
    def test_mutations(self, data: bytes) -> None:
        b.check_prefix_law(self, sniff, data)

    @settings(max_examples=200)
    @given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
    def test_anything(self, data: bytes) -> None:
        b.check_prefix_law(self, sniff, data)

    @given(b.any_opening, st.data())
    def test_who_asks_only_when_told_to_gets_the_same(
        self, opening: bytes, data: st.DataObject
    ) -> None:
        cuts = data.draw(st.lists(st.integers(0, len(opening)), max_size=6).map(sorted))
        wanted, answer = 1, None
        for size in [*cuts, len(opening)]:
            if size >= wanted and not isinstance(answer, Sniffed):
                answer = sniff(opening[:size])
                wanted = answer.at_least if isinstance(answer, NeedMore) else 0
        self.assertEqual(answer, sniff(opening))
