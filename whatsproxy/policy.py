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


class Policy:
    """The names and ports that clients may reach. ``*.x`` covers the names below x, not x.

    ``configured`` are the operator's own upstreams: whoever names exactly one of them may.
    """

    def __init__(
        self,
        allow: Iterable[str],
        allow_ports: Iterable[int],
        configured: Iterable[Destination] = (),
    ) -> None:
        patterns = [normalise_pattern(pattern) for pattern in allow]
        self._names = frozenset(p for p in patterns if not p.startswith("*."))
        self._parents = frozenset(p[2:] for p in patterns if p.startswith("*."))
        self._ports = frozenset(allow_ports)
        self._configured = frozenset(configured)

    def permits(self, destination: Destination) -> bool:
        """May a client name this destination? Literal addresses never match a name."""
        if destination in self._configured:
            return True
        if destination.port not in self._ports or destination.is_address:
            return False
        return destination.host in self._names or self._below_allowed(destination.host)

    def permits_name(self, name: str, port: int) -> Destination | None:
        """Return the destination that a client's unchecked name stands for, if it may go there."""
        try:
            destination = Destination(normalise_name(name), port)
        except DestinationError:
            return None
        return destination if self.permits(destination) else None

    def _below_allowed(self, name: str) -> bool:
        while "." in name:
            name = name.partition(".")[2]
            if name in self._parents:
                return True
        return False
