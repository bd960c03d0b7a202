"""Which way a ClientHello goes, for every kind of server name; the table of docs/tls.md."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.builders import host_names
from whatsproxy.clienthello import ClientHello
from whatsproxy.destination import Destination
from whatsproxy.policy import Policy
from whatsproxy.reason import Reason
from whatsproxy.route import ROUTES as REMEMBERED
from whatsproxy.route import EachRequest, Refusal, Route, Router, Terminate
from whatsproxy.sniff import Kind, Sniffed

CHAT = (Destination("chat.example", 5222), Destination("tls.example", 443))
WEB = Destination("192.0.2.1", 8443)
POLICY = Policy(["*.whatsapp.net", "wa.me", "xn--fa-hia.de", "both.example"], [443], CHAT)
NAMES = ("proxy.example", "*.proxy.example", "XN--fa-hia.example.", "both.example")

#: As it arrives: what is allowed, ours by NAMES, nobody's.
ALLOWED = {
    "mmg.whatsapp.net": "mmg.whatsapp.net",
    "MMG.WhatsApp.NET": "mmg.whatsapp.net",
    "a.b.whatsapp.net.": "a.b.whatsapp.net",
    "wa.me": "wa.me",
    "XN--FA-HIA.de": "xn--fa-hia.de",
    "tls.example": "tls.example",  # a configured upstream, with its port
    "both.example": "both.example",  # allowed comes first
}
OURS = (
    *("proxy.example", "Proxy.Example", "proxy.example.", "x.proxy.example", "x.y.proxy.example"),
    *("X.PROXY.EXAMPLE.", "xn--fa-hia.example", "XN--FA-HIA.EXAMPLE"),
)
#: No server name, as RFC 6066 3 has it; who dials an address has none to give, and no better one.
ADDRESSES = ("127.0.0.1", "203.0.113.9", "::1", "2001:DB8::1")
NOBODYS = (
    *("example.org", "whatsapp.net", "x.wa.me", "chat.example", "notproxy.example", "example"),
    *("proxy.example.org", "xproxy.example", "whatsapp.net.proxy.example.org", "fa-hia.example"),
)
MALFORMED = (
    *("", ".", "a..b", "proxy.example..", ".proxy.example", "*.proxy.example", "proxy_.example/"),
    *("mmg.whatsapp.net:443", "2130706433", "0x7f.1", "127.1", "256.1.1.1", "a b", "-a.example"),
    *("x" * 64 + ".proxy.example", "x." * 130 + "proxy.example", "fa\\xc3\\x9f.example", "[::1]"),
    *("proxy.example\0", "::1%eth0", "mmg.whatsapp.net\n"),
)


def hello(name: str | None) -> Sniffed:
    return Sniffed(Kind.TLS, ClientHello(name, ()))


def router(names: tuple[str, ...] | None, web: Destination | None = None) -> Router:
    return Router(POLICY, CHAT, web=web, names=names)


def every_router() -> list[Router]:
    return [router(names, web) for names in (None, (), NAMES) for web in (None, WEB)]


class AllowedTests(SynchronousTestCase):
    def test_passed_through_in_any_case(self) -> None:
        for each in every_router():
            for name, host in ALLOWED.items():
                for inside in (False, True):
                    self.assertEqual(
                        each.route(hello(name), inside=inside), Route((Destination(host, 443),))
                    )

    def test_to_443_only(self) -> None:
        each = Router(Policy(["*.whatsapp.net"], [5222]), CHAT, names=())
        self.assertEqual(each.route(hello("mmg.whatsapp.net")), Terminate("mmg.whatsapp.net"))


class AnyNameTests(SynchronousTestCase):
    """names = []: every other name is ours."""

    def test_terminated(self) -> None:
        for web in (None, WEB):
            for name in (*OURS, *NOBODYS, *ADDRESSES, *MALFORMED, None):
                if name == "both.example":
                    continue
                self.assertEqual(router((), web).route(hello(name)), Terminate(name))

    def test_unreadable(self) -> None:
        """A ClientHello that is none: OpenSSL's to refuse, as it refuses any other."""
        self.assertEqual(router(()).route(Sniffed(Kind.TLS, None)), Terminate(None))
        # With names it must not be a way past them.
        self.assertIsInstance(router(("own.test",)).route(Sniffed(Kind.TLS, None)), Refusal)


class OurNamesTests(SynchronousTestCase):
    def test_ours(self) -> None:
        for web in (None, WEB):
            for name in (*OURS, *ADDRESSES, None):
                self.assertEqual(router(NAMES, web).route(hello(name)), Terminate(name), name)

    def test_the_webs(self) -> None:
        for name in (*NOBODYS, *MALFORMED):
            self.assertEqual(router(NAMES, WEB).route(hello(name)), Route((WEB,)), name)

    def test_nobodys(self) -> None:
        for name in (*NOBODYS, *MALFORMED):
            self.assertEqual(
                router(NAMES).route(hello(name)), Refusal(Reason.REFUSED_NAME, repr(name))
            )

    def test_a_wildcard_does_not_cover_itself(self) -> None:
        each = router(("*.proxy.example",))
        self.assertIsInstance(each.route(hello("proxy.example")), Refusal)
        self.assertEqual(each.route(hello("x.proxy.example")), Terminate("x.proxy.example"))


class OffTests(SynchronousTestCase):
    """Without a certificate: nothing is terminated."""

    def test_refused_or_the_webs(self) -> None:
        for name in (*OURS, *NOBODYS, *ADDRESSES, *MALFORMED, None):
            self.assertIsInstance(router(None).route(hello(name)), Refusal, name)
            self.assertEqual(router(None, WEB).route(hello(name)), Route((WEB,)), name)


class InsideTests(SynchronousTestCase):
    def test_never_twice(self) -> None:
        """Nor does TLS inside TLS reach the web server: that is for who opens the port."""
        for each in every_router():
            for name in (*OURS, *NOBODYS, *ADDRESSES, *MALFORMED, None):
                answer = each.route(hello(name), inside=True)
                assert isinstance(answer, Refusal)
                self.assertEqual(answer.reason, Reason.REFUSED_NAME)

    def test_other_kinds_as_outside(self) -> None:
        for each in every_router():
            for kind in (Kind.WHATSAPP, Kind.XMPP, Kind.RAW, Kind.HTTP, Kind.CONNECT):
                sniffed = Sniffed(kind)
                self.assertEqual(each.route(sniffed, inside=True), each.route(sniffed))

    def test_origin_form(self) -> None:
        """Inside, each request has its own way: the Host may be an allowed name."""
        origin_form = Sniffed(Kind.HTTP, origin_form=True)
        for each in every_router():
            self.assertEqual(each.route(origin_form, inside=True), EachRequest())
        self.assertEqual(router((), WEB).route(origin_form), Route((WEB,)))


class StarTests(SynchronousTestCase):
    """allow = ["*"]: any name is passed through, but for our own."""

    def router(self, names: tuple[str, ...] | None, web: Destination | None = None) -> Router:
        return Router(Policy(["*"], [443], CHAT), CHAT, web=web, names=names)

    def test_any_name(self) -> None:
        for names in (None, (), ("own.test",)):
            for web in (None, WEB):
                each = self.router(names, web)
                for name in ("example.org", "localhost", "mmg.whatsapp.net"):
                    for inside in (False, True):
                        route = each.route(hello(name), inside=inside)
                        self.assertEqual(route, Route((Destination(name, 443),)))

    def test_our_own(self) -> None:
        """A list of names says more than a star; inside TLS there is nothing to be ended."""
        each = self.router(NAMES)
        for name in (*OURS, "both.example"):
            self.assertEqual(each.route(hello(name)), Terminate(name))
            self.assertIsInstance(each.route(hello(name), inside=True), Route)

    def test_no_address(self) -> None:
        """A star is about names: who gives none, or an address, is ours or nobody's."""
        for name in (*ADDRESSES, None):
            self.assertEqual(self.router(()).route(hello(name)), Terminate(name))
            self.assertEqual(self.router(NAMES).route(hello(name)), Terminate(name))
            self.assertIsInstance(self.router(None).route(hello(name)), Refusal)
        for name in MALFORMED:
            self.assertIsInstance(self.router(NAMES).route(hello(name)), Refusal, name)

    def test_ports(self) -> None:
        each = Router(Policy(["*"], [5222]), CHAT, names=None)
        self.assertIsInstance(each.route(hello("example.org")), Refusal)


class LawTests(SynchronousTestCase):
    @given(st.text(max_size=20) | host_names | st.sampled_from([*ALLOWED, *OURS, *NOBODYS]))
    def test_any_name(self, name: str) -> None:
        """No name raises; none that a policy forbids is dialled; nothing inside is terminated."""
        for each in every_router():
            for inside in (False, True):
                answer = each.route(hello(name), inside=inside)
                self.assertIsInstance(answer, Route | Refusal if inside else object)
                if isinstance(answer, Route) and answer.destinations != (WEB,):
                    self.assertTrue(POLICY.permits(answer.destinations[0]))

    @given(host_names)
    def test_case_and_dot_do_not_matter(self, name: str) -> None:
        for each in every_router():
            plain = each.route(hello(name))
            for other in (name.upper(), name + ".", name.title()):
                answer = each.route(hello(other))
                self.assertIs(type(answer), type(plain))
                if isinstance(answer, Route):
                    self.assertEqual(answer, plain)


class RememberedTests(SynchronousTestCase):
    def test_remembered(self) -> None:
        """A name is judged once, outside and inside; of a stranger's many names few are kept."""
        router = Router(POLICY, CHAT, names=NAMES)
        names = [f"{number}.example" for number in range(REMEMBERED)]
        for name in ("mmg.whatsapp.net", "proxy.example", None, *names[:-3]):
            hello = Sniffed(Kind.TLS, ClientHello(name, ()))
            outside, inside = router.route(hello), router.route(hello, inside=True)
            self.assertIs(router.route(hello), outside)
            self.assertIs(router.route(hello, inside=True), inside)
            self.assertIsNot(router.route(Sniffed(Kind.TLS, None)), outside)
        self.assertEqual(router._route_name.cache_info().maxsize, REMEMBERED)
