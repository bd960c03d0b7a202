"""What several HTTP tests begin with: an origin that is kept, a tunnel by CONNECT."""

from typing import Any

from tests.http_peers import HttpCase, HttpClient, OriginPeer, head_of
from tests.peers import Peer


class ReuseCase(HttpCase):
    """Clients whose first request has been answered, so that there is a connection to keep."""

    async def kept(self, *more: bytes, number: int | None = None) -> tuple[HttpClient, OriginPeer]:
        """Return a client and the origin that has answered it and waits for more."""
        client, origin, _ = await self.asked(number=number)
        origin.answer(b"first")
        self.assertEqual((await client.answer()).body, b"first")
        if more:
            client.ask(*more)
        return client, origin

    async def fresh(self, number: int = 2) -> OriginPeer:
        """Answer the request that comes by a new connection; return that."""
        origin = await self.origins.accepted(number)
        await origin.request()
        origin.answer(b"fresh")
        return origin

    def open_origins(self) -> int:
        return sum(1 for peer in self.origins.peers if not (peer.eof or peer.lost))


#: What a client reads once its tunnel is there.
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def connect_to(authority: bytes, host: bytes | None = None) -> bytes:
    """Return a CONNECT request."""
    return head_of(b"CONNECT %s HTTP/1.1" % authority, b"Host: " + (host or authority))


class ConnectCase(HttpCase):
    """The upstreams are plain peers: what passes through a tunnel is anything."""

    def setUp(self) -> None:
        super().setUp()
        self.origins = self.listen(Peer)

    def here(self, host: bytes | None = None) -> bytes:
        return connect_to(b"127.0.0.1:%d" % self.origins.port, host)

    async def tunnel(self, *first: bytes) -> tuple[HttpClient, Any]:
        """Return a client and the upstream at the other end of its tunnel."""
        number = len(self.origins.peers) + 1
        client = await self.connect(*(first or (self.here(),)))
        upstream = await self.origins.accepted(number)
        await client.peer.got(ESTABLISHED)
        client.peer.received.clear()
        return client, upstream

    async def assertThrough(self, client: HttpClient, upstream: Any) -> None:
        client.ask(b"to you")
        await upstream.got(b"to you")
        upstream.write(b"to me")
        await client.peer.got(b"to me")
