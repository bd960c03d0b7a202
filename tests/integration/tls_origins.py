"""Servers behind TLS: HTTPS origins with certificates good and bad, and a chat server."""

import asyncio
import base64
import contextlib
import hashlib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.integration.programs import LOOPBACK, ProgramTestCase
from tests.integration.third_party import Authority
from tests.integration.traffic import Handler, flipping

TODAY = datetime.now(UTC)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Presented:
    """What a server shows: its chain, and the key of it."""

    chain: bytes
    key: bytes

    @property
    def pin(self) -> str:
        """The public key, as ``tls.upstream_pins`` wants it."""
        key = x509.load_pem_x509_certificate(self.chain).public_key()
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return "sha256/" + base64.b64encode(hashlib.sha256(spki).digest()).decode()

    def context(self, directory: Path) -> ssl.SSLContext:
        """Return a server's context."""
        file = directory / f"{hashlib.sha256(self.chain).hexdigest()}.pem"
        file.write_bytes(self.chain + self.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


def present(identity: Authority) -> Presented:
    """Return what an authority's good certificate makes a server show."""
    return leaf(identity.certificate)


def certificate_of(presented: Presented) -> str:
    """Return the server's own certificate, without a line's end."""
    return (
        x509.load_pem_x509_certificate(presented.chain).public_bytes(Encoding.PEM).decode().strip()
    )


def bad_certificates(ca: trustme.CA, name: str) -> dict[str, Presented]:
    """Return certificates that are wrong in one way each, by what an error has to say of them."""
    alone, stranger = trustme.CA(), trustme.CA()
    past = {"not_before": TODAY - 20 * DAY, "not_after": TODAY - DAY}
    future = {"not_before": TODAY + DAY, "not_after": TODAY + 20 * DAY}
    return {
        "expired": leaf(ca.issue_cert(name, **past)),
        "not valid yet": leaf(ca.issue_cert(name, **future)),
        "another name": leaf(ca.issue_cert("other.test")),
        "another name ": leaf(ca.issue_cert(f"*.{name}")),
        "another name  ": leaf(ca.issue_cert("127.0.0.1")),
        "self-signed": Presented(alone.cert_pem.bytes(), alone.private_key_pem.bytes()),
        "unknown issuer": leaf(stranger.issue_cert(name)),
        "unknown issuer (self-signed)": _with_root(stranger.issue_cert(name), stranger),
    }


def leaf(issued: trustme.LeafCert) -> Presented:
    """Return what makes a server show a certificate that trustme has issued."""
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    return Presented(chain, issued.private_key_pem.bytes())


def _with_root(issued: trustme.LeafCert, ca: trustme.CA) -> Presented:
    presented = leaf(issued)
    return Presented(presented.chain + ca.cert_pem.bytes(), presented.key)


def served(
    test: ProgramTestCase, handler: Handler, port: int = 0, tls: ssl.SSLContext | None = None
) -> int:
    """Listen on loopback until the test ends, one ``handler`` a connection; return the port."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that breaks off is the client's business: its test looks at its own end.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            await handler(reader, writer)
            await writer.drain()
        writer.close()

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(connected, LOOPBACK, port, backlog=4096, ssl=tls)

    async def close() -> None:
        server.close()

    server = test.background.run(listen())
    test.addCleanup(lambda: test.background.run(close()))
    return int(server.sockets[0].getsockname()[1])


class HttpOrigin:
    """A web server on loopback.

    GET gives ``body``; PUT and POST give the SHA-256 of what came; an upgrade to ``flip`` leads to
    the flipping upstream.
    """

    def __init__(
        self,
        test: ProgramTestCase,
        port: int,
        body: bytes = b"of the origin",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.body = body
        #: What was asked for, oldest first, such as ``GET origin.test/path``.
        self.requests: list[str] = []
        self.connections = 0
        #: Bodies, with their types, that GET gives for some paths instead.
        self.pages: dict[str, tuple[str, bytes]] = {}
        self.port = served(test, self.serve, port, tls)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        while head := await _head(reader):
            first, *lines = head.decode("latin-1").split("\r\n")
            method, target, _ = first.split(" ")
            fields = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
            self.requests.append(f"{method} {fields.get('host', '')}{target}")
            if fields.get("upgrade") == "flip":
                answer = "101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: flip"
                writer.write(f"HTTP/1.1 {answer}\r\n\r\n".encode())
                await flipping(reader, writer)
                return
            body = await _body(reader, fields)
            kind, answer = "application/octet-stream", hashlib.sha256(body).hexdigest().encode()
            if method == "GET":
                path = target.rpartition("/")[2]
                kind, answer = self.pages.get(f"/{path}", (kind, self.body))
            lines = [f"Content-Type: {kind}", f"Content-Length: {len(answer)}"]
            lines += ["Access-Control-Allow-Origin: *", "", ""]
            writer.write("\r\n".join(["HTTP/1.1 200 OK", *lines]).encode())
            if method == "HEAD":
                answer = b""  # the lines tell of what would have come
            for start in range(0, len(answer), 1 << 16):
                writer.write(answer[start : start + (1 << 16)])
                await writer.drain()


class HttpsOrigin(HttpOrigin):
    """The same in TLS, which shows whatever certificate it is told to."""

    def __init__(
        self, test: ProgramTestCase, port: int = 443, body: bytes = b"of the origin"
    ) -> None:
        #: The server names that clients have sent.
        self.names: list[str | None] = []
        self._directory = test.directory
        self._shown: ssl.SSLContext | None = None
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.sni_callback = self._choose
        super().__init__(test, port, body, tls)

    def show(self, presented: Presented) -> None:
        """Show this certificate from now on."""
        self._shown = presented.context(self._directory)

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        self.names.append(name)
        assert self._shown is not None
        connection.context = self._shown


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return (await reader.readuntil(b"\r\n\r\n"))[:-4]
    except asyncio.IncompleteReadError:
        return b""


async def _body(reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
    if fields.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(fields.get("content-length", 0)))
    body = bytearray()
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return bytes(body)
