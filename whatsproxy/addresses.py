"""Which addresses may be dialled for a name that a client chose, whoever answers for that name."""

from collections.abc import Callable

from whatsproxy.destination import Destination
from whatsproxy.networks import Networks, address_of, number_of, parse_network

#: What is nobody's public address (IANA's special-purpose registries, RFC 6890), first match wins.
#: 6to4 and Teredo can dress any IPv4 address, and both are over (RFC 7526, RFC 4380).
_SPECIAL = (
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "carrier-grade NAT"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "reserved"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("0.0.0.0/0", ""),  # the rest of IPv4 is public
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
    ("2001::/32", "Teredo"),
    ("2001::/23", "reserved"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4"),
    ("3fff::/20", "documentation"),
    ("2000::/3", ""),  # global unicast
    ("::/0", "reserved"),
)
_RANGES = tuple((*parse_network(network), what) for network, what in _SPECIAL)
_NAT64 = parse_network("64:ff9b::/96")
_V4 = parse_network("0.0.0.0/0")[0]


def meant_by(number: int) -> int:
    """Return the address to which an address is translated on its way (NAT64, RFC 6052)."""
    return _V4 | (number & 0xFFFFFFFF) if _NAT64[0] <= number <= _NAT64[1] else number


def special(number: int) -> str:
    """Return what an address is that is not public: ``loopback``, ``private``; else nothing."""
    meant = meant_by(number)
    return next(what for first, last, what in _RANGES if first <= meant <= last)


class ForbiddenAddressError(Exception):
    """The name leads where no client may go; ``str()`` names no address, for clients see it."""


class Addresses:
    """The addresses that may be dialled.

    Public ones may, and those in ``allow``. This host's own may only if they are in ``allow``, and
    never where one of its ``listeners`` is: that would be a loop. ``is_own`` asks the system.
    ``configured`` are the operator's upstreams, to which no rule applies.
    """

    def __init__(
        self,
        allow: Networks,
        is_own: Callable[[str], bool],
        configured: frozenset[tuple[str, int]] = frozenset(),
    ) -> None:
        self._allow = allow
        self._is_own = is_own
        self._configured = configured
        #: The ports of our own listeners; whoever binds them says so.
        self.listeners: set[int] = set()

    def permitted(self, destination: Destination, addresses: list[str]) -> list[str]:
        """Return those of a destination's addresses that may be dialled.

        Raises ForbiddenAddressError where none is left.
        """
        if (destination.host, destination.port) in self._configured:
            return addresses
        refusals = {address: self._refusal(address, destination.port) for address in addresses}
        good = [address for address, refusal in refusals.items() if not refusal]
        if addresses and not good:
            kinds = ", ".join(dict.fromkeys(refusals.values()))
            raise ForbiddenAddressError(
                f"the address behind {destination.host} is not for clients: {kinds}"
            )
        return good

    def _refusal(self, address: str, port: int) -> str:
        number = number_of(address)
        meant = meant_by(number)
        what = special(number)
        allowed = number in self._allow or meant in self._allow
        if port not in self.listeners and (allowed or what):
            return "" if allowed else what  # whoever's it is: asking costs more than all the rest
        # Who dials the unspecified address gets this host.
        own = what in ("loopback", "unspecified") or self._is_own(address_of(meant))
        if own and port in self.listeners:
            return "this proxy itself"
        if allowed:
            return ""
        return what or ("this host itself" if own else "")
