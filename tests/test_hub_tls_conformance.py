"""TLS on the hub ends as TLS on Twisted's own transport does, on the same scripts of events."""

import contextlib
import os
import random
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.peers import LOOPBACK, Listener, reactor, settled, until
from tests.test_hub_tls import RESET, HubTlsCase, Inside, Outside
from tests.tls_records import ALERT, CLOSE_NOTIFY, DATA, HANDSHAKE, KEY_UPDATE, ByHand
from whatsproxy.tls_server import TlsServer
from whatsproxy.transport import hand_over

SCRIPTS = int(os.environ.get("CONFORMANCE_EXAMPLES", "60"))
#: What a client does; after the last three it is gone, or as good as that.
_THEIRS = ("send", "send", "renew", "tickle", "notify", "garbage", "end", "close", "reset")
#: What we do; after the last three the client can only go.
_OURS = ("write", "write", "pause", "resume", "half", "abort")
_ANSWERED = frozenset(("notify", "garbage", "end", "abort"))
_LAST = _ANSWERED | {"close", "reset"}
#: What OpenSSL says when there was no close_notify; Twisted's TLS does not get round to send it.
_TRUNCATED = b"\x02\x32"
#: To break off is told apart from being broken off by those who have done it, not by the reason.
_ALIKE = {"ConnectionAborted": "ConnectionLost"}


class Told(NamedTuple):
    """What came of a script at both ends."""

    heard: tuple[str, ...]
    received: bytes
    #: The client's: data, alerts, and whether a reset came.
    data: bytes
    alerts: tuple[bytes, ...]


class Plain(Outside):
    """Begins TLS on Twisted's own transport."""

    def connectionMade(self) -> None:
        """Send at once, as the hub does, to compare what has come."""
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        hand_over(self, self._server.transport_for(None, self.inside), data)


class ConformanceTests(HubTlsCase):
    def setUp(self) -> None:
        super().setUp()
        server: TlsServer = self.server
        self.plain = Listener(lambda: Plain(server))
        port = reactor.listenTCP(0, self.plain, interface=LOOPBACK)
        self.ports.append(port)
        self.plain.port = port.getHost().port

    async def play(self, listener: Listener, script: list[str]) -> Told:
        """Do what a script says, letting everything come to rest after each act."""
        client = ByHand(self.dial(listener.port))
        outside = await listener.accepted(len(listener.peers) + 1)
        inside: Inside = outside.inside
        await client.handshake()
        await until(lambda: inside.heard)
        data, alerts = bytearray(), []

        def rest() -> object:
            with contextlib.suppress(OSError):
                for kind, content in client.read():
                    if kind == ALERT:
                        alerts.extend({content} - {_TRUNCATED})
                    else:
                        data.extend(content)
            return len(data), len(alerts), len(inside.heard), len(inside.received)

        def over() -> bool:
            rest()
            try:
                return client.bare.recv(1, socket.MSG_PEEK) == b""
            except OSError as e:
                return not isinstance(e, BlockingIOError)

        for number, act in enumerate(script):
            with contextlib.suppress(OSError):  # it may be gone
                _ACTS[act](client, inside.transport, number)
            await settled(rest, 25)
        inside.transport.resumeProducing()
        if script[-1] in _ANSWERED:
            await until(over)
        client.bare.close()
        await until(lambda: inside.heard[-1] in ("ConnectionDone", "ConnectionLost", *_ALIKE))
        heard = tuple(_ALIKE.get(word, word) for word in inside.heard)
        return Told(heard, inside.received, bytes(data), tuple(alerts))

    async def test_scripts(self) -> None:
        for seed in range(SCRIPTS):
            script = script_of(random.Random(seed))
            told = [await self.play(each, script) for each in (self.listener, self.plain)]
            self.assertEqual(told[0], told[1], f"{seed}: {script}")


def script_of(chance: random.Random) -> list[str]:
    """Return some acts, at most the last of which leaves nothing to be done."""
    script: list[str] = []
    for _ in range(chance.randrange(1, 9)):
        act = chance.choice(_THEIRS + _OURS)
        if "half" in script and act in ("half", "garbage", "renew"):
            # A second half-close closes all, on Twisted's; and garbage is an end like another there
            # once we have said goodbye. New keys that are asked for after our FIN cannot be
            # answered: OpenSSL takes the second time for the end.
            continue
        script.append(act)
        if act in _LAST:
            break
    return script


def _reset(client: ByHand, _: object, __: int) -> None:
    client.bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.bare.close()


_ACTS: dict[str, Callable[[ByHand, Any, int], object]] = {
    "send": lambda client, _, number: client.send(DATA, b"<%d>" % number * 50),
    "renew": lambda client, _, __: client.renew(),
    "tickle": lambda client, _, __: (client.send(HANDSHAKE, KEY_UPDATE), client.ours.renew()),
    "notify": lambda client, _, __: client.send(ALERT, CLOSE_NOTIFY),
    "garbage": lambda client, _, __: client.bare.sendall(bytes(100)),
    "end": lambda client, _, __: client.bare.shutdown(socket.SHUT_WR),
    "close": lambda client, _, __: client.bare.close(),
    "reset": _reset,
    "write": lambda _, transport, number: transport.write(b"(%d)" % number * 5000),
    "pause": lambda _, transport, __: transport.pauseProducing(),
    "resume": lambda _, transport, __: transport.resumeProducing(),
    "half": lambda _, transport, __: transport.loseWriteConnection(),
    "abort": lambda _, transport, __: transport.abortConnection(),
}
