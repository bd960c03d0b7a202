from twisted.trial.unittest import SynchronousTestCase

from whatsproxy.clienthello import ClientHello
from whatsproxy.destination import Destination
from whatsproxy.policy import Policy
from whatsproxy.reason import Reason
from whatsproxy.route import EachRequest, Refusal, Route, Router
from whatsproxy.sniff import Kind, Sniffed

CHAT = (Destination("chat.example", 5222), Destination("chat.example", 443))
XMPP = (Destination("jabber.example", 5222),)
ORIGIN_FORM = Sniffed(Kind.HTTP, origin_form=True)
RAW = (Destination("raw.example", 9),)
POLICY = Policy(["*.whatsapp.net", "wa.me"], [443])


def tls(name: str | None) -> Sniffed:
    return Sniffed(Kind.TLS, ClientHello(name, ()))


class FixedTests(SynchronousTestCase):
    def test_each_kind_has_its_upstream(self) -> None:
        router = Router(POLICY, CHAT, XMPP, RAW)
        self.assertEqual(router.route(Sniffed(Kind.WHATSAPP)), Route(CHAT))
        self.assertEqual(router.route(Sniffed(Kind.XMPP)), Route(XMPP))
        self.assertEqual(router.route(Sniffed(Kind.RAW)), Route(RAW))

    def test_empty_means_as_chat(self) -> None:
        router = Router(POLICY, CHAT)
        for kind in (Kind.WHATSAPP, Kind.XMPP, Kind.RAW):
            self.assertEqual(router.route(Sniffed(kind)), Route(CHAT))

    def test_turned_off(self) -> None:
        router = Router(POLICY, CHAT, None, None)
        self.assertEqual(router.route(Sniffed(Kind.WHATSAPP)), Route(CHAT))
        for kind in (Kind.XMPP, Kind.RAW):
            self.assertEqual(router.route(Sniffed(kind)), Refusal(Reason.REFUSED_KIND))

    def test_configured_upstreams_pass_no_policy(self) -> None:
        router = Router(Policy([], []), CHAT, XMPP, (Destination("127.0.0.1", 9),))
        for kind in (Kind.WHATSAPP, Kind.XMPP, Kind.RAW):
            self.assertIsInstance(router.route(Sniffed(kind)), Route)

    def test_each_http_request_has_its_own_route(self) -> None:
        for sniffed in (Sniffed(Kind.HTTP), Sniffed(Kind.CONNECT), ORIGIN_FORM):
            self.assertEqual(Router(POLICY, CHAT).route(sniffed), EachRequest())

    def test_a_web_server_gets_what_is_meant_for_one(self) -> None:
        web = Destination("127.0.0.1", 8080)
        router = Router(POLICY, CHAT, web=web)
        self.assertEqual(router.route(ORIGIN_FORM), Route((web,)))
        for kind in (Kind.HTTP, Kind.CONNECT):
            self.assertEqual(router.route(Sniffed(kind)), EachRequest())

    def test_a_request_goes_where_the_policy_allows(self) -> None:
        router = Router(POLICY, CHAT)
        allowed = Destination("mmg.whatsapp.net", 443)
        self.assertEqual(router.route_to(allowed), Route((allowed,)))
        for host, port in (("mmg.whatsapp.net", 25), ("example.org", 443), ("127.0.0.1", 443)):
            refusal = router.route_to(Destination(host, port))
            assert isinstance(refusal, Refusal)
            self.assertEqual(refusal.reason, Reason.REFUSED_NAME)
            self.assertIn(f"does not allow {host}:{port}", refusal.detail)


class TlsTests(SynchronousTestCase):
    router = Router(POLICY, CHAT, XMPP, RAW)

    def test_allowed_name(self) -> None:
        for name in ("mmg.whatsapp.net", "MMG.WhatsApp.net", "mmg.whatsapp.net."):
            self.assertEqual(
                self.router.route(tls(name)), Route((Destination("mmg.whatsapp.net", 443),))
            )

    def test_refused_names(self) -> None:
        for name in (
            *("example.org", "whatsapp.net", "x.wa.me", "127.0.0.1", "2130706433", "0x7f.1", "::1"),
            *("fa\\xc3\\x9f.de", "mmg.whatsapp.net:443", "chat.example", "*.whatsapp.net"),
        ):
            self.assertEqual(self.router.route(tls(name)), Refusal(Reason.REFUSED_NAME, repr(name)))

    def test_no_name(self) -> None:
        for sniffed in (tls(None), Sniffed(Kind.TLS, None)):
            answer = self.router.route(sniffed)
            assert isinstance(answer, Refusal)
            self.assertEqual(answer.reason, Reason.REFUSED_NAME)

    def test_an_allowed_name_needs_its_port_allowed(self) -> None:
        router = Router(Policy(["*.whatsapp.net"], [5222]), CHAT)
        self.assertIsInstance(router.route(tls("mmg.whatsapp.net")), Refusal)
