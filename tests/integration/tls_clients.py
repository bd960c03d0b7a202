"""Clients that speak TLS to the proxy: openssl s_client, curl, and Python's own."""

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from tests.builders import INTROS
from tests.integration.programs import LOOPBACK, Program, installed
from tests.integration.proxy import Proxy, ProxyTestCase
from tests.integration.third_party import Authority, authority
from tests.integration.traffic import (
    DEADLINE,
    ChatServer,
    client_noise_hello,
    dial,
    flip,
    frame,
)

#: The proxy's own name; nothing resolves it.
PROXY_NAME = "proxy.test"
#: A request that is answered by the proxy itself, and ends the connection.
REQUEST = "GET / HTTP/1.0\r\n\r"
#: Every TLS is new to a client that verifies nothing: WhatsApp does not either.
BLIND = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
BLIND.check_hostname, BLIND.verify_mode = False, ssl.CERT_NONE


def trusting(path: Path) -> ssl.SSLContext:
    """Return a client's context that trusts the certificates in this file only."""
    return ssl.create_default_context(cafile=str(path))


def tls_dial(port: int, name: str | None = None, context: ssl.SSLContext = BLIND) -> ssl.SSLSocket:
    """Return a blocking connection in TLS."""
    return context.wrap_socket(dial(port), server_hostname=name)


async def tls_open(
    port: int, name: str | None = None, context: ssl.SSLContext = BLIND
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return an asyncio connection in TLS; None as a name sends none."""
    return await asyncio.open_connection(
        LOOPBACK, port, ssl=context, server_hostname=name or "", ssl_handshake_timeout=DEADLINE
    )


def farewell(connection: ssl.SSLSocket) -> bytes:
    """Read to the end of a TLS stream; raises ssl.SSLEOFError where it is cut off."""
    data = bytearray()
    # Python takes a missing close_notify for an end, unless it is told not to.
    connection.suppress_ragged_eofs = False
    while more := connection.recv(1 << 16):
        data += more
    return bytes(data)


def tls_chat(connection: ssl.SSLSocket, frames: Sequence[bytes], intro: bytes = INTROS[0]) -> None:
    """Hold a WhatsApp-shaped chat with a ChatServer; leave with close_notify."""
    hello = client_noise_hello(bytes(range(32)))
    connection.sendall(intro + hello)
    exchange(connection, ChatServer.answer(hello[3:]))
    for payload in frames:
        connection.sendall(frame(payload))
        exchange(connection, frame(flip(payload)))
    connection.unwrap()


def exchange(connection: ssl.SSLSocket, expected: bytes) -> None:
    """Read exactly what is expected."""
    got = bytearray()
    while len(got) < len(expected) and (more := connection.recv(len(expected) - len(got))):
        got += more
    assert bytes(got) == expected, f"{len(got)} bytes of {len(expected)}, or wrong ones"


def certificates_in(text: str) -> list[x509.Certificate]:
    """Return the certificates that a program printed."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    pieces = [begin + piece.split(end)[0] + end for piece in text.split(begin)[1:]]
    return [x509.load_pem_x509_certificate(piece.encode()) for piece in pieces]


def serial_of(path: Path) -> int:
    """Return the serial number of the first certificate in a file."""
    return certificates_in(path.read_text())[0].serial_number


def shown(port: int, name: str | None = None) -> int:
    """Return the serial number of the certificate that is shown on this port."""
    with tls_dial(port, name) as connection:
        der = connection.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def replace_file(path: Path, content: bytes) -> None:
    """Put another content in a file's place, at once, as certbot does."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.replace(path)


def write_identity(identity: Authority, directory: Path) -> tuple[Path, Path]:
    """Write chain and key into a directory of their own."""
    directory.mkdir(exist_ok=True)
    return identity.identity(directory)


def certificate_config(chain: Path, key: Path) -> str:
    """Return the lines that name a certificate of one's own."""
    return f'[[tls.certificate]]\ncert_file = "{chain}"\nkey_file = "{key}"\n'


class TlsTestCase(ProxyTestCase):
    """Clients that speak TLS to a running proxy."""

    def s_client(self, port: int, *options: str | Path, say: str = REQUEST) -> Program:
        """Start openssl's client; it says a line, and then listens to the end."""
        client = self.start(
            *(installed("openssl"), "s_client", "-ign_eof", "-connect", f"{LOOPBACK}:{port}"),
            *options,
        )
        with contextlib.suppress(BrokenPipeError):
            client.say(say)
        return client

    def accepted(self, port: int, *options: str | Path, answer: str = "HTTP/1.1 200 ") -> str:
        """Return what openssl says to a connection that works, and is ended properly."""
        client = self.s_client(port, *options)
        self.assertEqual(0, client.wait(), client.output())
        self.assertIn(answer, client.output())
        self.assertNotIn("unexpected eof", client.output())
        return client.output()

    def refused(self, port: int, alert: str, *options: str | Path) -> None:
        """See that openssl is refused with this alert."""
        client = self.s_client(port, *options)
        self.assertEqual(1, client.wait(), client.output())
        self.assertIn(alert, client.output())

    def own(self, *names: str) -> tuple[Authority, str]:
        """Return an authority's certificate for the proxy, and the lines that configure it."""
        identity = authority(*names)
        files = write_identity(identity, self.directory / names[0])
        return identity, certificate_config(*files)

    def curled(self, *words: str | Path, status: int = 0) -> str:
        """Run curl with no settings but these; return what it writes to its standard output."""
        settings = ("--disable", "--silent", "--show-error", "--noproxy", "", "--max-time", "20")
        curl = self.start(installed("curl"), *settings, *words)
        curl.leave()
        self.assertEqual(status, curl.wait(), curl.output())
        return curl.output("stdout")

    def nothing_is_wrong(self, proxy: Proxy) -> None:
        """See that the proxy has met nothing that it does not know."""
        self.assertNotIn("Traceback", proxy.output())
        self.assertNotRegex(proxy.output(), r"(?m)^\S+ (error|critical) ")
        self.assertEqual(0, proxy.figure("connections_ended_total", reason="internal"))
