"""Connecting on the hub."""

import errno
import os
import socket
from _socket import socket as Socket  # noqa: N812  # see hub_socket
from functools import lru_cache
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import (
    ConnectBindError,
    ConnectError,
    TimeoutError,
    UserError,
    getConnectError,
)
from twisted.internet.interfaces import IAddress, IConnector
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from whatsproxy.descriptors import KEPT, below
from whatsproxy.hub_state import OUT, TO_BE_WRITTEN
from whatsproxy.hub_transport import HubTransport

_NONBLOCK = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC

log = Logger()


@implementer(IConnector)
class HubConnector:
    """One attempt to connect; until there is an answer it owns the socket."""

    __slots__ = (
        "_address",
        "_bind",
        "_error",
        "_factory",
        "_reactor",
        "_socket",
        "_timeout",
        "_timer",
    )

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        factory: Any,
        timeout: float | None,
        bind: tuple[str, int] | None,
    ) -> None:
        self._reactor = reactor
        self._address = (host, port)
        self._factory = factory
        self._timeout = timeout
        self._bind = bind
        self._socket: Socket | None = None
        self._timer: Any = None
        self._error: Exception | None = None

    def connect(self) -> None:
        """Begin (called once, by the reactor)."""
        factory = self._factory
        factory.doStart()
        factory.startedConnecting(self)
        hub = self._reactor.hub
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        try:
            self._socket = connecting = Socket(family, _NONBLOCK)
            number = connecting.fileno()
            if not below(number, KEPT):
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._bind is not None:
                try:
                    connecting.bind(self._bind)
                except OSError as e:
                    raise _FailedError(ConnectBindError(e.errno, e.strerror)) from None
            error = connecting.connect_ex(self._address)
            if error != errno.EINPROGRESS and error:
                raise _FailedError(getConnectError((error, os.strerror(error))))
            hub.register(number, self)
        except _FailedError as e:
            self._refuse_later(e.error)
        except OSError as e:
            self._refuse_later(ConnectError(e.errno, e.strerror))
        else:
            if self._timeout is not None:
                self._timer = self._reactor.callLater(self._timeout, self._late)

    def happened(self, events: int) -> None:
        """See how it stands (called by the hub)."""
        connecting = self._socket
        assert connecting is not None
        # Neither error nor hang-up: it is connected. The number is our own: none is given away in
        # the middle of a batch (see Hub.close). What is sent then would fail if that were wrong.
        if events & TO_BE_WRITTEN == OUT:
            self._connected(connecting, events)
            return
        error = connecting.connect_ex(self._address)
        if error in (0, errno.EISCONN):
            self._connected(connecting, events)
        elif error not in (errno.EALREADY, errno.EINPROGRESS):
            self._fail(getConnectError((error, os.strerror(error))))

    def _connected(self, connected: Socket, events: int) -> None:
        if self._timer is not None:
            self._stop_timer()
        # Whatever it raises is a failure to connect.
        protocol = self._factory.buildProtocol(address_of_pair(self._address))
        self._socket = self._factory = None
        hub = self._reactor.hub
        transport = HubTransport(hub, connected, protocol or _Nobody())
        hub.replace(connected.fileno(), transport)
        if protocol is None:
            transport.loseConnection()
            return
        try:
            protocol.makeConnection(transport)
            transport.happened(events)
        except Exception:
            failure = Failure()
            log.failure("a connection could not be served", failure)
            transport.fail(failure)

    def settle(self) -> None:
        """Fail, if it did at once (called by the hub)."""
        if self._error is not None:
            self._fail(self._error)

    def fail(self, failure: Failure) -> None:
        """End for an error of ours (called by the hub)."""
        self._fail(failure.value)

    def stopConnecting(self) -> None:
        """Give up (IConnector)."""
        if self._factory is not None:
            self._error = None
            self._fail(UserError())

    def disconnect(self) -> None:
        """Give up (IConnector); once there is a connection it is its protocol's."""
        self.stopConnecting()

    def getDestination(self) -> IAddress:
        """Return where to (IConnector)."""
        return address_of_pair(self._address)

    def _late(self) -> None:
        self._timer = None
        self._fail(TimeoutError())

    def _fail(self, error: Any) -> None:
        connecting, self._socket = self._socket, None
        self._stop_timer()
        if connecting is not None:
            self._reactor.hub.close(connecting)
        factory, self._factory = self._factory, None
        self._error = None
        if factory is not None:
            factory.clientConnectionFailed(self, Failure(error))
            factory.doStop()

    def _refuse_later(self, error: Exception) -> None:
        """Fail, but not yet: who asks has not got the connector."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._error = error
        self._reactor.hub.settle_later(self)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()


class _FailedError(Exception):
    def __init__(self, error: Exception) -> None:
        self.error = error


class _Nobody:
    """Whom a factory that has changed its mind leaves a connection to."""

    def dataReceived(self, data: bytes) -> None:
        """Nobody listens."""

    def connectionLost(self, reason: Failure) -> None:
        """Nobody minds."""


@lru_cache(1024)
def address_of_pair(address: tuple[str, int]) -> IPv4Address | IPv6Address:
    """Return an address as Twisted has it."""
    host, port = address
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, port)
