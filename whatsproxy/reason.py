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

    # The ordinary ends.
    CLIENT_CLOSED = ("client_closed", False, "the client ended the connection first")
    UPSTREAM_CLOSED = ("upstream_closed", False, "the upstream ended the connection first")
    IDLE = ("idle", False, "nothing moved for as long as the timeouts allow")
    SHUTDOWN = ("shutdown", False, "cut when the service stopped")

    # What a client did.
    NO_DATA = ("no_data", False, "the client sent nothing")
    UNDETECTED = ("undetected", True, "the client sent too little to tell what it speaks")
    CLIENT_RESET = ("client_reset", True, "the client broke off")
    REJECTED = ("rejected", True, "more connections than server.max_connections")
    REFUSED_NAME = ("refused_name", True, "the policy does not allow that server name")
    REFUSED_KIND = ("refused_kind", True, "this kind of connection is turned off (refuse)")
    NOT_IMPLEMENTED = ("not_implemented", True, "this version does not carry HTTP yet")

    # What the upstream did.
    UPSTREAM_RESET = ("upstream_reset", True, "the upstream broke off")
    UPSTREAM_UNRESOLVED = ("upstream_unresolved", True, "the upstream's name has no address")
    UPSTREAM_REFUSED = ("upstream_refused", True, "the upstream refused the connection")
    UPSTREAM_UNREACHABLE = ("upstream_unreachable", True, "there is no way to the upstream")
    UPSTREAM_TIMEOUT = ("upstream_timeout", True, "no upstream answered within timeouts.connect")
    UPSTREAM_FAILED = ("upstream_failed", True, "the upstream could not be reached")

    # What the SOCKS server did.
    SOCKS_UNREACHABLE = ("socks_unreachable", True, "the SOCKS server cannot be reached")
    SOCKS_NOT_SOCKS = ("socks_not_socks", True, "the SOCKS server does not speak SOCKS5")
    SOCKS_LOST = ("socks_lost", True, "the SOCKS server hung up before it had answered")
    SOCKS_AUTH = ("socks_auth", True, "the SOCKS server refused our credentials")
    SOCKS_REFUSED = ("socks_refused", True, "the SOCKS server could not connect")
    SOCKS_TIMEOUT = ("socks_timeout", True, "the SOCKS server did not answer in time")

    # What we did.
    INTERNAL = ("internal", True, "an error of this program; its traceback is in the log")
