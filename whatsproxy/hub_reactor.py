"""The hub behind the reactor's interface: TCP on the hub, all else the reactor's own (Linux).

Whoever is given it as a reactor gets sockets on the hub unnoticed, endpoint descriptions (``tcp:``,
``tcp6:``, ``systemd:``) included. ``unix:`` and ``ssl:`` stay what they are.
"""

import os
import socket
from typing import Any

from twisted.internet.interfaces import IConnector, IListeningPort, IReactorSocket, IReactorTCP
from zope.interface import directlyProvides, implementer, providedBy

from whatsproxy.hub import Hub
from whatsproxy.hub_connector import HubConnector
from whatsproxy.hub_port import HubPort

#: Pipes for splicing, two descriptors each.
PIPES = 16 if hasattr(os, "splice") else 0


@implementer(IReactorTCP, IReactorSocket)
class HubReactor:
    """A reactor whose TCP sockets are on a hub of its own; for all else it is the reactor."""

    #: Connecting fails with EMFILE where it would take one of the last KEPT descriptors.
    leaves_descriptors = True

    def __init__(self, reactor: Any) -> None:
        self.hub = Hub(reactor, PIPES)
        self._reactor = reactor
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """Listen (see IReactorTCP)."""
        listening = HubPort(port, factory, backlog, interface, self)
        listening.startListening()
        return listening

    def adoptStreamPort(
        self, fileDescriptor: int, addressFamily: int, factory: Any
    ) -> IListeningPort:
        """Listen on a socket that somebody else has bound, systemd say (see IReactorSocket)."""
        if addressFamily not in (socket.AF_INET, socket.AF_INET6):
            listening: IListeningPort = self._reactor.adoptStreamPort(
                fileDescriptor, addressFamily, factory
            )
            return listening
        port = HubPort._fromListeningDescriptor(self, fileDescriptor, addressFamily, factory)  # type: ignore[no-untyped-call]  # as the reactor's own does
        port.startListening()
        return port  # type: ignore[no-any-return]

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: Any,
        timeout: float | None = 30,
        bindAddress: tuple[str, int] | None = None,
    ) -> IConnector:
        """Connect to an address (see IReactorTCP; names are for those who resolve them).

        Without a ``timeout`` the system's is the limit.
        """
        connector = HubConnector(self, host, port, factory, timeout, bindAddress)
        connector.connect()
        return connector
