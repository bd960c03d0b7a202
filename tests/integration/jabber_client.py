"""A Jabber client that the tests run as a program: slixmpp, on stdin and stdout.

    jabber_client.py JID PASSWORD OTHER-JID PORT CA-FILE

It logs in over PORT of this machine and says ``ready VERSION`` with the version of the TLS that
STARTTLS began. Each line of its input goes to the other account as a message; each message that
comes says ``got TEXT``. At the end of its input it logs out and ends; status 0 if all was well.
"""

import asyncio
import ssl
import sys
from typing import Any

import slixmpp


class Client(slixmpp.ClientXMPP):
    """One account, one conversation."""

    def __init__(self, jid: str, password: str, other: str) -> None:
        super().__init__(jid, password)
        self.other = other
        self.add_event_handler("session_start", self.on_session_start)
        self.add_event_handler("message", self.on_message)
        for failure in ("failed_auth", "failed_all_auth", "connection_failed", "ssl_invalid_chain"):
            self.add_event_handler(failure, self.on_failure)

    def on_failure(self, why: Any) -> None:
        """End the program: nothing will come of this session."""
        print(f"failed {why}", flush=True)
        sys.exit(1)

    async def on_session_start(self, _event: Any) -> None:
        """Become available, tell the test, and begin to read what to send."""
        self.send_presence()
        await self.get_roster()  # the answer tells that the server knows of our presence
        tls = self.transport.get_extra_info("ssl_object")
        print("ready", tls.version() if tls else "without TLS", flush=True)
        asyncio.get_running_loop().add_reader(sys.stdin, self.on_input)

    def on_message(self, message: Any) -> None:
        """Tell the test what came."""
        print("got", message["body"], flush=True)

    def on_input(self) -> None:
        """Send one line, or log out at the end of the input."""
        if line := sys.stdin.readline().strip():
            self.send_message(self.other, line, mtype="chat")
        else:
            asyncio.get_running_loop().remove_reader(sys.stdin)
            self.disconnect()


async def main(jid: str, password: str, other: str, port: str, authority: str) -> None:
    """Run one session to its end."""
    client = Client(jid, password, other)
    # The classic way in: a plain stream that becomes TLS, and nothing less.
    client.enable_direct_tls = client.enable_plaintext = False
    client.ca_certs = authority
    context = client.get_ssl_context()
    assert context.verify_mode == ssl.CERT_REQUIRED
    client.connect("127.0.0.1", int(port))
    await client.disconnected


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
