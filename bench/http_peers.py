"""Other HTTP forward proxies, as they are installed, on one port: started, and ended.

Each has one process or thread that does the work, keeps no cache, and writes its log, or none where
that is its default, in a file. What else is set is said below.
"""

import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from http_traffic import NAME
from peers import LOOPBACK, Peer, find, free_port, running, wait_until_accepting

#: Debian's, but for where things are, more clients than its 100, and a line of log a connection
#: instead of several; it syncs each to the disk.
_TINYPROXY = """\
Port {port}
Listen {host}
Timeout 600
MaxClients 1000
Allow {host}
LogFile "{directory}/tinyproxy.log"
LogLevel Connect
PidFile "{directory}/pid"
ViaProxyName "tinyproxy"
"""
#: One worker without a cache; what it would do beside its work (pinger, netdb) is off.
_SQUID = """\
http_port {host}:{port}
http_access allow all
cache deny all
workers 1
max_filedescriptors 4096
access_log stdio:{directory}/access.log
cache_log {directory}/cache.log
pid_filename none
coredump_dir {directory}
pinger_enable off
netdb_filename none
shutdown_lifetime 0 seconds
visible_hostname bench
"""


@dataclass(frozen=True)
class Program:
    """A proxy: its name in the tables, its command line, its configuration."""

    title: str
    command: str
    arguments: str
    configuration: str = ""
    #: Where it is; empty while it has not been found.
    path: str = ""

    @contextlib.contextmanager
    def start(self, cpus: set[int], origin: int) -> Iterator[Peer]:
        """Run it until the block ends; it is ready when the origin has answered through it."""
        with tempfile.TemporaryDirectory() as directory:
            os.chmod(directory, 0o777)  # noqa: S103  # started by root, squid writes as another user
            port = free_port()
            filled = {"host": LOOPBACK, "port": port, "directory": directory}
            Path(directory, "conf").write_text(self.configuration.format(**filled))
            command = [self.path, *self.arguments.format(**filled).split()]
            log = Path(directory, "log")
            environment = {**os.environ, "HOME": directory}
            with running(command, cpus, log, cwd=directory, environment=environment) as process:
                address = (LOOPBACK, port)
                url = f"http://{NAME}:{origin}/small/0"
                hello = f"GET {url} HTTP/1.1\r\nHost: {NAME}:{origin}\r\n\r\n".encode()
                wait_until_accepting(address, process, log, hello)
                yield Peer(process.pid, address)

    def version(self) -> str:
        """Return what it says when it is asked; each wants to be asked in its own way."""
        for option in ("--version", "-v"):
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                said = subprocess.run(
                    [self.path, option], capture_output=True, text=True, timeout=20
                ).stdout
                if found := re.search(r"\b\d+(\.\d+)+\b", said):
                    return found[0]
        return "?"


PROGRAMS = (
    Program("pproxy", "pproxy", "-l http://{host}:{port}"),
    Program(
        "proxy.py",
        "proxy",
        # By default it starts as many processes as there are CPUs.
        "--hostname {host} --port {port} --num-acceptors 1 --num-workers 1 --data-dir {directory} "
        "--open-file-limit 4096",
    ),
    Program("tinyproxy", "tinyproxy", "-d -c {directory}/conf", _TINYPROXY),
    Program("squid", "squid", "-N -f {directory}/conf", _SQUID),
)


def installed(directories: Sequence[str]) -> Iterator[Program]:
    """Yield those of PROGRAMS that are found."""
    for program in PROGRAMS:
        if path := find(program.command, *directories):
            yield replace(program, path=path)
