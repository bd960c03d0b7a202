"""What a client speaks, told from its first bytes.

Each matcher looks for one family and answers with a :class:`Sniffed`, with :class:`NeedMore` while
the bytes could still become it, or with None when they never can. The families' beginnings exclude
each other, so at most one matcher can say yes, and no order among them matters.
"""

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass

from whatsproxy.clienthello import HANDSHAKE, ClientHello, Unreadable, parse_client_hello
from whatsproxy.incremental import NeedMore

#: No more than this is looked at, whatever has arrived; what is unknown by then stays unknown.
SNIFF_LIMIT = 16 * 1024


class Kind(enum.Enum):
    """What a connection is on the wire; the value is its label in the metrics."""

    HTTP = "http"
    CONNECT = "connect"
    TLS = "tls"
    XMPP = "xmpp"
    WHATSAPP = "whatsapp"
    RAW = "raw"

    __hash__ = object.__hash__  # each is one object; Enum's own is a call of Python's


@dataclass(frozen=True, slots=True)
class Sniffed:
    """A connection's kind; for TLS also its ClientHello, or None where that is malformed.

    ``origin_form`` is an HTTP request that takes us for its web server (RFC 9112 3.2.1, 3.2.4).
    """

    kind: Kind
    hello: ClientHello | None = None
    origin_form: bool = False


_HTTP = Sniffed(Kind.HTTP)
_ORIGIN_FORM = Sniffed(Kind.HTTP, origin_form=True)
_CONNECT = Sniffed(Kind.CONNECT)
_XMPP = Sniffed(Kind.XMPP)
_WHATSAPP = Sniffed(Kind.WHATSAPP)
_RAW = Sniffed(Kind.RAW)
#: The first byte of a ClientHello's record, and of nothing else that is known here.
_TLS = bytes((HANDSHAKE,))


def sniff(data: bytes) -> Sniffed | NeedMore:
    """Tell a connection's kind from all the bytes that it has sent so far.

    NeedMore at SNIFF_LIMIT bytes or more means that it cannot be told at all.
    """
    data = bytes(data[:SNIFF_LIMIT])
    if data.startswith(_TLS):
        return _match_tls(data) or _RAW  # nobody else has to be asked
    waiting = 0
    for matcher in _MATCHERS:
        answer = matcher(data)
        if isinstance(answer, Sniffed):
            return answer
        if answer is not None:
            waiting = min(waiting or answer.at_least, answer.at_least)
    return NeedMore(waiting) if waiting else _RAW


def _match_whatsapp(data: bytes) -> Sniffed | NeedMore | None:
    """``WA`` and two version bytes, perhaps behind an edge-routing header.

    The header is ``ED`` 00 01, a 3-byte length and so many bytes. Version bytes change, but stay
    below 0x20, which tells the intro from HTTP methods such as WATCH.
    """
    if data.startswith(b"E"):
        return _match_edge_routed(data)
    if not _agree(data, b"WA") or max(data[2:4], default=0) >= 0x20:
        return None
    return _WHATSAPP if len(data) >= 4 else NeedMore(len(data) + 1)


def _match_edge_routed(data: bytes) -> Sniffed | NeedMore | None:
    if not _agree(data, b"ED\x00\x01"):
        return None
    if len(data) < 7:
        return NeedMore(len(data) + 1)
    intro = 7 + int.from_bytes(data[4:7], "big")
    if intro + 2 > SNIFF_LIMIT:
        return None
    if len(data) <= intro:
        return NeedMore(intro + 1)
    if not _agree(data[intro:], b"WA"):
        return None
    return _WHATSAPP if len(data) >= intro + 2 else NeedMore(intro + 2)


def _match_xmpp(data: bytes) -> Sniffed | NeedMore | None:
    """An XML declaration or a stream header, perhaps behind a byte order mark and white space."""
    bom = b"\xef\xbb\xbf"
    if len(data) < len(bom) and _agree(data, bom):
        return NeedMore(len(data) + 1)
    start = data.removeprefix(bom).lstrip(b" \t\r\n")
    for opening in (b"<?xml", b"<stream"):
        if _agree(start, opening):
            return _XMPP if len(start) >= len(opening) else NeedMore(len(data) + 1)
    return None


def _match_tls(data: bytes) -> Sniffed | NeedMore | None:
    hello = parse_client_hello(data)
    if isinstance(hello, NeedMore):
        return hello
    if hello is Unreadable.NOT_TLS:
        return None
    return Sniffed(Kind.TLS, hello if isinstance(hello, ClientHello) else None)


#: RFC 9110 5.6.2. No registered method is longer than 17 characters; 32 leaves room.
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{0,32}")
#: The beginning of an absolute-form target, as much of it as there is.
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]{0,31}")
_AUTHORITY_START = re.compile(rb"[A-Za-z0-9_\[]")


def _match_http(data: bytes) -> Sniffed | NeedMore | None:
    """A method, one space and the beginning of a target (RFC 9112 3.2), perhaps behind a CRLF."""
    if data == b"\r":
        return NeedMore(2)
    start = data.removeprefix(b"\r\n")
    found = _METHOD.match(start)
    method = found[0] if found else b""
    if len(start) == len(method):
        return NeedMore(len(data) + 1) if len(method) <= 32 else None
    if not method or start[len(method)] != 0x20:
        return None
    target = start[len(method) + 1 :]
    if not target:
        return NeedMore(len(data) + 1)
    if method == b"CONNECT" and _AUTHORITY_START.match(target):
        return _CONNECT
    if target.startswith(b"/"):
        return _ORIGIN_FORM
    if target.startswith(b"*"):
        if len(target) == 1:
            return NeedMore(len(data) + 1)
        return _ORIGIN_FORM if target[1] == 0x20 else None
    scheme = _SCHEME.match(target)
    if scheme is None or not _agree(target[scheme.end() :], b"://"):
        return None
    return _HTTP if len(target) >= scheme.end() + 3 else NeedMore(len(data) + 1)


def _agree(data: bytes, pattern: bytes) -> bool:
    """Is one of the two the beginning of the other?"""
    return data.startswith(pattern) if len(data) >= len(pattern) else pattern.startswith(data)


_MATCHERS: tuple[Callable[[bytes], Sniffed | NeedMore | None], ...] = (
    _match_whatsapp,
    _match_tls,
    _match_http,
    _match_xmpp,
)
