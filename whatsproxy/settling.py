"""Settings and this machine: what only the running system can judge, and where files are."""

import dataclasses
import os

from whatsproxy.checks import check
from whatsproxy.config import Loaded, absolute_output
from whatsproxy.descriptors import DescriptorError, arithmetic, fit, raise_limit
from whatsproxy.listen_codecs import at_paths, listener_at
from whatsproxy.listeners import endpoint_of
from whatsproxy.settings import ServerSettings, Settings


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
        settings = with_absolute_paths(settings)
    except OSError as e:
        problem = f"the working directory is gone ({e.strerror}): name an absolute path"
        raise loaded.error("logging", "output", problem) from None
    server = dataclasses.replace(settings.server, max_connections=fitting)
    return Settled(dataclasses.replace(settings, server=server), warnings)


def with_absolute_paths(settings: Settings) -> Settings:
    """Return settings whose files are found after a change of directory, too. Raises OSError."""
    server, clients, tls = settings.server, settings.clients, settings.tls
    listener = tuple(
        dataclasses.replace(each, allow=at_paths(each.allow, absolute)) for each in server.listener
    )
    certificate = tuple(
        dataclasses.replace(
            files, cert_file=absolute(files.cert_file), key_file=absolute(files.key_file)
        )
        for files in tls.certificate
    )
    return dataclasses.replace(
        settings,
        server=dataclasses.replace(server, listener=listener),
        clients=dataclasses.replace(
            clients,
            allow=at_paths(clients.allow, absolute),
            deny=at_paths(clients.deny, absolute),
        ),
        tls=dataclasses.replace(
            tls,
            cache_dir=absolute(tls.cache_dir),
            upstream_ca_file=absolute(tls.upstream_ca_file),
            certificate=certificate,
        ),
        http=dataclasses.replace(settings.http, users_file=absolute(settings.http.users_file)),
        logging=dataclasses.replace(
            settings.logging, output=absolute_output(settings.logging.output)
        ),
    )


def absolute(path: str) -> str:
    """Return a path that leads to the same file after a change of directory."""
    return os.path.abspath(path) if path else ""
