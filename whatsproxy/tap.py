"""``twistd whatsproxy`` and the .tac file: options in, a service out."""

import getopt
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from twisted.application.service import Application, MultiService
from twisted.logger import ILogObserver, Logger
from twisted.python import usage
from twisted.python.components import Componentized
from twisted.python.util import gidFromString, uidFromString
from twisted.scripts.twistd import ServerOptions  # type: ignore[attr-defined]  # its public home

from whatsproxy.collecting import Collecting
from whatsproxy.config import FILE_VARIABLE, ConfigError, load
from whatsproxy.ended_lines import EndedLines
from whatsproxy.logs import LevelObserver, tolerant
from whatsproxy.privileges import Inheritance, owner_to_be
from whatsproxy.reference import effective
from whatsproxy.reload import Reloader
from whatsproxy.service import ProxyService, StartupError
from whatsproxy.settings import Settings
from whatsproxy.settling import Settled, settle
from whatsproxy.signals import SignalService

log = Logger()


class Options(usage.Options):
    """The command line of ``twistd whatsproxy``; each option replaces its key as a whole."""

    synopsis = "[options]"
    longdesc = "One TCP port that carries WhatsApp, XMPP and TLS out, directly or through SOCKS5."

    optFlags = [["check-config", None, "Print the effective settings, secrets masked, and exit."]]

    def __init__(self) -> None:
        super().__init__()
        self._file = os.environ.get(FILE_VARIABLE) or None
        self._given: dict[tuple[str, str], Any] = {}
        self.settled = Settled(Settings(), [])

    def opt_config(self, path: str) -> None:
        """A TOML file; etc/whatsproxy.toml shows every key."""
        self._file = path

    opt_c = opt_config

    def opt_listen(self, description: str) -> None:
        """Where clients connect: tcp:, tcp6:, unix: or systemd: description; repeatable."""
        self._append("server", "listen", description)

    opt_l = opt_listen

    def opt_socks5(self, url: str) -> None:
        """Go out through socks5://[user:password@]host[:port], percent-encoded; repeatable."""
        self._append("socks5", "proxies", url)

    opt_s = opt_socks5

    def opt_chat(self, destination: str) -> None:
        """Where WhatsApp chat goes, HOST:PORT; repeatable."""
        self._append("upstream", "chat", destination)

    def opt_allow(self, name: str) -> None:
        """A name that clients may reach by TLS; *.NAME covers those below it; repeatable."""
        self._append("policy", "allow", name)

    def opt_metrics(self, description: str) -> None:
        """Where metrics are served: an endpoint description; empty: nowhere."""
        self._given["metrics", "listen"] = description

    opt_m = opt_metrics

    def opt_log_level(self, level: str) -> None:
        """One of debug, info, warn, error."""
        self._given["logging", "level"] = level

    def postOptions(self) -> None:
        """Load and check everything, so that a mistake ends the program before it has begun."""
        self.settled = settle_or_exit(self._file, self._given)
        if self["check-config"]:
            for warning in self.settled.warnings:
                print(f"# warning: {warning}", file=sys.stderr)
            print(effective(self.settled.settings), end="", file=tolerant(sys.stdout))
            raise SystemExit(0)

    def _append(self, section: str, name: str, value: str) -> None:
        self._given.setdefault((section, name), []).append(value)


def settle_or_exit(path: str | None, given: dict[tuple[str, str], Any]) -> Settled:
    """Load and settle; end the program with one line and status 1 where that fails."""
    try:
        return settle(load(path, os.environ, given))
    except ConfigError as e:
        raise SystemExit(f"whatsproxy: {e}") from None


class WholeService(MultiService):
    """The proxy and its signals; sets the log observer of the application that it is put into."""

    def __init__(self, observer: ILogObserver | None) -> None:
        super().__init__()
        self._observer = observer

    def setServiceParent(self, parent: Any) -> None:
        """Join an application."""
        super().setServiceParent(parent)
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)

    def privilegedStartService(self) -> None:
        """Start; what prevents that is said in the log and on stderr."""
        try:
            super().privilegedStartService()
        except StartupError as e:
            log.critical("{error}", error=str(e))
            sys.stderr = sys.__stderr__  # twistd has made it part of the log
            raise


def build(settled: Settled, twistd: Mapping[str, Any]) -> WholeService:
    """Make the service. ``twistd`` holds the options of twistd itself."""
    from twisted.internet import reactor  # noqa: TID251  # twistd has installed it by now

    use_steady_time(reactor)
    # Twisted keeps what is logged before twistd has begun to log.
    for warning in settled.warnings:
        log.warn("{remark}", remark=warning)  # Twisted has a meaning for the field "warning"
    observer = _observer(settled.settings, twistd)
    service = WholeService(observer)
    proxy = ProxyService(reactor, settled.settings)
    reopen = observer.writer.reopen if observer is not None else None
    reloader = Reloader(reactor, proxy.factory.loadables, proxy.factory.ledger)
    signals = SignalService(reactor, proxy, reloader.reload, reopen)
    signals.setServiceParent(service)  # first: see there
    if observer is not None:
        EndedLines(reactor, observer, proxy.factory.journal).setServiceParent(service)
    proxy.setServiceParent(service)
    reloader.setServiceParent(service)
    owner = owner_to_be(twistd)
    if owner is not None:
        Inheritance(proxy.factory.tls, owner).setServiceParent(service)
    Collecting().setServiceParent(service)  # last, when everything is there
    return service


def use_steady_time(reactor: Any) -> None:
    """Let no step of the wall clock, which is what Twisted reads, cut or hold connections.

    Delayed calls hold the time at which they are due, so there must be none yet.
    """
    if reactor.getDelayedCalls():
        log.warn("time is the wall clock's here: a step of it may cut or hold connections")
    else:
        reactor.seconds = time.monotonic


def _observer(settings: Settings, twistd: Mapping[str, Any]) -> LevelObserver | None:
    """Return our log observer, or none, and say so, where twistd is to write the log."""
    for option in ("logger", "logfile", "syslog"):
        if twistd.get(option):
            log.info("twistd's --{option} wins over [logging]", option=option)
            return None
    output = settings.logging.output
    if output in ("stdout", "stderr") and not twistd.get("nodaemon"):
        log.info("a daemon has no {output}: twistd writes the log", output=output)
        return None
    try:
        return LevelObserver(settings.logging)
    except OSError as e:
        raise SystemExit(
            f"whatsproxy: [logging] output = {output!r}: cannot be written: {e.strerror}"
        ) from None


def makeService(options: Options) -> WholeService:
    """Return the service for parsed options (called by twistd)."""
    return build(options.settled, options.parent or {})


def make_application(path: str) -> Any:
    """Return the application for a .tac file, configured by a TOML file."""
    settled = settle_or_exit(path, {})
    application = Application("whatsproxy")
    build(settled, _twistd_options(sys.argv[1:])).setServiceParent(application)
    return application


def _twistd_options(arguments: list[str]) -> Mapping[str, Any]:
    """Read twistd's own command line once more: a .tac file is not told what it says."""
    options = ServerOptions()
    try:
        given = getopt.getopt(arguments, options.shortOpt, options.longOpt)[0]
    except getopt.GetoptError:
        return {"nodaemon": True}  # not twistd, but something that runs the .tac by itself
    longs = ("logger", "logfile", "syslog", "nodaemon", "uid", "gid")
    names = {f"--{long}": long for long in longs} | {"-u": "uid", "-g": "gid"}
    names |= {"-l": "logfile", "-n": "nodaemon", "-b": "nodaemon", "--debug": "nodaemon"}
    said: dict[str, Any] = {names[o]: value or True for o, value in given if o in names}
    for name, number_of in (("uid", uidFromString), ("gid", gidFromString)):
        if name in said:
            said[name] = number_of(said[name])
    return said
