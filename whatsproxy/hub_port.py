"""A listener whose connections are on the hub."""

import contextlib
import errno
import socket
from _socket import socket as Socket  # noqa: N812  # see hub_socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.tcp import Port
from twisted.python.failure import Failure

from whatsproxy.hub import Hub
from whatsproxy.hub_socket import address_of
from whatsproxy.hub_transport import HubTransport
from whatsproxy.networks import number_of

#: Newcomers that are let in at a time.
ACCEPTS = 64
#: What is the matter with one newcomer, not with the listener.
_NEVER_MIND = (errno.ECONNABORTED, errno.EINTR, errno.EPERM)
CLOSED = Failure(CONNECTION_DONE)


class HubPort(Port):
    """A listener of Twisted's whose connections are on the hub."""

    reactor: Any
    _on_hub = False
    _stopped: "Deferred[None] | None" = None

    def startListening(self) -> None:
        """Begin; what is set here holds for all newcomers (tcp(7))."""
        #: Of a factory that needs only the number of a newcomer's address.
        self._build_for = getattr(self.factory, "build_for", None)
        super().startListening()
        with contextlib.suppress(OSError):  # no TCP, after all
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def startReading(self) -> None:
        """Let newcomers in from now on."""
        if self._on_hub:
            self.reactor.hub.heed(self.socket.fileno(), True)
        else:
            self.reactor.hub.listen(self.socket.fileno(), self)
            self._on_hub = True

    def stopReading(self) -> None:
        """Let them wait."""
        if self._on_hub:
            self.reactor.hub.heed(self.socket.fileno(), False)

    def connectionLost(self, reason: Failure) -> None:
        """Close (called when it is stopped, and where the service cannot start)."""
        if self._on_hub:
            self._on_hub = False
            self.reactor.hub.listen_no_more(self.socket.fileno())
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def happened(self, events: int) -> None:
        """Let newcomers in (called by the hub)."""
        hub: Hub = self.reactor.hub
        listening: Any = self.socket
        accept = listening._accept
        family = self.addressFamily
        for _ in range(ACCEPTS):
            if self.disconnecting:
                break
            try:
                number, name = accept()
            except BlockingIOError:
                break
            except OSError as e:
                if e.errno in _NEVER_MIND:
                    continue
                # Out of descriptors or memory, where nobody watches (see accepting).
                self._logger.error("cannot accept: {why}", why=e.strerror)
                break
            self._welcome(hub, Socket(family, socket.SOCK_STREAM, 0, number), name)

    def loseConnection(self, connDone: Failure = CLOSED) -> "Deferred[None]":
        """Stop listening; the answer fires when the port is closed."""
        if self._stopped is None:
            self._stopped = Deferred()
            self.disconnecting = True
            self.stopReading()
            self.reactor.hub.settle_later(self)
        return self._stopped

    stopListening = loseConnection

    def settle(self) -> None:
        """Close (called by the hub)."""
        if self.connected:
            self.connectionLost(CLOSED)
        assert self._stopped is not None
        self._stopped.callback(None)

    def fail(self, failure: Failure) -> None:
        """Nothing else is to be ended (called by the hub)."""

    def _welcome(self, hub: Hub, newcomer: Socket, name: Any) -> None:
        newcomer.setblocking(False)
        transport = HubTransport(hub, newcomer, None)
        try:
            # First: where there is no room for it (fs.epoll.max_user_watches) nobody is to know it.
            hub.register(newcomer.fileno(), transport)
        except OSError as e:
            newcomer.close()
            self._logger.error("a newcomer was closed: {why}", why=e.strerror)
            return
        try:
            build_for = self._build_for
            if build_for is not None:
                protocol = build_for(number_of(name[0]))
            else:
                protocol = self.factory.buildProtocol(address_of(name))  # type: ignore[union-attr]  # it is listening
            if protocol is None:
                hub.forget(newcomer.fileno())
                newcomer.close()
                return
            transport.protocol = protocol
            protocol.makeConnection(transport)
        except Exception:
            self._logger.failure("a newcomer could not be served")
            transport.fail(Failure())
