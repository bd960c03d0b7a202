"""What settings must not be together: each mistake is named with the key that is to be changed."""

from whatsproxy.codecs import Direct
from whatsproxy.config import Loaded
from whatsproxy.listen_codecs import Listener, listener_at


def check(loaded: Loaded) -> None:
    """Raise ConfigError for settings that are right one by one, and not together."""
    settings = loaded.settings
    listeners = [*map(listener_at, settings.server.listen), *settings.server.listener]
    if not listeners:
        raise loaded.error(
            "server",
            "listen",
            'nobody could connect: an endpoint description is expected, such as ["tcp6:8443"], or '
            "a [[listener]]",
        )
    for listener in settings.server.listener:
        if listener.allow and not listener.proxy_protocol and listener.endpoint[:5] == "unix:":
            raise loaded.error(
                "server",
                "listener",
                f"allow has no meaning for {listener.endpoint}, whose clients have no addresses: "
                "the mode of the socket says who may come",
            )
    if "*" in settings.policy.allow:
        _check_open(loaded, listeners)
    if any(listener.proxy_protocol for listener in listeners) and not settings.server.proxy_trusted:
        tcp = [x.endpoint for x in listeners if x.proxy_protocol and x.endpoint[:5] != "unix:"]
        if tcp:
            raise loaded.error(
                "server",
                "proxy_trusted",
                f"{tcp[0]} takes PROXY protocol headers: name the networks of the load balancers "
                'that are believed, such as ["192.0.2.10/32"]',
            )
    if settings.upstream.send_proxy and any(
        not isinstance(hop, Direct) for hop in settings.socks5.proxies
    ):
        raise loaded.error(
            "upstream",
            "send_proxy",
            "would tell the chat upstream the clients' addresses past the SOCKS5 proxies that hide "
            'this one; "" would be right, or no [socks5] proxies',
        )


def _check_open(loaded: Loaded, listeners: list[Listener]) -> None:
    """Insist that somebody says who may use a proxy to everywhere."""
    if loaded.settings.clients.allow:
        return
    open_to_all = [x.endpoint for x in listeners if not (x.is_local or x.allow)]
    if open_to_all:
        raise loaded.error(
            "policy",
            "allow",
            "'*' would make this an open relay for whoever finds the port: name the domains, or "
            f"say who may come by [clients] allow, or listen on loopback only ({open_to_all[0]} "
            "does not)",
        )
