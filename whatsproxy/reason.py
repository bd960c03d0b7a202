"""Why a connection ended: the one list that log lines, metrics and answers are made from."""

import enum


class Reason(enum.Enum):
    """A connection's end.

    The value is the label in the metrics and in the log; ``error`` says whether it counts in
    ``whatsapp_proxy_errors_total`` and is logged as a warning; ``text`` tells a person what
    happened.
    """

    error: bool
    text: str

    def __new__(cls, label: str, error: bool, text: str) -> "Reason":
        """Make the label the member's value."""
        member = object.__new__(cls)
        member._value_ = label
        member.error = error
        member.text = text
        return member

    __hash__ = object.__hash__  # each is one object; Enum's own is a call of Python's

    # The ordinary ends.
    CLIENT_CLOSED = ("client_closed", False, "the client ended the connection first")
    UPSTREAM_CLOSED = ("upstream_closed", False, "the upstream ended the connection first")
    ANSWERED = ("answered", False, "HTTP: the last answer was given, with Connection: close")
    IDLE = ("idle", False, "nothing moved for as long as the timeouts allow")
    SHUTDOWN = ("shutdown", False, "cut when the service stopped")
    DRAINING = ("draining", False, "HTTP: the service is stopping and takes no further request")

    # What a client did.
    NO_DATA = ("no_data", False, "the client sent nothing")
    UNDETECTED = ("undetected", True, "the client sent too little to tell what it speaks")
    CLIENT_RESET = ("client_reset", True, "the client broke off")
    REJECTED = ("rejected", True, "more connections than server.max_connections")
    CLIENT_DENIED = ("client_denied", True, "clients.allow or clients.deny keeps the client out")
    CLIENT_CROWD = ("client_crowd", True, "more connections of one client than max_per_client")
    CLIENT_RATE = ("client_rate", True, "more new connections of one client than rate_per_client")
    PROXY_UNTRUSTED = ("proxy_untrusted", True, "PROXY protocol: not from server.proxy_trusted")
    PROXY_HEADER = ("proxy_header", True, "PROXY protocol: no header, or a malformed one")
    REFUSED_NAME = ("refused_name", True, "the policy does not allow that name or port")
    REFUSED_ADDRESS = (
        "refused_address",
        True,
        "the name leads to an address that policy.allow_networks does not allow",
    )
    TLS_FAILED = ("tls_failed", True, "TLS: the client's handshake failed, or took too long")
    REFUSED_KIND = ("refused_kind", True, "this kind of connection is turned off (refuse)")
    LOGIN_MISSING = ("login_missing", False, "HTTP: no name and password were given")
    LOGIN_FAILED = ("login_failed", True, "HTTP: the name or the password is wrong")
    LOGIN_IN_CLEAR = (
        "login_in_clear",
        True,
        "HTTP: here a password could be read on its way: neither TLS nor this machine",
    )
    LOGIN_BUSY = ("login_busy", True, "HTTP: too many passwords wait to be checked")
    BAD_REQUEST = ("bad_request", True, "HTTP: the request is malformed, or has two meanings")
    REQUEST_TIMEOUT = ("request_timeout", True, "HTTP: the request did not arrive in time")
    HEAD_TOO_LARGE = ("head_too_large", True, "HTTP: the head passes http.max_head or max_fields")
    BODY_TOO_LARGE = ("body_too_large", True, "HTTP: the body passes http.max_body")
    NOT_IMPLEMENTED = ("not_implemented", True, "HTTP: that part of HTTP is not carried")
    HTTP_VERSION = ("http_version", True, "HTTP: neither HTTP/1.0 nor HTTP/1.1")

    # What the upstream did.
    UPSTREAM_RESET = ("upstream_reset", True, "the upstream broke off")
    UPSTREAM_UNRESOLVED = ("upstream_unresolved", True, "the upstream's name has no address")
    UPSTREAM_REFUSED = ("upstream_refused", True, "the upstream refused the connection")
    UPSTREAM_UNREACHABLE = ("upstream_unreachable", True, "there is no way to the upstream")
    UPSTREAM_TIMEOUT = ("upstream_timeout", True, "no upstream answered within timeouts.connect")
    UPSTREAM_SILENT = (
        "upstream_silent",
        True,
        "HTTP: the upstream did not answer within timeouts.http_answer",
    )
    UPSTREAM_BAD_ANSWER = (
        "upstream_bad_answer",
        True,
        "HTTP: the upstream's answer is malformed, or has two meanings",
    )
    UPSTREAM_NO_TLS = ("upstream_no_tls", True, "TLS with the upstream failed")
    UPSTREAM_UNTRUSTED = (
        "upstream_untrusted",
        True,
        "the upstream's certificate does not prove who it is",
    )
    UPSTREAM_FAILED = ("upstream_failed", True, "the upstream could not be reached")

    # What the SOCKS server did.
    SOCKS_UNREACHABLE = ("socks_unreachable", True, "the SOCKS server cannot be reached")
    SOCKS_NOT_SOCKS = ("socks_not_socks", True, "the SOCKS server does not speak SOCKS5")
    SOCKS_LOST = ("socks_lost", True, "the SOCKS server hung up before it had answered")
    SOCKS_AUTH = ("socks_auth", True, "the SOCKS server refused our credentials")
    SOCKS_REFUSED = ("socks_refused", True, "the SOCKS server could not connect")
    SOCKS_TIMEOUT = ("socks_timeout", True, "the SOCKS server did not answer in time")

    # What we did.
    NO_DESCRIPTORS = ("no_descriptors", True, "the proxy is out of descriptors")
    INTERNAL = ("internal", True, "an error of this program; its traceback is in the log")
