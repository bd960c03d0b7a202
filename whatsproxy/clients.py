"""Which clients may come, and how much of them: by address, at a time, in a second."""

from whatsproxy.networks import AddressSet, host_of
from whatsproxy.reason import Reason

#: Why a client may not come.
REFUSALS = frozenset({Reason.CLIENT_DENIED, Reason.CLIENT_CROWD, Reason.CLIENT_RATE})
#: Clients whose rate is remembered. In a crowd of more the oldest half is forgotten: they may begin
#: anew, and memory stays what it is.
REMEMBERED = 65536


class Rate:
    """A token bucket a host: ``rate`` events a second, ``burst`` of them at once."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        # What is left, and since when. Two tables: when the young one is full it becomes the old.
        self._young: dict[int, tuple[float, float]] = {}
        self._old: dict[int, tuple[float, float]] = {}

    def take(self, host: int, now: float) -> bool:
        """Take one; the answer is whether there was one. ``now`` is in seconds."""
        left, since = self._young.get(host) or self._old.get(host) or (self._burst, now)
        left += (now - since) * self._rate
        if left > self._burst:
            left = self._burst
        allowed = left >= 1
        self._young[host] = (left - 1 if allowed else left, now)
        if len(self._young) > REMEMBERED // 2:
            self._young, self._old = {}, self._young
        return allowed


class Clients:
    """Admits connections by the number of their client's address (see networks).

    Who has no address (a unix socket's) is let in: the socket's mode is the rule. ``most`` and
    ``rate`` are for one host, which in IPv6 is a /64; 0 means that there is no limit.
    """

    def __init__(
        self,
        allow: AddressSet | None = None,
        deny: AddressSet | None = None,
        *,
        most: int = 0,
        rate: float = 0.0,
        burst: int = 1,
    ) -> None:
        #: Who may come, None meaning everybody, and who may not all the same.
        self.allow = allow
        self.deny = deny
        self._most = most
        self._rate = Rate(rate, burst) if rate else None
        self._live: dict[int, int] = {}

    def admit(
        self, client: int | None, allow: AddressSet | None, now: float, *, named: bool = False
    ) -> Reason | None:
        """Let a connection in, to be told of by ``leave``; or say why not.

        ``allow`` is the listener's own rule. ``now`` is in seconds. ``named``: somebody had to say
        who the client is, and a client that nobody names is none of those that are allowed.
        """
        if client is None:
            nobody = named and (self.allow is not None or allow is not None)
            return Reason.CLIENT_DENIED if nobody else None
        if self.allow is not None and client not in self.allow:
            return Reason.CLIENT_DENIED
        if allow is not None and client not in allow:
            return Reason.CLIENT_DENIED
        if self.deny is not None and client in self.deny:
            return Reason.CLIENT_DENIED
        host = host_of(client)
        live = self._live.get(host, 0)
        if self._most and live >= self._most:
            return Reason.CLIENT_CROWD
        if self._rate is not None and not self._rate.take(host, now):
            return Reason.CLIENT_RATE
        self._live[host] = live + 1
        return None

    def leave(self, client: int | None) -> None:
        """Hear that a connection that was let in has ended."""
        if client is None:
            return
        host = host_of(client)
        left = self._live[host] - 1
        if left:
            self._live[host] = left
        else:
            del self._live[host]
