"""HTTP/1.1 by the letter of RFC 9112: a message is what has one reading, all else is a fault.

It judges what the proxy sends, so it takes no spelling that a recipient may merely tolerate. It
shares nothing with the proxy, nor with h11: these are functions of bytes and regular expressions.
"""

import re
from dataclasses import dataclass, replace

Fields = tuple[tuple[bytes, bytes], ...]

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_FIELD = re.compile(rb"(%s):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*" % _TOKEN)
_REQUEST_LINE = re.compile(rb"(%s) (/[!-~]*|\*) HTTP/1\.1" % _TOKEN)
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-9][0-9][0-9]) ([^\x00-\x08\x0a-\x1f\x7f]*)")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,15}")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
#: Not to be found where a message has ended (RFC 9110, 6.5.1), nor in Connection.
_HEAD_ONLY = {b"host", b"content-length", b"transfer-encoding", b"connection", b"te", b"trailer"}


class Fault(Exception):
    """The bytes are no message, or more than one."""


@dataclass(frozen=True)
class Message:
    """A request or an answer, whole."""

    #: The method, or the status code.
    kind: bytes
    #: What a request is for.
    target: bytes
    fields: Fields
    body: bytes = b""
    trailers: Fields = ()
    #: The reason phrase of an answer.
    reason: bytes = b""

    @property
    def told(self) -> tuple[bytes, bytes, bytes]:
        """What a request asks for: method, target and body."""
        return self.kind, self.target, self.body

    @property
    def status(self) -> int:
        """The status code of an answer."""
        return int(self.kind)

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of the fields called ``name``, which is in lower case."""
        return _values(self.fields, name)


def _values(fields: Fields, name: bytes) -> list[bytes]:
    return [value for key, value in fields if key.lower() == name]


def _fields(lines: list[bytes]) -> Fields:
    found = []
    for line in lines:
        matched = _FIELD.fullmatch(line)
        if matched is None:
            raise Fault(f"no field line: {line!r}")
        if matched[1].lower().replace(b"_", b"-") in _HEAD_ONLY and b"_" in matched[1]:
            raise Fault(f"a field in disguise: {line!r}")
        found.append((matched[1], matched[2]))
    return tuple(found)


def take_head(data: bytes) -> tuple[Message, int] | None:
    """Return the head of a request or an answer and its size; None where it is not all there."""
    size = data.find(b"\r\n\r\n") + 4
    if size < 4:
        return None
    start, *lines = data[: size - 4].split(b"\r\n")
    fields = _fields(lines)
    for value in _values(fields, b"connection"):
        for option in value.split(b","):
            if option.strip(b" \t").lower() in _HEAD_ONLY:
                raise Fault(f"Connection names what cannot be removed: {value!r}")
    if matched := _REQUEST_LINE.fullmatch(start):
        if len(_values(fields, b"host")) != 1:
            raise Fault(f"not one Host: {fields}")
        return Message(matched[1], matched[2], fields), size
    if matched := _STATUS_LINE.fullmatch(start):
        return Message(matched[1], b"", fields, reason=matched[2]), size
    raise Fault(f"neither request nor answer: {start!r}")


def _length(fields: Fields) -> int | None:
    """Return the length of the body, -1 where it is chunked, None where nothing is said of it."""
    lengths, codings = _values(fields, b"content-length"), _values(fields, b"transfer-encoding")
    if not lengths and not codings:
        return None
    if codings == [b"chunked"] and not lengths:
        return -1
    if not codings and len(lengths) == 1 and _LENGTH.fullmatch(lengths[0]):
        return int(lengths[0])
    raise Fault(f"the length is in doubt: {fields}")


def _take_chunked(data: bytes, at: int) -> tuple[bytes, Fields, int] | None:
    body = b""
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        if not _CHUNK_SIZE.fullmatch(data[at:end]):
            raise Fault(f"no size of a chunk: {data[at:end]!r}")
        size, at = int(data[at:end], 16), end + 2
        if size == 0:
            break
        if len(data) < at + size + 2:
            return None
        if data[at + size : at + size + 2] != b"\r\n":
            raise Fault("a chunk without an end")
        body, at = body + data[at : at + size], at + size + 2
    if data.startswith(b"\r\n", at):
        return body, (), at + 2
    end = data.find(b"\r\n\r\n", at)
    if end < 0:
        return None
    trailers = _fields(data[at:end].split(b"\r\n"))
    if _HEAD_ONLY & {name.lower() for name, _ in trailers}:
        raise Fault(f"trailers that belong into the head: {trailers}")
    return body, trailers, end + 4


def _take(data: bytes, length: int | None, head: Message, at: int) -> tuple[Message, int] | None:
    if length == -1:
        chunked = _take_chunked(data, at)
        if chunked is None:
            return None
        body, trailers, end = chunked
        return replace(head, body=body, trailers=trailers), end
    end = at + (length or 0)
    if len(data) < end:
        return None
    return replace(head, body=data[at:end]), end


def requests_in(data: bytes) -> tuple[list[Message], bytes]:
    """Return the whole requests in ``data``, and the beginning of another. Raises Fault."""
    found = []
    while head := take_head(data):
        if not head[0].target:
            raise Fault(f"an answer among requests: {head[0]}")
        whole = _take(data, _length(head[0].fields), *head)
        if whole is None:
            break
        found.append(whole[0])
        data = data[whole[1] :]
    return found, data


def answers_in(data: bytes, methods: list[bytes], *, ended: bool) -> tuple[list[Message], bytes]:
    """Return the whole answers in ``data``, 1xx too, and what is behind them. Raises Fault.

    ``methods`` are those of the requests that were sent; an answer beyond them is left over.
    ``ended`` says that there is no more to come, which may be the end of a body.
    """
    found: list[Message] = []
    waiting = list(methods)
    while waiting and (head := take_head(data)):
        status = head[0].status
        length = _length(head[0].fields)
        if status < 200:
            if length is not None:
                raise Fault(f"an interim answer with a length: {head[0]}")
        else:
            tunnel = waiting[0] == b"CONNECT" and status < 300
            if waiting.pop(0) == b"HEAD" or status in (204, 304) or tunnel:
                length = 0
            elif length is None:
                if not ended:
                    return found, data
                length = len(data) - head[1]
        whole = _take(data, length, *head)
        if whole is None:
            break
        found.append(whole[0])
        data = data[whole[1] :]
    return found, data
