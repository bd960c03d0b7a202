"""Hosts and ports: one normal form, which no other program takes for something else."""

import contextlib
import ipaddress
import socket
from collections.abc import Callable, Iterator
from typing import Any

from tests.fuzz.laws import insist, insist_equal
from tests.fuzz.target import Plant, Target
from whatsproxy.destination import (
    Destination,
    DestinationError,
    is_address,
    normalise_host,
    normalise_name,
    parse_destination,
)
from whatsproxy.policy import Patterns, Policy, normalise_pattern


def check(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    host = _or_none(normalise_host, text)
    name = _or_none(normalise_name, text)
    if host is not None:
        _check_host(host)
        if text.isascii():
            insist_equal(_or_none(normalise_host, text.upper()), host, "in upper case")
    if name is not None:
        insist_equal(host, name, "a name is no host")
        if not text.endswith((".", "\u3002", "\uff0e", "\uff61")):
            insist_equal(_or_none(normalise_name, text + "."), name, "with a dot behind it")
        _check_rules(name)
    elif host is not None:
        insist(is_address(host), "neither name nor address:", host)
    for default in (None, 443):
        found = _or_none(lambda default=default: parse_destination(text, default))
        if found is not None:
            _check_destination(found, text)
    _check_pattern(text)


def _or_none(parse: Callable[..., Any], *arguments: object) -> Any:
    """Return what is parsed; None where it is refused, which must say why."""
    try:
        return parse(*arguments)
    except DestinationError as e:
        insist(str(e), "no reason is given")
        return None


def _check_host(host: str) -> None:
    insist_equal(normalise_host(host), host, "not normal")
    insist(host.isascii() and host == host.lower() and not host.endswith("."), host)
    insist(0 < len(host) <= 253, "a length of", len(host))
    if is_address(host):
        insist_equal(str(ipaddress.ip_address(host)), host, "not the shortest form")
        insist("%" not in host, "a zone:", host)
        return
    # What the C library takes for an address would pass for a name that is allowed.
    for parse in (socket.inet_aton, ipaddress.ip_address):
        with contextlib.suppress(OSError, ValueError):
            insist(False, "a name that is the address", parse(host))
    insist(all(1 <= len(label) <= 63 for label in host.split(".")), host)


def _check_destination(found: Destination, text: str) -> None:
    _check_host(found.host)
    insist(1 <= found.port <= 65535, found.port)
    insist_equal(parse_destination(str(found)), found, "another one when written down")
    insist_equal(found.is_address, is_address(found.host))
    insist("@" not in text and "/" not in text, "userinfo, or a path:", text)


def _check_rules(name: str) -> None:
    """A name is matched by itself and its parents' wildcards, and by nothing else."""
    parent = name.partition(".")[2]
    insist(Patterns([name]).match(name), "does not match itself:", name)
    insist(not Patterns(["*." + name]).match(name), "matches below itself:", name)
    below = "x." + name
    insist_equal(Patterns([name, "*.a.b"]).match(below), below.endswith(".a.b"), "below", name)
    with contextlib.suppress(DestinationError):
        insist_equal(Patterns(["*." + parent]).match(name), bool(parent), "below", parent)
    insist(Policy([name], [443]).permits(Destination(name, 443)), name)
    insist(not Policy([name], [443]).permits(Destination(name, 80)), name)
    insist(not Policy([], [443]).permits(Destination(name, 443)), name)


def _check_pattern(text: str) -> None:
    pattern = _or_none(normalise_pattern, text)
    if pattern is not None:
        insist_equal(normalise_pattern(pattern), pattern, "not normal")
        insist("*" not in pattern.removeprefix("*."), pattern)


def seeds() -> Iterator[bytes]:
    for text in (
        *(
            "g.whatsapp.net:5222",
            "G.WhatsApp.NET.",
            "[2001:DB8::1]:443",
            "127.0.0.1:80",
            "faß.de:1",
        ),
        *("日本語.example", "0177.1", "2130706433:80", "0x7f.1", "1.2.3.4.in-addr.arpa", "[::1]"),
        *("*.example.org", "xn--fa-hia.de", "_dmarc.a", "::ffff:127.0.0.1", "fe80::1%eth0", "a:0"),
        *("a.b:65536", "u@h:1", "127\u30020\u30020\u30021", "\u212a.example", "localhost"),
    ):
        yield text.encode()


TARGET = Target(
    "destination",
    check,
    seeds,
    plants=(
        Plant("destination.py", "[0-9]+|0x[0-9a-f]*", "0x[0-9a-f]*"),
        Plant("destination.py", 'text.lower().removesuffix(".")', "text.lower()"),
    ),
    words=tuple(
        text.encode()
        for text in (
            *("xn--", ".", ":443", "[", "]", "::", "0x7f", "0177", "*.", "ß", "\u3002", "\u0661"),
            *("\uff11", "\u212a", "\u200d", "%25", "@", "::ffff:", "1.2.3.4", "İ", "a.b"),
        )
    ),
    longest=300,
)
