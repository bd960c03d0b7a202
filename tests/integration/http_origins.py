"""Web servers: nginx, Python's own, and small ones that tell what they saw."""

import asyncio
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

from tests.integration.http_wire import Message, read_body, read_head, read_request
from tests.integration.programs import (
    LOOPBACK,
    Background,
    ProgramTestCase,
    eventually,
    free_port,
    installed,
)
from tests.integration.third_party import authority
from tests.integration.traffic import serve

#: The names of every origin here; the sandbox resolves them.
NAMES = ("origin.test", "static.test", "images.test")

NGINX = """\
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    log_format seen '$connection $scheme $request_method $http_host$request_uri $status';
    access_log {directory}/access.log seen;
    client_body_temp_path {directory}/temporary;
    proxy_temp_path {directory}/temporary;
    fastcgi_temp_path {directory}/temporary;
    uwsgi_temp_path {directory}/temporary;
    scgi_temp_path {directory}/temporary;
    types {{ text/html html; text/css css; text/javascript js; image/png png; }}
    default_type application/octet-stream;
    absolute_redirect off;
    server {{
        listen {address}:{port};
        listen {address}:{tls_port} ssl;
        ssl_certificate {chain};
        ssl_certificate_key {key};
        root {site};
        location = /nothing {{ return 204; }}
        location /listed/ {{ autoindex on; }}
        location /put/ {{ dav_methods PUT; client_max_body_size 64m; }}
        location /small/ {{ dav_methods PUT; client_max_body_size 100k; }}
    }}
}}
"""


class Nginx:
    """nginx, with the files under ``site``: over HTTP, and over HTTPS by an authority of its own.

    It takes uploads (PUT) under /put/, and under /small/ those of up to 100 KiB.
    """

    def __init__(self, test: ProgramTestCase) -> None:
        self.directory = test.directory / "nginx"
        self.site = self.directory / "site"
        for name in ("put", "small", "listed"):
            (self.site / name).mkdir(parents=True)
        self.identity = authority(*NAMES)
        self.trust = self.identity.trust(test.directory)
        chain, key = self.identity.identity(test.directory)
        self.port, self.tls_port = free_port(), free_port()
        config = test.write(
            "nginx.conf",
            NGINX.format(
                directory=self.directory,
                site=self.site,
                address=LOOPBACK,
                port=self.port,
                tls_port=self.tls_port,
                chain=chain,
                key=key,
            ),
        )
        test.start_server(
            self.port,
            *(installed("nginx"), "-e", "stderr", "-p", self.directory, "-c", config),
        )

    def add(self, name: str, content: bytes) -> bytes:
        """Publish ``content``, and return it."""
        path = self.site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return content

    def url(self, path: str, name: str = NAMES[0]) -> str:
        """Return the URL of ``path`` over HTTP."""
        return f"http://{name}:{self.port}{path}"

    def secure_url(self, path: str, name: str = NAMES[0]) -> str:
        """Return the URL of ``path`` over HTTPS."""
        return f"https://{name}:{self.tls_port}{path}"

    def seen(self, count: int) -> list[tuple[int, str]]:
        """Return what was asked for, in ``count`` requests: the serial number of the connection,
        and a line such as ``http GET origin.test:80/path 200``.
        """

        def lines() -> list[str]:
            return (self.directory / "access.log").read_text().splitlines()

        # It writes a line when all of the answer is on its way, and may have to do so yet.
        eventually(lambda: len(lines()) >= count, f"nginx has served {count} requests", 5)
        split = [line.split(" ", 1) for line in lines()]
        assert len(split) == count, split
        return [(int(serial), rest) for serial, rest in split]


class PythonServer:
    """``python -m http.server``, as it comes, with the files under ``site``."""

    def __init__(self, test: ProgramTestCase, protocol: str = "HTTP/1.1") -> None:
        self.site = Path(test.mktemp()).resolve()
        self.site.mkdir(parents=True)
        self.port = free_port()
        test.start_server(
            self.port,
            *(sys.executable, "-m", "http.server", "--bind", LOOPBACK, "--protocol", protocol),
            *("--directory", self.site, str(self.port)),
        )

    def url(self, path: str, name: str = NAMES[1]) -> str:
        """Return the URL of ``path``."""
        return f"http://{name}:{self.port}{path}"


class Origin:
    """A server on the wire: ``answer`` says what goes back for each request."""

    def __init__(self, background: Background, answer: Callable[[Message], bytes]) -> None:
        #: What was asked for, oldest first.
        self.requests: list[Message] = []
        self._answer = answer
        self.port = background.run(serve(self.serve))

    def url(self, path: str, name: str = NAMES[0]) -> str:
        """Return the URL of ``path``."""
        return f"http://{name}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        while (request := await read_request(reader)) is not None:
            self.requests.append(request)
            writer.write(self._answer(request))
            await writer.drain()


def answer(body: bytes, *lines: str, status: str = "200 OK") -> bytes:
    """Return a plain answer."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines, "", ""]
    return "\r\n".join(head).encode() + body


class ExpectingOrigin(Origin):
    """A server that decides about a body before it comes.

    It refuses what goes to /full (413) and, where the client says ``Expect``, to /stubborn (417),
    without having read the body; the connection then ends. Anything else it wants, says so with 100
    if it is asked to, and answers the SHA-256 of what came.
    """

    def __init__(self, background: Background) -> None:
        super().__init__(background, lambda request: answer(digest(request.body)))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        while (request := await read_head(reader)) is not None:
            self.requests.append(request)
            path, expects = request.target, request.tokens("expect") == [b"100-continue"]
            if path == "/full" or (expects and path == "/stubborn"):
                status = "413 Full" if path == "/full" else "417 No"
                writer.write(answer(b"no", "Connection: close", status=status))
                return
            if expects:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await read_body(reader, request)
            writer.write(self._answer(request))
            await writer.drain()


def digest(body: bytes) -> bytes:
    """Return the SHA-256 of a body, in hexadecimal digits."""
    return hashlib.sha256(body).hexdigest().encode()
