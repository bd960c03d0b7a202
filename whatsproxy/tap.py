"""``twistd whatsproxy`` and the .tac file: options in, a service out."""

import dataclasses
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

from whatsproxy.checks import check
from whatsproxy.config import FILE_VARIABLE, ConfigError, Loaded, absolute_output, load
from whatsproxy.descriptors import DescriptorError, arithmetic, fit, raise_limit
from whatsproxy.listen_codecs import at_paths, listener_at
from whatsproxy.listeners import endpoint_of
from whatsproxy.logs import LineObserver, observer_of, tolerant
from whatsproxy.privileges import Inheritance, owner_to_be
from whatsproxy.reference import effective
from whatsproxy.reload import Reloader
from whatsproxy.service import ProxyService, StartupError
from whatsproxy.settings import ServerSettings, Settings, TlsSettings
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


@dataclasses.dataclass(frozen=True)
class Settled:
    """Settings that this machine can serve, and what the operator should know of them."""

    settings: Settings
    warnings: list[str]


def settle(loaded: Loaded) -> Settled:
    """Check what only the running system can judge. Raises ConfigError."""
    from twisted.internet import reactor  # noqa: TID251  # twistd has installed it by now

    settings = loaded.settings
    if settings.server.listener and ("server", "listen") not in loaded.origins:
        # Who has said where to listen does not want the default beside it.
        server = dataclasses.replace(settings.server, listen=())
        settings = dataclasses.replace(settings, server=server)
        loaded = dataclasses.replace(loaded, settings=settings)
    check(loaded)
    warnings = []
    for section, name, descriptions in (
        ("server", "listen", [listener_at(d).endpoint for d in settings.server.listen]),
        ("server", "listener", [listener.endpoint for listener in settings.server.listener]),
        ("metrics", "listen", [settings.metrics.listen] if settings.metrics.listen else []),
    ):
        for description in descriptions:
            try:
                endpoint_of(reactor, description)
            except Exception as e:  # each kind of endpoint fails in its own way
                why = "systemd passes no such socket" if isinstance(e, LookupError) else e
                problem = f"{description!r} is no endpoint description: {why}"
                raise loaded.error(section, name, problem) from None
    wanted = settings.server.max_connections
    limit = raise_limit()
    try:
        fitting = fit(wanted, limit)
    except DescriptorError as e:
        raise loaded.error("server", "max_connections", str(e)) from None
    if fitting < wanted:
        problem = arithmetic(wanted, limit)
        if wanted != ServerSettings().max_connections:
            raise loaded.error("server", "max_connections", f"{problem}; {fitting} would fit")
        warnings.append(f"max_connections lowered to {fitting}: {problem}")
    try:
        output = absolute_output(settings.logging.output)
        tls = absolute_paths(settings.tls)
        users_file = absolute(settings.http.users_file)
        clients = dataclasses.replace(
            settings.clients,
            allow=at_paths(settings.clients.allow, os.path.abspath),
            deny=at_paths(settings.clients.deny, os.path.abspath),
        )
        listener = tuple(
            dataclasses.replace(each, allow=at_paths(each.allow, os.path.abspath))
            for each in settings.server.listener
        )
    except OSError as e:
        problem = f"the working directory is gone ({e.strerror}): name an absolute path"
        raise loaded.error("logging", "output", problem) from None
    return Settled(
        dataclasses.replace(
            settings,
            server=dataclasses.replace(settings.server, max_connections=fitting, listener=listener),
            clients=clients,
            logging=dataclasses.replace(settings.logging, output=output),
            tls=tls,
            http=dataclasses.replace(settings.http, users_file=users_file),
        ),
        warnings,
    )


def absolute(path: str) -> str:
    """Return a path that leads to the same file after a change of directory."""
    return os.path.abspath(path) if path else ""


def absolute_paths(tls: TlsSettings) -> TlsSettings:
    """Return settings whose files are found after a change of directory, too."""
    return dataclasses.replace(
        tls,
        cache_dir=absolute(tls.cache_dir),
        upstream_ca_file=absolute(tls.upstream_ca_file),
        certificate=tuple(
            dataclasses.replace(
                files, cert_file=absolute(files.cert_file), key_file=absolute(files.key_file)
            )
            for files in tls.certificate
        ),
    )


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
    observer, writer = _observer(settled.settings, twistd)
    service = WholeService(observer)
    proxy = ProxyService(reactor, settled.settings)
    reopen = writer.reopen if writer is not None else None
    reloader = Reloader(reactor, proxy.factory.loadables, proxy.factory.ledger)
    signals = SignalService(reactor, proxy, reloader.reload, reopen)
    signals.setServiceParent(service)  # first: see there
    proxy.setServiceParent(service)
    reloader.setServiceParent(service)
    owner = owner_to_be(twistd)
    if owner is not None:
        Inheritance(proxy.factory.tls, owner).setServiceParent(service)
    return service


def use_steady_time(reactor: Any) -> None:
    """Let no step of the wall clock, which is what Twisted reads, cut or hold connections.

    Delayed calls hold the time at which they are due, so there must be none yet.
    """
    if reactor.getDelayedCalls():
        log.warn("time is the wall clock's here: a step of it may cut or hold connections")
    else:
        reactor.seconds = time.monotonic


def _observer(
    settings: Settings, twistd: Mapping[str, Any]
) -> tuple[ILogObserver | None, LineObserver | None]:
    """Return our log observer, or none, and say so, where twistd is to write the log."""
    for option in ("logger", "logfile", "syslog"):
        if twistd.get(option):
            log.info("twistd's --{option} wins over [logging]", option=option)
            return None, None
    output = settings.logging.output
    if output in ("stdout", "stderr") and not twistd.get("nodaemon"):
        log.info("a daemon has no {output}: twistd writes the log", output=output)
        return None, None
    try:
        return observer_of(settings.logging)
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
