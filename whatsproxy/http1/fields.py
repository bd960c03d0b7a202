"""What of a message's head goes on: end-to-end fields, in their order and as they were spelled."""

from dataclasses import dataclass
from typing import NamedTuple

import h11

from whatsproxy.http1.heads import FRAMING, HOST, LENGTH, Body, Framing
from whatsproxy.http1.target import Target

Fields = list[tuple[bytes, bytes]]

#: Fields of one connection (RFC 9110 7.6.1); those that begin with Proxy- are, too.
HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"te", b"transfer-encoding", b"upgrade", b"http2-settings"}
)
#: What the configuration cannot touch: what frames and routes a message, and belongs to a hop.
RESERVED = HOP_BY_HOP | FRAMING | {b"trailer", b"expect", b"max-forwards"}


class Changes(NamedTuple):
    """What the operator wants changed in one direction; ``removed`` are names in lower case."""

    removed: frozenset[bytes] = frozenset()
    added: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def taken_out(self) -> frozenset[bytes]:
        """Names that go no further as they came."""
        return self.removed | {name.lower() for name, _ in self.added}


NO_CHANGES = Changes()


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator wants changed; ``via`` is a pseudonym to be named in Via, or nothing."""

    via: bytes = b""
    for_requests: Changes = NO_CHANGES
    for_responses: Changes = NO_CHANGES


Message = h11.Request | h11.Response | h11.InformationalResponse


def tokens(message: Message, name: bytes) -> list[bytes]:
    """Return the members, in lower case, of a field that is a list of tokens."""
    values = [value for field, value in message.headers if field == name]
    return [part for v in values for item in v.split(b",") if (part := item.strip(b" \t").lower())]


def wanted_upgrade(request: h11.Request, framing: Framing) -> bytes | None:
    """Return the protocols of an Upgrade that may be passed on (RFC 9110 7.8), or None.

    With a body an origin could switch in the middle of it. Cleartext HTTP/2 is not passed on:
    behind it requests would go to names that nobody has checked.
    """
    protocols = tokens(request, b"upgrade")
    named = b"upgrade" in tokens(request, b"connection")
    if not protocols or not named or framing != 0 or request.http_version != b"1.1":
        return None
    if b"h2c" in protocols:
        return None
    return b", ".join(value for name, value in request.headers if name == b"upgrade")


def request_to_send(
    request: h11.Request, target: Target, framing: Framing, rules: Rules
) -> h11.Request:
    """Return the request that goes to the origin."""
    dropped = {HOST} if request.http_version == b"1.1" else {HOST, b"expect"}
    fields = [(b"Host", target.authority)]
    fields += _end_to_end(request, dropped, rules.for_requests)
    upgrade = wanted_upgrade(request, framing)
    if upgrade is not None:
        fields += [(b"Connection", b"Upgrade"), (b"Upgrade", upgrade)]
    if framing is Body.CHUNKED:
        fields.append((b"Transfer-Encoding", b"chunked"))
    fields += _via(request.http_version, rules)
    if request.method == b"OPTIONS":
        fields = [(n, _one_hop_less(v) if n.lower() == b"max-forwards" else v) for n, v in fields]
    return h11.Request(method=request.method, target=target.path, headers=fields)


def is_last_hop(request: h11.Request) -> bool:
    """Whether an OPTIONS request is to be answered by the first who gets it (RFC 9110 7.6.2)."""
    hops = [value for name, value in request.headers if name == b"max-forwards"]
    return request.method == b"OPTIONS" and any(not value.strip(b"0") for value in hops if value)


def response_fields(
    response: h11.Response | h11.InformationalResponse, rules: Rules, *, close: bool = False
) -> Fields:
    """Return the fields that go to the client; h11 adds what frames the body."""
    # Those have no body, and must not tell the length of one (RFC 9110 8.6).
    dropped = {LENGTH} if response.status_code < 200 or response.status_code == 204 else set()
    fields = _end_to_end(response, dropped, rules.for_responses)
    if response.status_code == 101:
        fields.append((b"Connection", b"Upgrade"))
        fields += [(b"Upgrade", value) for name, value in response.headers if name == b"upgrade"]
    elif close:
        fields.append((b"Connection", b"close"))
    return fields + _via(response.http_version, rules)


def trailers_of(end: h11.EndOfMessage, changes: Changes) -> Fields:
    """Return the trailer fields that go on: nothing passes there that is taken out of heads."""
    out = HOP_BY_HOP | changes.taken_out
    return [field for field in end.headers.raw_items() if field[0].lower() not in out]


def _end_to_end(message: Message, dropped: set[bytes], changes: Changes) -> Fields:
    out = HOP_BY_HOP | set(tokens(message, b"connection")) | dropped | changes.taken_out
    fields = []
    for (name, value), (raw_name, _) in zip(
        message.headers, message.headers.raw_items(), strict=True
    ):
        if name in out or name.startswith(b"proxy-"):
            continue
        # Leading zeros are legal, and octal to some.
        fields.append((raw_name, b"%d" % int(value) if name == LENGTH else value))
    return [*fields, *changes.added]


def _via(version: bytes, rules: Rules) -> Fields:
    return [(b"Via", version + b" " + rules.via)] if rules.via else []


def _one_hop_less(value: bytes) -> bytes:
    return b"%d" % (int(value) - 1) if value.isdigit() and len(value) < 10 else value
