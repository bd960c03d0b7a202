"""The programs that are measured, and the SOCKS server beside them: started, and ended."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from process import pinned

ROOT = Path(__file__).resolve().parents[1]
LOOPBACK = "127.0.0.1"
ANY_PORT = f"tcp:0:interface={LOOPBACK}"
#: Seconds for a program to begin listening, and to end.
PATIENCE = 20.0

#: Meta's image: its timeouts, buffer and limit; one thread, as whatsproxy has.
_HAPROXY = """\
global
  maxconn {maxconn}
  tune.bufsize {buffer}
  nbthread 1
{globally}defaults
  mode tcp
  timeout connect 5s
  timeout client 200s
  timeout server 200s
  timeout client-fin 1s
{by_default}listen whatsapp
  bind fd@{fd}{bind}
  server origin {host}:{port}
"""
#: Splicing forced, with pipes as large as they may be without privileges.
_PIPES = "  tune.pipesize 1048576\n"
_SPLICING = "  option splice-request\n  option splice-response\n"
#: TLS as whatsproxy's OpenSSL has it by default, which HAProxy's may not.
_TLS = " ssl curves X25519:P-256"
#: HAProxy's connections, and the descriptors that it wants beside those of each of them: two, and
#: up to one when it splices.
_MAXCONN, _HAPROXY_RESERVE = 27_500, 200

#: All clients here are one, and more than its limits: they count, and stop nobody. Names lead here.
_SETTINGS = {
    "WHATSPROXY_POLICY_ALLOW_NETWORKS": "127.0.0.0/8",
    "WHATSPROXY_LOGGING_RATE": "0",
    "WHATSPROXY_CLIENTS_MAX_PER_CLIENT": "1000000",
    "WHATSPROXY_CLIENTS_RATE_PER_CLIENT": "1000000",
    "WHATSPROXY_CLIENTS_BURST_PER_CLIENT": "1000000",
}


@dataclass(frozen=True)
class Peer:
    """A running program: what to measure, and where it listens."""

    pid: int
    address: tuple[str, int]
    #: The port of its pages; 0 where it has none.
    pages: int = 0
    #: The host and port that its clients ask for by CONNECT; empty where they do not.
    connect: str = ""
    #: Where what it says goes, if that is known.
    log: Path | None = None


@dataclass(frozen=True)
class Haproxy:
    """What HAProxy is to do otherwise than with Meta's settings."""

    #: Bytes of a buffer.
    buffer: int = 4096
    splicing: bool = False
    #: Files with certificate and key, one of which is picked by the server name. Empty: no TLS.
    certificates: Sequence[Path] = ()


META = Haproxy()
#: A started program, given back to be measured.
Starter = Callable[[], AbstractContextManager[Peer]]


def find(name: str, *directories: str) -> str | None:
    """Return the path of a program: in these directories, or installed, if only for root."""
    path = [*directories, os.environ["PATH"], "/usr/sbin", "/sbin"]
    return shutil.which(name, path=os.pathsep.join(path))


def free_port() -> int:
    """Return a port for a program that takes no socket and tells no port of its own choice."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def whatsproxy(cpus: set[int], options: Sequence[str], source: Path = ROOT) -> Iterator[Peer]:
    """Run ``twistd whatsproxy`` with these options, its log in a file, as a service has it.

    ``source`` is the top of the source tree that it is taken from.
    """
    twistd = str(Path(sys.executable).with_name("twistd"))
    command = [twistd, "-n", "--pidfile=", "whatsproxy", "-l", ANY_PORT, "-m", ANY_PORT, *options]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WHATSPROXY_")}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "log")
        environment = {**kept, "PYTHONPATH": str(source), **_SETTINGS}
        with running(command, cpus, path, cwd=directory, environment=environment) as process:
            port = _port_in(path, r"listening on [\d.]+:(\d+) ", process)
            pages = _port_in(path, r"metrics on http://[\d.]+:(\d+)/metrics", process)
            yield Peer(process.pid, (LOOPBACK, port), pages, log=path)


@contextlib.contextmanager
def haproxy(
    cpus: set[int], origin: int, descriptors: int, settings: Haproxy = META, *, wait: bool = True
) -> Iterator[Peer]:
    """Run HAProxy, relaying everything to the origin on this port.

    Its port accepts from the beginning. With ``wait`` the origin has answered through it, too.
    """
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        # It inherits its listening socket: no port has to be guessed free.
        listening = stack.enter_context(socket.socket())
        listening.bind((LOOPBACK, 0))
        listening.listen(4096)
        fd = listening.fileno()
        each = 3 if settings.splicing else 2
        configuration = Path(directory, "haproxy.cfg")
        configuration.write_text(
            _HAPROXY.format(
                maxconn=min(_MAXCONN, (descriptors - _HAPROXY_RESERVE) // each),
                buffer=settings.buffer,
                globally=_PIPES if settings.splicing else "",
                by_default=_SPLICING if settings.splicing else "",
                fd=fd,
                bind="".join([_TLS, *(f" crt {path}" for path in settings.certificates)])
                if settings.certificates
                else "",
                host=LOOPBACK,
                port=origin,
            )
        )
        command = [str(find("haproxy")), "-db", "-f", str(configuration)]
        log = Path(directory, "log")
        process = stack.enter_context(running(command, cpus, log, fds=(fd,)))
        address: tuple[str, int] = listening.getsockname()
        if wait:
            wait_until_accepting(address, process, log)
        yield Peer(process.pid, address, log=log)


@contextlib.contextmanager
def microsocks(cpus: set[int]) -> Iterator[Peer]:
    """Run the SOCKS5 server, on the CPU of the load: its cost is not the proxy's."""
    port = free_port()
    command = [str(find("microsocks")), "-i", LOOPBACK, "-p", str(port)]
    with running(command, cpus, Path(os.devnull)) as process:
        wait_until_accepting((LOOPBACK, port), process, Path(os.devnull))
        yield Peer(process.pid, (LOOPBACK, port))


@contextlib.contextmanager
def running(
    command: Sequence[str],
    cpus: set[int],
    log: Path,
    *,
    cwd: str | None = None,
    environment: dict[str, str] | None = None,
    fds: Sequence[int] = (),
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program until the block ends, what it says going to ``log``."""
    with log.open("wb") as output, pinned(cpus):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=environment,
            pass_fds=fds,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port_in(log: Path, pattern: str, process: "subprocess.Popen[bytes]") -> int:
    for _ in patience(process, log):
        if found := re.search(pattern, log.read_text(errors="replace")):
            return int(found[1])
    raise AssertionError("unreachable: patience ends with an exception")


def wait_until_accepting(
    address: tuple[str, int],
    process: "subprocess.Popen[bytes]",
    log: Path,
    hello: bytes = b"\x05\x01\x00",
) -> None:
    """Wait until a connection is answered: by the origin's end of it, or by SOCKS itself."""
    for _ in patience(process, log):
        with contextlib.suppress(OSError), socket.create_connection(address, 1) as connection:
            connection.settimeout(1)
            connection.sendall(hello)
            if connection.recv(3):
                return


def patience(process: "subprocess.Popen[bytes]", log: Path) -> Iterator[None]:
    """Yield every 20 ms while the program runs; raise when it takes too long."""
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
        yield
        time.sleep(0.02)
    said = log.read_text(errors="replace") if log.is_file() else ""
    raise RuntimeError(f"{process.args!r} does not listen (status {process.poll()}):\n{said}")
