"""What the operator sees over HTTP: /metrics, /health and /ready."""

from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from twisted.internet.interfaces import IAddress
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web.http import Request as BaseRequest
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

#: Connections at a time; descriptors.KEPT has room for them.
CONNECTIONS = 24


class State:
    """What /ready says: nothing when all is well, or why no connection should be sent here."""

    def __init__(self) -> None:
        self.not_ready: str | None = "starting"
        #: Newcomers wait for descriptors, so they had better be sent elsewhere.
        self.paused = False

    def why_not(self) -> str | None:
        """Return why no connection should be sent here, or None."""
        return self.not_ready or ("out of descriptors" if self.paused else None)


class Page(Resource):
    """A page for the operator; ``body`` makes it, for GET and for HEAD."""

    isLeaf = True

    def body(self, request: Request) -> bytes:
        """Set the status and the type, and return the page."""
        raise NotImplementedError

    def render_GET(self, request: Request) -> bytes:
        """Answer with the page."""
        return self.body(request)

    def render_HEAD(self, request: Request) -> bytes:
        """Answer as to GET, without the page."""
        request.setHeader("content-length", str(len(self.body(request))))
        return b""


class Metrics(Page):
    """The figures, as OpenMetrics 1.0 or as Prometheus text, whichever Accept asks for."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._registry = registry

    def body(self, request: Request) -> bytes:
        """Encode all figures now."""
        accept = (request.getHeader(b"accept") or b"").decode("latin-1")
        encode, content_type = choose_encoder(negotiate(accept))
        request.setHeader("content-type", content_type)
        return encode(self._registry)


class Health(Page):
    """Alive: whoever gets this answer has asked a running reactor."""

    def body(self, request: Request) -> bytes:
        """Say so."""
        return _plain(request, 200, "alive")


class Ready(Page):
    """Whether connections should be sent here."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self._state = state

    def body(self, request: Request) -> bytes:
        """Say yes, or why not."""
        why = self._state.why_not()
        if why is None:
            return _plain(request, 200, "ready")
        return _plain(request, 503, f"not ready: {why}")


class OperatorRequest(Request):
    """A request without a body: there is nothing to be sent here."""

    def gotLength(self, length: int | None) -> None:
        """Hang up on who announces one."""
        super().gotLength(0)
        if length != 0:
            self.loseConnection()


class OperatorSite(Site):
    """A site that does not log each scrape."""

    noisy = False
    displayTracebacks = False

    def log(self, request: BaseRequest) -> None:
        """Leave the log to the connections that are carried."""


class FewConnections(WrappingFactory):
    """Closes more than CONNECTIONS at a time at once: they share our descriptors."""

    noisy = False

    def buildProtocol(  # type: ignore[override]  # None is IProtocolFactory's "close it"
        self, addr: IAddress | None
    ) -> ProtocolWrapper | None:
        """Let it in, or not."""
        return super().buildProtocol(addr) if len(self.protocols) < CONNECTIONS else None


def operator_site(registry: CollectorRegistry, state: State, reactor: Any) -> FewConnections:
    """Return the factory for the metrics listener."""
    root = Resource()
    root.putChild(b"metrics", Metrics(registry))
    root.putChild(b"health", Health())
    root.putChild(b"ready", Ready(state))
    return FewConnections(
        OperatorSite(root, requestFactory=OperatorRequest, reactor=reactor, timeout=30)
    )


def negotiate(accept: str) -> str:
    """Return the one media range of an Accept field (RFC 9110 12.5.1) that is served.

    prometheus-client's own choice knows no weights, and takes any version that it is asked for.
    """
    ranges = []
    for text in accept.split(","):
        media, *parameters = (part.strip().lower() for part in text.split(";"))
        values = dict(p.split("=", 1) for p in parameters if "=" in p)
        try:
            weight = float(values.get("q", "1"))
        except ValueError:
            weight = 0.0
        ranges.append((weight, media, values.get("version", "")))
    for weight, media, version in sorted(ranges, key=lambda r: r[0], reverse=True):
        if weight > 0 and media == "application/openmetrics-text" and version in ("", "1.0.0"):
            return "application/openmetrics-text; version=1.0.0"
        if weight > 0 and media in ("text/plain", "text/*", "*/*"):
            break
    return "text/plain; version=0.0.4"


def _plain(request: Request, status: int, text: str) -> bytes:
    request.setResponseCode(status)
    request.setHeader("content-type", "text/plain; charset=utf-8")
    return f"{text}\n".encode()
