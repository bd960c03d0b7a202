"""The service: listeners bound while privileged, readiness, and an orderly end."""

import os
import select
from typing import Any

import OpenSSL
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReactorFDSet,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from whatsproxy.accepting import Acceptor
from whatsproxy.certificates import CertificateError
from whatsproxy.codecs import SocksProxy
from whatsproxy.descriptors import FILES, KEPT
from whatsproxy.drain import Drain
from whatsproxy.factory import ProxyFactory
from whatsproxy.listeners import endpoint_of, listeners_of
from whatsproxy.metrics import registry_of
from whatsproxy.network_lists import ListError
from whatsproxy.openssl import is_known
from whatsproxy.settings import Settings
from whatsproxy.transport import describe
from whatsproxy.upstream import probe
from whatsproxy.users import UsersError
from whatsproxy.web import State, operator_site

log = Logger()


class StartupError(SystemExit, Exception):
    """The service cannot start; ``str()`` is one line for the operator.

    It is both: as an Exception it makes the launcher of a daemonised twistd end, and say so (in 100
    bytes: what matters comes first); as a SystemExit it ends ``twistd -n`` with the line on stderr
    and status 1 instead of a traceback.
    """


def fast_reactor(reactor: Any) -> Any:
    """Return the hub in front of a reactor, where there can be one."""
    if not IReactorFDSet.providedBy(reactor):
        return reactor
    if not (hasattr(select, "epoll") and hasattr(os, "eventfd")):  # no Linux, or an old one
        return reactor
    from whatsproxy.hub_reactor import HubReactor  # it needs them to be imported

    if not is_known():
        log.warn("no fast path here: pyOpenSSL {version} is too new", version=OpenSSL.__version__)
        return reactor
    try:
        return HubReactor(reactor)
    except OSError as e:  # in a sandbox, say
        log.warn("no fast path here: {why}", why=e.strerror)
        return reactor


class ProxyService(Service):
    """One proxy: its listeners, its sessions, its metrics."""

    def __init__(self, reactor: Any, settings: Settings) -> None:
        #: What clients and upstreams are connected with; all else is the reactor's.
        self._connections = fast_reactor(reactor) if settings.server.fast else reactor
        self.factory = ProxyFactory(self._connections, settings)
        self.state = State()
        self._reactor = reactor
        self._settings = settings
        self._ports: list[IListeningPort] = []
        self._metrics: IListeningPort | None = None
        self._drain: Drain | None = None
        self._acceptor = Acceptor(reactor, KEPT, lot=16, changed=self._pause)
        self._metrics_acceptor = Acceptor(reactor, FILES, lot=1)
        self._probing: list[Deferred[None]] = []

    def privilegedStartService(self) -> None:
        """Bind every listener, or raise StartupError with none left open."""
        super().privilegedStartService()
        listeners = listeners_of(self._settings.server)
        doors = [self.factory.door_of(listener) for listener in listeners]
        self._load()
        try:
            for listener, door in zip(listeners, doors, strict=True):
                port = self._listen("[server] listen", listener.endpoint, door, self._connections)
                self._ports.append(port)
                self._acceptor.watch(port)
                log.info(
                    "listening on {address} ({description})",
                    address=describe(port.getHost()),
                    description=listener.endpoint,
                )
            self._listen_for_metrics()
        except StartupError:
            # The reactor, which would do it, is not going to run; a unix socket would stay behind.
            for port in self._ports:
                port.connectionLost(Failure(ConnectionDone()))  # type: ignore[attr-defined]  # all have
            raise

    def _load(self) -> None:
        """Read all that is in files, or raise StartupError."""
        try:
            self.factory.tls_client.load()
            for loadable in self.factory.loadables:
                loadable.load()
        except CertificateError as e:
            raise StartupError(f"no TLS: {e} ([tls])") from None
        except UsersError as e:
            raise StartupError(f"no users: {e} ([http] users_file)") from None
        except ListError as e:
            raise StartupError(f"no list of networks: {e}") from None
        for loadable in self.factory.loadables:
            loadable.announce()

    def startService(self) -> None:
        """Be ready."""
        super().startService()
        self.state.not_ready = None
        for proxy in self._settings.socks5.proxies:
            if isinstance(proxy, SocksProxy):
                self._probe(proxy)

    def drain(self) -> "Deferred[None]":
        """End in order: not ready, not accepting, waiting, cutting; called again, cut at once."""
        if self._drain is None:
            self.state.not_ready = "draining"
            self._drain = Drain(self._reactor, self.factory.ledger, self._stop_listening)
            self._drain.start(self._settings.timeouts.lame_duck, self._settings.timeouts.shutdown)
        else:
            self._drain.cut()
        return self._drain.done

    def stopService(self) -> "Deferred[Any]":
        """Release everything at once: ports, sessions."""
        super().stopService()
        self.state.not_ready = "stopped"
        for probing in self._probing:
            probing.cancel()
        closing = [self._stop_listening()]
        if self._metrics is not None:
            self._metrics_acceptor.forget(self._metrics)
            closing.append(maybeDeferred(self._metrics.stopListening))
        if self._drain is None:
            # Nobody drained: then there is nothing left to wait for.
            self._drain = Drain(self._reactor, self.factory.ledger, self._stop_listening)
        self._drain.cut()
        return gatherResults([*closing, self._drain.done])

    def _pause(self, paused: bool) -> None:
        """Tell of newcomers that have to wait for descriptors, or need not wait any more."""
        self.state.paused = self.factory.ledger.accept_paused = paused
        self.factory.ledger.accept_pauses += paused

    def _probe(self, proxy: SocksProxy) -> None:
        """Warn of a SOCKS server that would not serve; it may come back, so go on."""

        def warn(failure: Failure) -> None:
            if not failure.check(CancelledError):
                log.warn(
                    "{proxy} does not serve now: {why}", proxy=proxy.url(True), why=failure.value
                )

        probing = probe(self._reactor, proxy, self._settings.timeouts.connect)
        self._probing.append(probing)
        probing.addErrback(warn)

    def _listen_for_metrics(self) -> None:
        description = self._settings.metrics.listen
        if not description:
            return
        site = operator_site(
            registry_of(self.factory.ledger, lambda: self.factory.tls.identities),
            self.state,
            self._reactor,
        )
        self._metrics = self._listen("[metrics] listen", description, site, self._reactor)
        self._metrics_acceptor.watch(self._metrics)
        log.info("metrics on http://{address}/metrics", address=describe(self._metrics.getHost()))

    def _listen(
        self, key: str, description: str, factory: IProtocolFactory, reactor: Any
    ) -> IListeningPort:
        results: list[Any] = []
        maybeDeferred(endpoint_of(reactor, description).listen, factory).addBoth(results.append)
        if not results:
            raise StartupError(f"cannot listen: it does not bind at once: {description} ({key})")
        if isinstance(results[0], Failure):
            error = results[0].value
            problem = getattr(error, "socketError", error)
            why = getattr(problem, "strerror", None) or problem
            raise StartupError(f"cannot listen: {why}: {description} ({key})")
        port: IListeningPort = results[0]
        number = getattr(port.getHost(), "port", None)
        if number is not None:
            self.factory.addresses.listeners.add(number)
        return port

    def _stop_listening(self) -> "Deferred[Any]":
        self.factory.drain()
        ports, self._ports = self._ports, []
        for port in ports:
            self._acceptor.forget(port)
        return gatherResults([maybeDeferred(port.stopListening) for port in ports])
