"""Requests: two parsers agree in any split, and what goes on is one request to whoever gets it."""

from collections.abc import Iterator

import h11

from tests import http_builders as b
from tests.fuzz.http_laws import (
    Raw,
    by_the_letter,
    insist_told,
    is_plain,
    read,
    refused,
    sent,
    whole,
)
from tests.fuzz.laws import insist, insist_equal
from tests.fuzz.target import Plant, Target
from tests.http_reading import Seen, nominated, request_to_send
from tests.integration import strict_http
from whatsproxy.http1.fields import Changes, Rules, is_last_hop, trailers_of
from whatsproxy.http1.heads import Body
from whatsproxy.http1.target import check_host, parse_absolute

_RULES = (Rules(), Rules(b"gateway", Changes(frozenset({b"cookie"}), ((b"X-A", b"ours"),))))
#: What a request is never sent on with, whatever its client has said.
_OF_ONE_HOP = {b"keep-alive", b"te", b"proxy-connection", b"proxy-authorization", b"http2-settings"}


def check(data: bytes) -> None:
    readings = read(data, [])
    _check_accepted(data, readings[0])
    for reading in readings:
        for seen in whole(reading):
            _check_meaning(seen)
            for rules in _RULES:
                _check_forwarded(seen, rules)
        _check_bodies(reading)


def _check_accepted(data: bytes, reading: Raw) -> None:
    """What is right by the letter is read."""
    told = whole(reading)
    for number, message in enumerate(by_the_letter(strict_http.requests_in, data)):
        if not is_plain(message) or message.kind == b"CONNECT" or len(message.fields) > 100:
            return
        seen = told[number] if number < len(told) else None
        insist_told(seen, message, reading.error)


def _check_meaning(seen: Seen) -> None:
    request = seen.first[0]
    insist_equal(len(seen.first), 1, "heads of one request")
    insist(request.method != b"CONNECT" or seen.framing == 0, "CONNECT has a body")
    insist(seen.framing is not Body.UNTIL_CLOSE, "a request until the end")
    if isinstance(seen.framing, int):
        insist_equal(len(seen.body), seen.framing, "another length than was told")


def _check_forwarded(seen: Seen, rules: Rules) -> None:
    """What is made of a request is one message by the letter, with the same meaning."""
    request = seen.first[0]
    target = refused(parse_absolute, request.method, request.target)
    if target is None or request.method == b"CONNECT":
        return
    hosts = [value for name, value in request.headers.raw_items() if name.lower() == b"host"]
    if refused(lambda: check_host(hosts, target.destination) or True) is None:
        return
    if is_last_hop(request):
        insist_equal(request.method, b"OPTIONS")
        return
    outgoing = request_to_send(request, target, seen.framing, rules)
    trailers = []
    if seen.framing is Body.CHUNKED:
        end = h11.EndOfMessage(headers=seen.trailers)
        trailers = trailers_of(end, nominated(request), rules.for_requests)
    data = sent(h11.CLIENT, outgoing, b"", seen.body, trailers)
    messages, rest = strict_http.requests_in(data)
    insist_equal((len(messages), rest), (1, b""), "not one request", data)
    (message,) = messages
    insist_equal(message.told, (request.method, target.path, seen.body), "another request")
    insist_equal(message.values(b"host"), [target.authority], "another host")
    names = {name.lower() for name, _ in message.fields + message.trailers}
    insist(not names & _OF_ONE_HOP, "fields of one hop:", names)
    insist(not names & (nominated(request) - {b"upgrade", b"via", b"x-a"}), "nominated:", names)


def _check_bodies(reading: Raw) -> None:
    """What is left unread belongs to the last message, or to nobody."""
    if reading.error is None and not reading.closed and not reading.wire.complete:
        insist(len(reading.wire.take_rest()) <= 64 * 1024, "kept without end")


def seeds() -> Iterator[bytes]:
    post = b"POST http://a.test/x HTTP/1.1"
    yield b.get()
    yield b.head(b"POST /x HTTP/1.1", b"Host: a.test", b"Content-Length: 5") + b"hello"
    yield (
        b.head(b"PUT /x HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked")
        + b"1\r\nx\r\n0\r\n\r\n"
    )
    yield b.get(b"Content-Length: 5") + b"hello" + b.get(line=b"GET http://a.test/2 HTTP/1.1")
    yield b.CHUNKED + b"5;a=b\r\nhello\r\n0\r\nX-T: y\r\n\r\n" + b.get()
    yield b.get(b"Connection: keep-alive, X-A", b"X-A: b", b"Via: 1.0 x", b"TE: trailers")
    yield b.get(b"Upgrade: websocket", b"Connection: Upgrade", line=b"GET ws://a.test/ HTTP/1.1")
    yield b.get(b"Proxy-Authorization: Basic eDp5", b"Cookie: a=b", line=post)
    yield b.head(b"OPTIONS http://a.test HTTP/1.1", b"Host: a.test", b"Max-Forwards: 1")
    yield b.head(b"HEAD http://a.test/ HTTP/1.0") + b.get()
    yield b.head(b"CONNECT a.test:443 HTTP/1.1", b"Host: a.test:443")
    yield b.head(b"GET / HTTP/1.1", b"Host: a.test") + b"\r\n" + b.get(b"Expect: 100-continue")
    # What two programs could read in two ways.
    for line in (
        *(b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked, gzip"),
        *(
            b"Content-Length: 5\r\nContent-Length: 6",
            b"Content-Length: +5",
            b"X: a\nY: b",
            b"X: a\r",
        ),
        *(b"X : y", b" X: y", b"X: y\r\n z", b"Host: b.test", b"Content_Length: 5", b"X: \0"),
        *(b"Connection: content-length\r\nContent-Length: 5", b"Transfer-Encoding:\x0bchunked"),
    ):
        yield b.get(line, line=post) + b"0\r\n\r\nhello" + b.get()
    for body in (
        b"5\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n",
        b"5 \r\nhello!\r\n",
        b"-1\r\n",
        b"5;\n",
    ):
        yield b.CHUNKED + body + b.get()


TARGET = Target(
    "http_requests",
    check,
    seeds,
    plants=(
        Plant(
            "http1/guard.py",
            'self._looked = len(data)\n            return b""\n        self._looked = 0',
            'self._looked = len(data) + 2\n            return b""\n        self._looked = 0',
        ),
        Plant("http1/heads.py", "if name in _DISGUISED:", "if False:"),
    ),
    words=(
        *(
            b"\r\n",
            b"\r\n\r\n",
            b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n",
            b"HTTP/1.0",
            b"\n",
        ),
        *(
            b"Content-Length: 5",
            b"Transfer-Encoding: chunked",
            b"0\r\n\r\n",
            b"5\r\nhello\r\n",
            b"\r",
        ),
        *(
            b"Connection: ",
            b"Upgrade: ",
            b"Host: ",
            b"Proxy-Connection: ",
            b"Expect: 100-continue",
            b"X-A: ",
            b"POST ",
            b": ",
        ),
        *(b"Content_Length: ", b"http://", b" HTTP/1.1\r\n", b"chunked", b";", b"\t", b"Trailer: "),
    ),
    longest=1500,
)
