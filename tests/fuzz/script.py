"""What happens to connections: a script of steps, read from bytes, and what must hold after it.

    settings finish step step ...       a byte each for the first two

A step is a byte: what is done (the lower 5 bits), and how (the upper 3). Those that send are
followed by a length and so many bytes, or by the number of something canned.
"""

from collections.abc import Iterable
from typing import NamedTuple

from tests import builders as b
from tests.http_builders import CHUNKED, get, head
from tests.socks5_attempt import GRANTED
from tests.support import CONNECT, HTTP, RAW, WHATSAPP, XMPP
from tests.tls_peers import OURS
from whatsproxy.networks import number_of
from whatsproxy.proxy_protocol import Ends, proxy_header

#: What is done. The names are those of methods of whoever plays it.
DOES = (
    *("client_sends", "client_says", "client_floods", "client_ends", "client_resets"),
    *("client_closes", "client_stalls", "client_reads"),
    *("upstream_sends", "upstream_says", "upstream_floods", "upstream_ends", "upstream_resets"),
    *("upstream_closes", "upstream_stalls", "upstream_reads"),
    *("dial_succeeds", "dial_fails", "time_passes", "name_resolves", "name_fails"),
    *("drain", "abort", "another_client", "other_client", "other_upstream"),
)
_WITH_DATA = {"client_sends", "upstream_sends"}
_WITH_NUMBER = {"client_says", "upstream_says"}
#: Seconds that pass, by how.
SECONDS = (0.0, 0.01, 0.3, 1.0, 2.5, 6.0, 13.0, 40.0)
#: So many bytes come one by one, where they do; the rest in one segment.
SINGLE = 64
#: No script is longer.
MOST_STEPS = 60


def _hello(name: str) -> bytes:
    return b.record(b.message(b.server_names(name.encode()), b.alpn(b"h2")))


_V4 = Ends(number_of("192.0.2.1"), 56324, number_of("198.51.100.2"), 443)
_ASK = b"http://media.whatsapp.net"
#: What shows who a client is: me, with the password pw; and somebody else.
RIGHT, WRONG = (b"Proxy-Authorization: Basic " + token for token in (b"bWU6cHc=", b"bWU6eHg="))
CLIENT_SAYS = (
    *(WHATSAPP, XMPP, RAW, HTTP, CONNECT, _hello("media.whatsapp.net"), _hello(OURS)),
    *(_hello("example.org"), b"\x16\x03\x01\x00\x05\x01"),
    get(line=b"GET %s/ HTTP/1.1" % _ASK).replace(b"a.test", b"media.whatsapp.net"),
    head(b"HEAD %s/x HTTP/1.1" % _ASK, b"Host: media.whatsapp.net", b"Connection: close"),
    head(b"POST %s/ HTTP/1.1" % _ASK, b"Host: media.whatsapp.net", b"Content-Length: 5") + b"hello",
    CHUNKED.replace(b"a.test", b"media.whatsapp.net") + b"5\r\nhello\r\n0\r\n\r\n",
    head(b"PUT %s/ HTTP/1.1" % _ASK, b"Host: media.whatsapp.net", b"Content-Length: 100000"),
    head(b"POST %s/ HTTP/1.1" % _ASK, b"Host: media.whatsapp.net", b"Content-Length: 9",
         b"Expect: 100-continue"),
    head(b"GET ws://media.whatsapp.net/ HTTP/1.1", b"Host: media.whatsapp.net",
         b"Upgrade: websocket", b"Connection: Upgrade"),
    head(b"GET http://example.org/ HTTP/1.1", b"Host: example.org"),
    head(b"OPTIONS * HTTP/1.1", b"Host: media.whatsapp.net"),
    head(b"GET %s/ HTTP/1.0" % _ASK),
    head(b"GET %s/ HTTP/1.1" % _ASK, b"Host: media.whatsapp.net", RIGHT),
    head(b"GET %s/ HTTP/1.1" % _ASK, b"Host: media.whatsapp.net", WRONG),
    head(b"CONNECT g.whatsapp.net:5222 HTTP/1.1", b"Host: g.whatsapp.net:5222", RIGHT),
    proxy_header("v1", _V4), proxy_header("v2", _V4), proxy_header("v2", None),
    head(b"CONNECT g.whatsapp.net:22 HTTP/1.1", b"Host: g.whatsapp.net:22"),
    *(b"\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"W", b"ED\x00\x01\x00\x40\x00", b"GET "),
)  # fmt: skip
_OK = b"HTTP/1.1 200 OK\r\n"
UPSTREAM_SAYS = (
    *(_OK + b"Content-Length: 5\r\n\r\nhello", _OK + b"Content-Length: 100000\r\n\r\n"),
    *(_OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: y\r\n\r\n", _OK + b"\r\n"),
    *(_OK + b"Content-Length: 0\r\nConnection: close\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"),
    *(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    *(b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"5\r\nhello\r\n", b"0\r\n\r\n", b"\x05\x00"),
    *(b"\x05\x00" + GRANTED, GRANTED, b"\x05\x05", b"\x05\xff", b"HTTP/1.1 200", b"\x15\x03\x03"),
    *(b"WA\x06\x03", b"<stream:stream>", b"garbage\n\n"),
)


class Step(NamedTuple):
    """One thing that happens. ``how`` is 0 to 7; of those that send, its lowest bit says that
    nothing is read of it before the next step, the next bit that each byte is a segment, and the
    third that it is not in TLS, where all else is.
    """

    does: str
    how: int = 0
    data: bytes = b""
    number: int = 0

    @property
    def waits(self) -> bool:
        """Whether it is seen only together with the next one."""
        return bool(self.how & 1) and self.does in _WITH_DATA | _WITH_NUMBER


class Script(NamedTuple):
    """What happens, under which settings, and how it finishes."""

    settings: int
    finish: int
    steps: tuple[Step, ...]


def read(data: bytes) -> Script:
    """Read a script; every sequence of bytes is one."""
    steps = []
    at = 2
    while at < len(data) and len(steps) < MOST_STEPS:
        does = DOES[(data[at] & 0x1F) % len(DOES)]
        how = data[at] >> 5
        at += 1
        if does in _WITH_DATA:
            size = data[at] if at < len(data) else 0
            steps.append(Step(does, how, data[at + 1 : at + 1 + size]))
            at += 1 + size
        elif does in _WITH_NUMBER:
            steps.append(Step(does, how, number=data[at] if at < len(data) else 0))
            at += 1
        else:
            steps.append(Step(does, how))
    return Script(*((*data[:2], 0, 0)[:2]), tuple(steps))


def written(script: Script) -> bytes:
    """Return the bytes of a script; pieces are at most 255 bytes."""
    data = bytearray([script.settings, script.finish])
    for step in script.steps:
        data.append(DOES.index(step.does) | step.how << 5)
        if step.does in _WITH_DATA:
            data += bytes([len(step.data)]) + step.data
        elif step.does in _WITH_NUMBER:
            data.append(step.number)
    return bytes(data)


def segments(step: Step) -> Iterable[bytes]:
    """Return what a step sends, in its segments."""
    data = step.data
    if step.does in _WITH_NUMBER:
        said = CLIENT_SAYS if step.does.startswith("client") else UPSTREAM_SAYS
        data = said[step.number % len(said)]
    if step.does.endswith("floods"):
        block = bytes(range(256)) * 64
        return [block] * (1 + step.how)
    if step.how & 2:
        return [*(data[i : i + 1] for i in range(min(len(data), SINGLE))), data[SINGLE:]]
    return [data]
