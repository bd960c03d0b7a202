"""What of a message's head goes on: end-to-end fields, in their order and as they were spelled."""

from dataclasses import dataclass, field

import h11

from whatsproxy.http1.heads import CONNECTION, FRAMING, HOST, LENGTH, Body, Framing
from whatsproxy.http1.target import Target
from whatsproxy.http1.writer import Fields

#: Fields of one connection (RFC 9110 7.6.1); those that begin with Proxy- are, too.
HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"te", b"transfer-encoding", b"upgrade", b"http2-settings"}
)
_NOTHING: frozenset[bytes] = frozenset()
_HOST = frozenset({HOST})
_HOST_AND_EXPECT = frozenset({HOST, b"expect"})
_LENGTH = frozenset({LENGTH})
#: What the configuration cannot touch: what frames and routes a message, and belongs to a hop.
RESERVED = HOP_BY_HOP | FRAMING | {b"trailer", b"expect", b"max-forwards"}


@dataclass(frozen=True, slots=True)
class Changes:
    """What the operator wants changed in one direction; ``removed`` are names in lower case."""

    removed: frozenset[bytes] = frozenset()
    added: tuple[tuple[bytes, bytes], ...] = ()
    #: Names that go no further as they came: those of one hop, too.
    taken_out: frozenset[bytes] = field(init=False)

    def __post_init__(self) -> None:
        ours = {name.lower() for name, _ in self.added}
        object.__setattr__(self, "taken_out", HOP_BY_HOP | self.removed | ours)


NO_CHANGES = Changes()


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator wants changed; ``via`` is a pseudonym to be named in Via, or nothing."""

    via: bytes = b""
    for_requests: Changes = NO_CHANGES
    for_responses: Changes = NO_CHANGES


#: A head's fields: each name in lower case, as it was spelled, and its value.
Items = list[tuple[bytes, bytes, bytes]]


Message = h11.Request | h11.Response | h11.InformationalResponse


def items_of(message: Message) -> Items:
    """Return a message's fields, in their order."""
    return [(name.lower(), name, value) for name, value in message.headers.raw_items()]


def values_of(items: Items, wanted: bytes) -> list[bytes]:
    """Return the values of a field, given in lower case."""
    return [value for name, _, value in items if name == wanted]


def tokens(items: Items, wanted: bytes) -> list[bytes]:
    """Return the members, in lower case, of a field that is a list of tokens."""
    values = values_of(items, wanted)
    if not values:
        return []
    listed = b",".join(values)
    return [token for part in listed.split(b",") if (token := part.strip(b" \t").lower())]


def request_fields(
    request: h11.Request, items: Items, target: Target, framing: Framing, rules: Rules
) -> Fields:
    """Return the fields that go to the origin; ``items`` are the request's."""
    knows_1_1 = request.http_version == b"1.1"
    hop = tokens(items, CONNECTION)
    dropped = _HOST if knows_1_1 else _HOST_AND_EXPECT
    fields = [
        (b"Host", target.authority),
        *_end_to_end(items, hop, dropped, rules.for_requests),
    ]
    if b"upgrade" in hop and knows_1_1 and framing == 0:
        fields += _wanted_upgrade(items)
    if framing is Body.CHUNKED:
        fields.append((b"Transfer-Encoding", b"chunked"))
    fields += _via(request.http_version, rules)
    if request.method == b"OPTIONS":
        fields = [(n, _one_hop_less(v) if n.lower() == b"max-forwards" else v) for n, v in fields]
    return fields


def is_last_hop(request: h11.Request) -> bool:
    """Whether an OPTIONS request is to be answered by the first who gets it (RFC 9110 7.6.2)."""
    if request.method != b"OPTIONS":
        return False
    hops = values_of(items_of(request), b"max-forwards")
    return any(not value.strip(b"0") for value in hops if value)


def response_fields(
    response: h11.Response | h11.InformationalResponse,
    items: Items,
    rules: Rules,
    *,
    close: bool = False,
) -> Fields:
    """Return the fields that go to the client; the writer adds what frames the body.

    ``items`` are the response's.
    """
    # Those have no body, and must not tell the length of one (RFC 9110 8.6).
    bodiless = response.status_code < 200 or response.status_code == 204
    hop = tokens(items, CONNECTION)
    fields = _end_to_end(items, hop, _LENGTH if bodiless else _NOTHING, rules.for_responses)
    if response.status_code in (101, 426):  # RFC 9110 15.2.2, 15.5.22
        fields.append((b"Connection", b"Upgrade"))
        fields += [(b"Upgrade", value) for value in values_of(items, b"upgrade")]
    if close and response.status_code >= 200:
        fields.append((b"Connection", b"close"))
    return fields + _via(response.http_version, rules)


def nominated(items: Items) -> frozenset[bytes]:
    """Return the names of fields that Connection says are for one hop, trailers included."""
    return frozenset(tokens(items, CONNECTION))


def trailers_of(end: h11.EndOfMessage, hop: frozenset[bytes], changes: Changes) -> Fields:
    """Return the trailer fields that go on: nothing passes there that is taken out of heads.

    ``hop`` are the names that the head has nominated.
    """
    out = hop | changes.taken_out
    return [field for field in end.headers.raw_items() if field[0].lower() not in out]


def _wanted_upgrade(items: Items) -> Fields:
    """Return the fields of an Upgrade that Connection names, if it may go on (RFC 9110 7.8).

    Not with a body, in the middle of which an origin could switch. Cleartext HTTP/2 is not passed
    on: behind it requests would go to names that nobody has checked.
    """
    protocols = tokens(items, b"upgrade")
    if not protocols:
        return []
    cleartext = any(protocol.strip(b'"').startswith(b"h2c") for protocol in protocols)
    if cleartext:
        return []
    wanted = b", ".join(value for value in values_of(items, b"upgrade") if value)
    return [(b"Connection", b"Upgrade"), (b"Upgrade", wanted)]


def _end_to_end(
    items: Items, hop: list[bytes], dropped: frozenset[bytes], changes: Changes
) -> Fields:
    out = changes.taken_out.union(dropped, hop)
    fields = [
        # Leading zeros are legal, and octal to some.
        (raw_name, b"%d" % int(value) if name == LENGTH else value)
        for name, raw_name, value in items
        if name not in out and not name.startswith(b"proxy-")
    ]
    return [*fields, *changes.added]


def _via(version: bytes, rules: Rules) -> Fields:
    return [(b"Via", version + b" " + rules.via)] if rules.via else []


def _one_hop_less(value: bytes) -> bytes:
    return b"%d" % (int(value) - 1) if value.isdigit() and len(value) < 10 else value
