"""The users of the HTTP proxy: a file of names and bcrypt hashes, as ``htpasswd -B`` writes it."""

import re
import secrets
from dataclasses import dataclass, field

import bcrypt

from whatsproxy.files import read_file, why

#: Bytes of the file: some 14,000 users.
SIZE_LIMIT = 1 << 20
#: Bytes of a password that bcrypt looks at. Of a longer one nobody could say what it is.
LONGEST = 72
#: Powers of two: rounds of the hash. 16 takes seconds at each check.
LEAST_COST, GREATEST_COST = 4, 16
#: That of the hash that nobody has, where there is no user to say what is usual here.
USUAL_COST = 12

_BASE64 = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
# Salt and digest are 16 and 23 bytes: the last character of each has bits left over, which are 0.
_LINE = re.compile(
    rb"([^:\x00-\x1f\x7f]{1,255}):"
    rb"(\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{30}[.CGKOSWaeimquy26])"
)


class UsersError(Exception):
    """The file cannot be used; ``str()`` names it, its line, and what would be right."""


@dataclass(frozen=True, slots=True)
class Users:
    """Who there is. ``costs`` are those of the hashes; ``nobodys`` is a hash of no password."""

    hashes: dict[bytes, bytes] = field(repr=False)
    costs: frozenset[int]
    nobodys: bytes = field(repr=False)

    def check(self, user: bytes, password: bytes) -> bool:
        """Tell whether it is this user's password. It takes a processor's time: see ``costs``.

        The work is the same whether there is such a user or not, and whatever the password.
        """
        hashed = self.hashes.get(user, self.nobodys)
        usable = len(password) <= LONGEST and b"\0" not in password
        same = bcrypt.checkpw(password if usable else b"", hashed)
        return same and usable and user in self.hashes


def users_of(hashes: dict[bytes, bytes]) -> Users:
    """Return the users with these hashes, which are bcrypt's."""
    costs = frozenset(int(hashed[4:6]) for hashed in hashes.values())
    digest = "".join(secrets.choice(_BASE64) for _ in range(30)) + "."
    nobodys = bcrypt.gensalt(max(costs, default=USUAL_COST)) + digest.encode()
    return Users(hashes, costs, nobodys)


def read_users(path: str) -> Users:
    """Read a file of users. Raises UsersError."""
    try:
        data = read_file(path, SIZE_LIMIT)
    except OSError as e:
        raise UsersError(f"{path}: cannot be read: {why(e)}") from None
    except ValueError as e:
        raise UsersError(f"{path}: {e}") from None
    hashes: dict[bytes, bytes] = {}
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        line = raw.strip()
        if line and not line.startswith(b"#"):
            try:
                name, hashed = _parse(line)
                if name in hashes:
                    raise ValueError("that name stands there before")
            except ValueError as e:
                raise UsersError(f"{path}:{number}: {e}") from None
            hashes[name] = hashed
    return users_of(hashes)


def _parse(line: bytes) -> tuple[bytes, bytes]:
    """Return a line's name and hash. Raises ValueError, whose text shows nothing of the line."""
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError("NAME:HASH is expected, a bcrypt hash, as htpasswd -B makes it")
    try:
        found[1].decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("the name is not in UTF-8") from None
    if not LEAST_COST <= int(found[3]) <= GREATEST_COST:
        raise ValueError(
            f"a cost from {LEAST_COST} to {GREATEST_COST} is expected, as htpasswd -B -C 12 has it"
        )
    return found[1], found[2]
