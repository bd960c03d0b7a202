"""Where clients connect: the listeners of the settings, and the factory of each."""

import contextlib
import socket
from typing import Any, Protocol

from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from zope.interface import implementer

from whatsproxy.listen_codecs import Listener, listener_at
from whatsproxy.networks import AddressSet
from whatsproxy.settings import ServerSettings
from whatsproxy.sniff import Kind
from whatsproxy.transport import number_at

#: The longest queue of connections not yet accepted; the kernel's somaxconn caps it.
BACKLOG = 4096

log = Logger()


class Doorkeeper(Protocol):
    """Who decides about newcomers."""

    def accept(self, client: int | None, door: "Door") -> IProtocol | None:
        """Return the first protocol of a client's connection, or None, which closes it.

        ``client`` is the number of its address (see networks); a unix socket has none.
        """


@implementer(IProtocolFactory)
class Door:
    """The factory of one listener: what is particular to it, and who decides.

    ``allow`` are the networks of its clients, None meaning all.
    """

    noisy = False

    def __init__(
        self,
        keeper: Doorkeeper,
        kinds: frozenset[Kind],
        *,
        proxy_protocol: bool = False,
        allow: AddressSet | None = None,
    ) -> None:
        self._keeper = keeper
        self.kinds = kinds
        self.proxy_protocol = proxy_protocol
        self.allow = allow

    def doStart(self) -> None:
        """Nothing is to be prepared (IProtocolFactory)."""

    def doStop(self) -> None:
        """Nothing is to be put away: connections outlive their listener."""

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:
        """Ask about a newcomer (called by Twisted)."""
        return self._keeper.accept(number_at(addr), self)

    def build_for(self, client: int) -> IProtocol | None:
        """Ask about a newcomer (called by the hub, which makes no object of each address)."""
        return self._keeper.accept(client, self)


def listeners_of(settings: ServerSettings) -> list[Listener]:
    """Return all listeners; of the default both families, whatever the system's ways."""
    return [*map(listener_at, _descriptions(settings)), *settings.listener]


def _descriptions(settings: ServerSettings) -> tuple[str, ...]:
    if settings.listen != ServerSettings().listen:
        return settings.listen
    in_ipv4 = tuple("tcp" + d.removeprefix("tcp6") for d in settings.listen)
    dual = dual_stack()
    if dual is None:
        log.info("no IPv6 here: listening on IPv4 alone")
        return in_ipv4
    return settings.listen if dual else settings.listen + in_ipv4


def dual_stack() -> bool | None:
    """Does a socket bound to ``::`` take IPv4 too? None: there is no IPv6 here."""
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::", 0))
            return not s.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    except OSError:
        return None


def endpoint_of(reactor: Any, description: str) -> IStreamServerEndpoint:
    """Return the endpoint of a description, with our backlog unless it names one.

    Raises whatever the kind of endpoint raises for a description that it cannot read.
    """
    endpoint: IStreamServerEndpoint
    kind, _, rest = description.partition(":")
    if rest and kind in ("tcp", "tcp6", "unix"):
        # A later backlog= wins over ours. One by position clashes with it; so do other mistakes,
        # which are then found again.
        with contextlib.suppress(TypeError):
            endpoint = serverFromString(reactor, f"{kind}:backlog={BACKLOG}:{rest}")
            return endpoint
    endpoint = serverFromString(reactor, description)
    return endpoint
