"""HTTP through a forward proxy, as a load of the bars."""

from collections import Counter
from collections.abc import Sequence

from http_crowd import HttpCrowd
from http_traffic import Request, downloads, small

#: Connections for small answers, and for large ones.
_CLIENTS, _FEW = 16, 4
#: Bytes of a large body.
BODY = 16 << 20


class Requests:
    """Requests to ``address`` for what the origin at ``port`` has; ``limit`` is in seconds."""

    def __init__(self, address: tuple[str, int], port: int, limit: float) -> None:
        self.errors: Counter[str] = Counter()
        self._address = address
        self._limit = limit
        self._small = small(port)
        self._large = downloads(port, BODY, chunked=False)

    def check(self) -> None:
        """See that there is an answer."""
        self._ask(self._small, 1, 1)

    def small(self, count: int) -> float:
        """Ask for so many small answers; return how many that are."""
        return self._ask(self._small, count, _CLIENTS)

    def down(self, bodies: int) -> float:
        """Ask for so many large bodies; return their bytes."""
        return self._ask(self._large, bodies, _FEW) * BODY

    def leave(self) -> None:
        """Keep nothing: no connection outlasts its requests."""

    def _ask(self, requests: Sequence[Request], times: int, clients: int) -> float:
        crowd = HttpCrowd(self._address, self._limit)
        try:
            crowd.ask(requests, times, clients)
        finally:
            self.errors += crowd.errors
            crowd.leave()
        return crowd.completed
