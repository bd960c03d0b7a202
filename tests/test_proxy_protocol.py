"""The PROXY protocol: what load balancers send, in any split, and what is no header at all.

Numbers of sections are those of HAProxy's proxy-protocol.txt.
"""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.builders import check_prefix_law, decided_at, vector
from whatsproxy.incremental import NeedMore
from whatsproxy.networks import number_of
from whatsproxy.proxy_protocol import (
    V1_LIMIT,
    V2_LIMIT,
    Ends,
    ProxyHeader,
    parse_proxy_header,
    proxy_header,
)

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
HTTP = b"GET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n"
LOCAL, PROXY = 0x20, 0x21
UNSPEC, TCP4, UDP4, TCP6, UDP6, UNIX_STREAM, UNIX_DGRAM = 0, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32
#: Addresses and ports as version 2 has them (2.2).
FOUR = bytes.fromhex("c0a80001 c0a8000b dc04 01bb")
SIX = bytes.fromhex("20010db8 00000000 00000000 00000001 20010db8 00000000 00000000 00000002")
SIX += bytes.fromhex("dc04 01bb")


def ends(client: str, server: str, client_port: int = 56324, server_port: int = 443) -> Ends:
    return Ends(number_of(client), client_port, number_of(server), server_port)


def v1(line: str) -> bytes:
    return f"PROXY {line}\r\n".encode()


def v2(command: int, family: int, body: bytes = b"", *, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return SIGNATURE + bytes([command, family]) + size.to_bytes(2, "big") + body


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + vector(2, value)


class HeaderCase(SynchronousTestCase):
    def check(self, header: bytes, expected: Ends | None, behind: bytes = HTTP) -> None:
        """It is read whatever splits it, as soon as it is complete, and nothing behind it is."""
        answer = check_prefix_law(self, parse_proxy_header, header + behind)
        self.assertEqual(answer, ProxyHeader(expected, len(header)), header)
        self.assertEqual(decided_at(parse_proxy_header, header + behind), len(header), header)

    def refuse(self, data: bytes, size: int | None = None) -> None:
        """It is no header, which is known from ``size`` bytes on: by default from the last."""
        self.assertIsNone(check_prefix_law(self, parse_proxy_header, data), data)
        decided = decided_at(parse_proxy_header, data)
        self.assertEqual(decided, len(data) if size is None else size, data)


class TextTests(HeaderCase):
    """Version 1 (2.1)."""

    def test_examples(self) -> None:
        """Of the specification, of HAProxy, nginx and the load balancers of AWS."""
        for line, expected in (
            ("TCP4 192.168.0.1 192.168.0.11 56324 443", ends("192.168.0.1", "192.168.0.11")),
            (
                "TCP4 198.51.100.22 203.0.113.7 35646 80",
                ends("198.51.100.22", "203.0.113.7", 35646, 80),
            ),
            (
                "TCP6 2001:DB8::21f:5bff:febf:ce22:8a2e 2001:DB8::12f:8baa:eafc:ce29:6b2e 35646 80",
                ends(
                    "2001:db8:0:21f:5bff:febf:ce22:8a2e",
                    "2001:db8:0:12f:8baa:eafc:ce29:6b2e",
                    35646,
                    80,
                ),
            ),
            ("TCP6 ::1 ::1 40000 8443", ends("::1", "::1", 40000, 8443)),
            ("TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.9 1 2", ends("192.0.2.1", "192.0.2.9", 1, 2)),
            (
                "TCP4 255.255.255.255 255.255.255.255 65535 65535",
                ends(*["255.255.255.255"] * 2, 65535, 65535),
            ),
            ("TCP4 0.0.0.0 0.0.0.0 0 0", ends("0.0.0.0", "0.0.0.0", 0, 0)),
        ):
            self.check(v1(line), expected)
            self.check(v1(line), expected, b"")

    def test_unknown(self) -> None:
        """Whatever follows that word is to be ignored, up to the end of the line."""
        for line in (
            *("UNKNOWN", "UNKNOWN ", "UNKNOWN TCP4 1.2.3.4 5.6.7.8 1 2", "UNKNOWN \n \r x"),
            f"UNKNOWN {'ffff:' * 7}ffff {'ffff:' * 7}ffff 65535 65535",
        ):
            self.check(v1(line), None)

    def test_limit(self) -> None:
        """107 bytes, the line's end among them, are the most that there can be."""
        longest = v1("UNKNOWN " + "x" * (V1_LIMIT - 16))
        self.assertEqual((V1_LIMIT, len(longest)), (107, 107))
        self.check(longest, None)
        self.refuse(v1("UNKNOWN " + "x" * (V1_LIMIT - 15)) + HTTP, V1_LIMIT)
        self.refuse(b"PROXY TCP4 " + b"1" * 1000, V1_LIMIT)
        self.assertEqual(len(v1(f"TCP6 {'ffff:' * 7}ffff {'ffff:' * 7}ffff 65535 65535")), 104)

    def test_other_openings(self) -> None:
        """They are known by the first byte that is different."""
        for data, size in (
            (HTTP, 1),
            (b"P", None),
            (b"POST / HTTP/1.1\r\n", 2),
            (b"PROPFIND / HTTP/1.1\r\n", 4),
            (b"PROXY\tTCP4", 6),
            (b"PROXYTCP4", 6),
            (b"proxy TCP4", 1),
            (b"\n", 1),
            (b"\x16\x03\x01", 1),
            (b"WA\x06\x03", 1),
            (b" PROXY TCP4", 1),
        ):
            if size is None:
                self.assertEqual(parse_proxy_header(data), NeedMore(2))
            else:
                self.refuse(data, size)

    def test_malformed(self) -> None:
        for line in (
            *("", " ", "TCP4", "TCP5 1.2.3.4 5.6.7.8 1 2", "tcp4 1.2.3.4 5.6.7.8 1 2", "unknown"),
            *("UDP4 1.2.3.4 5.6.7.8 1 2", "UNKNOWNX", "TCP41.2.3.4 5.6.7.8 1 2", "TCP 1.2.3.4 5 6"),
            *("TCP4 1.2.3.4 5.6.7.8 1", "TCP4 1.2.3.4 5.6.7.8 1 2 3", "TCP4 1.2.3.4 5.6.7.8 1 2 "),
            *("TCP4  1.2.3.4 5.6.7.8 1 2", "TCP4 1.2.3.4\t5.6.7.8 1 2", "TCP4 1.2.3.4 1 2"),
            *("TCP4 1.2.3 5.6.7.8 1 2", "TCP4 1.2.3.256 5.6.7.8 1 2", "TCP4 01.2.3.4 5.6.7.8 1 2"),
            *("TCP4 ::1 ::2 1 2", "TCP4 1.2.3.4 ::2 1 2", "TCP4 ::ffff:1.2.3.4 5.6.7.8 1 2"),
            *("TCP6 1.2.3.4 5.6.7.8 1 2", "TCP6 ::1 5.6.7.8 1 2", "TCP6 ::1 ::2% 1 2"),
            *(
                "TCP6 ::1%lo ::2 1 2",
                "TCP6 [::1] [::2] 1 2",
                "TCP6 1::2::3 ::2 1 2",
                "TCP6 : : 1 2",
            ),
            *("TCP4 1.2.3.4 5.6.7.8 65536 2", "TCP4 1.2.3.4 5.6.7.8 1 65536", "TCP4 a.b c.d 1 2"),
            *(
                "TCP4 1.2.3.4 5.6.7.8 01 2",
                "TCP4 1.2.3.4 5.6.7.8 1 00",
                "TCP4 1.2.3.4 5.6.7.8 -1 2",
            ),
            *("TCP4 1.2.3.4 5.6.7.8 +1 2", "TCP4 1.2.3.4 5.6.7.8 x 2", "TCP4 1.2.3.4 5.6.7.8 1  2"),
            *(
                "TCP4 1.2.3.4 5.6.7.8 999999 2",
                "TCP4 1.2.3.4 5.6.7.8 1 2\n",
                "TCP4 1.2.3.4\0 5 1 2",
            ),
            *("TCP4 1.2.3.4 5.6.7.8 ٣ 2", "TCP4 1.2.3.4 5.6.7.8 1 2\r", "TCP6 ::g ::1 1 2"),
        ):
            self.refuse(v1(line))

    def test_line_ends(self) -> None:
        """Only both characters are one."""
        for end in (b"\n", b"\r", b"\n\r", b"\0", b""):
            data = b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2" + end
            self.assertEqual(parse_proxy_header(data), NeedMore(len(data) + 1))
            self.refuse(data + b"x" * 200, V1_LIMIT)


class BinaryTests(HeaderCase):
    """Version 2 (2.2)."""

    def test_examples(self) -> None:
        four = ends("192.168.0.1", "192.168.0.11")
        self.check(v2(PROXY, TCP4, FOUR), four)  # HAProxy's send-proxy-v2
        self.check(v2(PROXY, TCP6, SIX), ends("2001:db8::1", "2001:db8::2"))
        self.check(v2(PROXY, TCP4, FOUR), four, b"")
        mapped = bytes(10) + b"\xff\xff" + FOUR[:4]
        self.check(v2(PROXY, TCP6, mapped * 2 + FOUR[8:]), ends("192.168.0.1", "192.168.0.1"))

    def test_extensions_are_skipped(self) -> None:
        """As HAProxy (about TLS), and AWS (a checksum, a VPC's endpoint, padding) write them."""
        tls = b"\x07" + bytes(4) + tlv(0x21, b"TLSv1.3") + tlv(0x23, b"TLS_AES_128_GCM_SHA256")
        for extensions in (
            tlv(0x01, b"h2") + tlv(0x02, b"proxy.example") + tlv(0x20, tls),
            tlv(0x03, b"\xde\xad\xbe\xef") + tlv(0xEA, b"\x01vpce-08d2bf15fac5001c9"),
            tlv(0x04, bytes(40)),
            tlv(0x05, bytes(128)),
            b"\xff",  # what we skip may be malformed
        ):
            for behind in (HTTP, b""):
                self.check(
                    v2(PROXY, TCP4, FOUR + extensions), ends("192.168.0.1", "192.168.0.11"), behind
                )
                self.check(v2(PROXY, UNSPEC, extensions), None, behind)
                self.check(v2(LOCAL, UNSPEC, extensions), None, behind)

    def test_local(self) -> None:
        """The balancer's own connection (a health check), whatever addresses it writes."""
        for family, body in ((UNSPEC, b""), (TCP4, FOUR), (TCP6, SIX), (TCP4, b""), (0xFF, b"x")):
            self.check(v2(LOCAL, family, body), None)

    def test_other_families(self) -> None:
        """What has no address that can be ours: the sender is the client (2.2)."""
        for family, body in (
            (UNSPEC, b""),
            (UNSPEC, FOUR),
            (UDP4, FOUR),
            (UDP6, SIX),
            (UNIX_STREAM, b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")),
            (UNIX_DGRAM, bytes(216)),
            *((family, b"whatever") for family in (0x01, 0x02, 0x10, 0x13, 0x20, 0x41, 0xF1, 0xFF)),
        ):
            self.check(v2(PROXY, family, body), None)

    def test_every_family(self) -> None:
        told = [
            family
            for family in range(256)
            if parse_proxy_header(v2(PROXY, family, SIX)) != ProxyHeader(None, 16 + len(SIX))
        ]
        self.assertEqual(told, [TCP4, TCP6])

    def test_every_command(self) -> None:
        """Another version, or another command, is malformed (2.2)."""
        known = [c for c in range(256) if parse_proxy_header(v2(c, TCP4, FOUR)) is not None]
        self.assertEqual(known, [LOCAL, PROXY])
        self.refuse(v2(0x11, TCP4, FOUR), 16)
        self.refuse(v2(0x22, TCP4, FOUR), 16)

    def test_too_short_for_its_addresses(self) -> None:
        for family, size in ((TCP4, 12), (TCP6, 36)):
            for short in (0, 1, size - 1):
                self.refuse(v2(PROXY, family, bytes(short)) + HTTP, 16)
            exact = v2(PROXY, family, bytes(size))
            nobody = "0.0.0.0" if family == TCP4 else "::"
            self.check(exact, ends(nobody, nobody, 0, 0))

    def test_limit(self) -> None:
        """536 bytes: more is refused by its length, and never waited for."""
        self.assertEqual(V2_LIMIT, 536)
        largest = tlv(0x04, bytes(V2_LIMIT - 16 - 12 - 3))
        header = v2(PROXY, TCP4, FOUR + largest)
        self.assertEqual(len(header), V2_LIMIT)
        self.check(header, ends("192.168.0.1", "192.168.0.11"))
        for command in (LOCAL, PROXY):
            for length in (V2_LIMIT - 15, 0xFFFF):
                self.refuse(v2(command, TCP4, FOUR, length=length), 16)

    def test_what_is_waited_for(self) -> None:
        header = v2(PROXY, TCP4, FOUR + tlv(0x04, bytes(10)))
        for size, wanted in ((0, 1), (1, 2), (11, 12), (12, 16), (15, 16), (16, 41), (40, 41)):
            self.assertEqual(parse_proxy_header(header[:size]), NeedMore(wanted), size)

    def test_signature(self) -> None:
        for at in range(1, len(SIGNATURE)):
            self.refuse(SIGNATURE[:at] + b"?" + SIGNATURE[at + 1 :] + FOUR, at + 1)


addresses = st.ip_addresses().map(lambda address: number_of(str(address)))
ports = st.integers(0, 65535)
both_ends = st.builds(Ends, addresses, ports, addresses, ports)
versions = st.sampled_from(["v1", "v2"])
headers = st.builds(proxy_header, versions, both_ends | st.none()) | st.builds(
    v2,
    st.sampled_from([LOCAL, PROXY]),
    st.sampled_from([UNSPEC, TCP4, UDP4, TCP6, UDP6, UNIX_STREAM]),
    st.binary(max_size=60),
)


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """Return a header with a few bytes changed, taken out or put in, and others behind it."""
    data = bytearray(draw(headers))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(data) + draw(st.binary(max_size=40))


class LawTests(HeaderCase):
    @given(versions, both_ends, st.binary(max_size=40))
    def test_round_trip(self, version: str, told: Ends, behind: bytes) -> None:
        """What we send is read as what was meant, in both versions and all mixtures of families."""
        header = proxy_header(version, told)
        self.check(header, told, behind)
        self.assertLessEqual(len(header), 104 if version == "v1" else 52)

    @given(versions, st.binary(max_size=20))
    def test_round_trip_of_nobody(self, version: str, behind: bytes) -> None:
        self.check(proxy_header(version, None), None, behind)

    @given(headers, st.binary(max_size=40))
    def test_prefixes(self, header: bytes, behind: bytes) -> None:
        check_prefix_law(self, parse_proxy_header, header + behind)

    @settings(max_examples=200)
    @given(mutations())
    def test_mutations(self, data: bytes) -> None:
        answer = check_prefix_law(self, parse_proxy_header, data)
        if isinstance(answer, ProxyHeader):
            self.assertLessEqual(answer.size, min(len(data), V2_LIMIT))

    @given(st.binary(max_size=60) | st.binary(max_size=40).map(SIGNATURE.__add__))
    def test_anything(self, data: bytes) -> None:
        check_prefix_law(self, parse_proxy_header, data)

    @given(headers, st.binary(max_size=20), st.data())
    def test_who_asks_only_when_told_to_gets_the_same(
        self, header: bytes, behind: bytes, data: st.DataObject
    ) -> None:
        whole = header + behind
        cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=6).map(sorted))
        wanted, answer = 1, None
        for size in [*cuts, len(whole)]:
            if size >= wanted:
                answer = parse_proxy_header(whole[:size])
                wanted = answer.at_least if isinstance(answer, NeedMore) else len(whole) + 1
        self.assertEqual(answer, parse_proxy_header(whole))


class WrittenTests(SynchronousTestCase):
    """What we send is what the specification shows, byte by byte."""

    def test_text(self) -> None:
        for told, line in (
            (ends("192.168.0.1", "192.168.0.11"), "TCP4 192.168.0.1 192.168.0.11 56324 443"),
            (ends("2001:DB8::0:1", "::1", 1, 65535), "TCP6 2001:db8::1 ::1 1 65535"),
            (ends("192.0.2.1", "2001:db8::1"), "TCP6 ::ffff:192.0.2.1 2001:db8::1 56324 443"),
            (ends("::1", "::ffff:10.0.0.1"), "TCP6 ::1 ::ffff:10.0.0.1 56324 443"),
            (ends("::ffff:192.0.2.1", "10.0.0.1"), "TCP4 192.0.2.1 10.0.0.1 56324 443"),
            (None, "UNKNOWN"),
        ):
            self.assertEqual(proxy_header("v1", told), v1(line))

    def test_binary(self) -> None:
        mapped = bytes(10) + bytes.fromhex("ffff c0a80001")
        for told, family, body in (
            (ends("192.168.0.1", "192.168.0.11"), TCP4, FOUR),
            (ends("2001:db8::1", "2001:db8::2"), TCP6, SIX),
            (ends("192.168.0.1", "2001:db8::2"), TCP6, mapped + SIX[16:]),
            (None, UNSPEC, b""),
        ):
            self.assertEqual(proxy_header("v2", told), v2(PROXY, family, body))
