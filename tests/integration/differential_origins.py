"""Two web servers that tell what they were asked, for comparing what they say directly."""

import hashlib
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.integration.programs import LOOPBACK, ProgramTestCase, free_port, installed

SIZES = (0, 1, 1000, 100_000)
#: When the files were last changed, in two spellings; nginx makes their entity tags of it.
CHANGED, CHANGED_SECONDS = "Sun, 06 Nov 1994 08:49:37 GMT", 784111777
TAGS = tuple(f'"{CHANGED_SECONDS:x}-{size:x}"' for size in SIZES)

NGINX = """\
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {directory}/temporary;
    proxy_temp_path {directory}/temporary;
    fastcgi_temp_path {directory}/temporary;
    uwsgi_temp_path {directory}/temporary;
    scgi_temp_path {directory}/temporary;
    types {{ text/html html; text/plain txt; }}
    default_type application/octet-stream;
    server {{
        listen {address}:{port};
        root {site};
        location /files/ {{ expires epoch; }}
        location = /nothing {{ return 204; }}
        location = /teapot {{ return 418 "short and stout"; }}
        location = /gone {{ return 410; }}
        location = /moved {{ return 301 /files/1.txt; }}
        location = /found {{ return 302 http://$http_host/files/1.txt?$args; }}
        location = /elsewhere {{ return 307 https://elsewhere.test/; }}
        location /echo {{
            default_type text/plain;
            add_header X-Cookie $http_cookie always;
            add_header X-Odd "<$http_x_odd>" always;
            add_header x-agent $http_user_agent always;
            return 200 "$request_method $request_uri $http_host $http_x_odd $content_length\\n";
        }}
    }}
}}
"""


def nginx(test: ProgramTestCase) -> int:
    """Start nginx; return its port.

    It has files of several sizes under /files/, /echo, and a page for each kind of answer.
    """
    directory = test.directory / "nginx"
    files = directory / "site" / "files"
    files.mkdir(parents=True)
    for size in SIZES:
        path = files / f"{size}.txt"
        path.write_bytes((b"0123456789abcdef" * (size // 16 + 1))[:size])
        os.utime(path, (CHANGED_SECONDS, CHANGED_SECONDS))
    port = free_port()
    config = test.write(
        "nginx.conf",
        NGINX.format(directory=directory, site=directory / "site", address=LOOPBACK, port=port),
    )
    test.start_server(port, *(installed("nginx"), "-e", "stderr", "-p", directory, "-c", config))
    return port


class Echo(BaseHTTPRequestHandler):
    """Answers what it was asked: method, path, fields, and the SHA-256 of the body, as JSON.

    Fields that begin with x- come back as fields of the answer; its form is asked for by ?form=,
    its status by ?status=.
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __getattr__(self, name: str) -> object:
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def answer(self) -> None:
        """Answer a request."""
        body, trailers = self._body()
        told = {
            "method": self.command,
            "path": self.path,
            "fields": self.headers.items(),
            "body": hashlib.sha256(body).hexdigest(),
            "trailers": trailers,
        }
        query = dict(part.partition("=")[::2] for part in self.path.partition("?")[2].split("&"))
        status = (query.get("status") or "200+OK").replace("+", " ")
        start = f"HTTP/1.1 {status}\r\n"
        fields = [f"{n}: {v}\r\n" for n, v in self.headers.items() if n.lower().startswith("x-")]
        text = json.dumps(told).encode()
        self.wfile.write((start + "".join(fields)).encode("latin-1"))
        silent = self.command == "HEAD" or status[:3] in ("204", "304")
        form = query.get("form")
        if silent:
            self.wfile.write(b"\r\n" if status[:3] == "204" else b"Content-Length: 5\r\n\r\n")
        elif form == "chunked":
            self.wfile.write(b"Transfer-Encoding: chunked\r\n\r\n")
            for i in range(0, len(text), 50):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(text[i : i + 50]), text[i : i + 50]))
            self.wfile.write(b"0\r\nX-Sum: 1\r\nx-EMPTY:\r\n\r\n")
        elif form == "end":
            self.wfile.write(b"\r\n" + text)
            self.close_connection = True
        else:
            self.wfile.write(b"Content-Length: %d\r\n\r\n" % len(text) + text)

    def _body(self) -> tuple[bytes, list[str]]:
        if self.headers.get("Transfer-Encoding") is None:
            return self.rfile.read(int(self.headers.get("Content-Length", 0))), []
        body, trailers = b"", []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while (line := self.rfile.readline()) != b"\r\n":
            trailers.append(line.decode("latin-1"))
        return body, trailers


def echo(test: ProgramTestCase) -> int:
    """Start Python's web server with that handler, beside the test; return its port."""
    server = ThreadingHTTPServer((LOOPBACK, 0), Echo)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        thread.join()
        server.server_close()

    test.addCleanup(stop)
    return int(server.server_address[1])
