"""HTTP messages as both parsers read them, in any split; and what would be sent on of them."""

from collections.abc import Callable
from typing import Any

import h11

from tests.fuzz.laws import choices, insist, insist_equal, pieces
from tests.http_reading import Reading, Seen
from tests.integration import strict_http
from tests.test_http_heads_laws import strictly
from whatsproxy.http1.errors import MessageError
from whatsproxy.http1.fields import Fields
from whatsproxy.http1.heads import Limits

#: Those of the configuration, and some that a short input reaches.
WIDE, NARROW = Limits(), Limits(head=200, fields=4, body=40)


class Raw(Reading):
    """Keeps the heads as they came, too."""

    def __init__(self, methods: Any = (), limits: Limits = WIDE) -> None:
        self.heads: list[bytes] = []
        super().__init__(methods, limits)

    def _take(self, event: Any) -> None:
        if isinstance(event, h11.Request | h11.Response | h11.InformationalResponse):
            self.heads.append(self.wire.raw_head)
        super()._take(event)

    def _next(self) -> None:
        if not self._asks and self.seen[-1].first[0].method == b"CONNECT":
            # A tunnel is no HTTP any more; where there is none, requests may follow.
            self.wire.send(h11.Response(status_code=403, headers=[("Content-Length", "0")]))
            self.wire.send(h11.EndOfMessage())
            if self.wire.reusable:
                self.wire.start_next_cycle()
                self.seen.append(Seen())
            return
        super()._next()


def read(data: bytes, methods: list[bytes]) -> list[Raw]:
    """Insist on what holds of any bytes; return what was read: with each of the limits."""
    chosen = choices(data)
    readings = []
    for limits, end in ((WIDE, False), (WIDE, True), (NARROW, True)):
        whole = Raw(methods, limits).feed(data, end=end)
        split = Raw(methods, limits).feed(*pieces(data, chosen), end=end)
        insist_equal(split.told, whole.told, "told otherwise in pieces")
        _check_reading(whole, data, limits, end)
        readings.append(whole)
    _, wide, narrow = readings
    _compare(wide, narrow)
    return [wide, narrow]


def _check_reading(reading: Raw, data: bytes, limits: Limits, end: bool) -> None:
    insist(reading.calls <= 2 * len(data) + 2, "more events than bytes")
    for head in reading.heads:
        strictly(head, request=not head.startswith(b"HTTP/"))
        insist(len(head) <= limits.head, "a head of", len(head))
        insist(head.count(b"\r\n") <= limits.fields + 2, "too many fields")
    body = sum(len(seen.body) for seen in reading.seen)
    insist(body + sum(map(len, reading.heads)) <= len(data), "more than has come")
    error = reading.error
    if error is not None:
        insist(str(error).isascii() and len(str(error)) <= 80, str(error))
    if end:  # nothing is waited for any more
        last = reading.seen[-1].trailers is not None
        insist(error is not None or reading.closed or last, "still waits, after the end")


def _compare(wide: Raw, narrow: Raw) -> None:
    """Limits refuse, and change nothing else."""
    for one, other in zip(wide.seen, narrow.seen, strict=False):
        if narrow.error is None or other is not narrow.seen[-1]:
            insist_equal(other, one, "read otherwise within limits")
    insist(wide.error is None or narrow.error is not None, "refused by the wider limits only")


def whole(reading: Raw) -> list[Seen]:
    """Return the messages that have come to their end."""
    return [seen for seen in reading.seen if seen.first and seen.trailers is not None]


def by_the_letter(read: Callable[..., Any], *arguments: Any, **more: Any) -> list[Any]:
    """Return the messages that there are by the letter; none where anything is not."""
    try:
        messages: list[Any] = read(*arguments, **more)[0]
    except strict_http.Fault:
        return []
    return messages


def insist_told(seen: Seen | None, message: Any, error: Any) -> None:
    """Insist that what is a message by the letter was read, as what it is."""
    insist(seen is not None, "refuses what is right by the letter:", message, error)
    insist_equal(seen.body, message.body, "another body")
    insist_equal(seen.trailers, list(message.trailers), "other trailers")
    fields = [(name, value) for name, value in seen.first[-1].headers.raw_items()]
    insist_equal(fields, list(message.fields), "other fields")


#: What a connection may be something else after, or end with.
_LAST = (b"connection", b"upgrade", b"expect", b"te", b"trailer")


def is_plain(message: Any) -> bool:
    """Whether a message has nothing about it but its body, and another may follow."""
    return not any(message.values(name) for name in _LAST) and not message.trailers


def sent(role: Any, message: Any, before: Any, body: bytes, trailers: Fields) -> bytes:
    """Return a message as h11 sends it; ``before`` is what h11 has to know of the request."""
    connection = h11.Connection(role)
    if role is h11.SERVER:
        connection.receive_data(before)
        while type(connection.next_event()) is not h11.EndOfMessage:
            pass
    data = connection.send(message) or b""
    if body:
        data += connection.send(h11.Data(data=body)) or b""
    return data + (connection.send(h11.EndOfMessage(headers=trailers)) or b"")


def refused(make: Any, *arguments: Any) -> Any:
    """Return what is made, or None where that is a MessageError."""
    try:
        return make(*arguments)
    except MessageError as e:
        insist(str(e).isascii() and len(str(e)) <= 80, str(e))
        return None
