"""What a client speaks: the parsers' laws, the limit, and a second reading of each kind."""

import re
from collections.abc import Iterator

from tests import builders as b
from tests.fuzz.laws import check_parser, choices, insist, insist_equal
from tests.fuzz.target import Plant, Target
from tests.test_clienthello_corpus import recorded
from whatsproxy.incremental import NeedMore
from whatsproxy.sniff import SNIFF_LIMIT, Kind, Sniffed, sniff

#: The kinds again, each as one expression for the whole of what is looked at.
_METHOD = rb"(?:\r\n)?[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}"
_SPELLED = {
    Kind.WHATSAPP: re.compile(rb"WA[\0-\x1f]{2}"),
    Kind.XMPP: re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*(?:<\?xml|<stream)"),
    Kind.CONNECT: re.compile(rb"(?:\r\n)?CONNECT [A-Za-z0-9_\[]"),
    Kind.HTTP: re.compile(
        rb"(?!(?:\r\n)?CONNECT [A-Za-z0-9_\[])%s (?:/|\* |[A-Za-z][A-Za-z0-9+.-]{0,31}://)"
        % _METHOD
    ),
    Kind.TLS: re.compile(rb"\x16\x03.(?!\0\0)(?:[\0-\x3f].|\x40\0)\x01", re.DOTALL),
}
_ORIGIN_FORM = re.compile(rb"%s (?:/|\* )" % _METHOD)


def _spelled(data: bytes) -> Kind | None:
    """Return the kind that begins so; None for raw, and for what is not known yet."""
    if data.startswith(b"ED\x00\x01") and len(data) >= 7:
        start = 7 + int.from_bytes(data[4:7], "big")
        return Kind.WHATSAPP if data[start : start + 2] == b"WA" else None
    found = [kind for kind, pattern in _SPELLED.items() if pattern.match(data)]
    insist(len(found) < 2, "of two kinds:", found)
    return found[0] if found else None


def check(data: bytes) -> None:
    answer = check_parser(sniff, data, choices(data))
    insist_equal(sniff(data[:SNIFF_LIMIT]), answer, "looks beyond the limit")
    if isinstance(answer, NeedMore):
        insist_equal(_spelled(data[:SNIFF_LIMIT]) in (None, Kind.TLS), True, "waits for nothing")
        return
    insist(isinstance(answer, Sniffed), answer)
    spelled = _spelled(data[:SNIFF_LIMIT])
    insist_equal(answer.kind, spelled or Kind.RAW, "another kind than it is spelled")
    insist(answer.hello is None or answer.kind is Kind.TLS, answer)
    origin_form = answer.kind is Kind.HTTP and _ORIGIN_FORM.match(data) is not None
    insist_equal(answer.origin_form, origin_form, "origin-form")


def seeds() -> Iterator[bytes]:
    yield from b.INTROS
    yield from (b"ED\x00\x01" + b.vector(3, b"blob") + b"WA\x06\x02", b"ED\x00\x01\x00\x00\x00WA")
    yield from (b"<?xml version='1.0'?>", b.BOM + b" \r\n<stream:stream>", b" \t<stream to=")
    yield from (b"GET / HTTP/1.1\r\n", b"\r\nOPTIONS * HTTP/1.1\r\n", b"GET http://a/ HTTP/1.1\r\n")
    yield from (b"CONNECT a.b:443 HTTP/1.1\r\n", b"CONNECT / HTTP/1.1", b"SSH-2.0-x\r\n", b"\xff\0")
    yield from (hello.data for hello in recorded()[::10])


TARGET = Target(
    "sniff",
    check,
    seeds,
    plants=(
        Plant("sniff.py", "return NeedMore(intro + 1)", "return NeedMore(intro + 3)"),
        Plant("sniff.py", "{0,32}", "{0,33}"),
        Plant(
            "sniff.py",
            "max(data[2:4], default=0) >= 0x20",
            "max(data[2:4], default=0) > 0x20",
        ),
    ),
    words=(
        *(
            b"WA\x06\x03",
            b"ED\x00\x01",
            b"\xef\xbb\xbf",
            b"<?xml",
            b"<stream",
            b"GET ",
            b"CONNECT ",
        ),
        *(
            b"http://",
            b"\r\n",
            b" /",
            b" * ",
            b"\x16\x03\x01",
            b"\x01\x00",
            b"://",
            b"\x00\x40\x00",
        ),
    ),
    longest=4096,
)
