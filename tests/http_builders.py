"""HTTP messages that several tests build, whole ones and others, with what they mean."""

import string
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from whatsproxy.http1.heads import Body, Framing, Limits

Pairs = list[tuple[bytes, bytes]]

LIMITS = Limits()
TCHAR = "!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters
#: Names that mean something here: a field that is to mean nothing must not bear one.
MEANT = {
    *("host", "connection", "content-length", "transfer-encoding", "content_length", "upgrade"),
    *("transfer_encoding", "keep-alive", "te", "trailer", "expect", "max-forwards"),
    *("http2-settings", "via"),
}


def head(*lines: bytes) -> bytes:
    """Return a head of these lines."""
    return b"\r\n".join(lines) + b"\r\n\r\n"


def get(*fields: bytes, line: bytes = b"GET http://a.test/ HTTP/1.1") -> bytes:
    """Return a request's head, Host included."""
    return head(line, b"Host: a.test", *fields)


#: A request's head with a chunked body to follow.
CHUNKED = get(b"Transfer-Encoding: chunked")


def answer(*fields: bytes, line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """Return a response's head."""
    return head(line, *fields)


def cut(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Return data in pieces, which end at these positions; there may be empty ones."""
    ends = sorted(at % (len(data) + 1) for at in cuts)
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


def single(data: bytes) -> list[bytes]:
    """Return data as single bytes."""
    return [data[i : i + 1] for i in range(len(data))]


# -- Valid messages with all the oddities that are legal


@dataclass(frozen=True)
class Message:
    """A message and its meaning.

    ``tail`` is the body as it is sent, ``plain`` the same without chunk extensions; ``fields`` are
    all the fields, ``trailers`` likewise. ``method`` is, of a response, that of its request.
    """

    head: bytes
    framing: Framing
    fields: Pairs
    method: bytes = b"GET"
    status: int = 0
    body: bytes = b""
    tail: bytes = b""
    plain: bytes = b""
    trailers: Pairs = field(default_factory=list)

    @property
    def raw(self) -> bytes:
        return self.head + self.tail


cuts = st.lists(st.integers(0, 2000), max_size=8)
#: Every byte that a value may hold; what it may not is another one (binary() is fast, text() not).
_LEGAL = bytes(
    c if c == 9 or 0x20 <= c < 0x7F or c >= 0x80 else c + 0x40 & 0x7E for c in range(256)
)
_NAMES = (
    st.binary(min_size=1, max_size=10)
    .map(lambda data: "".join(TCHAR[byte % len(TCHAR)] for byte in data))
    .filter(lambda name: name.lower() not in MEANT and not name.lower().startswith("proxy-"))
    .map(str.encode)
)
_VALUES = st.binary(max_size=12).map(lambda data: data.translate(_LEGAL))
_SPACE = st.sampled_from([b"", b" ", b"\t", b" \t "])
plain_fields = st.lists(
    st.tuples(st.sampled_from([b"Accept", b"X-A", b"x-a", b"Cookie"]) | _NAMES, _VALUES), max_size=4
)
_EXTENSIONS = st.sampled_from([b"", b"", b";", b";a", b" ;a=b", b';a="x;y"', b"\t; \xe9 = 0", b" "])


@st.composite
def spelled(draw: st.DrawFn, name: bytes) -> bytes:
    """Return a name in some spelling."""
    return draw(st.sampled_from([name, name.lower(), name.upper(), name.swapcase()]))


@st.composite
def _lines(draw: st.DrawFn, fields: Pairs) -> tuple[list[bytes], Pairs]:
    """Return field lines with white space as it may be, and what they mean."""
    lines = [name + b":" + draw(_SPACE) + value + draw(_SPACE) for name, value in fields]
    return lines, [(name, value.strip(b" \t")) for name, value in fields]


@st.composite
def _chunked(draw: st.DrawFn) -> dict[str, Any]:
    """Return a chunked body: how it is sent, what h11 is to see, and what it means."""
    pieces = draw(st.lists(st.binary(min_size=1, max_size=30), max_size=4))
    tail = plain = b""
    for piece in [*pieces, b""]:
        digits = draw(st.sampled_from([b"%x", b"%X", b"%03x"])) % len(piece)
        end = piece + b"\r\n" if piece else b""
        tail += digits + draw(_EXTENSIONS) + b"\r\n" + end
        plain += digits + b"\r\n" + end
    lines, trailers = draw(_lines(draw(plain_fields)))
    section = b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    return {
        "body": b"".join(pieces),
        "tail": tail + section,
        "plain": plain + section,
        "trailers": trailers,
    }


@st.composite
def _rest(
    draw: st.DrawFn, line: bytes, fields: Pairs, framing: str, none: Framing, **more: Any
) -> Message:
    """Return a message with this first line, and with a body of this kind ("" is none)."""
    body: dict[str, Any] = {}
    what: Framing = none
    if framing == "counted":
        data = draw(st.binary(max_size=40))
        digits = draw(st.sampled_from([b"%d", b"%018d"])) % len(data)
        fields = [*fields, (draw(spelled(b"Content-Length")), digits)]
        what, body = len(data), {"body": data, "tail": data, "plain": data}
    elif framing == "chunked":
        coding = draw(st.sampled_from([b"chunked", b"Chunked", b"CHUNKED"]))
        fields = [*fields, (draw(spelled(b"Transfer-Encoding")), coding)]
        what, body = Body.CHUNKED, draw(_chunked())
    elif none is Body.UNTIL_CLOSE:
        data = draw(st.binary(max_size=40))
        body = {"body": data, "tail": data, "plain": data}
    lines, meant = draw(_lines(draw(st.permutations(fields))))
    return Message(head(line, *lines), what, meant, **body, **more)


@st.composite
def requests(draw: st.DrawFn, *, lasting: bool = False, extra: Pairs | None = None) -> Message:
    """Return a request; ``lasting`` is one that another may follow."""
    version = b"1.1" if lasting else draw(st.sampled_from([b"1.1", b"1.1", b"1.0"]))
    method = draw(st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"M-SEARCH", b"get"]))
    target = draw(st.sampled_from([b"http://a.test/", b"http://a.test:80/?%00#", b"/", b"*"]))
    if extra is not None:
        target = b"http://a.test/x?y"
    fields = [*draw(plain_fields), *(extra or [])]
    if version == b"1.1" or draw(st.booleans()):
        fields.append((draw(spelled(b"Host")), b"a.test"))
    if extra is None and draw(st.booleans()):
        tokens = [b"keep-alive", b"X-A, ,x-b", b""] + ([] if lasting else [b"close"])
        fields.append((b"Connection", draw(st.sampled_from(tokens))))
    kinds = ["", "counted"] + (["chunked"] if version == b"1.1" else [])
    line = method + b" " + target + b" HTTP/" + version
    return draw(_rest(line, fields, draw(st.sampled_from(kinds)), 0, method=method))


@st.composite
def responses(draw: st.DrawFn, *, lasting: bool = False, extra: Pairs | None = None) -> Message:
    """Return a response, some of them to HEAD; ``lasting`` is one that another may follow."""
    version = b"1.1" if lasting else draw(st.sampled_from([b"1.1", b"1.1", b"1.0"]))
    method = draw(st.sampled_from([b"GET", b"GET", b"POST", b"HEAD"]))
    status = draw(st.sampled_from([200, 200, 206, 404, 500, 599, 999, 204, 304]))
    reason = draw(st.sampled_from([b"", b" ", b" OK", b" Not  really\t", b" \xe9t\xe9: 5"]))
    fields = [*draw(plain_fields), *(extra or [])]
    bodiless = status in (204, 304) or method == b"HEAD"
    kinds = ["counted", "chunked"] if version == b"1.1" else ["counted"]
    if bodiless or not lasting:
        kinds.append("")
    kind = "" if status == 204 else draw(st.sampled_from(kinds))
    line = b"HTTP/%b %d%b" % (version, status, reason)
    none = 0 if bodiless else Body.UNTIL_CLOSE
    built = draw(_rest(line, fields, kind, none, method=method, status=status))
    # What has no body may still tell the framing that it would have.
    return Message(built.head, 0, built.fields, method, status) if bodiless else built


interims = st.lists(
    st.sampled_from(
        [
            head(b"HTTP/1.1 100 Continue"),
            head(b"HTTP/1.1 103 Early Hints", b"Link: </x>", b"Link: </y>"),
            head(b"HTTP/1.0 102", b"Content-Length: 0"),
        ]
    ),
    max_size=2,
)

#: Several on one connection, of which the last may be the last.
streams = st.lists(requests(lasting=True), max_size=3).flatmap(
    lambda before: requests().map(lambda last: [*before, last])
)
answers = st.lists(responses(lasting=True), max_size=3).flatmap(
    lambda before: responses().map(lambda last: [*before, last])
)


def raw(messages: list[Message]) -> bytes:
    """Return messages as they are sent."""
    return b"".join(message.raw for message in messages)


# -- What is not quite right

_PIECES = st.sampled_from(
    [
        *(b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b"\x7f", b" ", b"\t", b":", b",", b"_", b"-"),
        *(b"\r\nHost: b.test", b"\r\nContent-Length: 5", b"\r\nTransfer-Encoding: chunked"),
        *(b"\r\nContent_Length: 5", b"\r\ntransfer-encoding:\tgzip, chunked", b"\r\n folded"),
        *(b"\r\nConnection: content-length", b"\r\nContent-Length : 5", b"\n\n", b"chunked", b"0"),
        *(b"HTTP/1.0", b"HTTP/1.1", b"+", b"0x", b";", b"\x0b", b"\x0c", b"\x85", b"\xa0", b"ffff"),
    ]
)


@st.composite
def mutated(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Return such bytes with a few of them changed, taken out, put in or doubled."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 3))):
        # Where lines end, and what they are made of, is what decides.
        at, size = draw(st.integers(0, len(data))), draw(st.integers(0, 3))
        if draw(st.booleans()):
            at, size = data.find(draw(st.sampled_from([b"\r\n", b":", b"\r", b"\n"])), at), 0
        if draw(st.integers(0, 4)) == 0:  # a line once more
            lines = bytes(data).split(b"\r\n")
            lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(lines)))
            data = bytearray(b"\r\n".join(lines))
        else:
            data[max(at, 0) : max(at, 0) + size] = draw(_PIECES | st.binary(max_size=2))
    return bytes(data)
