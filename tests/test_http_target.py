import re
from ipaddress import IPv6Address

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.builders import host_names
from whatsproxy.destination import Destination, parse_destination
from whatsproxy.http1.errors import BadMessageError, MessageError, NotCarriedError
from whatsproxy.http1.target import Target, check_host, parse_absolute, parse_authority

#: What is no authority, with or without a port.
NO_HOSTS = (
    *(b"", b":", b":80", b"a b", b"u@h", b"u:p@h", b"@h", b"h@", b"a..b", b".a", b"-a", b"a-"),
    *(b"127.1", b"0x7f.1", b"2130706433", b"1.2.3.4.5", b"1.2.3.256", b"01.2.3.4", b"::1", b"[::1"),
    *(b"::1]", b"[]", b"[a.b]", b"[1.2.3.4]", b"[::1%25eth0]", b"[::g]", b"[::1]x", b"[[::1]]"),
    *(b"a:b", b"a:-1", b"a:+1", b"a:0", b"a:65536", b"a:080000", b"a:1:2", b"a: 1", b"a:1 "),
    *(b"a::", b"[::1]::", b"a:80:", b"[::1]:80:", b"a:0x50", b"a:\xb2", b"a,b", b"a\0", b"%61"),
    *(b"\xe9.test", "é.test".encode(), b"a\\b", b"a#b", b"*", b"x" * 64, b"a." * 127 + b"a"),
    *(b"a\n", b"a:80\n"),
)
GOOD_HOSTS = (
    (b"a.test", "a.test"),
    (b"A.Test", "a.test"),
    (b"a.test.", "a.test"),
    (b"xn--fa-hia.de", "xn--fa-hia.de"),
    (b"XN--FA-HIA.DE", "xn--fa-hia.de"),
    (b"_x.y", "_x.y"),
    (b"localhost", "localhost"),
    (b"1.2.3.4", "1.2.3.4"),
    (b"[::1]", "::1"),
    (b"[2001:DB8:0:0::1]", "2001:db8::1"),
    (b"[::ffff:1.2.3.4]", str(IPv6Address("::ffff:1.2.3.4"))),
)


class AbsoluteTests(SynchronousTestCase):
    def refuse(self, target: bytes, text: str, kind: type[MessageError] = BadMessageError) -> None:
        with self.assertRaisesRegex(MessageError, text, msg=target) as caught:
            parse_absolute(b"GET", target)
        self.assertIs(type(caught.exception), kind)

    def test_hosts(self) -> None:
        for authority, host in GOOD_HOSTS:
            for tail, port in (
                (b"", 80),
                (b":", 80),
                (b":80", 80),
                (b":8080", 8080),
                (b":00443", 443),
            ):
                told = parse_absolute(b"GET", b"http://" + authority + tail + b"/x")
                expected = Target(Destination(host, port), authority + tail, b"/x")
                self.assertEqual(told, expected)

    def test_paths(self) -> None:
        for rest, path in (
            (b"", b"/"),
            (b"/", b"/"),
            (b"?", b"/?"),
            (b"?x=/y?", b"/?x=/y?"),
            (b"//b.test/", b"//b.test/"),
            (b"/../%2e%00;x", b"/../%2e%00;x"),
            (b"/http://b.test/?@:[]", b"/http://b.test/?@:[]"),
        ):
            self.assertEqual(parse_absolute(b"GET", b"http://a.test" + rest).path, path)
            if rest:
                self.assertEqual(parse_absolute(b"OPTIONS", b"http://a.test" + rest).path, path)
        # RFC 9112 3.2.4: to the server itself, not to something on it.
        self.assertEqual(parse_absolute(b"OPTIONS", b"http://a.test").path, b"*")
        self.assertEqual(parse_absolute(b"options", b"http://a.test").path, b"/")

    def test_scheme(self) -> None:
        for scheme in (b"HTTP", b"Http"):
            self.assertEqual(parse_absolute(b"GET", scheme + b"://a.test").path, b"/")
        for scheme in (
            b"ftp",
            b"file",
            b"h",
            b"http+x",
            b"x.y-1",
        ):
            self.refuse(scheme + b"://a.test/", "no scheme but http and https", NotCarriedError)

    def test_https(self) -> None:
        for scheme in (b"https", b"HTTPS"):
            for authority in (b"a.test", b"a.test:443", b"A.test."):
                target = parse_absolute(b"GET", scheme + b"://" + authority + b"/x?y")
                self.assertEqual(target.destination, Destination("a.test", 443, tls=True))
                self.assertEqual((target.authority, target.path), (authority, b"/x?y"))
                check_host([b"a.test"], target.destination)
                with self.assertRaises(BadMessageError):
                    check_host([b"a.test:80"], target.destination)

    def test_no_url(self) -> None:
        for target in (
            *(b"", b"*", b"/", b"a.test", b"a.test:80", b"a.test/", b"http", b"http:", b"http:/a"),
            *(b"http:a.test/", b"http//a.test", b"://a.test", b"1http://a.test", b" http://a.test"),
            *(
                b"http ://a.test",
                b"ht\xe9://a.test",
                b"//a.test/",
                b"?http://a.test",
                b"http:\\\\a",
            ),
            *(b"http://a.test/\n", b"\nhttp://a.test/", b"-http://a.test"),
        ):
            self.refuse(target, "no absolute URL")

    def test_no_host(self) -> None:
        for authority in NO_HOSTS:
            if b"\n" not in authority:
                self.refuse(b"http://" + authority + b"/", "no HOST:PORT")
            for behind in (b"/@a.test/", b"?@a.test"):
                self.assertRaises(
                    BadMessageError, parse_absolute, b"GET", b"http://" + authority + behind
                )
        self.refuse(b"http:///a.test", "no HOST:PORT")

    def test_fragment(self) -> None:
        for rest in (b"/#", b"/x#y", b"?x#y", b"/#/?"):
            self.refuse(b"http://a.test" + rest, "fragment")
        self.refuse(b"http://a.test#x", "no HOST:PORT")


class AuthorityTests(SynchronousTestCase):
    def test_good(self) -> None:
        for authority, host in GOOD_HOSTS:
            for port in (1, 443, 65535):
                told = parse_authority(b"%b:%d" % (authority, port))
                self.assertEqual(told, parse_destination(f"{bracketed(host)}:{port}"))
                self.assertEqual(told.port, port)

    def test_bad(self) -> None:
        for authority in (
            *NO_HOSTS,
            *(host for host, _ in GOOD_HOSTS),  # the port is not to be guessed
            *(host + b":" for host, _ in GOOD_HOSTS),
            *(b"http://a.test:80", b"a.test:443/", b"/", b"a.test:443?", b"a.test:https"),
        ):
            with self.assertRaisesRegex(BadMessageError, "no HOST:PORT", msg=authority):
                parse_authority(authority)


class HostTests(SynchronousTestCase):
    def test_agree(self) -> None:
        check_host([], Destination("a.test", 80), 80)
        for value, destination in (
            (b"a.test", Destination("a.test", 80)),
            (b"A.TEST.", Destination("a.test", 80)),
            (b"a.test:", Destination("a.test", 80)),
            (b"a.test:80", Destination("a.test", 80)),
            (b"a.test:0080", Destination("a.test", 80)),
            (b"a.test:8080", Destination("a.test", 8080)),
            (b"[2001:DB8::0:1]", Destination("2001:db8::1", 80)),
        ):
            check_host([value], destination, 80)
        check_host([b"a.test"], Destination("a.test", 443), 443)

    def test_disagree(self) -> None:
        for value in (
            b"b.test",
            b"a.test:81",
            b"x.a.test",
            b"a.tes",
            b"1.2.3.4",
            b"[::1]",
            b"test",
        ):
            with self.assertRaisesRegex(BadMessageError, "disagree", msg=value):
                check_host([value], Destination("a.test", 80), 80)
        for port in (8080, 443):
            with self.assertRaisesRegex(BadMessageError, "disagree"):
                check_host([b"a.test"], Destination("a.test", port), 80)
        with self.assertRaisesRegex(BadMessageError, "disagree"):
            check_host([b"a.test", b"b.test"], Destination("a.test", 80), 80)

    def test_no_host(self) -> None:
        for value in (*NO_HOSTS, b"http://a.test", b"a.test/", b"a.test, a.test", b"a.test a.test"):
            with self.assertRaisesRegex(BadMessageError, "no HOST:PORT", msg=value):
                check_host([value], Destination("a.test", 80), 80)


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


destinations = st.builds(
    Destination, host_names | st.ip_addresses().map(str), st.integers(1, 65535)
)
#: RFC 3986 3.2, without userinfo and without what no resolver knows.
_AUTHORITY = re.compile(rb"\A(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(:[0-9]*)?\Z")
_PARTS = st.sampled_from(
    [
        *(b"http", b"https", b":", b"//", b"/", b"?", b"#", b"@", b"[", b"]", b"::1", b"a.test"),
        *(b"80", b"0", b"1.2.3.4", b".", b"%61", b"\\", b"*", b"-", b"xn--", b"\n", b"\xe9", b"\0"),
    ]
)
targets = st.lists(_PARTS, max_size=8).map(b"".join) | st.binary(max_size=20)


class PropertyTests(SynchronousTestCase):
    @given(destinations, st.sampled_from([b"", b"/", b"/x?y", b"?"]))
    def test_round_trip(self, destination: Destination, path: bytes) -> None:
        authority = str(destination).encode()
        self.assertEqual(parse_authority(authority), destination)
        target = parse_absolute(b"GET", b"http://" + authority + path)
        self.assertEqual((target.destination, target.authority), (destination, authority))
        check_host([authority], destination, 80)
        again = parse_absolute(b"GET", b"http://" + target.authority + target.path)
        self.assertEqual(again, target)

    @settings(max_examples=300)
    @given(targets | targets.map(b"http://".__add__), st.sampled_from([b"GET", b"OPTIONS"]))
    def test_nothing_but_message_errors(self, data: bytes, method: bytes) -> None:
        try:
            target = parse_absolute(method, data)
        except MessageError:
            pass
        else:
            # What goes out says by itself what it said within the URL.
            check_host([target.authority], target.destination, 80)
            self.assertTrue(
                target.path.startswith(b"/") or (method, target.path) == (b"OPTIONS", b"*")
            )
            self.assertTrue(target.authority.isascii())
            self.assertRegex(target.authority, _AUTHORITY)
        for check in (
            lambda: parse_authority(data),
            lambda: check_host([data], Destination("a.test", 80), 80),
        ):
            try:
                check()
            except BadMessageError as e:
                self.assertTrue(str(e).isascii())
