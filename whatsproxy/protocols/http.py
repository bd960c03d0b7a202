"""HTTP: each request is forwarded, tunnelled or answered here, by what it asks for."""

from functools import partial

import h11

from whatsproxy.destination import Destination
from whatsproxy.http1.answers import options_answer, page_for
from whatsproxy.http1.errors import NotCarriedError
from whatsproxy.http1.fields import (
    Items,
    Rules,
    is_last_hop,
    items_of,
    nominated,
    request_fields,
    response_fields,
    trailers_of,
    values_of,
)
from whatsproxy.http1.heads import HOST, Body, Limits
from whatsproxy.http1.target import Target, check_host, parse_absolute, parse_authority, parse_host
from whatsproxy.protocols.admission import AdmittingLeg, brings_login
from whatsproxy.protocols.base import Proxy
from whatsproxy.protocols.connect import ConnectTunnel, HttpTunnel
from whatsproxy.protocols.exchange import Exchange, Outgoing
from whatsproxy.protocols.origin import Origin
from whatsproxy.reason import Reason
from whatsproxy.route import Refusal, Route
from whatsproxy.session import AnsweredBy, Session
from whatsproxy.sniff import Kind
from whatsproxy.transport import hand_over


class HttpConnection(AdmittingLeg):
    """Decides about each request; passes on what an exchange has to say (it is its Asker)."""

    __slots__ = ("_answer", "_request_hop", "_rules")

    def __init__(self, proxy: Proxy, session: Session, limits: Limits, rules: Rules) -> None:
        super().__init__(proxy, session, limits)
        self._rules = rules
        # The heads of both messages can say what not to pass on, in their trailers either.
        self._request_hop: frozenset[bytes] = frozenset()
        self._answer: Items = []

    # -- The request

    def begin(self, request: h11.Request, *, has_body: bool) -> None:
        """Serve a request by its target: a tunnel, something of ours, or an origin's."""
        self.method = request.method
        if self.proxy.draining:
            self.give_error(Reason.DRAINING)
        elif not self._is_served(request.method):
            self._answer_stranger(request)
        elif request.method == b"CONNECT":
            self._tunnel(request)
        elif request.target.startswith(b"/") or request.target == b"*":
            self._answer_here(request)
        else:
            self._forward(request, parse_absolute(request.method, request.target))

    def go_ahead(self, event: h11.Data | h11.EndOfMessage) -> None:
        """Pass a piece of the request's body on to the exchange, or its end."""
        exchange = self.exchange
        assert isinstance(exchange, Exchange)
        if isinstance(event, h11.Data):
            exchange.send(event.data)
        else:
            exchange.end(trailers_of(event, self._request_hop, self._rules.for_requests))
        self.keep_time(moved=True)

    def _is_served(self, method: bytes) -> bool:
        """Whether this listener takes such requests (a connection may bring both kinds)."""
        return (Kind.CONNECT if method == b"CONNECT" else Kind.HTTP) in self.session.kinds

    def _answer_stranger(self, request: h11.Request) -> None:
        """Answer as a web server would that is no proxy."""
        web = self.proxy.router.web
        if web is not None:
            self._leave_to(HttpTunnel, web, self.wire.raw_head)
        else:
            path = request.target
            if not path.startswith(b"/"):
                path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
            # What the client has sent for a tunnel must not be taken for a request.
            close = request.method == b"CONNECT"
            self.give(partial(page_for, request.method, path), close=close)

    def _tunnel(self, request: h11.Request) -> None:
        destination = parse_authority(request.target)
        check_host(values_of(self.wire.items, HOST), destination, destination.port)
        self.session.target = str(destination)
        self.admit(request, partial(self._tunnel_to, destination))

    def _tunnel_to(self, destination: Destination) -> None:
        route = self.proxy.router.route_to(destination)
        if isinstance(route, Refusal):
            # What the client has sent for the tunnel must not be taken for a request.
            self.give_error(route.reason, route.detail, close=True)
        else:
            self._leave_to(ConnectTunnel, route)

    def _answer_here(self, request: h11.Request) -> None:
        web = self.proxy.router.web
        target = self._meant_elsewhere(request)
        if target is not None:
            self._forward(request, target)
        elif web is not None:
            self._leave_to(HttpTunnel, web, self.wire.raw_head)
        else:
            self.give(partial(page_for, request.method, request.target))

    def _meant_elsewhere(self, request: h11.Request) -> Target | None:
        """Return the target of a request that came in TLS to an allowed name, and so to us.

        Where there are users it is asked of those who say that they are one, before the name is
        looked at. Anybody else gets the page for each name: a 407 for some names and the page for
        others would tell a stranger which ones are allowed. Nobody misses that 407: browsers
        answer it to a proxy only, and so not where they take us for the origin.
        """
        if self.session.inner is None:
            return None
        hosts = values_of(self.wire.items, HOST)
        if not hosts or not hosts[0]:
            return None
        target = parse_host(hosts[0], request.target)
        if self.proxy.verifier is not None:
            return target if brings_login(request) else None
        allowed = self.proxy.router.route_to(target.destination)
        return target if isinstance(allowed, Route) else None

    def _forward(self, request: h11.Request, target: Target) -> None:
        items = self.wire.items
        check_host(values_of(items, HOST), target.destination)
        if request.method == b"TRACE":
            raise NotCarriedError("TRACE is not carried")
        self.session.target = str(target.destination)
        self.admit(request, partial(self._forward_to, request, items, target))

    def _forward_to(self, request: h11.Request, items: Items, target: Target) -> None:
        route = self.proxy.router.route_to(target.destination)
        if isinstance(route, Refusal):
            self.give_error(route.reason, route.detail)
        elif is_last_hop(request):
            self.give(options_answer)
        else:
            framing = self.wire.framing
            fields = request_fields(request, items, target, framing, self._rules)
            outgoing = Outgoing(request.method, target.path, fields)
            if framing is Body.CHUNKED:
                self._request_hop = nominated(items)
            kept, self.kept = self.kept, None
            self.exchange = exchange = Exchange(self, outgoing, route, has_body=framing != 0)
            exchange.start(kept)

    def _leave_to(self, tunnel: type[HttpTunnel], route: Route, head: bytes = b"") -> None:
        """Leave the client to a tunnel, which begins with this and what has arrived behind it."""
        early = head + self.let_go()
        hand_over(self, tunnel(self.proxy, self.session, route, early=early, ended=self.ended))

    # -- The exchange

    def take_interim(self, event: h11.InformationalResponse) -> None:
        """Pass a 1xx answer on, to those who know such answers (RFC 9110 15.2)."""
        if self.wire.speaks_1_1:
            self._send_interim(event)

    def take_switch(self, event: h11.InformationalResponse, origin: Origin, early: bytes) -> None:
        """Pass 101 on, and leave both sides to a relay (RFC 9110 15.2.2)."""
        self.count(101, AnsweredBy.UPSTREAM)
        self._send_interim(event)
        if early:
            self.write(early)
        self.exchange = None
        self.join(origin, self.let_go(), ended=self.ended)

    def take_answer(self, event: h11.Response, items: Items) -> None:
        """Pass the head of the answer on."""
        assert self.exchange is not None
        # What is left of the request may never come, or be taken for another one.
        close = self.last or not self.exchange.complete
        self._answer = items
        fields = response_fields(event, items, self._rules, close=close)
        self.write(self.wire.send_response(event.status_code, event.reason, fields))
        self.count(event.status_code, AnsweredBy.UPSTREAM)

    def _send_interim(self, event: h11.InformationalResponse) -> None:
        fields = response_fields(event, items_of(event), self._rules)
        self.write(self.wire.send_interim(event.status_code, event.reason, fields))

    def take_body(self, event: h11.Data) -> None:
        """Pass a piece of the body on."""
        self.write(self.wire.send_data(event.data))
        self.keep_time(moved=True)

    def passed(self, size: int) -> None:
        """Count what the client has got of the body."""
        self.session.sent += size
        self._patience.go_on()

    def take_end(self, event: h11.EndOfMessage, origin: Origin | None) -> None:
        """Pass the end on, with its trailers for those who know them; the next request may come."""
        trailers = []
        if event.headers and self.wire.speaks_1_1:
            hop = nominated(self._answer)
            trailers = trailers_of(event, hop, self._rules.for_responses)
        self._answer = []
        self.exchange = None
        self.kept = origin
        self.write(self.wire.send_end(trailers))
        self.go_on(Reason.ANSWERED)

    def take_failure(self, reason: Reason, detail: str) -> None:
        """Tell the client that there is no answer; where it has begun, break it off."""
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        if exchange.answered:
            self.break_off(reason, detail)
        else:
            self.give_error(reason, detail)
