"""Who asks: the field Proxy-Authorization, in the scheme Basic (RFC 9110 11.7.2, RFC 7617)."""

import binascii
import re
from dataclasses import dataclass, field

from whatsproxy.http1.errors import BadMessageError

PROXY_AUTHORIZATION = b"proxy-authorization"
#: The field of a 407 (RFC 9110 11.7.1). Names and passwords are compared as the bytes they are.
CHALLENGE = (b"Proxy-Authenticate", b'Basic realm="proxy", charset="UTF-8"')

_BASIC = re.compile(rb"basic +([A-Za-z0-9+/]+={0,2})", re.IGNORECASE)
#: A name without a colon, any password; no control characters in either (RFC 7617 2).
_USER_PASS = re.compile(rb"([^\x00-\x1f\x7f:]*):([^\x00-\x1f\x7f]*)")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password, which no text made of this shows."""

    user: bytes = field(repr=False)
    password: bytes = field(repr=False)


def parse_credentials(values: list[bytes]) -> Credentials | None:
    """Parse the values of the field. None: they are not Basic, or malformed.

    Those are answered as wrong ones are (RFC 9110 11.4). Raises BadMessageError where there are
    several: two programs could take two of them.
    """
    if len(values) > 1:
        raise BadMessageError("there is more than one Proxy-Authorization field")
    found = _BASIC.fullmatch(values[0]) if values else None
    if found is None:
        return None
    try:
        text = binascii.a2b_base64(found[1])
    except binascii.Error:
        return None
    if binascii.b2a_base64(text, newline=False) != found[1]:
        return None  # there is padding, or a bit, too many
    pair = _USER_PASS.fullmatch(text)
    return None if pair is None else Credentials(pair[1], pair[2])
