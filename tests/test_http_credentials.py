"""Proxy-Authorization: what is taken for a name and a password, and what is not."""

import base64

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from whatsproxy.http1.credentials import Credentials, parse_credentials
from whatsproxy.http1.errors import BadMessageError

#: All bytes but control characters; a name has no colon.
PASSWORDS = st.binary(max_size=100).map(lambda b: bytes(c for c in b if c >= 32 and c != 127))
NAMES = PASSWORDS.map(lambda b: b.replace(b":", b""))


def basic(pair: bytes, scheme: bytes = b"Basic ") -> bytes:
    return scheme + base64.b64encode(pair)


class TakenTests(SynchronousTestCase):
    def test_the_example_of_the_rfc(self) -> None:
        """RFC 7617 2, and 2.1 in UTF-8."""
        for value, user, password in (
            (b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", b"Aladdin", b"open sesame"),
            (b"Basic dGVzdDoxMjPCow==", b"test", "123\u00a3".encode()),
        ):
            self.assertEqual(parse_credentials([value]), Credentials(user, password))

    @given(NAMES, PASSWORDS, st.sampled_from([b"Basic ", b"basic ", b"BASIC   "]))
    def test_every_pair(self, user: bytes, password: bytes, scheme: bytes) -> None:
        value = basic(user + b":" + password, scheme)
        self.assertEqual(parse_credentials([value]), Credentials(user, password))


class RefusedTests(SynchronousTestCase):
    def test_none_that_can_be_read(self) -> None:
        for value in (
            *(b"", b"Basic", b"Basic ", b"Basic\tdTpw", b"Basic:dTpw", b"BasicdTpw", b"dTpw"),
            *(b"Bearer dTpw", b"Digest username=u", b"Negotiate dTpw", b"Basic dTpw, Basic dTpw"),
            *(b"Basic dTpw=", b"Basic dTp", b"Basic dT=pw", b"Basic dTpw==", b"Basic d-_w"),
            *(b"Basic dTpw x", b"Basic dTp w", b"Basic u:p", b"Basic =", b"Basic \xff\xfe"),
            *(basic(b"no colon"), basic(b"u:p\0"), basic(b"u\n:p"), basic(b"u:p\x7f"), basic(b"")),
        ):
            self.assertIsNone(parse_credentials([value]), value)
        self.assertIsNone(parse_credentials([]))

    def test_two_fields(self) -> None:
        """Two programs could take two of them."""
        for second in (basic(b"u:p"), basic(b"u:q"), b""):
            with self.assertRaisesRegex(BadMessageError, "more than one"):
                parse_credentials([basic(b"u:p"), second])

    @given(st.binary(max_size=40), st.booleans())
    def test_whatever_comes(self, value: bytes, prefixed: bool) -> None:
        """Nothing is raised; and what is taken is what base64 says, and nothing beside it."""
        value = b"Basic " * prefixed + value
        found = parse_credentials([value])
        if found is not None:
            pair = found.user + b":" + found.password
            self.assertEqual(base64.b64decode(value[5:].strip(b" "), validate=True), pair)
            self.assertNotIn(b":", found.user)

    @given(st.binary(max_size=40))
    def test_whatever_is_in_it(self, pair: bytes) -> None:
        found = parse_credentials([basic(pair)])
        clean = b":" in pair and not any(c < 32 or c == 127 for c in pair)
        self.assertEqual(found is not None, clean)


class SecretTests(SynchronousTestCase):
    def test_no_text_shows_them(self) -> None:
        credentials = Credentials(b"some-name", b"some-word")
        for text in (str(credentials), repr(credentials), f"{[credentials]}"):
            self.assertNotIn("some", text)
