"""Where this system looks a name up, and for which names the name servers can be asked directly.

Only there an answer's TTL is to be had. Directly is right where the C library would ask the same
servers for the same name, and nobody before them: else it is the C library that has to be asked.
"""

import ipaddress
import os
import re
import socket
import sys
from dataclasses import dataclass

from whatsproxy.files import Stamp, read_file, stamp

#: What stands before ``dns`` or ``resolve`` in nsswitch.conf and answers for names of its own only:
#: those of containers (one label), of this host, below .local.
_OWN_NAMES_ONLY = {"mymachines", "myhostname", "mdns_minimal", "mdns4_minimal", "mdns6_minimal"}
_OWN_DOMAINS = ("local", "localhost")
#: systemd-resolved's own name servers: nss-resolve asks the same place (systemd-resolved(8)).
_RESOLVED = {"127.0.0.53", "127.0.0.54"}
#: Options of resolv.conf(5) that change nothing for us, beside those that are read here.
_HARMLESS = {"edns0", "trust-ad", "rotate", "inet6", "no-check-names", "debug", "no-reload"}
#: Bytes of a file; with more of them the system is asked about everything.
_LIMIT = 16 << 20
#: Name servers that are used, and what the options are capped at (resolv.conf(5)).
_SERVERS, _NDOTS, _SECONDS, _ATTEMPTS = 3, 15, 30, 5
_LABELS = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})+", re.IGNORECASE)
_NAME_LIMIT = 253


@dataclass(frozen=True, slots=True)
class Servers:
    """Name servers in the order in which they are asked, ``seconds`` each, ``attempts`` times."""

    addresses: tuple[str, ...]
    seconds: float = 5.0
    attempts: int = 2
    #: So many dots make a name be tried without a domain to search first.
    dots: int = 1


class NameSources:
    """What the system's files say, as they were when ``refresh`` was last called."""

    def __init__(
        self,
        resolv_conf: str = "/etc/resolv.conf",
        hosts: str = "/etc/hosts",
        nsswitch: str = "/etc/nsswitch.conf",
        gai_conf: str = "/etc/gai.conf",
    ) -> None:
        self._paths = resolv_conf, hosts, nsswitch, gai_conf
        self._stamps: list[Stamp] | None = None
        self._servers: Servers | None = None
        self._hosts = b""

    def refresh(self) -> bool:
        """Read the files, if they are others than last time; say whether they were."""
        stamps = [stamp(path) for path in self._paths]
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        try:
            resolv_conf, hosts, nsswitch, gai_conf = map(_read, self._paths)
        except (OSError, ValueError):
            self._servers = None
        else:
            self._servers = servers_from(resolv_conf, nsswitch, gai_conf)
            self._hosts = hosts.lower()
        return True

    def servers_for(self, name: str) -> Servers | None:
        """Return who is to be asked for a name; None: the C library."""
        servers = self._servers
        if servers is None or not _LABELS.fullmatch(name) or len(name) > _NAME_LIMIT:
            return None
        if name.count(".") < servers.dots or name.rpartition(".")[2] in _OWN_DOMAINS:
            return None
        # Who is in the hosts file, or looks like it, is what that says: others read it better.
        if name.encode() in self._hosts or name == socket.gethostname().lower():
            return None
        return servers


def _read(path: str) -> bytes:
    try:
        return read_file(path, _LIMIT)
    except FileNotFoundError:
        return b""


def servers_from(resolv_conf: bytes, nsswitch: bytes, gai_conf: bytes) -> Servers | None:
    """Return who can be asked in the C library's place; None: nobody, it has to be asked."""
    if not sys.platform.startswith("linux") or {"RES_OPTIONS", "LOCALDOMAIN"} & set(os.environ):
        return None
    if any(line.split() for line in _lines(gai_conf, b"#")):
        return None  # an order of its own for addresses
    servers = _parse(resolv_conf)
    if servers is None or not _dns_comes_first(nsswitch, servers):
        return None
    return servers


def _lines(text: bytes, comments: bytes) -> list[str]:
    """Return a file's lines without their comments."""
    lines = text.decode("latin-1").splitlines()
    return [re.split(f"[{comments.decode()}]", line)[0] for line in lines]


def _parse(resolv_conf: bytes) -> Servers | None:
    """Read resolv.conf(5); None where there is no server, or something that is not known here."""
    addresses: list[str] = []
    options: dict[str, int] = {"ndots": 1, "timeout": 5, "attempts": 2}
    searched = False
    for line in _lines(resolv_conf, b"#;"):
        key, *values = line.split() or [""]
        if key == "nameserver" and values:
            addresses += values[:1]
        elif key in ("search", "domain"):
            searched = any(value != "." for value in values)
        elif key == "options":
            for option in values:
                name, _, number = option.partition(":")
                if name in options and number.isascii() and number.isdigit():
                    options[name] = int(number)
                elif option not in _HARMLESS:
                    return None
        elif key:
            return None
    addresses = addresses[:_SERVERS]
    if not addresses or not all(map(_is_address, addresses)):
        return None
    return Servers(
        tuple(addresses),
        float(max(1, min(options["timeout"], _SECONDS))),
        max(1, min(options["attempts"], _ATTEMPTS)),
        max(1, min(options["ndots"], _NDOTS)) if searched else 1,
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _dns_comes_first(nsswitch: bytes, servers: Servers) -> bool:
    """Whether the name servers are asked before anybody else who might know (nsswitch.conf(5))."""
    order = "files dns"  # where nothing is said
    for line in _lines(nsswitch, b"#"):
        database, colon, services = line.partition(":")
        if colon and database.strip() == "hosts":
            order = services
    for service in re.sub(r"\[[^]]*\]", " ", order).split():
        if service == "dns":
            return True
        if service == "resolve":
            return set(servers.addresses) <= _RESOLVED
        if service != "files" and service not in _OWN_NAMES_ONLY:
            return False
    return False
