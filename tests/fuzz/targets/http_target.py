"""Where a request goes: its target and its Host, against another reader of URLs."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from tests.fuzz.http_laws import refused
from tests.fuzz.laws import insist, insist_equal
from tests.fuzz.target import Plant, Target
from whatsproxy.destination import Destination, normalise_host
from whatsproxy.http1.target import check_host, parse_absolute, parse_authority, parse_host

_PORTS = {b"http": 80, b"ws": 80, b"https": 443, b"wss": 443}


def check(data: bytes) -> None:
    """What stands before the first line feed is a target, what is behind it a Host."""
    # The request line has been checked before: there are no others in a target.
    text = bytes(byte for byte in data if 0x21 <= byte <= 0x7E or byte == 0x0A)
    target, _, host = text.partition(b"\n")
    for method in (b"GET", b"OPTIONS"):
        _check_absolute(method, target)
    _check_authority(target)
    _check_hosts(host, target)


def _check_absolute(method: bytes, target: bytes) -> None:
    found = refused(parse_absolute, method, target)
    if found is None:
        return
    scheme = target.partition(b":")[0].lower()
    start = len(scheme) + 3
    insist(target[start:].startswith(found.authority), "another authority:", found.authority)
    asked = target[start + len(found.authority) :]
    insist(found.path in (asked, b"/" + asked, b"*"), "another path:", found.path)
    insist(found.path.startswith(b"/") or (found.path, asked, method) == (b"*", b"", b"OPTIONS"))
    insist(b"#" not in found.path, "a fragment goes on:", found.path)
    insist_equal(found.destination.tls, scheme in (b"https", b"wss"), "TLS")
    insist_equal(check_host([found.authority], found.destination), None)
    # Somebody else's reading of the same URL, who may not find another host or port in it.
    url = urlsplit(target.decode("ascii"))
    insist(url.username is None and url.password is None, "userinfo:", target)
    insist_equal(normalise_host(url.hostname or ""), found.destination.host, "another host")
    insist_equal(url.port or _PORTS[scheme], found.destination.port, "another port")


def _check_authority(target: bytes) -> None:
    found = refused(parse_authority, target)
    if found is None:
        return
    insist(not found.tls, "TLS in a tunnel is not ours")
    insist_equal(parse_authority(str(found).encode()), found, "another one when written down")
    url = urlsplit("//" + target.decode("ascii"))
    insist_equal(normalise_host(url.hostname or ""), found.host, "another host")
    insist_equal(url.port, found.port, "another port")
    insist_equal(check_host([target], found, found.port), None)


def _check_hosts(value: bytes, target: bytes) -> None:
    found = refused(parse_host, value, b"/x")
    if found is not None:
        insist(found.destination.tls, "a request in TLS goes to TLS")
        insist_equal((found.authority, found.path), (value, b"/x"))
        other = Destination("other.test", found.destination.port, tls=True)
        insist(_agrees(value, found.destination), "does not agree with itself")
        insist(found.destination.host == other.host or not _agrees(value, other), "agrees with all")
    named = refused(parse_absolute, b"GET", target)
    if named is not None and _agrees(value, named.destination):
        # Whoever goes by the Host field alone comes to the same place.
        url = urlsplit("//" + value.decode("ascii"))
        insist_equal(normalise_host(url.hostname or ""), named.destination.host, "by Host")
        default = 443 if named.destination.tls else 80
        insist_equal(url.port or default, named.destination.port, "by Host")


def _agrees(value: bytes, destination: Destination) -> bool:
    return refused(lambda: check_host([value], destination) or True) is not None


def seeds() -> Iterator[bytes]:
    for text in (
        *("http://a.test/\na.test", "HTTP://A.Test:80/x?y\na.test:80", "https://[::1]:443/\n[::1]"),
        *(
            "ws://a.test?x\na.test:",
            "http://a.test\nb.test",
            "http://u@a.test/\na.test",
            "/\na.test",
        ),
        *("http://a.test:81/\na.test", "http://a.test/#f\na.test", "a.test:443\na.test:443", "*\n"),
        *("[2001:db8::1]:443\n[2001:DB8::1]:443", "http://127.0.0.1/\n127.0.0.1", "http:///\n"),
        *(
            "http://a.test\\@b.test/\na.test",
            "http://0x7f.1/\n",
            "ftp://a.test/\n",
            "http://a.test.:/",
        ),
    ):
        yield text.encode()


TARGET = Target(
    "http_target",
    check,
    seeds,
    plants=(
        Plant(
            "http1/target.py",
            'rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?]*)(.*)"',
            'rb"([A-Za-z][A-Za-z0-9+.-]*)://(?:[^/?]*@)?([^/?]*)(.*)"',
        ),
        Plant(
            "http1/target.py",
            "(named.host, named.port) != (destination.host, destination.port)",
            "named.host != destination.host",
        ),
        Plant("http1/target.py", 'if b"#" in path:', "if False:"),
    ),
    words=(
        *(
            b"http://",
            b"https://",
            b"ws://",
            b"@",
            b":80",
            b":443",
            b"\n",
            b"[::1]",
            b"#",
            b"?",
            b"//",
        ),
        *(
            b"a.test",
            b"\\",
            b"%2f",
            b"%40",
            b":",
            b".",
            b"127.0.0.1",
            b"*",
            b"[",
            b"]",
            b";",
            b"0x",
        ),
    ),
    longest=300,
)
