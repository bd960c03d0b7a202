"""Resumption by tickets: who gets it, and that new certificates do not void them."""

from pathlib import Path
from typing import Any

from OpenSSL import SSL

from tests.support import WHATSAPP
from tests.test_tls_server import AgreedCase
from tests.tls_peers import CA, OURS, TLS12, TLS13, client_context
from tests.tls_support import files_of


class TicketTests(AgreedCase):
    """OpenSSL's session has the ticket in it; in TLS 1.3 that follows the handshake."""

    async def ticket(self, context: SSL.Context) -> Any:
        peer = await self.secured(WHATSAPP, context=context)
        upstream = await self.upstreams.accepted(len(self.upstreams.peers) + 1)
        await upstream.got(WHATSAPP)
        upstream.write(b"welcome")
        await peer.got(b"welcome")
        peer.close()
        return peer.tls.get_session()

    def resumed(self) -> dict[tuple[str, str, str], int]:
        return {key: n for key, n in self.factory.ledger.handshakes.items() if key[2] == "yes"}

    async def check(self, version: int, name: str, meanwhile: Any = lambda: None) -> None:
        context = client_context(newest=version)
        session = await self.ticket(context)
        self.assertEqual(self.resumed(), {})
        meanwhile()
        peer = await self.secured(context=context, session=session)
        await self.check_inside(peer)
        self.assertEqual(self.resumed(), {("ok", name, "yes"): 1})

    async def test_1_2(self) -> None:
        self.start()
        await self.check(TLS12, "TLSv1.2")

    async def test_1_3(self) -> None:
        self.start()
        await self.check(TLS13, "TLSv1.3")

    async def across_a_reload(self, version: int, name: str) -> None:
        """New certificates do not void tickets; those without one see the new certificate."""
        directory = Path(self.mktemp())
        directory.mkdir()
        files = files_of(CA.issue_cert(OURS), directory)
        factory = self.start(tls={"certificate": (files,)})
        before = factory.tls.identities[0].chain[0]

        def renew() -> None:
            files_of(CA.issue_cert(OURS), directory)
            factory.tls.load()

        await self.check(version, name, renew)
        peer = await self.secured(newest=version)
        seen = peer.tls.get_peer_certificate(as_cryptography=True)
        self.assertNotEqual(seen, before)
        self.assertEqual(seen, factory.tls.identities[0].chain[0])

    async def test_1_2_across_a_reload(self) -> None:
        await self.across_a_reload(TLS12, "TLSv1.2")

    async def test_1_3_across_a_reload(self) -> None:
        await self.across_a_reload(TLS13, "TLSv1.3")

    async def test_anothers_ticket(self) -> None:
        """It is not taken; the handshake is a whole one."""
        self.start()
        context = client_context(newest=TLS12)
        session = await self.ticket(context)
        factory = self.start()
        peer = await self.secured(context=context, session=session)
        await self.check_inside(peer)
        self.assertEqual(self.resumed(), {})
        self.assertEqual(factory.ledger.handshakes.total(), 1)

    async def test_the_server_remembers_nothing(self) -> None:
        """TLS 1.2 without tickets: no resumption by session identifiers."""
        self.start()
        context = client_context(newest=TLS12, options=SSL.OP_NO_TICKET)
        session = await self.ticket(context)
        peer = await self.secured(context=context, session=session)
        await self.check_inside(peer)
        self.assertEqual(self.resumed(), {})
