"""Plays a script on real connections: loopback sockets, the kernel, and Twisted's reactor."""

import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.tcp import Connection

from tests.fuzz.laws import insist
from tests.fuzz.script import SECONDS, Script, Step, segments
from tests.fuzz.stage import WHOLE, Stage, settings_of
from tests.http_peers import TurningClock
from tests.peers import LOOPBACK, reactor, turn
from whatsproxy.codecs import SocksProxy
from whatsproxy.destination import Destination
from whatsproxy.relay import Relay
from whatsproxy.resolver import Resolver
from whatsproxy.settings import Settings
from whatsproxy.upstream import Leg, Upstream, socks5_leg

#: Turns of the reactor after each step: what was sent arrives, and is passed on.
TURNS = 3
#: Turns after which a session that should end does not.
PATIENCE = 3000
#: Nothing listens here.
_CLOSED = 1


class End:
    """A peer: a socket, what it has sent and received."""

    def __init__(self, bare: socket.socket) -> None:
        bare.setblocking(False)
        self.sent, self.received = bytearray(), bytearray()
        self.stalled = self.ended = self.saw_end = self.saw_reset = False
        #: Where it is, and where the proxy's end is.
        self.address: tuple[str, int] = bare.getsockname()
        self.peer: tuple[str, int] = bare.getpeername()
        self._socket: socket.socket | None = bare
        self._pending = bytearray()
        self._ending = False

    def send(self, data: bytes) -> None:
        if not self._ending:
            self._pending += data
            self.go()

    def end(self) -> None:
        self._ending = True
        self.go()

    def reset(self) -> None:
        self.close(abort=True)

    def stall(self) -> None:
        self.stalled = True

    def read(self) -> None:
        self.stalled = False

    def close(self, *, abort: bool = False) -> None:
        bare, self._socket = self._socket, None
        if bare is not None:
            if abort:
                bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            bare.close()

    def go(self) -> None:
        """Send what waits, and read what has come."""
        bare = self._socket
        if bare is None:
            return
        try:
            with contextlib.suppress(BlockingIOError):
                while self._pending:
                    size = bare.send(self._pending)
                    self.sent += self._pending[:size]
                    del self._pending[:size]
            if self._ending and not (self.ended or self._pending):
                self.ended = True
                bare.shutdown(socket.SHUT_WR)
            with contextlib.suppress(BlockingIOError):
                while not (self.stalled or self.saw_end):
                    data = bare.recv(1 << 16)
                    self.saw_end = not data
                    self.received += data
        except OSError:
            self.saw_reset = True
            self.close()


class NetClock(TurningClock):
    """Time that a script moves, in front of the real network."""

    def connectTCP(self, *arguments: Any, **more: Any) -> Any:
        return reactor.connectTCP(*arguments, **more)


class SocketPlayer(Stage):
    """A proxy on a port of this machine, its clients and its upstreams; a method a step."""

    def __init__(self, script: Script) -> None:
        self.clock = NetClock()
        settings = settings_of(script.settings & ~4)
        super().__init__(script, self.clock, settings)
        self.refuses = False
        self._others = set(_open_transports())
        self._listener = socket.create_server((LOOPBACK, 0), backlog=16)
        self._listener.setblocking(False)
        seconds = settings.timeouts.connect
        leg = self._by_socks(settings) if self.number & 1 else self._directly
        self.factory.upstream = Upstream(self.clock, [leg], seconds, self.factory.tls_client)
        door = self.factory.door_of(self.listener)
        self._port = reactor.listenTCP(0, door, interface=LOOPBACK)
        self.clients: list[End] = []
        self.upstreams: list[End] = []
        self.client: End | None = None
        self.upstream: End | None = None

    def _directly(self, destination: Destination, seconds: float) -> Any:
        port = _CLOSED if self.refuses else self._listener.getsockname()[1]
        forever: Any = None  # the limit is the script's
        return TCP4ClientEndpoint(self.clock, LOOPBACK, port, timeout=forever)

    def _by_socks(self, settings: Settings) -> Leg:
        (proxy,) = settings.socks5.proxies
        assert isinstance(proxy, SocksProxy)
        server = Destination(LOOPBACK, self._listener.getsockname()[1])
        return socks5_leg(self.clock, Resolver(reactor), SocksProxy(server, proxy.credentials))

    async def play(self) -> None:
        """Play it, and insist on everything."""
        with self:
            try:
                self.another_client(Step(""))
                for step in self.script.steps:
                    waiting = getattr(self, step.does)(step)
                    if waiting is not None:
                        await waiting
                    if not step.waits:
                        await self._turns()
                self._check_carried()
                await self._finish(self.script.finish)
            finally:
                for end in self._ends():
                    end.close(abort=True)
                self._listener.close()
                await maybeDeferred(self._port.stopListening)
        self.check_account()
        insist(not self.clock.getDelayedCalls(), "timers are left:", self.clock.getDelayedCalls())
        left = set(_open_transports()) - self._others
        insist(not left, "transports are left:", left)

    async def _turns(self, count: int = TURNS) -> None:
        """Let the reactor, the kernel and the peers do what they have to."""
        for _ in range(count):
            await turn()
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.upstream = End(self._listener.accept()[0])
                    self.upstreams.append(self.upstream)
            for end in self._ends():
                end.go()

    def _ends(self) -> list[End]:
        return [*self.clients, *self.upstreams]

    async def _finish(self, how: int) -> None:
        """Let everybody go, in one of several ways; or nobody, and time has to do it."""
        for number, end in enumerate(self._ends()):
            if how % 4 == 0 or (how % 4 == 3 and number % 2):
                end.close(abort=True)
            elif how % 4 == 1:
                end.close()
        await self.time_passes(Step("", 7))
        for _ in range(PATIENCE):
            if not (self.factory.ledger.live or self.clock.getDelayedCalls()):
                return
            self.clock.advance(0.5)
            await self._turns(1)

    # -- Steps

    def another_client(self, step: Step) -> None:
        if len(self.clients) < 4:
            self.client = End(socket.create_connection((LOOPBACK, self._port.getHost().port)))
            self.clients.append(self.client)

    def other_client(self, step: Step) -> None:
        self.client = self.clients[step.how % len(self.clients)]

    def other_upstream(self, step: Step) -> None:
        if self.upstreams:
            self.upstream = self.upstreams[step.how % len(self.upstreams)]

    def client_sends(self, step: Step) -> None:
        _send(self.client, step)

    def upstream_sends(self, step: Step) -> None:
        _send(self.upstream, step)

    client_says = client_floods = client_sends
    upstream_says = upstream_floods = upstream_sends

    def client_ends(self, step: Step) -> None:
        _do(self.client, End.end)

    def client_resets(self, step: Step) -> None:
        _do(self.client, End.reset)

    def client_closes(self, step: Step) -> None:
        _do(self.client, End.close)

    def client_stalls(self, step: Step) -> None:
        _do(self.client, End.stall)

    def client_reads(self, step: Step) -> None:
        _do(self.client, End.read)

    def upstream_ends(self, step: Step) -> None:
        _do(self.upstream, End.end)

    def upstream_resets(self, step: Step) -> None:
        _do(self.upstream, End.reset)

    def upstream_closes(self, step: Step) -> None:
        _do(self.upstream, End.close)

    def upstream_stalls(self, step: Step) -> None:
        _do(self.upstream, End.stall)

    def upstream_reads(self, step: Step) -> None:
        _do(self.upstream, End.read)

    def dial_succeeds(self, step: Step) -> None:
        self.refuses = False

    def dial_fails(self, step: Step) -> None:
        self.refuses = True

    def name_resolves(self, step: Step) -> None:
        """Names are not looked up here."""

    name_fails = name_resolves

    async def time_passes(self, step: Step) -> None:
        left = SECONDS[step.how]
        while left > 0:
            self.clock.advance(min(left, 1.0))
            left -= 1.0
            await self._turns(1)

    # -- What must hold

    def _check_carried(self) -> None:
        """What has gone through a tunnel is what was sent, and nothing is made up."""
        for session in self.factory.ledger.live:
            relay = session.holder
            if not isinstance(relay, Relay) or session.carried not in WHOLE or self.number & 25:
                continue
            clients = {end.address: end for end in self.clients}
            upstreams = {end.peer: end for end in self.upstreams}
            if relay._client.gone or relay._upstream.gone:
                continue  # who is gone has no address
            client = clients.get(_address(relay._client.transport.getPeer()))
            upstream = upstreams.get(_address(relay._upstream.transport.getHost()))
            if client is None or upstream is None:
                continue
            insist(client.sent.startswith(upstream.received), "other bytes than the client's")
            insist(upstream.sent.startswith(client.received), "other bytes than the upstream's")
            insist(session.received <= len(client.sent), "more than was sent")


def _send(end: End | None, step: Step) -> None:
    for segment in segments(step) if end is not None else ():
        end.send(segment)


def _do(end: End | None, what: Callable[[End], None]) -> None:
    if end is not None:
        what(end)


def _address(address: Any) -> tuple[str, int]:
    return address.host, address.port


def _open_transports() -> list[Any]:
    """Return the connections that the reactor still knows."""
    return [thing for thing in reactor.getReaders() if isinstance(thing, Connection)]
