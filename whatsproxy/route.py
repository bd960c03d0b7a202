"""Where a sniffed connection goes, or why it goes nowhere."""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from functools import lru_cache

from whatsproxy.destination import Destination, DestinationError, is_address, normalise_host
from whatsproxy.policy import Patterns, Policy
from whatsproxy.reason import Reason
from whatsproxy.sniff import Kind, Sniffed

EVERY_KIND = frozenset(Kind)
_KNOWN_TO_WEB_SERVERS = frozenset({Kind.TLS, Kind.HTTP, Kind.CONNECT})
#: The port to which TLS is passed through, whatever port it came in by.
TLS_PORT = 443
#: Server names whose routes are remembered.
ROUTES = 128


@dataclass(frozen=True, slots=True)
class Route:
    """The upstreams of a connection, to be tried in order."""

    destinations: tuple[Destination, ...]


@dataclass(frozen=True, slots=True)
class EachRequest:
    """The connection has no route, but each of its requests has (see Router.route_to)."""


@dataclass(frozen=True, slots=True)
class Terminate:
    """TLS ends here, and what is inside is sniffed again."""

    server_name: str | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The connection goes nowhere. ``detail`` is for the log."""

    reason: Reason
    detail: str = ""


class Router:
    """Decides by kind and policy.

    ``xmpp`` and ``raw``: empty means as ``chat``; None means that the kind is refused. ``web`` is
    who answers whoever takes us for a web server; None means that we do. ``names`` are our own, in
    TLS; none means that every name is which is not somebody else's; None, that TLS does not end
    here at all. The configured upstreams are the operator's word and pass no policy.
    """

    def __init__(
        self,
        policy: Policy,
        chat: tuple[Destination, ...],
        xmpp: tuple[Destination, ...] | None = (),
        raw: tuple[Destination, ...] | None = (),
        web: Destination | None = None,
        names: Iterable[str] | None = None,
    ) -> None:
        self._policy = policy
        self._names = None if names is None else Patterns(names)
        self.web = None if web is None else Route((web,))
        #: Remembers some: nearly all clients ask for the same few names.
        self._route_name = lru_cache(ROUTES)(self._decide_name)
        off = Refusal(Reason.REFUSED_KIND)
        self._fixed: dict[Kind, Route | EachRequest | Refusal] = {
            Kind.WHATSAPP: Route(chat),
            Kind.XMPP: off if xmpp is None else Route(xmpp or chat),
            Kind.RAW: off if raw is None else Route(raw or chat),
            Kind.HTTP: EachRequest(),
            Kind.CONNECT: EachRequest(),
        }

    def route(
        self, sniffed: Sniffed, *, inside: bool = False, kinds: Container[Kind] = EVERY_KIND
    ) -> Route | EachRequest | Terminate | Refusal:
        """Decide for one connection, or for what was found ``inside`` its TLS.

        ``kinds`` are those that its listener takes; whoever comes with another is a stranger.
        """
        if sniffed.kind not in kinds:
            return self._route_stranger(sniffed.kind, inside)
        if sniffed.kind is Kind.TLS:
            return self._route_tls(sniffed, inside)
        if sniffed.origin_form and self.web is not None and not inside:
            return self.web
        return self._fixed[sniffed.kind]

    def route_to(self, destination: Destination) -> Route | Refusal:
        """Decide for one request, which names its destination."""
        if self._policy.permits(destination):
            return Route((destination,))
        what = " (a literal address: see allow_networks)" if destination.is_address else ""
        return Refusal(
            Reason.REFUSED_NAME, f"the policy of this proxy does not allow {destination}{what}"
        )

    def _route_stranger(self, kind: Kind, inside: bool) -> Route | EachRequest | Refusal:
        if self.web is not None and not inside and kind in _KNOWN_TO_WEB_SERVERS:
            return self.web
        if kind in (Kind.HTTP, Kind.CONNECT):
            return EachRequest()  # none of which is forwarded
        return Refusal(Reason.REFUSED_KIND, "not at this listener")

    def _route_tls(self, sniffed: Sniffed, inside: bool) -> Route | Terminate | Refusal:
        hello = sniffed.hello
        return self._route_name(hello.server_name if hello else None, hello is not None, inside)

    def _decide_name(
        self, name: str | None, readable: bool, inside: bool
    ) -> Route | Terminate | Refusal:
        """Decide by a server name; ``readable``: by a ClientHello that could be read."""
        if self._policy.allows_all and name is not None and not inside and self._named_ours(name):
            return Terminate(name)
        destination = self._policy.permits_name(name, TLS_PORT) if name is not None else None
        if destination is not None:
            return Route((destination,))
        # What we cannot read OpenSSL perhaps can: then it must not be a way past the names.
        if not inside and (readable or not self._names) and self._is_ours(name):
            return Terminate(name)
        if not inside and self.web is not None:
            return self.web
        # A stranger's: quoted and escaped.
        return Refusal(Reason.REFUSED_NAME, "no server name" if name is None else repr(name))

    def _named_ours(self, name: str) -> bool:
        """Whether a name is in a list of our own: that says more than ``*``."""
        return bool(self._names) and self._is_ours(name)

    def _is_ours(self, name: str | None) -> bool:
        if self._names is None:
            return False
        if name is None or not self._names:
            return True
        try:
            normal = normalise_host(name)
        except DestinationError:
            return False
        return is_address(normal) or self._names.match(normal)
