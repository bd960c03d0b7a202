"""Handshake messages where there should be data: few are enough."""

import contextlib

from OpenSSL import SSL

from tests.peers import until
from tests.support import WHATSAPP
from tests.test_tls_server import TLS12
from tests.tls_support import TlsCase
from whatsproxy.reason import Reason
from whatsproxy.tls_transport import STEPS


class FloodTests(TlsCase):
    async def test_a_refused_renegotiation_is_a_step(self) -> None:
        """And what belongs to the handshake, tickets included, is none."""
        self.start()
        client, _ = await self.joined_tls(WHATSAPP, newest=TLS12)
        transport = self.session().holder._client.transport
        self.assertEqual(transport.steps, 0)
        client.tls.renegotiate()
        with contextlib.suppress(SSL.Error):
            client.tls.do_handshake()
        client.flush()
        await until(lambda: transport.steps > 0)

    async def test_too_many(self) -> None:
        self.start()
        client, upstream = await self.joined_tls(WHATSAPP)
        transport = self.session().holder._client.transport
        transport.steps = STEPS
        client.write(b"that many are not yet too many")
        await upstream.got(WHATSAPP + b"that many are not yet too many")
        transport.steps = STEPS + 1
        client.write(b"x")
        await until(lambda: client.lost)
        await self.ended_with(Reason.CLIENT_RESET)
