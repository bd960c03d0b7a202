from twisted.trial.unittest import SynchronousTestCase

from whatsproxy.clienthello import ClientHello
from whatsproxy.destination import Destination
from whatsproxy.policy import Policy
from whatsproxy.reason import Reason
from whatsproxy.route import Refusal, Route, Router
from whatsproxy.sniff import Kind, Sniffed

CHAT = (Destination("chat.example", 5222), Destination("chat.example", 443))
XMPP = (Destination("jabber.example", 5222),)
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

    def test_http_is_not_carried_yet(self) -> None:
        for kind in (Kind.HTTP, Kind.CONNECT):
            self.assertEqual(
                Router(POLICY, CHAT).route(Sniffed(kind)), Refusal(Reason.NOT_IMPLEMENTED)
            )


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
