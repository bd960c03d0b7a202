"""The programs of others that the proxy has to get on with, configured and started."""

import ssl
import sys
import threading
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import trustme

from tests.integration.programs import (
    LOOPBACK,
    ROOT,
    Program,
    ProgramTestCase,
    free_port,
    installed,
)

USER, PASSWORD = "alice", "p%40ss:wort"
#: The same password, as a URL has to spell it.
QUOTED = "p%2540ss%3Awort"


@dataclass(frozen=True)
class Authority:
    """A certificate authority of our own, and one certificate by it."""

    authority: trustme.CA
    certificate: trustme.LeafCert

    def trust(self, directory: Path) -> Path:
        """Write the authority's certificate to a file, for clients."""
        path = directory / "ca.pem"
        self.authority.cert_pem.write_to_path(str(path))
        return path

    def identity(self, directory: Path) -> tuple[Path, Path]:
        """Write certificate chain and key to files, for servers."""
        chain, key = directory / "chain.pem", directory / "key.pem"
        chain.write_bytes(b"".join(blob.bytes() for blob in self.certificate.cert_chain_pems))
        self.certificate.private_key_pem.write_to_path(str(key))
        return chain, key


@cache
def authority(*names: str) -> Authority:
    """Return an authority and its certificate for ``names``, made once."""
    ca = trustme.CA()
    return Authority(ca, ca.issue_cert(*names))


def microsocks(
    test: ProgramTestCase, port: int | None = None, *, login: bool = False
) -> tuple[Program, int]:
    """Start microsocks, with a password if ``login``; return it and its port."""
    port = port or free_port()
    options = ["-u", USER, "-P", PASSWORD] if login else []
    program = installed("microsocks")
    return test.start_server(port, program, "-i", LOOPBACK, "-p", str(port), *options), port


DANTED = """\
logoutput: stderr
internal: {address} port = {port}
external: {address}
clientmethod: none
socksmethod: {method}
user.privileged: root
user.unprivileged: root
client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
socks pass {{
    from: 0.0.0.0/0 to: 0.0.0.0/0
    command: connect
    protocol: tcp
    log: connect
    socksmethod: {method}
}}
"""

#: dante knows users from the system only: give it, in a mount namespace of its own, other ones.
WITH_USERS = (
    'mount --bind "$1" /etc/passwd && mount --bind "$2" /etc/shadow && shift 2 && exec "$@"'
)


def danted(test: ProgramTestCase, *, login: bool = False) -> tuple[Program, int]:
    """Start dante's server, with a password if ``login``; return it and its port."""
    program, port = installed("danted"), free_port()
    config = test.write(
        "danted.conf",
        DANTED.format(address=LOOPBACK, port=port, method="username" if login else "none"),
    )
    argv: list[str | Path] = [program, "-f", config, "-p", test.directory / "danted.pid"]
    if login:
        openssl = test.start(installed("openssl"), "passwd", "-6", PASSWORD)
        openssl.wait()
        secret = openssl.output("stdout").strip()
        users = "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
        passwd = test.write("passwd", f"{users}{USER}:x:1001:1001::/:/bin/false\n")
        shadow = test.write("shadow", f"{USER}:{secret}:19000:0:99999:7:::\n")
        argv = ["unshare", "--mount", "sh", "-ec", WITH_USERS, "sh", passwd, shadow, *argv]
    return test.start_server(port, *argv), port


PROSODY = """\
run_as_root = true
daemonize = false
pidfile = "{directory}/prosody.pid"
data_path = "{directory}/accounts"
certificates = "{directory}"
log = {{ info = "*console" }}
modules_enabled = {{ "saslauth", "tls", "disco", "roster", "ping" }}
modules_disabled = {{ "s2s", "offline" }}
c2s_interfaces = {{ "{address}" }}
c2s_ports = {{ {port} }}
c2s_require_encryption = true
authentication = "internal_plain"
storage = "internal"
VirtualHost "{domain}"
    ssl = {{ certificate = "{chain}"; key = "{key}" }}
"""
DOMAIN = "jabber.test"


class Prosody:
    """A Prosody for ``jabber.test`` with the accounts alice and bob, and clients to talk to it."""

    def __init__(self, test: ProgramTestCase) -> None:
        self.test = test
        identity = authority(DOMAIN)
        self.trust = identity.trust(test.directory)
        chain, key = identity.identity(test.directory)
        self.port = free_port()
        accounts = test.directory / "accounts" / DOMAIN.replace(".", "%2e") / "accounts"
        accounts.mkdir(parents=True)
        for user in ("alice", "bob"):
            (accounts / f"{user}.dat").write_text(f'return {{ ["password"] = "{user}-secret"; }};')
        config = test.write(
            "prosody.cfg.lua",
            PROSODY.format(
                directory=test.directory,
                address=LOOPBACK,
                port=self.port,
                domain=DOMAIN,
                chain=chain,
                key=key,
            ),
        )
        self.program = test.start(installed("prosody"), "-F", "--config", config)
        self.program.wait_for(rf"Activated service 'c2s' on .*:{self.port}")

    def client(self, user: str, other: str, port: int) -> Program:
        """Start a Jabber client of ``user`` that talks to ``other``, over ``port`` of this machine.

        See jabber_client.py for what it says and takes.
        """
        return self.test.start(
            sys.executable,
            ROOT / "tests" / "integration" / "jabber_client.py",
            f"{user}@{DOMAIN}",
            f"{user}-secret",
            f"{other}@{DOMAIN}",
            str(port),
            self.trust,
        )


class Origin:
    """An HTTPS server on port 443, in a thread: a real TLS stack with a certificate of its own."""

    def __init__(self, test: ProgramTestCase, name: str, body: bytes) -> None:
        self.name = name
        self.body = body
        self.identity = authority(name)
        self.trust = self.identity.trust(test.directory)
        #: What clients asked for, oldest first.
        self.requests = requests = list[str]()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                requests.append(f"{self.headers['Host']}{self.path}")
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_PUT(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"]))
                requests.append(f"{self.headers['Host']}{self.path}")
                self.send_response(200 if sent == body else 400)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.identity.certificate.configure_cert(context)
        server = ThreadingHTTPServer((LOOPBACK, 443), Handler)
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        test.addCleanup(thread.join)
        test.addCleanup(server.server_close)
        test.addCleanup(server.shutdown)


class Curl:
    """curl, led to ``origin`` by way of the proxy at ``port``, and trusting nobody but it."""

    def __init__(self, test: ProgramTestCase, origin: Origin, port: int) -> None:
        self.test = test
        self.origin = origin
        self.port = port

    def start(self, path: str, *options: str | Path) -> Program:
        """Start one transfer."""
        name = self.origin.name
        return self.test.start(
            *(installed("curl"), "--silent", "--show-error", "--fail", "--noproxy", "*"),
            *("--connect-to", f"{name}:443:{LOOPBACK}:{self.port}"),
            *("--cacert", self.origin.trust, *options, f"https://{name}{path}"),
        )

    def finish(self, curl: Program) -> None:
        """Wait for a transfer, and see that all was well with it."""
        self.test.assertEqual(0, curl.wait(), curl.output())

    def get(self, path: str) -> None:
        """Fetch the origin's body, whole, over the certificate that the origin presents."""
        file = self.test.directory / "body"
        curl = self.start(path, "--output", file, "--write-out", "%{certs}")
        self.finish(curl)
        self.test.assertEqual(self.origin.body, file.read_bytes())
        pem = self.origin.identity.certificate.cert_chain_pems[0].bytes().decode().strip()
        self.test.assertIn(pem, curl.output("stdout"))

    def put(self, path: str) -> None:
        """Send the origin its own body; it answers 400 to any other."""
        file = self.test.directory / "upload"
        file.write_bytes(self.origin.body)
        self.finish(self.start(path, "--upload-file", file))
