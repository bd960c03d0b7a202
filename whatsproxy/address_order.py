"""Which of a name's addresses is tried first: RFC 6724, as getaddrinfo does it.

What cannot be known outside the kernel is left out (rules 3, 4 and 7), and the longest common
prefix too (rule 9), which would undo the order in which a name server shares out its load.
"""

import socket
from functools import lru_cache

from whatsproxy.networks import number_of

#: Prefix, precedence, label: RFC 6724 2.1. The longest prefix decides.
_TABLE = sorted(
    (
        (number_of(prefix) >> 128 - bits, bits, precedence, label)
        for prefix, bits, precedence, label in (
            ("::1", 128, 50, 0),
            ("::", 0, 40, 1),
            ("2002::", 16, 30, 2),
            ("2001::", 32, 5, 5),
            ("fc00::", 7, 3, 13),
            ("::", 96, 1, 3),
            ("fec0::", 10, 1, 11),
            ("3ffe::", 16, 1, 12),
        )
    ),
    key=lambda row: -row[1],
)
_V4_POLICY = 35, 4
_LINK_LOCAL, _SITE_LOCAL, _GLOBAL = 2, 5, 14
#: Any port will do: nothing is sent.
_DISCARD = 9


def in_order(addresses: list[str]) -> list[str]:
    """Return literal addresses, best first; equals stay in their order.

    Where the system has no descriptor to ask it with, whatever is asked is taken for unreachable.
    """
    return addresses if len(addresses) < 2 else sorted(addresses, key=_rank)


def best(addresses: list[str], limit: int) -> list[str]:
    """Return so many of the addresses, best first; where there are two families, half of each."""
    ordered = in_order(addresses)
    v6 = sum(":" in address for address in ordered)
    room = {True: max(limit // 2, limit - len(ordered) + v6), False: max(limit // 2, limit - v6)}
    kept = []
    for address in ordered:
        if room[":" in address] > 0:
            room[":" in address] -= 1
            kept.append(address)
    return kept


def _rank(address: str) -> tuple[int, bool, bool, int, int]:
    """Rules 1, 2, 5, 6 and 8: the smaller the better."""
    precedence, label = _policy(address)
    scope = _scope(address)
    source = _source(address)
    if source is None:
        return 1, False, False, -precedence, scope
    elsewhere, strange = _scope(source) != scope, _policy(source)[1] != label
    return 0, elsewhere, strange, -precedence, scope


def _source(address: str) -> str | None:
    """Return what address the system would send from; None where it has no route."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as s:
            s.connect((address, _DISCARD))
            return str(s.getsockname()[0])
    except OSError:
        return None


@lru_cache(1024)
def _policy(address: str) -> tuple[int, int]:
    """Return an address's precedence and label."""
    number = number_of(address)
    if number >> 128:  # IPv4, or v4-mapped
        return _V4_POLICY
    return next(
        (precedence, label)
        for prefix, bits, precedence, label in _TABLE
        if number >> 128 - bits == prefix
    )


def _scope(address: str) -> int:
    """Return how far an address reaches (RFC 6724 3.1, 3.2)."""
    if ":" not in address:
        return _LINK_LOCAL if address.startswith(("127.", "169.254.")) else _GLOBAL
    top = number_of(address) >> 118
    if address == "::1" or top == 0xFE80 >> 6:
        return _LINK_LOCAL
    return _SITE_LOCAL if top == 0xFEC0 >> 6 else _GLOBAL
