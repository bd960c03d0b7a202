from twisted.trial.unittest import SynchronousTestCase

from whatsproxy.clienthello import ClientHello
from whatsproxy.destination import Destination
from whatsproxy.networks import Networks, parse_network
from whatsproxy.policy import Policy
from whatsproxy.reason import Reason
from whatsproxy.route import EVERY_KIND, EachRequest, Refusal, Route, Router, Terminate
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
            self.assertEqual("allow_networks" in refusal.detail, host == "127.0.0.1")

    def test_a_literal_address_goes_where_a_network_allows(self) -> None:
        policy = Policy([], [443], networks=Networks([parse_network("192.0.2.0/24")]))
        allowed = Destination("192.0.2.1", 443)
        self.assertEqual(Router(policy, CHAT).route_to(allowed), Route((allowed,)))
        self.assertIsInstance(Router(policy, CHAT).route_to(Destination("192.0.3.1", 443)), Refusal)


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


class ListenerTests(SynchronousTestCase):
    """Listeners that do not take every kind: the others are answered as any stranger is."""

    def test_taken(self) -> None:
        """What is among them has its way as everywhere."""
        router = Router(POLICY, CHAT, XMPP, RAW, Destination("127.0.0.1", 8080), names=())
        for kind in Kind:
            for sniffed in (Sniffed(kind), ORIGIN_FORM, tls("mmg.whatsapp.net"), tls("own.test")):
                for inside in (False, True):
                    if sniffed.kind is kind:
                        self.assertEqual(
                            router.route(sniffed, inside=inside, kinds=frozenset({kind})),
                            router.route(sniffed, inside=inside),
                        )
        self.assertEqual(EVERY_KIND, frozenset(Kind))

    def test_not_taken(self) -> None:
        router = Router(POLICY, CHAT, XMPP, RAW, names=())
        for kind in Kind:
            others = EVERY_KIND - {kind}
            for inside in (False, True):
                answer = router.route(Sniffed(kind), inside=inside, kinds=others)
                if kind in (Kind.HTTP, Kind.CONNECT):
                    self.assertEqual(answer, EachRequest())  # an answer, but no way on
                else:
                    assert isinstance(answer, Refusal)
                    self.assertEqual(answer.reason, Reason.REFUSED_KIND)

    def test_no_name_is_a_way_in(self) -> None:
        """TLS where none is taken: neither passed through nor ended."""
        router = Router(POLICY, CHAT, names=("own.test",))
        for name in ("mmg.whatsapp.net", "own.test", "example.org", None):
            answer = router.route(tls(name), kinds={Kind.WHATSAPP})
            self.assertIsInstance(answer, Refusal, name)

    def test_with_a_web_server(self) -> None:
        """It gets what a browser, or a prober, may send to one; and nothing from inside TLS."""
        web = Destination("127.0.0.1", 8080)
        router = Router(POLICY, CHAT, web=web, names=())
        for sniffed in (ORIGIN_FORM, Sniffed(Kind.HTTP), Sniffed(Kind.CONNECT), tls("own.test")):
            self.assertEqual(router.route(sniffed, kinds=()), Route((web,)))
            self.assertNotIsInstance(
                router.route(sniffed, inside=True, kinds=()), Route | Terminate
            )
        for kind in (Kind.WHATSAPP, Kind.XMPP, Kind.RAW):
            self.assertIsInstance(router.route(Sniffed(kind), kinds=()), Refusal)
