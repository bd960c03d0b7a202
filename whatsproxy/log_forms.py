"""How a line of the log is written: its time, its escapes, and the line about a connection's end.

That line is as frequent as connections are: it is formatted here without an event, to the letter as
``logs`` would format the event.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii

from whatsproxy.reason import Reason
from whatsproxy.session import Session

#: C0, DEL, C1 and the two line separators of Unicode; none of them is printable for Python.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

#: Makes a line of: its time; its level; the session; the reason; the detail; the seconds that the
#: connection has lasted; what is told of the client, if anything.
EndedForm = Callable[[str, str, Session, Reason, str, float, str], str]


def escape(text: str) -> str:
    """Return the text with control characters visible, so that none can forge a line."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def stamp_of(seconds: float) -> str:
    """Return a time since the epoch as a line begins with it, in UTC."""
    when = datetime.fromtimestamp(seconds, UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Stamps:
    """Returns what ``stamp_of`` does, and makes it once for all lines of a millisecond."""

    __slots__ = ("_millisecond", "_prefix", "_second", "_stamp")

    def __init__(self) -> None:
        self._millisecond = self._second = -1
        self._prefix = self._stamp = ""

    def __call__(self, seconds: float) -> str:
        """Return a time since the epoch as a line begins with it."""
        # datetime rounds to microseconds, and then cuts: half of one comes on top.
        millisecond = int(seconds * 1000.0 + 0.0005)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            second, rest = divmod(millisecond, 1000)
            if second != self._second:
                self._second = second
                self._prefix = stamp_of(second)[:-4]
            self._stamp = f"{self._prefix}{rest:03d}Z"
        return self._stamp


def protocol_of(session: Session) -> str:
    """Return what a connection was, for the log: ``tls/http`` where TLS ended here."""
    kind, inner = session.kind, session.inner
    # Not ``value``, which an enumeration looks for in a roundabout way.
    if kind is None:
        return "undetected"
    return f"{kind._value_}/{inner._value_}" if inner is not None else str(kind._value_)


def ended_text(
    stamp: str,
    level: str,
    session: Session,
    reason: Reason,
    detail: str,
    seconds: float,
    client: str,
) -> str:
    """Return the line about a connection's end as text."""
    target = session.target or "-"
    if not target.isprintable():
        target = escape(target)
    who = f" client={client}" if client else ""
    if detail:
        who += f" ({escape(detail)})"
    return (
        f"{stamp} {level} connection ended: {reason._value_} protocol={protocol_of(session)}"
        f" to={target} seconds={seconds:.3f} received={session.received} sent={session.sent}{who}\n"
    )


def ended_json(
    stamp: str,
    level: str,
    session: Session,
    reason: Reason,
    detail: str,
    seconds: float,
    client: str,
) -> str:
    """Return the line about a connection's end as a JSON object (RFC 8259)."""
    protocol, received, sent = protocol_of(session), session.received, session.sent
    target = encode_basestring_ascii(session.target or "-")[1:-1]
    who = field = ""
    if client:
        who, field = f" client={client}", f', "client": "{client}"'
    if detail:
        detail = encode_basestring_ascii(detail)[1:-1]
        who += f" ({detail})"
    return (
        f'{{"time": "{stamp}", "level": "{level}", "logger": "whatsproxy.journal", "message":'
        f' "connection ended: {reason._value_} protocol={protocol} to={target}'
        f' seconds={seconds:.3f} received={received} sent={sent}{who}", "reason":'
        f' "{reason._value_}", "protocol": "{protocol}", "target": "{target}", "seconds":'
        f' {seconds!r}, "received": {received}, "sent": {sent}, "detail": "{detail}"{field}}}\n'
    )
