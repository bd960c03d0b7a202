"""Networks, addresses and lists of them, against Python's own; and the rules made of them."""

import ipaddress
from collections.abc import Callable, Iterator
from typing import Any

from tests.fuzz.laws import choices, insist, insist_equal
from tests.fuzz.target import Plant, Target
from whatsproxy.addresses import meant_by, special
from whatsproxy.networks import (
    Network,
    Networks,
    address_of,
    host_of,
    is_loopback,
    is_v4,
    neighbourhood,
    number_of,
    parse_list,
    parse_network,
)

_V4 = number_of("0.0.0.0")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def check(data: bytes) -> None:
    """Each line is a network; the last one is an address, too."""
    text = data.decode("utf-8", "surrogateescape")
    lines = text.split("\n")
    networks = []
    for line in lines:
        network = _check_network(line)
        if network is not None:
            networks.append(network)
    _check_list(text, lines)
    numbers = [number for first, last in networks for number in (first - 1, first, last, last + 1)]
    number = _or_none(number_of, lines[-1])
    if number is not None:
        numbers.append(number)
        insist_equal(number, _number(ipaddress.ip_address(lines[-1].partition("%")[0])))
    chosen = choices(data)
    numbers += [chosen.randrange(1 << 128), len(data)]
    some = chosen.sample(numbers, min(len(numbers), 12))
    _check_set(networks, [number for number in some if _is_one(number)])


def _or_none(parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except ValueError as e:
        insist(str(e), "no reason is given")
        return None


def _number(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return int(address) if mapped is None else _V4 | int(mapped)
    return _V4 | int(address)


def _is_one(number: int) -> bool:
    """Whether this is the number of an address: those of v4-mapped ones are not used."""
    if number >= _V4:
        return number < _V4 + (1 << 32)
    return number >= 0 and number >> 32 != 0xFFFF


def _check_network(text: str) -> Network | None:
    found: Network | None = _or_none(parse_network, text)
    if found is None:
        # What Python takes we take as well; a netmask is the one thing that it knows besides.
        plain = text.isascii() and text == text.strip() and "%" not in text
        if plain and "." not in text.partition("/")[2]:
            prefix = text.partition("/")[2]
            try:
                ipaddress.ip_network(text)
            except ValueError:
                return None
            insist(len(prefix) > 3, "Python takes", text)
        return None
    other = ipaddress.ip_network(text)
    first = _number(other.network_address)
    insist_equal(found, (first, first + other.num_addresses - 1), "another network")
    return found


def _check_list(text: str, lines: list[str]) -> None:
    found = _or_none(parse_list, text)
    entries = [line.partition("#")[0].strip() for line in lines]
    parsed = [_or_none(parse_network, entry) for entry in entries if entry]
    insist_equal(found, None if None in parsed else parsed, "a list is its lines")


def _check_set(networks: list[Network], numbers: list[int]) -> None:
    found = Networks(networks)
    insist_equal(bool(found), bool(networks))
    for number in numbers:
        within = any(first <= number <= last for first, last in networks)
        insist_equal(number in found, within, "membership of", address_of(number))
        _check_number(number)


def _check_number(number: int) -> None:
    text = address_of(number)
    insist_equal(number_of(text), number, "another address when written down")
    address = ipaddress.ip_address(text)
    insist_equal(is_v4(number), address.version == 4, "the family of", text)
    insist_equal(is_loopback(number), address.is_loopback, text)
    insist(number in Networks([parse_network(neighbourhood(number))]), "outside of its network")
    insist(number in Networks([(host_of(number), host_of(number) | ((1 << 64) - 1))]), "its host")
    meant = meant_by(number)
    insist_equal(meant_by(meant), meant)
    if address in _NAT64:
        insist_equal(is_v4(meant) and meant & 0xFFFFFFFF, number & 0xFFFFFFFF, "NAT64")
    else:
        insist_equal(meant, number)
    # What Python does not know for a public address is none to us.
    reached = ipaddress.ip_address(address_of(meant))
    if not reached.is_global or reached.is_multicast:
        insist(special(number), "public:", text)


def seeds() -> Iterator[bytes]:
    for text in (
        *(
            "192.0.2.0/24\n192.0.2.77",
            "2001:db8::/32 # ours\n\n10.0.0.0/8",
            "::ffff:10.0.0.1",
            "::1",
        ),
        *(
            "64:ff9b::a00:1",
            "0.0.0.0/0\n::/0",
            "192.0.2.1/24",
            "1.2.3.4/33",
            "fe80::1%eth0",
            "127.1",
        ),
        *(
            "::ffff:0:0/96\n1.2.3.4",
            "2002:7f00:1::",
            "224.0.0.1",
            "169.254.169.254",
            "100.64.0.1/10",
        ),
        *("192.0.2.0/025", "192.0.2.0/255.255.255.0", "\uff11.2.3.4", "a::/129", "192.0.2.0/24/1"),
    ):
        yield text.encode()


TARGET = Target(
    "networks",
    check,
    seeds,
    plants=(
        Plant("networks.py", "first <= self._lasts[-1] + 1:", "first <= self._lasts[-1] + 2:"),
        Plant("networks.py", "max(last, self._lasts[-1])", "last"),
        Plant("networks.py", "if first & (size - 1)", "if first & (size >> 1)"),
        Plant("addresses.py", "return _V4 | (number & 0xFFFFFFFF) if", "return number if"),
    ),
    words=tuple(
        text.encode()
        for text in (
            *(
                "/24",
                "/32",
                "/128",
                "/0",
                "\n",
                "#",
                "::",
                ":ffff:",
                "192.0.2.",
                "10.",
                "127.",
                "%",
            ),
            *("64:ff9b::", "2001:", "fe80::", "172.31.", "172.16.0.0/12", "/12", "/96", " ", "\r"),
        )
    ),
    longest=300,
)
