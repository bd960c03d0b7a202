"""Which destinations a client may name. Closed: what no rule allows is refused.

A name says nothing about where it leads: the addresses behind it have rules of their own.
"""

from collections.abc import Iterable

from whatsproxy.destination import Destination, DestinationError, normalise_name
from whatsproxy.networks import Networks, number_of


def normalise_pattern(pattern: str) -> str:
    """Return ``name`` or ``*.name`` in normal form; raise DestinationError for anything else."""
    if pattern == "*":
        raise DestinationError("'*' would make this an open relay; name the domains")
    if pattern.startswith("*."):
        return "*." + normalise_name(pattern[2:])
    return normalise_name(pattern)


class Patterns:
    """A set of names, given one by one or as ``*.x``, which covers the names below x, not x."""

    def __init__(self, patterns: Iterable[str]) -> None:
        given = list(patterns)
        #: Whether ``*`` is among them, which only [policy] allow may say.
        self.all = "*" in given
        normal = [normalise_pattern(pattern) for pattern in given if pattern != "*"]
        self._names = frozenset(p for p in normal if not p.startswith("*."))
        self._parents = frozenset(p[2:] for p in normal if p.startswith("*."))

    def __bool__(self) -> bool:
        return bool(self.all or self._names or self._parents)

    def match(self, name: str) -> bool:
        """Is this name, in its normal form, one of them?"""
        if self.all or name in self._names:
            return True
        while "." in name:
            name = name.partition(".")[2]
            if name in self._parents:
                return True
        return False


class Policy:
    """The names and ports that clients may reach, and the literal addresses in ``networks``.

    ``configured`` are the operator's own upstreams: whoever names exactly one of them may.
    """

    def __init__(
        self,
        allow: Iterable[str],
        allow_ports: Iterable[int],
        configured: Iterable[Destination] = (),
        networks: Networks | None = None,
    ) -> None:
        self._networks = networks or Networks()
        self._names = Patterns(allow)
        self._ports = frozenset(allow_ports)
        self._configured = frozenset((place.host, place.port) for place in configured)

    @property
    def allows_all(self) -> bool:
        """Whether every name is allowed."""
        return self._names.all

    def permits(self, destination: Destination) -> bool:
        """May a client name this destination? Literal addresses match no name, not even ``*``."""
        if (destination.host, destination.port) in self._configured:
            return True
        if destination.port not in self._ports:
            return False
        if destination.is_address:
            return number_of(destination.host) in self._networks
        return self._names.match(destination.host)

    def permits_name(self, name: str, port: int) -> Destination | None:
        """Return the destination that a client's unchecked name stands for, if it may go there."""
        try:
            destination = Destination(normalise_name(name), port)
        except DestinationError:
            return None
        return destination if self.permits(destination) else None
