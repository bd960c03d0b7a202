"""What this proxy answers by itself: a status and a short text for each reason."""

from http import HTTPStatus

import h11

from whatsproxy.http1.credentials import CHALLENGE
from whatsproxy.reason import Reason

_DOWN = "Its operator can find the reason in the log."
_WAY_OUT = "The way out of this proxy has failed; its operator can check [socks5] proxies."
_LIMITS = "Its operator can raise the limits: [http] max_head, max_fields and max_body."

#: The status of each reason for which a request can fail, and what would have to change.
ANSWERS: dict[Reason, tuple[int, str]] = {
    Reason.BAD_REQUEST: (400, "The client's program has to send it differently."),
    Reason.REFUSED_NAME: (
        403,
        "Its operator can allow it: [policy] allow for names, allow_ports for ports.",
    ),
    Reason.REFUSED_ADDRESS: (403, "Its operator can allow it: [policy] allow_networks."),
    Reason.LOGIN_IN_CLEAR: (
        403,
        "Use this proxy as an HTTPS proxy (https://). Its operator could take passwords all the "
        "same: [http] users_in_clear.",
    ),
    Reason.LOGIN_MISSING: (407, "Give the name and password that its operator has given you."),
    Reason.LOGIN_FAILED: (407, "Its operator can give you another one: [http] users_file."),
    Reason.REQUEST_TIMEOUT: (408, "Its operator can allow more time: [timeouts] http_head, idle."),
    Reason.BODY_TOO_LARGE: (413, _LIMITS),
    Reason.HEAD_TOO_LARGE: (431, _LIMITS),
    Reason.INTERNAL: (500, _DOWN),
    Reason.NOT_IMPLEMENTED: (501, "This is not a matter of configuration."),
    Reason.UPSTREAM_UNRESOLVED: (502, "The name may be misspelt, or the proxy's DNS out of order."),
    Reason.UPSTREAM_REFUSED: (502, "Nothing listens there, or it is kept away from this proxy."),
    Reason.UPSTREAM_UNREACHABLE: (502, "The proxy's network has no way there."),
    Reason.UPSTREAM_FAILED: (502, _DOWN),
    Reason.UPSTREAM_RESET: (502, "The request may or may not have had an effect."),
    Reason.UPSTREAM_NO_TLS: (502, "What listens there may not speak TLS, or speak it too old."),
    Reason.UPSTREAM_UNTRUSTED: (
        502,
        "Somebody may be in between. The proxy's operator decides whom it trusts: [tls] "
        "upstream_ca_file, upstream_pins.",
    ),
    Reason.UPSTREAM_BAD_ANSWER: (502, "The server at the other end has to answer differently."),
    Reason.SOCKS_UNREACHABLE: (502, _WAY_OUT),
    Reason.SOCKS_NOT_SOCKS: (502, _WAY_OUT),
    Reason.SOCKS_LOST: (502, _WAY_OUT),
    Reason.SOCKS_AUTH: (502, _WAY_OUT),
    Reason.SOCKS_REFUSED: (502, "The SOCKS server behind this proxy could not, or would not."),
    Reason.LOGIN_BUSY: (503, "Try again soon."),
    Reason.DRAINING: (503, "It is being stopped, or started anew; try again soon."),
    Reason.NO_DESCRIPTORS: (503, "Try again soon. Its operator can raise the limit, ulimit -n."),
    Reason.UPSTREAM_TIMEOUT: (504, "Its operator can allow more time: [timeouts] connect."),
    Reason.UPSTREAM_SILENT: (504, "Its operator can allow more time: [timeouts] http_answer."),
    Reason.SOCKS_TIMEOUT: (504, _WAY_OUT),
    Reason.HTTP_VERSION: (505, "The client's program has to speak HTTP/1.1."),
}

_PAGE = (
    b"<!doctype html>\n<html><head><title>Welcome</title></head>"
    b"<body><p>It works.</p></body></html>\n"
)
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"

Answer = tuple[h11.Response, bytes]


def answer_to(reason: Reason, detail: str, *, close: bool) -> Answer:
    """Return the answer for a request that failed, with what happened and what would help."""
    status, remedy = ANSWERS[reason]
    happened = (detail or reason.text.removeprefix("HTTP: ")).rstrip(".")
    text = f"{happened[:1].upper()}{happened[1:]}.\n{remedy}\n"
    more = (CHALLENGE,) if status == 407 else ()
    return _plain(status, text.encode("utf-8", "backslashreplace"), *more, close=close)


def page_for(method: bytes, path: bytes, *, close: bool) -> Answer:
    """Return what a browser sees that opens the port: a page that tells nothing."""
    if method not in (b"GET", b"HEAD"):
        return _plain(405, b"", (b"Allow", b"GET, HEAD"), close=close)
    if path.partition(b"?")[0] != b"/":
        return _plain(404, b"Not found.\n", close=close)
    return _response(200, b"text/html; charset=utf-8", _PAGE, close=close)


def options_answer(*, close: bool) -> Answer:
    """Return the answer to OPTIONS that must go no further (RFC 9110 9.3.7)."""
    return _plain(200, b"", close=close)


def as_bytes(answer: Answer) -> bytes:
    """Return an answer as bytes, for a connection that h11 does not hold any more."""
    response, body = answer
    server = h11.Connection(h11.SERVER)
    return server.send(response) + body


def _plain(status: int, text: bytes, *more: tuple[bytes, bytes], close: bool) -> Answer:
    return _response(status, b"text/plain; charset=utf-8", text, *more, close=close)


def _response(
    status: int, content_type: bytes, body: bytes, *more: tuple[bytes, bytes], close: bool
) -> Answer:
    fields = [(b"Content-Type", content_type), (b"Content-Length", b"%d" % len(body)), *more]
    if close:
        fields.append((b"Connection", b"close"))
    reason = HTTPStatus(status).phrase.encode()
    return h11.Response(status_code=status, reason=reason, headers=fields), body
