"""Whose turn it is at something scarce: by where they come from, and what came of that before."""

from typing import Generic, TypeVar

from whatsproxy.networks import is_v4

#: How many sites, or whatever it is, are remembered.
MEMORY = 16384
#: Seconds for which a site is known to have been right, or wrong. A crowd of N sites has N / WRONG
#: turns a second in which nothing speaks against it.
RIGHT, WRONG = 86400.0, 600.0

Key = TypeVar("Key", bytes, int)
Item = TypeVar("Item")


def site_of(client: int | None) -> int:
    """Return what stands for all that one client can easily be: in IPv6 a /48 (RFC 6177).

    ``client`` is its number (see networks). Whoever has none, on a unix socket, is one site.
    """
    if client is None:
        return -1
    return client if is_v4(client) else client >> 80


class Memory(Generic[Key]):
    """Keys, each for so many seconds; the oldest goes where there are too many."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: dict[Key, float] = {}  # the first to end is the first here

    def has(self, key: Key, now: float) -> bool:
        """Whether it was added less than so many seconds ago."""
        return self._until.get(key, now) > now

    def add(self, key: Key, now: float) -> None:
        """Remember it from now on."""
        self._until.pop(key, None)
        if len(self._until) >= MEMORY:
            del self._until[next(iter(self._until))]
        self._until[key] = now + self._seconds


class Turns(Generic[Item]):
    """Items that wait, ``most`` at a time. ``now`` is in seconds.

    Sites that have been wrong lately come last, those that have only been right come first; among
    equals one item of each in turn. One site may have all places, but only while nobody else wants
    them: so a crowd behind one address is served, and keeps nobody out.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._sites: dict[int, dict[Item, None]] = {}  # the first is the next among equals
        self._right: Memory[int] = Memory(RIGHT)
        self._wrong: Memory[int] = Memory(WRONG)

    def __len__(self) -> int:
        return sum(map(len, self._sites.values()))

    def note(self, site: int, now: float, *, right: bool) -> None:
        """Hear what came of a turn."""
        (self._right if right else self._wrong).add(site, now)

    def put(self, site: int, item: Item, now: float) -> Item | None:
        """Let an item wait, and return the one that has to go for it, if any; perhaps itself.

        That is the last one of the site that is worst, or of those the one with the most items.
        """
        goes = None
        if len(self) >= self._most:
            worst, many = max(
                ((self._rank(other, now), len(items)), other)
                for other, items in self._sites.items()
            )
            mine = len(self._sites.get(site, ()))
            if worst <= (self._rank(site, now), mine + 1):
                return item
            goes = next(reversed(self._sites[many]))
            self.remove(many, goes)
        self._sites.setdefault(site, {})[item] = None
        return goes

    def take(self, now: float) -> Item:
        """Take out the item whose turn it is. There has to be one."""
        site = min(self._sites, key=lambda site: self._rank(site, now))
        items = self._sites.pop(site)
        item = next(iter(items))
        del items[item]
        if items:
            self._sites[site] = items  # behind the others
        return item

    def remove(self, site: int, item: Item) -> bool:
        """Take an item out; the answer is whether it was there."""
        items = self._sites.get(site, {})
        if item not in items:
            return False
        del items[item]
        if not items:
            del self._sites[site]
        return True

    def _rank(self, site: int, now: float) -> int:
        if self._wrong.has(site, now):
            return 2
        return 0 if self._right.has(site, now) else 1
