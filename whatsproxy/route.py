"""Where a sniffed connection goes, or why it goes nowhere."""

from dataclasses import dataclass

from whatsproxy.destination import Destination
from whatsproxy.policy import Policy
from whatsproxy.reason import Reason
from whatsproxy.sniff import Kind, Sniffed

#: The port to which TLS is passed through, whatever port it came in by.
TLS_PORT = 443


@dataclass(frozen=True, slots=True)
class Route:
    """The upstreams of a connection, to be tried in order."""

    destinations: tuple[Destination, ...]


@dataclass(frozen=True, slots=True)
class EachRequest:
    """The connection has no route, but each of its requests has (see Router.route_to)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The connection goes nowhere. ``detail`` is for the log."""

    reason: Reason
    detail: str = ""


class Router:
    """Decides by kind and policy.

    ``xmpp`` and ``raw``: empty means as ``chat``; None means that the kind is refused. ``web`` is
    who answers HTTP requests that take us for their web server; None means that we do. The
    configured upstreams are the operator's word and pass no policy.
    """

    def __init__(
        self,
        policy: Policy,
        chat: tuple[Destination, ...],
        xmpp: tuple[Destination, ...] | None = (),
        raw: tuple[Destination, ...] | None = (),
        web: Destination | None = None,
    ) -> None:
        self._policy = policy
        self.web = None if web is None else Route((web,))
        off = Refusal(Reason.REFUSED_KIND)
        self._fixed: dict[Kind, Route | EachRequest | Refusal] = {
            Kind.WHATSAPP: Route(chat),
            Kind.XMPP: off if xmpp is None else Route(xmpp or chat),
            Kind.RAW: off if raw is None else Route(raw or chat),
            Kind.HTTP: EachRequest(),
            Kind.CONNECT: EachRequest(),
        }

    def route(self, sniffed: Sniffed) -> Route | EachRequest | Refusal:
        """Decide for one connection."""
        if sniffed.kind is Kind.TLS:
            return self._route_tls(sniffed)
        if sniffed.origin_form and self.web is not None:
            return self.web
        return self._fixed[sniffed.kind]

    def route_to(self, destination: Destination) -> Route | Refusal:
        """Decide for one request, which names its destination."""
        if self._policy.permits(destination):
            return Route((destination,))
        what = " (a literal address: only names can be allowed)" if destination.is_address else ""
        return Refusal(
            Reason.REFUSED_NAME, f"the policy of this proxy does not allow {destination}{what}"
        )

    def _route_tls(self, sniffed: Sniffed) -> Route | Refusal:
        name = sniffed.hello.server_name if sniffed.hello else None
        if name is None:
            return Refusal(Reason.REFUSED_NAME, "no server name")
        destination = self._policy.permits_name(name, TLS_PORT)
        if destination is None:
            return Refusal(Reason.REFUSED_NAME, repr(name))  # a stranger's: quoted and escaped
        return Route((destination,))
