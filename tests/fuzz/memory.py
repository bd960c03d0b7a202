"""A reactor in memory: Twisted's own transports over sockets that a script feeds (see wires).

Everything from the buffer of a transport upwards is what runs in earnest.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet import address, error, tcp
from twisted.internet.posixbase import _DisconnectSelectableMixin
from twisted.internet.task import Clock
from twisted.python import log
from twisted.python.failure import Failure

from tests.fuzz.laws import insist
from tests.fuzz.wires import Wire

#: Turns after which something goes round for ever.
MOST_TURNS = 20_000


class _Transport(tcp.Server):
    """Twisted's transport over such a socket."""

    def __init__(self, wire: Wire, protocol: Any, reactor: Any) -> None:
        self.wire = wire
        skt: Any = wire.socket()
        super().__init__(skt, protocol, skt.getpeername(), None, wire.number, reactor)
        self.repstr = f"<connection {wire.number}>"

    def getPeer(self) -> Any:
        return address.IPv4Address("TCP", "127.0.0.1", 50_000 + self.wire.number)

    def getHost(self) -> Any:
        return address.IPv4Address("TCP", "127.0.0.1", 8443)


class Dial:
    """A connect that is under way, and its IConnector. The script decides."""

    def __init__(self, reactor: "MemoryReactor", host: str, port: int, factory: Any) -> None:
        self.host, self.port = host, port
        self.over = False
        self._reactor = reactor
        self._factory = factory
        factory.doStart()
        factory.startedConnecting(self)

    def succeed(self) -> Wire | None:
        """Connect; the answer is the wire, or None where nobody wants it any more."""
        if self.over:
            return None
        self.over = True
        return self._reactor.connect(self._factory, self._factory.doStop)

    def fail(self, reason: Exception) -> None:
        """Do not connect."""
        if not self.over:
            self.over = True
            self._factory.clientConnectionFailed(self, Failure(reason))
            self._factory.doStop()

    def stopConnecting(self) -> None:
        self.fail(error.UserError())

    disconnect = stopConnecting

    def getDestination(self) -> Any:
        return address.IPv4Address("TCP", self.host, self.port)


class MemoryReactor(_DisconnectSelectableMixin, Clock):
    """Time that a script moves, connects that it decides, and transports over wires."""

    def __init__(self) -> None:
        super().__init__()
        self.wires: list[Wire] = []
        self.dials: list[Dial] = []
        self._readers: dict[Any, None] = {}
        self._writers: dict[Any, None] = {}

    # -- What Twisted asks for

    def addReader(self, reader: Any) -> None:
        self._readers[reader] = None

    def addWriter(self, writer: Any) -> None:
        self._writers[writer] = None

    def removeReader(self, reader: Any) -> None:
        self._readers.pop(reader, None)

    def removeWriter(self, writer: Any) -> None:
        self._writers.pop(writer, None)

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: Any = None, bindAddress: Any = None
    ) -> Dial:
        dial = Dial(self, host, port, factory)
        self.dials.append(dial)
        return dial

    def callFromThread(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.callLater(0, call, *arguments)

    # -- What the script does

    def connect(self, factory: Any, gone: Callable[[], Any] = lambda: None) -> Wire | None:
        """Make a connection for a factory, as a listener or a connector does."""
        wire = Wire(len(self.wires))
        peer = address.IPv4Address("TCP", "127.0.0.1", 50_000 + wire.number)
        protocol = factory.buildProtocol(peer)
        if protocol is None:
            gone()
            return None
        self.wires.append(wire)
        transport = _Transport(wire, protocol, self)
        protocol.makeConnection(transport)
        return wire

    def turn(self) -> None:
        """Go round until nothing moves."""
        for _ in range(MOST_TURNS):
            if not self._go_round():
                return
        insist(False, "goes round for ever")

    def _go_round(self) -> bool:
        moved = False
        for wire in self.wires:
            wire.take()
            moved = (wire.secured is not None and wire.secured.pump()) or moved
        due = [call for call in self.getDelayedCalls() if call.getTime() <= self.seconds()]
        if due:
            self.advance(0)
            moved = True
        for transport in list(self._readers):
            if transport in self._readers and transport.wire.readable:
                moved = True
                self._do(transport, "doRead")
        for transport in list(self._writers):
            if transport in self._writers and transport.wire.writable:
                moved = True
                self._do(transport, "doWrite")
        return moved

    def _do(self, transport: Any, method: str) -> None:
        """Read or write, with what Twisted's reactors do about an error."""
        why: Any = None
        try:
            why = getattr(transport, method)()
        except Exception as e:
            log.err()
            why = e
        if why:
            self._disconnectSelectable(transport, why, method == "doRead")

    def wait(self, seconds: float) -> None:
        """Let time pass: from one timer to the next, and what follows from each."""
        end = self.seconds() + seconds
        self.turn()
        for _ in range(MOST_TURNS):
            times = [call.getTime() for call in self.getDelayedCalls()]
            step = min([*times, end]) - self.seconds()
            self.advance(max(step, 0))
            self.turn()
            if self.seconds() >= end:
                return
        insist(False, "timers without end")

    def transports(self) -> list[Any]:
        """Return the transports that something is waited for, whatever they are."""
        return [*self._readers, *self._writers]

    def left(self) -> list[str]:
        """Return what is still there, in words."""
        things = [f"a timer: {call}" for call in self.getDelayedCalls()]
        things += [f"an open socket: {wire.number}" for wire in self.wires if not wire.closed]
        things += [f"a reader: {reader}" for reader in self._readers]
        things += [f"a writer: {writer}" for writer in self._writers]
        return things + [f"a connect to {dial.host}" for dial in self.dials if not dial.over]
