"""Questions to a name server, and what its answers say (RFC 1035); Twisted's names do the bytes.

Of an answer counts what belongs to the question: the records of the name itself, and of what it is
an alias of. Whatever else is in it, nothing but literal addresses comes out.
"""

import socket
from dataclasses import dataclass
from typing import Any

from twisted.names import dns

A, AAAA = dns.A, dns.AAAA
#: Aliases of aliases that are followed.
ALIASES = 16
#: Addresses of one kind that are taken from an answer.
ADDRESSES = 16
#: A TTL is a number of 31 bits; what is more counts for nothing (RFC 2181 8).
_TTL_LIMIT = 1 << 31


@dataclass(frozen=True, slots=True)
class Answer:
    """What a name server says about a name's addresses of one kind.

    ``failed``: it cannot say. ``cut``: it did not fit. ``ttl``, in seconds, is what the addresses
    are good for, or that there is none; None where a negative answer does not say (RFC 2308 5).
    """

    addresses: tuple[str, ...] = ()
    ttl: int | None = None
    failed: bool = False
    cut: bool = False


def question(number: int, name: str, kind: int) -> bytes:
    """Return a question for the addresses of a kind; ``number`` is to be in the answer."""
    message = dns.Message(number, recDes=1)
    message.addQuery(name.encode(), kind)  # of text it would make IDNA 2003
    return message.toStr()


def answer_to(data: bytes, name: str, kinds: dict[int, int]) -> tuple[int, Answer] | None:
    """Return the kind that is answered, and the answer; None: this is no answer to a question.

    ``kinds``: which number asked for which kind.
    """
    message = dns.Message()
    try:
        message.fromStr(data)
    except Exception:  # it was written for servers that mean well
        return None
    kind = kinds.get(message.id)
    if kind is None or not message.answer or message.opCode != dns.OP_QUERY:
        return None
    if message.queries != [dns.Query(name.encode(), kind)]:
        return None
    if message.trunc:
        return kind, Answer(cut=True)
    if message.rCode not in (dns.OK, dns.ENAME):
        return kind, Answer(failed=True)
    addresses, ttl = _addresses(message.answers, name.encode(), kind)
    if not addresses:
        ttl = _negative_ttl(message.authority)
    return kind, Answer(tuple(addresses), ttl)


def _addresses(records: list[Any], owner: bytes, kind: int) -> tuple[list[str], int | None]:
    """Return a name's addresses, once each, and the least TTL on the way to them."""
    aliases: dict[bytes, Any] = {}
    for record in records:
        if record.cls == dns.IN and record.type == dns.CNAME:
            aliases.setdefault(record.name.name.lower(), record)
    owner = owner.lower()
    ttls: list[int] = []
    while owner in aliases and len(ttls) < ALIASES:
        alias = aliases[owner]
        ttls.append(alias.ttl)
        owner = alias.payload.name.name.lower()
    addresses: dict[str, None] = {}
    size, family = (16, socket.AF_INET6) if kind == AAAA else (4, socket.AF_INET)
    for record in records:
        mine = record.cls == dns.IN and record.type == kind and record.name.name.lower() == owner
        if mine and record.rdlength == size and len(addresses) < ADDRESSES:
            addresses[socket.inet_ntop(family, record.payload.address)] = None
            ttls.append(record.ttl)
    return list(addresses), min(map(_seconds, ttls), default=None)


def _negative_ttl(records: list[Any]) -> int | None:
    """Return for how long there is nothing: the SOA's own TTL or its MINIMUM (RFC 2308 5)."""
    for record in records:
        if record.cls == dns.IN and record.type == dns.SOA:
            return min(_seconds(record.ttl), _seconds(record.payload.minimum))
    return None


def _seconds(ttl: int) -> int:
    return ttl if 0 <= ttl < _TTL_LIMIT else 0
