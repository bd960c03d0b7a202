"""The raw check of a message's head, before h11 reads it.

h11 is lenient where RFC 9112 lets a recipient be: it takes obs-fold, a bare LF, Content-Length
beside Transfer-Encoding, repeated fields, control characters. Between two programs that differ in
their leniency a request can be smuggled. So what two programs could read in two ways is refused
here, and nothing is ever mended.
"""

import enum
import re
from dataclasses import dataclass

from whatsproxy.http1.errors import (
    BadMessageError,
    BodyTooLargeError,
    HeadTooLargeError,
    NotCarriedError,
    WrongVersionError,
)
from whatsproxy.incremental import NeedMore


@dataclass(frozen=True, slots=True)
class Limits:
    """``head`` and ``body`` are in bytes, ``fields`` is a number of lines.

    ``body`` is for requests alone; 0 means any size.
    """

    head: int = 64 * 1024
    fields: int = 100
    body: int = 0


class Body(enum.Enum):
    """A body whose length its head does not tell."""

    CHUNKED = "chunked"
    UNTIL_CLOSE = "until the connection ends"


#: What follows a head (RFC 9112 6.3): so many bytes, or a body that tells its end itself.
Framing = int | Body

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_VALUE = rb"[\t\x20-\x7e\x80-\xff]*"
_REQUEST_LINE = re.compile(rb"(%s) [\x21-\x7e]+ HTTP/([0-9])\.([0-9])" % _TOKEN)
_STATUS_LINE = re.compile(rb"HTTP/([0-9])\.([0-9]) ([1-9][0-9]{2})(?: %s)?" % _VALUE)
_LINE = rb"(%s):(%s)\r\n" % (_TOKEN, _VALUE)
_FIELD = re.compile(_LINE)
_FIELDS = re.compile(rb"(?:%s:%s\r\n)*" % (_TOKEN, _VALUE))
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
#: Far beyond every body, and still a number for everyone.
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CODINGS = re.compile(rb"%s(?:[ \t]*,[ \t]*%s)*" % (_TOKEN, _TOKEN))

HOST, CONNECTION = b"host", b"connection"
LENGTH, ENCODING = b"content-length", b"transfer-encoding"
#: Fields that say where a message ends, or goes. CGI knows no difference between ``_``
#: and ``-``, so that an origin may take the second spelling for the first.
FRAMING = frozenset({HOST, LENGTH, ENCODING})
_DECISIVE = FRAMING | {CONNECTION}
_DISGUISED = frozenset(name.replace(b"-", b"_") for name in FRAMING if b"-" in name)
_LOOKED_AT = _DECISIVE | _DISGUISED
#: What a trailer section must not hold (RFC 9110 6.5.1): framing, routing, connection.
_NO_TRAILERS = _DECISIVE | {b"upgrade", b"te", b"trailer", b"expect"}


def find_head(data: bytes | bytearray, looked: int = 0, limit: int = 1 << 30) -> int | NeedMore:
    """Return the size of the head at the beginning of ``data``, its blank line included.

    ``looked`` bytes were looked at before, and need not be again; no more than ``limit`` are, so
    that what stands behind them changes nothing. Raises BadMessageError as soon as a line ends by
    anything but CRLF (RFC 9112 2.2).
    """
    start = max(0, looked - 3)
    blank = data.find(b"\r\n\r\n", start, limit)
    stop = min(len(data), limit) if blank < 0 else blank + 4
    # To count is quicker than to look at each byte, and nearly always enough.
    ends = data.count(b"\r\n", start, stop)
    right = ends == data.count(b"\n", start, stop) == data.count(b"\r", start, stop)
    if not right and _BARE.search(data, start, stop):
        raise BadMessageError("a line ends with a bare CR or LF")
    return NeedMore(len(data) + 1) if blank < 0 else stop


def check_request(head: bytes, limits: Limits) -> Framing:
    """Check a request's head, from its first byte to its blank line; return what follows it.

    Raises a MessageError.
    """
    line, more, fields = head[:-4].partition(b"\r\n")
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        raise BadMessageError("the request line is not METHOD TARGET HTTP/1.1")
    version = _version(found[2], found[3])
    decisive = _check_fields(fields + more, limits)
    hosts = decisive.get(HOST, ())
    if len(hosts) > 1:
        raise BadMessageError("there is more than one Host field")
    if not hosts and version == 1:
        raise BadMessageError("HTTP/1.1 requires a Host field")
    framing = _framing(decisive, version)
    if framing is None:
        return 0
    if found[1] == b"CONNECT" and framing != 0:
        raise BadMessageError("CONNECT has no body")
    if isinstance(framing, int) and limits.body and framing > limits.body:
        raise BodyTooLargeError(f"a body of {framing} bytes is too large")
    return framing


def check_response(head: bytes, limits: Limits, *, to_head: bool) -> tuple[int, Framing]:
    """Check a response's head likewise; return its status and what follows it.

    ``to_head`` says that it answers HEAD, and has no body whatever it says. Raises a MessageError.
    """
    line, more, fields = head[:-4].partition(b"\r\n")
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        raise BadMessageError("the status line is not HTTP/1.1 STATUS REASON")
    version, status = _version(found[1], found[2]), int(found[3])
    framing = _framing(_check_fields(fields + more, limits), version)
    if status < 200 or status == 204:
        if framing:
            raise BadMessageError(
                f"an answer with status {status} has no body, and this one tells one"
            )
        return status, 0
    if to_head or status == 304:
        return status, 0
    return status, Body.UNTIL_CLOSE if framing is None else framing


def check_trailers(section: bytes, limits: Limits) -> None:
    """Check a trailer section (RFC 9112 7.1.2), its blank line included. Raises a MessageError."""
    lines = section[:-4]
    _check_fields(lines + b"\r\n", limits)
    for line in lines.split(b"\r\n"):
        name = line.partition(b":")[0].lower()
        if name in _NO_TRAILERS or name in _DISGUISED or name.startswith(b"proxy-"):
            raise BadMessageError("a trailer section holds a field that belongs into the head")


def _version(major: bytes, minor: bytes) -> int:
    """Return 0 for HTTP/1.0, 1 for HTTP/1.1; others are not spoken here."""
    if major != b"1" or minor not in b"01":
        raise WrongVersionError("only HTTP/1.0 and HTTP/1.1 are spoken here")
    return int(minor)


def _check_fields(lines: bytes, limits: Limits) -> dict[bytes, list[bytes]]:
    """Check every field line (RFC 9112 5), CRLF included; return the values of the decisive ones.

    All are matched at a time, and then taken apart: so it is done in C.
    """
    if lines.count(b"\r\n") > limits.fields:
        raise HeadTooLargeError(f"there are more than {limits.fields} fields")
    if _FIELDS.fullmatch(lines) is None:
        raise BadMessageError(_what_is_wrong(lines))
    decisive: dict[bytes, list[bytes]] = {}
    for spelled, value in _FIELD.findall(lines):
        name = spelled.lower()
        if name in _LOOKED_AT:
            if name in _DISGUISED:
                raise BadMessageError("a field is called like a framing field, with an underscore")
            decisive.setdefault(name, []).append(value.strip(b" \t"))
    for value in decisive.get(CONNECTION, ()):
        if not FRAMING.isdisjoint(name.strip(b" \t").lower() for name in value.split(b",")):
            raise BadMessageError("Connection names a field that frames or routes the message")
    return decisive


def _what_is_wrong(lines: bytes) -> str:
    """Say which rule the first wrong one of field lines breaks."""
    each = lines.split(b"\r\n")[:-1]
    line = next(line for line in each if not _FIELD.fullmatch(line + b"\r\n"))
    if line[:1] in (b" ", b"\t"):
        return "a field is folded over two lines (obs-fold)"
    name, colon, _ = line.partition(b":")
    if not colon:
        return "a field line has no colon"
    if name.rstrip(b" \t") != name:
        return "there is white space before a field's colon"
    if re.fullmatch(_TOKEN, name) is None:
        return "a field's name is not a token"
    return "a field's value holds a control character"


def _framing(decisive: dict[bytes, list[bytes]], version: int) -> Framing | None:
    """Return what the two framing fields say; None where neither is there (RFC 9112 6)."""
    lengths, encodings = decisive.get(LENGTH, ()), decisive.get(ENCODING, ())
    if encodings:
        if lengths:
            raise BadMessageError("there are Content-Length and Transfer-Encoding")
        if version == 0:
            raise BadMessageError("HTTP/1.0 has no Transfer-Encoding")
        if len(encodings) > 1:
            raise BadMessageError("there is more than one Transfer-Encoding field")
        coding = encodings[0].lower()
        if coding == b"chunked":
            return Body.CHUNKED
        _refuse_coding(coding)
    if not lengths:
        return None
    if len(lengths) > 1:
        raise BadMessageError("there is more than one Content-Length field")
    if _LENGTH.fullmatch(lengths[0]) is None:
        raise BadMessageError("Content-Length is not a number of bytes")
    return int(lengths[0])


def _refuse_coding(coding: bytes) -> None:
    """Tell a coding that is not carried from one that leaves the end in doubt (RFC 9112 6.1)."""
    codings = [name.strip(b" \t") for name in coding.split(b",")]
    orderly = _CODINGS.fullmatch(coding) and codings.count(b"chunked") == 1
    if orderly and codings[-1] == b"chunked" and b"identity" not in codings:
        raise NotCarriedError("no transfer coding but chunked is carried")
    raise BadMessageError("Transfer-Encoding is not chunked")
