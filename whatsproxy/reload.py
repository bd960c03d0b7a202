"""What is read anew while the service runs: certificates, on SIGHUP and when their files change."""

from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from whatsproxy.certificates import CertificateError
from whatsproxy.session import Ledger
from whatsproxy.tls_server import TlsServer

#: Seconds between two looks at the files.
WATCH = 10.0

log = Logger()


class Reloader(Service):
    """Loads new certificates without touching a live connection; a bad one changes nothing.

    What else the configuration says is read at the start only.
    """

    def __init__(self, reactor: Any, tls: TlsServer, ledger: Ledger) -> None:
        self._tls = tls
        self._ledger = ledger
        #: Why the last attempt failed, if it did.
        self._failure: str | None = None
        self._watch = LoopingCall(self._look)
        self._watch.clock = reactor

    def startService(self) -> None:
        """Begin to watch."""
        super().startService()
        self._watch.start(WATCH, now=False)

    def stopService(self) -> None:
        """Watch no more."""
        super().stopService()
        if self._watch.running:
            self._watch.stop()

    def reload(self) -> None:
        """Read everything anew; say in one line a certificate what came of it, and count it."""
        self._failure = None
        self._load()

    def _load(self) -> None:
        """The same; what has failed before in this way is not told again."""
        try:
            self._tls.load()
        except CertificateError as e:
            if str(e) != self._failure:
                self._failure = str(e)
                self._ledger.reloads["failed"] += 1
                log.error("certificates not reloaded, the old ones stay: {error}", error=str(e))
            return
        self._failure = None
        self._ledger.reloads["ok"] += 1
        for identity in self._tls.identities:
            log.info(
                "certificate {label} is valid until {until}",
                label=identity.label,
                until=f"{identity.expires:%Y-%m-%d}",
            )

    def _look(self) -> None:
        try:
            # What has failed may have been in the middle of a change, or short of descriptors.
            if self._tls.changed():
                self.reload()
            elif self._failure is not None:
                self._load()
        except Exception:
            log.failure("looking after the certificates failed unexpectedly")
