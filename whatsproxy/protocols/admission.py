"""Who may use the HTTP proxy: passwords, asked for and checked before a request goes anywhere."""

from collections.abc import Callable
from functools import partial

import h11
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from whatsproxy.http1.credentials import PROXY_AUTHORIZATION, parse_credentials
from whatsproxy.http1.fields import items_of, values_of
from whatsproxy.http1.heads import Limits
from whatsproxy.networks import is_loopback
from whatsproxy.protocols.answering import AnsweringLeg
from whatsproxy.protocols.base import Proxy
from whatsproxy.reason import Reason
from whatsproxy.session import Session
from whatsproxy.verifier import BusyError

#: Wrong passwords that one connection may bring.
ATTEMPTS = 3

log = Logger()


class Checking:
    """Stands where an exchange will (see waiting.Serving): nothing of the request goes on yet."""

    __slots__ = ("_checking",)

    ready = full = begun = complete = answered = False
    origin = None

    def __init__(self, checking: "Deferred[bool]") -> None:
        self._checking = checking

    def sink(self) -> None:
        """There is nobody yet to get anything."""

    def moved(self, size: int) -> None:
        """Nobody gets anything."""

    def abandon(self) -> None:
        """Want to know nothing any more."""
        self._checking.cancel()

    def pause_answer(self) -> None:
        """There is none."""

    def resume_answer(self) -> None:
        """There is none."""


class AdmittingLeg(AnsweringLeg):
    """Lets a request go on when its client has shown who it is."""

    __slots__ = ("_failures",)

    def __init__(self, proxy: Proxy, session: Session, limits: Limits) -> None:
        super().__init__(proxy, session, limits)
        self._failures = 0

    def admit(self, request: h11.Request, go: Callable[[], None]) -> None:
        """Call ``go`` if the client may use this proxy, perhaps in a later turn; otherwise say why.

        May raise MessageError; so may ``go``.
        """
        verifier = self.proxy.verifier
        if verifier is None:
            go()
            return
        in_clear = not is_private(self.session)
        if in_clear and not self.proxy.settings.http.users_in_clear:
            self._turn_away(Reason.LOGIN_IN_CLEAR)
            return
        values = values_of(self.wire.items, PROXY_AUTHORIZATION)
        if not values:
            self._turn_away(Reason.LOGIN_MISSING)
            return
        credentials = parse_credentials(values)
        right = False if credentials is None else verifier.remembered(credentials)
        if credentials is not None and right is None:
            try:
                checking = verifier.check(credentials, self.session.client)
            except BusyError:
                self._turn_away(Reason.LOGIN_BUSY)
                return
            self.exchange = Checking(checking)
            checking.addCallbacks(partial(self._checked, go), self._unchecked)
        else:
            self._judge(go, right is True)

    def _checked(self, go: Callable[[], None], right: bool) -> None:
        self.exchange = None
        self.pump(partial(self._judge, go, right))

    def _unchecked(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return  # nobody waits for it any more
        self.exchange = None
        reason = Reason.LOGIN_BUSY
        if not failure.check(BusyError):
            log.failure("checking a password failed unexpectedly", failure)
            reason = Reason.INTERNAL
        self.pump(partial(self._turn_away, reason))

    def _judge(self, go: Callable[[], None], right: bool) -> None:
        if right:
            go()
        else:
            self._failures += 1
            self._turn_away(Reason.LOGIN_FAILED, close=self._failures >= ATTEMPTS)

    def _turn_away(self, reason: Reason, *, close: bool = False) -> None:
        if self.method == b"CONNECT":
            # What the client has sent for the tunnel must not be taken for a request. But most send
            # nothing yet, and try again on the same connection when they are asked who they are.
            asked = reason in (Reason.LOGIN_MISSING, Reason.LOGIN_FAILED)
            close = close or not asked or self.wire.buffered > 0
        self.give_error(reason, close=close)


def brings_login(request: h11.Request) -> bool:
    """Whether the client says who it is, whatever that is worth."""
    return bool(values_of(items_of(request), PROXY_AUTHORIZATION))


def is_private(session: Session) -> bool:
    """Whether nobody on the way can read what the client sends: TLS, or from this machine.

    A client that a load balancer names is where that says it is, and one that it does not name may
    be anywhere; on a unix socket of ours it is nowhere.
    """
    if session.inner is not None:
        return True  # TLS ended here
    if session.relayed and session.ends is None:
        return False
    return session.client is None or is_loopback(session.client)
