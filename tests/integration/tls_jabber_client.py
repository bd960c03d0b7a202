"""The Jabber client of the tests over direct TLS (XEP-0368), as a program.

    tls_jabber_client.py JID PASSWORD OTHER-JID PORT CA-FILE

It says, and takes, what jabber_client.py does; TLS begins with the first byte, and offers the ALPN
``xmpp-client``; what was chosen is said as ``alpn PROTOCOL``.
"""

import asyncio
import ssl
import sys
from typing import Any

from tests.integration.jabber_client import Client


class DirectClient(Client):
    """Says which ALPN was chosen, when messages can come."""

    def on_protocol(self, _event: Any) -> None:
        """Say it."""
        tls = self.transport.get_extra_info("ssl_object")
        print("alpn", tls.selected_alpn_protocol(), flush=True)


async def main(jid: str, password: str, other: str, port: str, authority: str) -> None:
    """Run one session to its end."""
    client = DirectClient(jid, password, other)
    client.enable_starttls = client.enable_plaintext = False
    client.ca_certs = authority
    client.ssl_context.set_alpn_protocols(["xmpp-client"])
    context = client.get_ssl_context()
    assert context.verify_mode == ssl.CERT_REQUIRED
    client.add_event_handler("session_start", client.on_protocol)
    client.connect("127.0.0.1", int(port))
    await client.disconnected


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
