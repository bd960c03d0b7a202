"""What the tests share: a proxy in this process, its settings, and peers that come and go."""

import dataclasses
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.peers import LOOPBACK, Listener, Peer, UnixPeer, reactor, until
from whatsproxy.attempts import Listener as Waiting
from whatsproxy.codecs import Direct, SocksProxy
from whatsproxy.destination import Destination
from whatsproxy.factory import ProxyFactory
from whatsproxy.hub_reactor import HubReactor
from whatsproxy.reason import Reason
from whatsproxy.relay import Relay
from whatsproxy.resolver import Resolver
from whatsproxy.settings import Settings
from whatsproxy.transport import SingleProtocolFactory
from whatsproxy.upstream import Arrival, Upstream, legs_of

Part = TypeVar("Part")
Test = TypeVar("Test")

#: What the proxy's connections are made with: the hub, or with TEST_FAST=0 the reactor itself.
FAST = os.environ.get("TEST_FAST") != "0"
fast: Any = HubReactor(reactor) if FAST else reactor

#: Networks of the tests' origins.
LOCAL = ("127.0.0.0/8", "::1")
#: The first bytes of each kind that needs no building.
WHATSAPP = b"WA\x06\x03" + bytes(range(64))
XMPP = b"<?xml version='1.0'?><stream:stream to='jabber.test'>"
RAW = b"\x00\x01\x02\x03 raw bytes"
HTTP = b"GET / HTTP/1.1\r\nHost: web.whatsapp.com\r\n\r\n"
CONNECT = b"CONNECT g.whatsapp.net:5222 HTTP/1.1\r\nHost: g.whatsapp.net\r\n\r\n"


def make_settings(**sections: dict[str, Any]) -> Settings:
    """Return the default settings with some keys of some sections replaced.

    TLS is not terminated unless a test asks for it: no certificate is made for nothing. All peers
    of the tests are on loopback: names may lead there, and clients are not limited.
    """
    defaults = Settings()
    sections.setdefault("tls", {"auto_generate": False})
    sections["server"] = {"fast": FAST, **sections.get("server", {})}
    sections["policy"] = {"allow_networks": LOCAL, **sections.get("policy", {})}
    sections.setdefault("clients", {"max_per_client": 0, "rate_per_client": 0})
    return dataclasses.replace(
        defaults,
        **{
            name: dataclasses.replace(getattr(defaults, name), **keys)
            for name, keys in sections.items()
        },
    )


def to_upstream(port: int, **sections: dict[str, Any]) -> Settings:
    """Return settings that send every kind but TLS to a port of this machine, directly."""
    return make_settings(**{"upstream": {"chat": (Destination(LOOPBACK, port),)}, **sections})


def through_socks(port: int, *more: Direct | SocksProxy, **sections: Any) -> Settings:
    """Return settings with the SOCKS server at a port of this machine, and others behind it."""
    proxies = (SocksProxy(Destination(LOOPBACK, port)), *more)
    return make_settings(**{"socks5": {"proxies": proxies}, **sections})


class FakeUpstream:
    """In Upstream's place: each connect waits for the test to say what comes of it."""

    def __init__(self) -> None:
        self.asked: list[Sequence[Destination]] = []
        self.cancelled = 0
        self.answer: Callable[[], Deferred[Any]] = lambda: Deferred(self._cancel)
        self.last: Deferred[Any] = Deferred()

    def connect(
        self, destinations: Sequence[Destination], whose: Callable[[], Any] = lambda: None
    ) -> Deferred[Any]:
        self.asked.append(destinations)
        self.last = self.answer()
        return self.last

    def attempt(
        self,
        destinations: Sequence[Destination],
        listener: Waiting[Arrival],
        whose: Callable[[], Any] = lambda: None,
    ) -> "FakeAttempt":
        return FakeAttempt(lambda: self.connect(destinations, whose), listener)

    def _cancel(self, _: object) -> None:
        self.cancelled += 1


class FakeAttempt:
    """An attempt that a Deferred decides."""

    def __init__(self, connect: Callable[[], Deferred[Any]], listener: Waiting[Arrival]) -> None:
        self._connect = connect
        self._listener = listener
        self._cancelled = False
        self._connecting: Deferred[Any] = Deferred()

    def start(self) -> None:
        self._connecting = self._connect()
        self._connecting.addCallbacks(self._listener.reached, self._failed)

    def cancel(self) -> None:
        self._cancelled = True
        self._connecting.cancel()

    def _failed(self, failure: Any) -> None:
        if not self._cancelled:
            self._listener.unreached(failure.value)


class LoopbackCase(TestCase):
    """Real connections on loopback; whatever a test leaves open is closed, and sessions counted."""

    timeout = 30
    factory: ProxyFactory | None = None
    proxy_port: int
    #: The proxy's, if its timers are the test's.
    _clock: Clock | None = None

    def setUp(self) -> None:
        self._dialled: list[Peer] = []
        self._listeners: list[Listener] = []

    async def tearDown(self) -> None:
        """Break off what is open: no session may outlive that, nor anything be scheduled."""
        for peer in self._dialled + [p for listener in self._listeners for p in listener.peers]:
            if peer.transport is not None and peer.lost is None:
                peer.reset()
        if self.factory is None:
            return
        ledger = self.factory.ledger
        await until(
            lambda: self.a_moment_passes() and not ledger.live,
            "a session has outlived its connections",
        )
        self.assertEqual(ledger.accepted, sum(ledger.ends.values()))
        self.assertIsNone(self.factory.idle_watch._timer)
        if self._clock is not None:
            self.assertEqual(self._clock.getDelayedCalls(), [])
        if FAST:  # trial has closed the ports before this
            await until(lambda: not fast.hub.owners, "something is still on the hub")
            self.assertEqual(fast.hub.pipes.lent, 0)

    def a_moment_passes(self) -> bool:
        """Let a moment pass, if time is the test's: what is broken off waits for the kernel."""
        if self._clock is not None:
            self._clock.advance(0.05)
        return True

    def listen_with(self, factory: Any) -> int:
        """Accept connections with a factory; the answer is the port."""
        return self._listening(reactor, factory)

    def _listening(self, at: Any, factory: Any) -> int:
        port = at.listenTCP(0, factory, interface=LOOPBACK)
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    def listen(self, build: Callable[[], Any] = Peer) -> Listener:
        """Accept peers at ``.port``."""
        listener = Listener(build)
        listener.port = self.listen_with(listener)
        self._listeners.append(listener)
        return listener

    async def dial(self, port: int) -> Peer:
        """Connect a peer to a port of this machine."""
        endpoint = TCP4ClientEndpoint(reactor, LOOPBACK, port, timeout=5)
        peer = Peer()
        await endpoint.connect(SingleProtocolFactory(peer))
        self._dialled.append(peer)
        return peer

    async def dial_unix(self, factory: Any) -> Peer:
        """Connect a peer to a factory over a unix socket."""
        path = os.path.join(tempfile.mkdtemp(), "s")  # a short one: the kernel takes 108 bytes
        self.addCleanup(os.rmdir, os.path.dirname(path))
        self.addCleanup(reactor.listenUNIX(path, factory).stopListening)
        peer = UnixPeer()
        await UNIXClientEndpoint(reactor, path).connect(SingleProtocolFactory(peer))
        self._dialled.append(peer)
        return peer

    def start_proxy(
        self, settings: Settings, *, clock: Clock | None = None, upstream: Any = None
    ) -> ProxyFactory:
        """Run a proxy. With a clock its timers are the test's, though its connections are real."""
        if upstream is None and clock is not None:
            legs = legs_of(fast, Resolver(reactor), settings.socks5.proxies)
            upstream = Upstream(reactor, legs, settings.timeouts.connect)
        self._clock = clock
        self.factory = ProxyFactory(clock or fast, settings, upstream)
        self.proxy_port = self._listening(fast, self.factory)
        return self.factory

    async def client(self, first: bytes = b"") -> Peer:
        """Connect to the proxy and say something."""
        peer = await self.dial(self.proxy_port)
        if first:
            peer.write(first)
        return peer

    async def joined(self, listener: Listener, first: bytes = RAW) -> tuple[Peer, Any, Relay]:
        """Connect a client through the proxy: it, its upstream, and the relay between them."""
        client = await self.client(first)
        upstream = await listener.accepted(len(listener.peers) + 1)
        await upstream.got(first)
        return client, upstream, self.relay_of(client)

    async def arrival(self, port: int) -> Arrival:
        """Connect as an upstream does, to be handed to a tunnel by hand."""
        upstream = Upstream(reactor, legs_of(fast, Resolver(reactor), ()), 5.0)
        return await upstream.connect([Destination(LOOPBACK, port)])

    def relay_of(self, client: Peer) -> Relay:
        """Return the relay that carries a client's session."""
        (relay,) = [
            session.holder
            for session in self.factory.ledger.live
            if isinstance(session.holder, Relay)
            and session.holder._client.transport.getPeer() == client.transport.getHost()
        ]
        return relay

    async def ended_with(self, *reasons: Reason) -> None:
        """Wait until every session has ended; there are exactly these, in any order."""
        assert self.factory is not None
        ledger = self.factory.ledger
        await until(lambda: not ledger.live, "a session is still live")
        ends = {reason: count for reason, count in ledger.ends.items() if count}
        self.assertEqual(ends, dict(Counter(reasons)))


def part_of(service: Any, kind: type[Part]) -> Part:
    """Return the one part of a MultiService that is of this kind."""
    (part,) = [child for child in service.services if isinstance(child, kind)]
    return part


def keep_signal_handlers(case: SynchronousTestCase) -> None:
    """Put back, after a test, who handles the signals that the service handles."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        case.addCleanup(signal.signal, number, signal.getsignal(number))


def log_lines(case: SynchronousTestCase) -> list[str]:
    """Return a list that the formatted log events of a test are put into."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    case.addCleanup(globalLogPublisher.removeObserver, observe)
    return lines
