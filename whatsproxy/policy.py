"""Which destinations a client may name. Closed: what no rule allows is refused."""

from collections.abc import Iterable

from whatsproxy.destination import Destination, DestinationError, normalise_name


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
        normal = [normalise_pattern(pattern) for pattern in patterns]
        self._names = frozenset(p for p in normal if not p.startswith("*."))
        self._parents = frozenset(p[2:] for p in normal if p.startswith("*."))

    def __bool__(self) -> bool:
        return bool(self._names or self._parents)

    def match(self, name: str) -> bool:
        """Is this name, in its normal form, one of them?"""
        if name in self._names:
            return True
        while "." in name:
            name = name.partition(".")[2]
            if name in self._parents:
                return True
        return False


class Policy:
    """The names and ports that clients may reach.

    ``configured`` are the operator's own upstreams: whoever names exactly one of them may.
    """

    def __init__(
        self,
        allow: Iterable[str],
        allow_ports: Iterable[int],
        configured: Iterable[Destination] = (),
    ) -> None:
        self._names = Patterns(allow)
        self._ports = frozenset(allow_ports)
        self._configured = frozenset((place.host, place.port) for place in configured)

    def permits(self, destination: Destination) -> bool:
        """May a client name this destination? Literal addresses never match a name."""
        if (destination.host, destination.port) in self._configured:
            return True
        if destination.port not in self._ports or destination.is_address:
            return False
        return self._names.match(destination.host)

    def permits_name(self, name: str, port: int) -> Destination | None:
        """Return the destination that a client's unchecked name stands for, if it may go there."""
        try:
            destination = Destination(normalise_name(name), port)
        except DestinationError:
            return None
        return destination if self.permits(destination) else None
