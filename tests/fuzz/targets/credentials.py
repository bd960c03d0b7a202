"""Names and passwords: the field they come in, and the file they are compared with."""

import base64
import binascii
from collections.abc import Iterator
from typing import Any

from tests.fuzz.laws import insist, insist_equal
from tests.fuzz.target import Plant, Target, scratch
from whatsproxy.http1.credentials import Credentials, parse_credentials
from whatsproxy.http1.errors import MessageError
from whatsproxy.users import GREATEST_COST, LEAST_COST, UsersError, read_users

_HASH = b"$2b$04$abcdefghijklmnopqrstuuDhMLYgXTPYO9mdUCRDQ8HfKfjAvUJFK"


def check(data: bytes) -> None:
    """The field, as a value, and as what a value is made of; and a file."""
    _check_value(data)
    _check_pair(data)
    _check_file(data)
    _check_file(data.replace(b"HASH", _HASH))


def _parse(*values: bytes) -> Credentials | None:
    found = parse_credentials(list(values))
    insist(found is None or str(found) == repr(found) == "Credentials()", "shown:", found)
    return found


def _check_value(value: bytes) -> None:
    found = _parse(value)
    try:
        _parse(value, value)
        insist(False, "two fields are taken")
    except MessageError as e:
        insist(str(e).isascii() and len(str(e)) <= 80, str(e))
    scheme, _, token = value.partition(b" ")
    if scheme.lower() != b"basic":
        insist_equal(found, None, "another scheme is taken")
        return
    if found is not None:
        # One spelling: else what is kept as wrong, or compared, could be got round.
        pair = found.user + b":" + found.password
        insist_equal(base64.b64encode(pair), token.strip(b" "), "another spelling")
        insist(b":" not in found.user, "a colon in a name")
        insist(not any(byte < 0x20 or byte == 0x7F for byte in pair), "a control character")


def _check_pair(pair: bytes) -> None:
    token = binascii.b2a_base64(pair, newline=False)
    found = _parse(b"Basic " + token)
    user, colon, password = pair.partition(b":")
    clean = not any(byte < 0x20 or byte == 0x7F for byte in pair)
    insist_equal(found, Credentials(user, password) if colon and clean else None, "of", pair)


def _check_file(data: bytes) -> None:
    path = scratch() / "users"
    path.write_bytes(data)
    users: Any = None
    try:
        users = read_users(str(path))
    except UsersError as e:
        text = str(e)
        insist(text.startswith(f"{path}:"), text)
        insist("\n" not in text and text.isprintable() and "$2" not in text, text)
        return
    lines = [line.strip() for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n")]
    entries = [line for line in lines if line and not line.startswith(b"#")]
    insist_equal(len(users.hashes), len(entries), "users of lines")
    for name, hashed in users.hashes.items():
        insist(name + b":" + hashed in entries, "not as it stands there:", name)
        insist(name.decode() is not None and 1 <= len(name) <= 255 and b":" not in name, name)
        insist(LEAST_COST <= int(hashed[4:6]) <= GREATEST_COST, hashed)
    insist_equal(users.costs, frozenset(int(h[4:6]) for h in users.hashes.values()), "costs")
    insist(users.nobodys not in users.hashes.values(), "somebody's")


def seeds() -> Iterator[bytes]:
    yield from (
        b"Basic dXNlcjpwYXNz",
        b"basic  Og==",
        b"Basic dXNlcjpwYXNzCg==",
        b"Bearer x",
        b"Basic",
    )
    yield from (b"user:pass:word", b"user", b":", b"\xc3\xa9:\xff", b"Basic dXNlcjpwYXN1==")
    yield from (b"# all\nuser:HASH\n\n\xc3\xa9:HASH\r\n", b"a:HASH\na:HASH", b"\xef\xbb\xbfa:HASH")
    yield from (b"a:$2b$17$" + _HASH[7:], b"a:$1$x$y", b"a:HASH:b", b"\xff:HASH", b"a :HASH")
    yield b"a:" + _HASH


TARGET = Target(
    "credentials",
    check,
    seeds,
    plants=(
        Plant("users.py", "if name in hashes:", "if False:"),
        Plant("http1/credentials.py", 'rb"([^\\x00-\\x1f\\x7f:]*):', 'rb"([^\\x00-\\x1f\\x7f]*):'),
    ),
    words=(
        *(
            b"Basic ",
            b"dXNlcjpwYXNz",
            b"==",
            b"HASH",
            b":HASH\n",
            b"$2y$10$",
            b"#",
            b"\xef\xbb\xbf",
            b":",
        ),
    ),
    longest=300,
)
