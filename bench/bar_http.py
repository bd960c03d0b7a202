"""HTTP through a forward proxy, as a load of the bars.

Clients and origin take turns in one process, and never sleep: see pairs.
"""

import time
from collections import Counter
from collections.abc import Sequence

from http_crowd import HttpCrowd
from http_origin import HttpOrigin
from http_traffic import NAME, Request, downloads, small
from origin import listener

#: Connections for small answers, and for large ones.
_CLIENTS, _FEW = 16, 4
#: Bytes of a large body.
BODY = 64 << 20


class Pages:
    """An origin that is served turn by turn, and its port."""

    def __init__(self) -> None:
        listening = listener()
        self.port = int(listening.getsockname()[1])
        self.origin = HttpOrigin([listening])


class Requests:
    """Requests to ``address`` for what the origin has; ``limit`` is in seconds.

    ``tunnelled``: the same, but each connection first asks the proxy for a tunnel to the origin.
    """

    def __init__(
        self, address: tuple[str, int], pages: Pages, limit: float, *, tunnelled: bool = False
    ) -> None:
        self.errors: Counter[str] = Counter()
        self._address = address
        self._limit = limit
        self._origin = pages.origin
        self._connect = f"{NAME}:{pages.port}" if tunnelled else ""
        port = pages.port
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
        crowd = HttpCrowd(self._address, self._limit, self._connect, self._origin.turn)
        try:
            crowd.ask(requests, times, clients)
        finally:
            self.errors += crowd.errors
            crowd.leave()
            self._see_them_off()
        return crowd.completed

    def _see_them_off(self) -> None:
        """Let the origin's connections end, too: only then has the proxy done its work."""
        end = time.monotonic() + self._limit
        while len(self._origin):
            self._origin.turn()
            if time.monotonic() > end:
                self.errors["left open at the origin"] += len(self._origin)
                break
