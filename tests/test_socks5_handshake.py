"""The conversation with a SOCKS5 server, byte by byte: every split, every answer, every failure."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.builders import check_prefix_law
from tests.peers import by_name
from tests.socks5_attempt import ANONYMOUS, BOTH, GRANTED, LOGIN, Attempt, pieces_of
from whatsproxy import socks5
from whatsproxy.socks5_handshake import frame_reply

BOUND = {
    "IPv4": GRANTED,
    "IPv6": b"\x05\x00\x00\x04" + bytes(15) + b"\x01\x04\xd2",
    "name": b"\x05\x00\x00\x03\x09localhost\x04\xd2",
    "empty name": b"\x05\x00\x00\x03\x00\x04\xd2",
}
CODES = {
    1: socks5.ServerFailure,
    2: socks5.ConnectionNotAllowed,
    3: socks5.NetworkUnreachable,
    4: socks5.HostUnreachable,
    5: socks5.ConnectionRefused,
    6: socks5.TTLExpired,
    7: socks5.CommandNotSupported,
    8: socks5.AddressNotSupported,
    9: socks5.ConnectionError,
    255: socks5.ConnectionError,
}


CUTS = st.sets(st.integers(1, 60), max_size=60)


class SplitTests(SynchronousTestCase):
    @given(st.sampled_from(sorted(BOUND)), CUTS, st.booleans(), st.binary(max_size=20))
    def test_success(self, bound: str, cuts: set[int], login: bool, tail: bytes) -> None:
        """However the answers arrive, the stream begins behind them, after the Deferred."""
        answers = (b"\x05\x02\x01\x00" if login else b"\x05\x00") + BOUND[bound]
        attempt = Attempt(LOGIN if login else ANONYMOUS)
        for piece in pieces_of(answers + tail, cuts):
            attempt.server.feed(piece)
        self.assertEqual(attempt.results, [b""])
        self.assertEqual(attempt.application.received, tail)
        self.assertEqual(attempt.clock.getDelayedCalls(), [])
        self.assertFalse(attempt.server.transport.disconnecting)

    @given(st.sampled_from(sorted(CODES)), CUTS, st.booleans())
    def test_failure(self, code: int, cuts: set[int], login: bool) -> None:
        """Each code has its exception, which knows the code and says it in words."""
        attempt = Attempt(LOGIN if login else ANONYMOUS)
        answers = (b"\x05\x02\x01\x00" if login else b"\x05\x00") + bytes([5, code]) + GRANTED[2:]
        for piece in pieces_of(answers, cuts):
            attempt.server.feed(piece)
        self.assertIs(attempt.failed(), CODES[code])
        self.assertEqual(attempt.results[0].code, code)
        self.assertIn(f"(reply {code})", str(attempt.results[0]))

    @given(st.binary(max_size=30) | st.sampled_from(sorted(BOUND.values())))
    def test_prefix_law(self, data: bytes) -> None:
        """What was decided from a beginning of the reply stays so, whatever follows."""

        def decide(some: bytes) -> Any:
            try:
                return frame_reply(some)
            except socks5.SOCKSError as e:
                return type(e)

        check_prefix_law(self, decide, data)

    def test_short_refusals(self) -> None:
        """A server that says no in two bytes is understood at once."""
        for code, error in CODES.items():
            attempt = Attempt()
            attempt.server.feed(b"\x05\x00")
            attempt.server.feed(bytes([5, code]))
            self.assertIs(attempt.failed(), error)

    def test_codes_differ(self) -> None:
        """Each reply that RFC 1928 names has an exception and a text of its own."""
        named = [CODES[code](code) for code in range(1, 9)]
        self.assertEqual(len({type(e) for e in named}), 8)
        self.assertEqual(len({str(e) for e in named}), 8)


class WireTests(SynchronousTestCase):
    def test_greetings(self) -> None:
        """The methods are offered in the order given."""
        for methods, greeting in (
            (ANONYMOUS, b"\x05\x01\x00"),
            (LOGIN, b"\x05\x01\x02"),
            (BOTH, b"\x05\x02\x00\x02"),
        ):
            self.assertEqual(Attempt(methods).server.sent(), greeting)

    def test_requests(self) -> None:
        """Names go out as they are, unresolved; addresses as addresses (RFC 1928 5)."""
        for host, port, request in (
            ("g.whatsapp.net", 5222, by_name("g.whatsapp.net", 5222)),
            (b"g.whatsapp.net", 443, by_name("g.whatsapp.net", 443)),
            ("a" * 255, 1, by_name("a" * 255, 1)),
            ("192.0.2.1", 443, b"\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb"),
            (b"192.0.2.1", 443, b"\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb"),
            ("2001:db8::1", 80, bytes.fromhex("05010004 20010db8000000000000000000000001 0050")),
        ):
            attempt = Attempt(ANONYMOUS, host, port)
            attempt.server.sent()
            attempt.server.feed(b"\x05\x00")
            self.assertEqual(attempt.server.sent(), request)

    def test_login(self) -> None:
        """User and password go out as RFC 1929 has it, and only then the request."""
        attempt = Attempt(BOTH)
        attempt.server.sent()
        attempt.server.feed(b"\x05\x02")
        self.assertEqual(attempt.server.sent(), b"\x01\x04user\x06secret")
        attempt.server.feed(b"\x01\x00")
        self.assertEqual(attempt.server.sent(), by_name("g.whatsapp.net", 5222))

    def test_anonymous_is_chosen(self) -> None:
        """A server that wants no password does not get one."""
        attempt = Attempt(BOTH)
        attempt.server.sent()
        attempt.server.feed(b"\x05\x00")
        self.assertEqual(attempt.server.sent(), by_name("g.whatsapp.net", 5222))


class NonsenseTests(SynchronousTestCase):
    def assertFails(self, answers: bytes, error: type[Exception], methods: Any = BOTH) -> None:
        """Both at once and byte by byte."""
        for cuts in (set[int](), set(range(len(answers)))):
            attempt = Attempt(methods)
            for piece in pieces_of(answers, cuts):
                attempt.server.feed(piece)
            self.assertIs(attempt.failed(), error, answers)

    def test_refused_credentials(self) -> None:
        for status in (1, 2, 255):
            self.assertFails(bytes([5, 2, 1, status]), socks5.LoginAuthenticationFailed)

    def test_no_acceptable_method(self) -> None:
        self.assertFails(b"\x05\xff", socks5.NoAcceptableMethods)

    def test_methods_that_were_not_offered(self) -> None:
        self.assertFails(b"\x05\x02", socks5.NotSOCKS5, ANONYMOUS)
        self.assertFails(b"\x05\x00", socks5.NotSOCKS5, LOGIN)
        self.assertFails(b"\x05\x01", socks5.NotSOCKS5)  # GSSAPI
        self.assertFails(b"\x05\x77", socks5.NotSOCKS5)

    def test_other_protocols(self) -> None:
        for answer in (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"\x15\x03\x01\x00\x02\x02\x46",  # a TLS alert
            b"\x00\x5b",  # SOCKS4
            b"\x05\x02HTTP",
            b"\x05\x00HTTP/1.1 200 OK\r\n",
            b"\x05\x00\x05\x00\x01\x01\x7f\x00\x00\x01\x04\xd2",  # the reserved byte
            b"\x05\x00\x05\x00\x00\x02\x7f\x00\x00\x01\x04\xd2",  # no such address type
        ):
            self.assertFails(answer, socks5.NotSOCKS5)

    def test_the_end_at_each_stage(self) -> None:
        """A server that goes before it has answered, by FIN or for good, is a reason of its own."""
        answers = b"\x05\x02" + b"\x01\x00" + GRANTED
        for length in range(len(answers)):
            for end in ("FIN", "lost"):
                attempt = Attempt(LOGIN)
                attempt.server.feed(answers[:length])
                protocol: Any = attempt.server.transport.protocol
                if end == "FIN":
                    protocol.readConnectionLost()
                else:
                    protocol.connectionLost(Failure(ConnectionDone()))
                self.assertIs(attempt.failed(), socks5.ConnectionLostEarly)

    def test_nothing_is_heard_after_the_failure(self) -> None:
        """Bytes that follow a refusal change nothing, and fail nothing."""
        attempt = Attempt()
        attempt.server.feed(b"\x05\xff" + GRANTED)
        attempt.server.feed(GRANTED)
        self.assertIs(attempt.failed(), socks5.NoAcceptableMethods)
        self.assertEqual(attempt.application.received, b"")
