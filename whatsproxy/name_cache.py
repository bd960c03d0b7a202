"""What is known of names, for as long as that holds: at most so many of them, the least used go."""

from collections import OrderedDict


class Known:
    """What is known of one name: its addresses, best first, or why it has none."""

    __slots__ = ("addresses", "error", "since", "until")

    def __init__(self, addresses: list[str] | None, error: str, since: float, until: float) -> None:
        self.addresses = addresses
        self.error = error
        self.since = since
        self.until = until


class NameCache:
    """Names and what is known of them; ``now`` is in seconds, on the caller's clock."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: OrderedDict[str, Known] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, name: str, now: float) -> Known | None:
        """Return what is known of a name now, if anything is."""
        known = self._known.get(name)
        if known is None:
            return None
        # A clock that was put back must not let anything live for longer.
        if known.since <= now < known.until:
            self._known.move_to_end(name)
            return known
        del self._known[name]
        return None

    def put(self, name: str, result: list[str] | str, seconds: float, now: float) -> None:
        """Remember addresses, or the text of an error, for so many seconds."""
        if isinstance(result, str):
            known = Known(None, result, now, now + seconds)
        else:
            known = Known(result, "", now, now + seconds)
        self._known[name] = known
        self._known.move_to_end(name)
        if len(self._known) > self._limit:
            self._known.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()
