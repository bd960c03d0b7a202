"""Handshakes that are larger, or go on for longer, than they should."""

import contextlib
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from tests.peers import until
from tests.support import WHATSAPP
from tests.test_tls_server import TLS12
from tests.tls_peers import CA, OURS
from tests.tls_support import TlsCase, files_of
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


class LongTests(TlsCase):
    async def test_a_long_chain(self) -> None:
        """More than Twisted would send at a time."""
        files = files_of(CA.issue_cert(OURS))
        chain = Path(files.cert_file)
        chain.write_bytes(chain.read_bytes() + CA.cert_pem.bytes() * 120)
        self.start(tls={"certificate": (files,)})
        for newest in (TLS12, None):
            more = {} if newest is None else {"newest": newest}
            client = await self.secured(WHATSAPP, **more)
            sent = client.tls.get_peer_cert_chain(as_cryptography=True)
            size = sum(len(c.public_bytes(Encoding.DER)) for c in sent)
            self.assertGreater(size, 1 << 15)
