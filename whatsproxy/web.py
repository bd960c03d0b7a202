"""What the operator sees over HTTP: /metrics, /health and /ready."""

from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from twisted.web.http import Request as BaseRequest
from twisted.web.resource import Resource
from twisted.web.server import Request, Site


class State:
    """What /ready says: nothing when all is well, or why no connection should be sent here."""

    def __init__(self) -> None:
        self.not_ready: str | None = "starting"


class Metrics(Resource):
    """The figures, as OpenMetrics 1.0 or as Prometheus text, whichever Accept asks for."""

    isLeaf = True

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._registry = registry

    def render_GET(self, request: Request) -> bytes:
        """Encode all figures now."""
        encode, content_type = choose_encoder(negotiate(request.getHeader("accept") or ""))
        request.setHeader("content-type", content_type)
        return encode(self._registry)


class Health(Resource):
    """Alive: whoever gets this answer has asked a running reactor."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        """Say so."""
        return _plain(request, 200, "alive")


class Ready(Resource):
    """Whether connections should be sent here."""

    isLeaf = True

    def __init__(self, state: State) -> None:
        super().__init__()
        self._state = state

    def render_GET(self, request: Request) -> bytes:
        """Say yes, or why not."""
        if self._state.not_ready is None:
            return _plain(request, 200, "ready")
        return _plain(request, 503, f"not ready: {self._state.not_ready}")


class OperatorSite(Site):
    """A site that does not log each scrape."""

    noisy = False
    displayTracebacks = False

    def log(self, request: BaseRequest) -> None:
        """Leave the log to the connections that are carried."""


def operator_site(registry: CollectorRegistry, state: State, reactor: Any) -> OperatorSite:
    """Return the factory for the metrics listener."""
    root = Resource()
    root.putChild(b"metrics", Metrics(registry))
    root.putChild(b"health", Health())
    root.putChild(b"ready", Ready(state))
    return OperatorSite(root, reactor=reactor)


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
