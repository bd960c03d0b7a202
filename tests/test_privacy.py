"""What the log may not hold: a client's address, at any level, however its connection ends."""

from twisted.internet.endpoints import TCP4ClientEndpoint

from tests.builders import python_hello
from tests.peers import LOOPBACK, Peer, reactor
from tests.support import HTTP, RAW, WHATSAPP, LoopbackCase, log_lines, to_upstream
from whatsproxy.reason import Reason
from whatsproxy.transport import SingleProtocolFactory

#: An address of this machine that nothing else in the test has.
CLIENT = "127.0.0.77"


class PrivacyTests(LoopbackCase):
    async def client_from(self, address: str, first: bytes) -> Peer:
        endpoint = TCP4ClientEndpoint(
            reactor, LOOPBACK, self.proxy_port, timeout=5, bindAddress=(address, 0)
        )
        peer = Peer()
        await endpoint.connect(SingleProtocolFactory(peer))
        self._dialled.append(peer)
        peer.write(first)
        return peer

    async def test_no_line_has_it(self) -> None:
        lines = log_lines(self)
        upstreams = self.listen()
        self.start_proxy(to_upstream(upstreams.port))
        openings = [WHATSAPP, RAW, HTTP, python_hello("www.example.org"), b"W"]
        clients = [await self.client_from(CLIENT, opening) for opening in openings]
        for number in (1, 2):
            await upstreams.accepted(number)
        clients[0].end()
        clients[1].reset()
        for client in clients[2:]:
            client.end()
        for upstream in upstreams.peers:
            await upstream.ended()
            if upstream.lost is None:
                upstream.end()
        await self.ended_with(
            Reason.CLIENT_CLOSED,
            Reason.CLIENT_RESET,
            Reason.CLIENT_CLOSED,
            Reason.REFUSED_NAME,
            Reason.UNDETECTED,
        )
        self.assertEqual(len([line for line in lines if "connection ended" in line]), 5)
        self.assertFalse([line for line in lines if CLIENT in line])
