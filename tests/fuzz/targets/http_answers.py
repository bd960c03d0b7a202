"""Answers of origins: two parsers agree in any split, and what goes on is one answer."""

from collections.abc import Iterator

import h11

from tests import http_builders as b
from tests.fuzz.http_laws import (
    Raw,
    by_the_letter,
    insist_told,
    is_plain,
    read,
    sent,
    whole,
)
from tests.fuzz.laws import insist, insist_equal
from tests.fuzz.target import Plant, Target
from tests.http_reading import Seen, nominated, response_fields
from tests.integration import strict_http
from whatsproxy.http1.fields import Rules, trailers_of
from whatsproxy.http1.heads import Body

_METHODS = [b"GET", b"HEAD", b"POST", b"OPTIONS"]


def check(data: bytes) -> None:
    """The first byte says which request is answered first."""
    first, data = data[0] % 4 if data else 0, data[1:]
    methods = _METHODS[first:] + _METHODS[:first]
    readings = read(data, methods)
    _check_accepted(data, methods, readings[0])
    for reading in readings:
        for number, seen in enumerate(whole(reading)):
            for close in (False, True):
                _check_forwarded(seen, methods[number], close)


def _check_accepted(data: bytes, methods: list[bytes], reading: Raw) -> None:
    """What is right by the letter is read."""
    told = whole(reading)
    messages = by_the_letter(strict_http.answers_in, data, methods, ended=False)
    number = 0
    for message in messages:
        framed = message.values(b"content-length") or message.values(b"transfer-encoding")
        odd = message.status == 101 or (message.status == 204 and framed)
        if odd or not is_plain(message) or len(message.fields) > 100:
            return
        if message.status >= 200:
            seen = told[number] if number < len(told) else None
            insist_told(seen, message, reading.error)
            number += 1


def _check_forwarded(seen: Seen, method: bytes, close: bool) -> None:
    """What the client gets is these answers by the letter, with the same meaning, and no more."""
    *interim, final = seen.first
    request = b"%s / HTTP/1.1\r\nHost: a.test\r\n\r\n" % method
    insist(all(100 <= event.status_code < 200 for event in interim), "two final answers")
    insist_equal(final.status_code >= 200, True, "an interim answer is the last")
    bodiless = method == b"HEAD" or final.status_code in (204, 304)
    insist(not (bodiless and seen.body), "a body where there can be none")
    head = h11.Response(
        status_code=final.status_code,
        reason=final.reason,
        headers=response_fields(final, Rules(b"gw"), close=close),
    )
    trailers = []
    if seen.framing is Body.CHUNKED:
        end = h11.EndOfMessage(headers=seen.trailers)
        trailers = trailers_of(end, nominated(final), Rules().for_responses)
    data = sent(h11.SERVER, head, request, seen.body, trailers)
    messages, rest = strict_http.answers_in(data, [method], ended=True)
    insist_equal((len(messages), rest), (1, b""), "not one answer", data)
    (message,) = messages
    insist_equal((message.status, message.body), (final.status_code, seen.body), "another answer")
    names = {name.lower() for name, _ in message.fields + message.trailers}
    insist(final.status_code != 204 or b"content-length" not in names, "a length where no body is")
    insist(not names & {b"keep-alive", b"proxy-authenticate"}, "fields of one hop:", names)
    gone = nominated(final) - {b"connection", b"upgrade", b"via", b"content-length"}
    insist(not names & (gone - {b"transfer-encoding"}), "nominated:", names)


def seeds() -> Iterator[bytes]:
    ok = b.answer(b"Content-Length: 5") + b"hello"
    yield b"\0" + ok + b.answer(b"Content-Length: 5") + ok
    yield b"\1" + b.answer(b"Content-Length: 5") + ok
    yield (
        b"\0"
        + b.answer(b"Transfer-Encoding: chunked")
        + b"5;a\r\nhello\r\n0\r\nX-T: y\r\n\r\n"
        + ok
    )
    yield b"\0" + b.answer(line=b"HTTP/1.1 100 Continue") + ok
    yield b"\0" + b.answer(b"Link: </x>", line=b"HTTP/1.1 103") + ok
    yield b"\0" + b.answer(line=b"HTTP/1.1 204 No Content") + ok
    yield b"\0" + b.answer(b"Content-Length: 99", line=b"HTTP/1.1 304 Not Modified") + ok
    yield b"\0" + b.answer(line=b"HTTP/1.0 200 OK") + b"until the end"
    yield b"\0" + b.answer(b"Upgrade: x", b"Connection: upgrade", line=b"HTTP/1.1 426 U") + ok
    yield b"\0" + b.answer(b"Upgrade: x", b"Connection: upgrade", line=b"HTTP/1.1 101 S") + ok
    yield b"\2" + b.answer(b"Connection: close, X-A", b"X-A: b", b"Content-Length: 0") + ok
    for line in (
        *(
            b"Content-Length: 5\r\nTransfer-Encoding: chunked",
            b"Content-Length: 5, 5",
            b"X: y\r\n z",
        ),
        *(b"Transfer-Encoding: gzip, chunked", b"Content-Length: 05", b"X: a\nY: b", b"X : y"),
    ):
        yield b"\0" + b.answer(line) + b"0\r\n\r\nhello" + ok


TARGET = Target(
    "http_answers",
    check,
    seeds,
    plants=(
        Plant("http1/guard.py", "self.interim = status < 200", "self.interim = status <= 200"),
        Plant("http1/heads.py", "if to_head or status == 304:", "if status == 304:"),
    ),
    words=(
        *(
            b"\r\n",
            b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.0 ",
            b"HTTP/1.1 100 ",
            b" 204 ",
            b" 304 ",
        ),
        *(
            b" 101 ",
            b" 426 ",
            b"Content-Length: 5",
            b"Transfer-Encoding: chunked",
            b"0\r\n\r\n",
            b"\n",
        ),
        *(
            b"5\r\nhello\r\n",
            b"Connection: ",
            b"Upgrade: ",
            b"chunked",
            b": ",
            b"\r",
            b"close",
            b"\t",
        ),
    ),
    longest=1500,
)
