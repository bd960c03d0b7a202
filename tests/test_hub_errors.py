"""What a protocol raises ends its connection, is logged, and harms nobody else."""

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure

from tests.hub_support import Dialler, HubCase, Planted, fail, is_over
from tests.peers import LOOPBACK, Peer, turn, until


class ErrorTests(HubCase):
    """What a protocol raises ends its connection, is logged, and harms nobody else."""

    async def pair_by(self, build: Callable[[], Any], side: str) -> tuple[Any, socket.socket]:
        """Return a protocol on the hub that has accepted or connected, and the other end."""
        if side == "accepts":
            return await self.pair(build)
        with socket.create_server((LOOPBACK, 0)) as server:
            dialler = Dialler(build)
            self.fast.connectTCP(LOOPBACK, server.getsockname()[1], dialler)
            bare = server.accept()[0]
        bare.setblocking(False)
        self.bare.append(bare)
        await until(lambda: dialler.peer.transport)
        return dialler.peer, bare

    async def ends_alone(
        self, build: Callable[[], Any], what: Callable[[Any, socket.socket], Any]
    ) -> None:
        """See one end with what it raised; another one, with news at the same time, goes on."""
        for side in ("accepts", "connects"):
            other, its = await self.pair()
            raising, bare = await self.pair_by(build, side)
            its.sendall(b"goes on")
            await what(raising, bare)
            self.assertIs((await raising.gone()).type, Planted, side)
            its.sendall(b" and on")
            await other.got(b"goes on and on")
            self.assertIsNone(other.lost)
            self.assertEqual([e.type for e in self.flushLoggedErrors()], [Planted], side)

    async def test_data(self) -> None:
        class Raising(Peer):
            def dataReceived(self, data: bytes) -> None:
                raise Planted

        async def send(raising: Any, bare: socket.socket) -> None:
            bare.sendall(b"x")

        await self.ends_alone(Raising, send)

    async def test_read_lost(self) -> None:
        class Raising(Peer):
            def readConnectionLost(self) -> None:
                raise Planted

        async def shut(raising: Any, bare: socket.socket) -> None:
            bare.shutdown(socket.SHUT_WR)

        await self.ends_alone(Raising, shut)

    async def test_write_lost(self) -> None:
        class Raising(Peer):
            def writeConnectionLost(self) -> None:
                raise Planted

        async def end(raising: Any, bare: socket.socket) -> None:
            raising.end()

        await self.ends_alone(Raising, end)

    async def test_producer(self) -> None:
        class Raising(Peer):
            def pauseProducing(self) -> None:
                """Nothing is produced."""

            def resumeProducing(self) -> None:
                raise Planted

            def stopProducing(self) -> None:
                """Nothing is produced."""

        async def fill(raising: Any, bare: socket.socket) -> None:
            raising.transport.registerProducer(raising, True)
            while not raising.transport.unsent:
                raising.write(bytes(1 << 20))
            await until(lambda: self.all_of(bare) and raising.lost)

        await self.ends_alone(Raising, fill)

    async def test_the_end(self) -> None:
        """An error in connectionLost is logged; there is nothing left to be ended."""

        class Raising(Peer):
            def connectionLost(self, reason: Failure) -> None:
                super().connectionLost(reason)
                raise Planted

        raising, _ = await self.pair(Raising)
        raising.close()
        await raising.gone()
        await turn()
        self.assertEqual([e.type for e in self.flushLoggedErrors()], [Planted])

    async def test_no_room_in_the_epoll(self) -> None:
        """Nobody is told of a newcomer that cannot be looked after (fs.epoll.max_user_watches)."""
        listener = self.listen(Peer)
        register = self.fast.hub.register

        def refuse(*_: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.fast.hub.register = refuse
        bare = self.dial(listener.port)
        await until(lambda: is_over(bare))
        self.fast.hub.register = register
        self.assertEqual(listener.peers, [])
        other = self.dial(listener.port)
        other.sendall(b"let in")
        await (await listener.accepted()).got(b"let in")

    async def test_made(self) -> None:
        """An error in connectionMade ends a newcomer; the listener goes on."""

        class Raising(Peer):
            def connectionMade(self) -> None:
                raise Planted

        listener = self.listen(Raising)
        bare = self.dial(listener.port)
        raising = await listener.accepted()
        self.assertIs((await raising.gone()).type, Planted)
        await until(lambda: is_over(bare))
        listener.build = Peer
        other = self.dial(listener.port)
        other.sendall(b"let in")
        await (await listener.accepted(2)).got(b"let in")
        self.assertEqual([e.type for e in self.flushLoggedErrors()], [Planted])

    async def test_made_where_we_connect(self) -> None:
        class Raising(Peer):
            def connectionMade(self) -> None:
                raise Planted

        raising, bare = await self.pair_by(Raising, "connects")
        self.assertIs((await raising.gone()).type, Planted)
        await until(lambda: is_over(bare))
        self.assertEqual([e.type for e in self.flushLoggedErrors()], [Planted])

    async def test_first_data(self) -> None:
        """What is there as soon as we are connected is an event like any other."""

        class Raising(Peer):
            def dataReceived(self, data: bytes) -> None:
                raise Planted

        with socket.create_server((LOOPBACK, 0)) as server:
            dialler = Dialler(Raising)
            self.fast.connectTCP(LOOPBACK, server.getsockname()[1], dialler)
            bare = server.accept()[0]  # the kernel connects; the hub has not looked yet
            self.bare.append(bare)
            bare.sendall(b"x")
            self.assertIs((await dialler.peer.gone()).type, Planted)
        self.assertEqual([e.type for e in self.flushLoggedErrors()], [Planted])

    async def test_built(self) -> None:
        """An error of a listener's factory, or its refusal, closes the newcomer."""
        for build in (fail, lambda: None):
            listener = self.listen(build)
            bare = self.dial(listener.port)
            await until(lambda bare=bare: is_over(bare))
        self.assertEqual([e.type for e in self.flushLoggedErrors()], [Planted])

    async def test_built_where_we_connect(self) -> None:
        """An error of a client's factory is a failure to connect; its refusal is none."""
        with socket.create_server((LOOPBACK, 0)) as server:
            for build in (fail, lambda: None):
                dialler = Dialler()
                dialler.buildProtocol = lambda addr, build=build: build()  # type: ignore[method-assign]
                self.fast.connectTCP(LOOPBACK, server.getsockname()[1], dialler)
                bare = server.accept()[0]
                bare.setblocking(False)
                self.bare.append(bare)
                await until(lambda bare=bare: is_over(bare))
                if build is fail:
                    self.assertEqual(dialler.heard, ["started", "failed", "stopped"])
                    assert dialler.failed is not None
                    self.assertIs(dialler.failed.type, Planted)
                    self.assertEqual([e.type for e in self.flushLoggedErrors()], [Planted])
