"""Plays a script against a whole proxy in memory, and says what must hold afterwards."""

import contextlib
from typing import Any

from twisted.internet.error import ConnectionRefusedError, NoRouteError, TCPTimedOutError
from twisted.protocols.policies import ProtocolWrapper

from tests.fuzz.laws import insist, insist_equal
from tests.fuzz.memory import Dial, MemoryReactor
from tests.fuzz.script import RIGHT, SECONDS, Script, Step, segments
from tests.fuzz.stage import (
    ADDRESS,
    CHAT,
    LONG,
    SOCKS,
    WEB,
    WHOLE,
    Names,
    Stage,
    client_context,
    server_context,
    settings_of,
)
from tests.fuzz.wires import Secured, Wire
from tests.integration import strict_http
from tests.tls_peers import client_side, server_side
from whatsproxy.http1.answers import ESTABLISHED
from whatsproxy.protocols.origin import Origin
from whatsproxy.relay import Relay
from whatsproxy.resolver import ResolutionError
from whatsproxy.session import Session
from whatsproxy.upstream import Upstream, legs_of

_ERRORS = (ConnectionRefusedError(), NoRouteError(), TCPTimedOutError(), OSError("odd"))


class Player(Stage):
    """A proxy, its clients and upstreams; a method a step."""

    def __init__(self, script: Script) -> None:
        self.reactor = MemoryReactor()
        settings = settings_of(script.settings)
        super().__init__(script, self.reactor, settings)
        self.names = Names()
        factory, seconds = self.factory, settings.timeouts.connect
        judge = factory.addresses.permitted
        legs = legs_of(self.reactor, self.names, settings.socks5.proxies, judge)
        factory.upstream = Upstream(self.reactor, legs, seconds, factory.tls_client)
        self.door = factory.door_of(self.listener)
        self.clients: list[Wire] = []
        self.upstreams: list[Wire] = []
        self.client: Wire | None = None
        self.upstream: Wire | None = None
        #: Wires that HTTP requests of ours have gone to, and those that became tunnels.
        self.origins: set[Wire] = set()
        self.tunnels: dict[Wire, Wire] = {}
        #: Something has happened after which bytes may be lost.
        self.disturbed = False

    @property
    def is_secure(self) -> bool:
        """Whether clients speak TLS, in which all the rest is said."""
        return self.number & 132 == 132 and not self.number & 8

    def play(self) -> None:
        """Play it, and insist on everything."""
        with self:
            self.another_client(Step(""))
            for step in self.script.steps:
                getattr(self, step.does)(step)
                if not step.waits:
                    self.reactor.turn()
                self._look()
            self.reactor.turn()
            self._look()
            self._check_carried()
            self._finish(self.script.finish)
        self._check_end()

    # -- Steps

    def another_client(self, step: Step) -> None:
        if len(self.clients) < 4:
            wire = self.reactor.connect(self.door)
            if wire is not None:
                self.clients.append(wire)
                self.client = wire
                if self.is_secure:
                    wire.secured = Secured(wire, client_side(context=client_context()))

    def other_client(self, step: Step) -> None:
        if self.clients:
            self.client = self.clients[step.how % len(self.clients)]

    def other_upstream(self, step: Step) -> None:
        if self.upstreams:
            self.upstream = self.upstreams[step.how % len(self.upstreams)]

    def client_sends(self, step: Step) -> None:
        self._send(self.client, step)

    def client_ends(self, step: Step) -> None:
        self._end(self.client, step)

    def client_resets(self, step: Step) -> None:
        self._reset(self.client)

    def client_closes(self, step: Step) -> None:
        self._close(self.client)

    def client_stalls(self, step: Step) -> None:
        self._stall(self.client, True)

    def client_reads(self, step: Step) -> None:
        self._stall(self.client, False)

    def upstream_sends(self, step: Step) -> None:
        self._send(self.upstream, step)

    def upstream_ends(self, step: Step) -> None:
        self._end(self.upstream, step)

    def upstream_resets(self, step: Step) -> None:
        self._reset(self.upstream)

    def upstream_closes(self, step: Step) -> None:
        self._close(self.upstream)

    def upstream_stalls(self, step: Step) -> None:
        self._stall(self.upstream, True)

    def upstream_reads(self, step: Step) -> None:
        self._stall(self.upstream, False)

    client_says = client_floods = client_sends
    upstream_says = upstream_floods = upstream_sends

    def dial_succeeds(self, step: Step) -> None:
        for dial in self._dials():
            wire = dial.succeed()
            if wire is not None:
                self.upstreams.append(wire)
                self.upstream = wire
                if self.is_secure and dial.port == 443:
                    wire.secured = Secured(wire, server_side(server_context()))

    def dial_fails(self, step: Step) -> None:
        for dial in self._dials():
            dial.fail(_ERRORS[step.how % len(_ERRORS)])

    def name_resolves(self, step: Step) -> None:
        for resolving in self.names.waiting:
            resolving.callback([ADDRESS, "127.0.0.2"] if step.how & 2 else [ADDRESS])

    def name_fails(self, step: Step) -> None:
        for resolving in self.names.waiting:
            resolving.errback(ResolutionError("no address"))

    def time_passes(self, step: Step) -> None:
        self.disturbed = self.disturbed or SECONDS[step.how] > 0.5
        self.reactor.wait(SECONDS[step.how])

    def abort(self, step: Step) -> None:
        self.disturbed = True
        super().abort(step)

    def _dials(self) -> list[Dial]:
        return [dial for dial in self.reactor.dials if not dial.over]

    def _send(self, wire: Wire | None, step: Step) -> None:
        if wire is not None:
            for segment in segments(step):
                if wire.secured is not None and not step.how & 4:
                    wire.secured.say(segment)
                else:  # in TLS, garbage
                    self.disturbed = self.disturbed or wire.secured is not None
                    wire.send(segment)

    def _end(self, wire: Wire | None, step: Step) -> None:
        if wire is None:
            return
        if wire.secured is not None and not step.how & 1:
            wire.secured.end()
        else:  # in TLS, cut off
            self.disturbed = self.disturbed or wire.secured is not None
            wire.end()

    def _reset(self, wire: Wire | None) -> None:
        if wire is not None:
            self.disturbed = True
            wire.reset()

    def _close(self, wire: Wire | None) -> None:
        if wire is not None:
            self.disturbed = True
            wire.close()

    def _stall(self, wire: Wire | None, stalled: bool) -> None:
        if wire is not None:
            wire.stalled = stalled

    # -- What must hold

    def _look(self) -> None:
        """Note who is joined with whom: only while they are can that be seen."""
        for session in self.factory.ledger.live:
            holder = session.holder
            if isinstance(holder, Relay):
                client, upstream = _wire_of(holder._client), _wire_of(holder._upstream)
                if client is not None and upstream is not None:
                    self.tunnels[upstream] = client
        for transport in self.reactor.transports():
            if isinstance(transport.protocol, Origin):
                self.origins.add(transport.wire)

    def _check_carried(self) -> None:
        """What has gone through a tunnel was sent so; all of it, where nothing has disturbed it."""
        for upstream, client in self.tunnels.items():
            if upstream in self.origins:
                continue  # HTTP before
            went, came = self._payload(upstream), client.heard
            insist(
                went in client.said or went in client.sent,
                "other bytes than the client has sent:",
                went[:100],
            )
            came = came.removeprefix(ESTABLISHED)
            if not came.startswith(b"HTTP/"):
                sent = came in upstream.said or came in upstream.sent
                insist(sent, "other bytes than the upstream has sent:", came[:100])
        if not self.disturbed and not self.factory.draining:
            for session in self.factory.ledger.live:
                if isinstance(session.holder, Relay) and session.carried in WHOLE:
                    self._check_all_carried(session, session.holder)

    def _check_all_carried(self, session: Session, relay: Relay) -> None:
        """Nothing is under way any more: all has arrived, and is in the account."""
        client, upstream = _wire_of(relay._client), _wire_of(relay._upstream)
        if self.number & 25 or client.stalled or upstream.stalled or upstream.secured is not None:
            return
        if client.secured is not None and (not client.secured.settled or client.ended):
            return  # no TLS yet, or no half of it left
        insist_equal(upstream.heard, client.said, "not all has reached the upstream")
        insist_equal(client.heard, upstream.said, "not all has reached the client")
        insist_equal(session.received, len(client.said), "another account of it")
        insist_equal(session.sent, len(upstream.said), "another account of it")
        insist_equal(upstream.saw_end, client.ended, "the client's end")
        if client.secured is None:
            insist_equal(client.saw_end, upstream.ended, "the upstream's end")

    def _payload(self, wire: Wire) -> bytes:
        """Return what an upstream has got without what SOCKS, or send_proxy, puts before it."""
        data = wire.heard if wire in self.origins else bytes(wire.received)
        if self.number & 1:
            with contextlib.suppress(IndexError):  # it is not all there
                data = data[2 + data[1] :]
                if self.number & 16:
                    data = data[2 + data[1] :]  # the name
                    data = data[1 + data[0] :]  # the password
                return data[{1: 10, 3: 7 + data[4], 4: 22}[data[3]] :]
            return b""
        if self.number & 16 and data.startswith(b"PROXY "):
            return data.partition(b"\r\n")[2]
        return data

    def _finish(self, how: int) -> None:
        """Let everybody go, in one of several ways; or nobody, and time has to do it."""
        wires = [*self.clients, *self.upstreams]
        for number, wire in enumerate(wires):
            if how % 4 == 0 or (how % 4 == 3 and number % 2):
                wire.reset()
            elif how % 4 == 1:
                wire.stalled = False
                wire.close()
        self.reactor.wait(LONG)

    def _check_end(self) -> None:
        self.check_account()
        ledger = self.factory.ledger
        insist(ledger.received <= sum(wire.read for wire in self.clients), "more than was read")
        insist_equal(self.reactor.left(), [], "something is left")
        insist(not self.names.waiting, "a name is still looked up")
        self._check_destinations()
        for wire in self.origins - set(self.tunnels):
            strict_http.requests_in(self._payload(wire))
        if self.has_users:
            known = any(RIGHT[-8:] in client.said for client in self.clients)
            insist(known or not self.origins, "served though nobody has shown who it is")

    def _check_destinations(self) -> None:
        """Nothing was asked for, or dialled, that no rule allows."""
        for name, _ in self.names.asked:
            good = name.endswith((".whatsapp.net", ".whatsapp.com", ".fbcdn.net"))
            insist(good or name in ("whatsapp.net", "whatsapp.com", "wa.me"), "resolved:", name)
            insist(not self.number & 1, "resolved, though there is SOCKS:", name)
        for dial in self.reactor.dials:
            insist(dial.host in (ADDRESS, "127.0.0.2"), "dialled:", dial.host)
            insist(dial.port in (80, 443, CHAT, WEB, SOCKS), "dialled:", dial.port)


def _wire_of(end: Any) -> Any:
    """Return the wire of a relay's end, below TLS if there is TLS."""
    transport = end.transport
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return getattr(transport, "wire", None)


def play(script: Script) -> None:
    """Play a script; raise LawBroken where something does not hold."""
    Player(script).play()
