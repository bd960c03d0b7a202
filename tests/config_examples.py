"""For every key of the configuration: what is good, what is bad, and what the error has to say."""

import json
from typing import Any, NamedTuple

from whatsproxy.codecs import Direct, SocksProxy
from whatsproxy.destination import Destination as D

Name = tuple[str, str]


class Example(NamedTuple):
    """One good value a source, and what each becomes; all differ from the default."""

    file: str
    environment: str
    command: object
    decoded: tuple[Any, Any, Any]


def plain(name: str, *values: Any) -> Example:
    """Return the example of a key whose values are their own decoding."""
    return Example(
        f"{name} = {json.dumps(values[0])}",
        str(values[1]),
        values[2],
        (values[0], values[1], values[2]),
    )


EXAMPLES: dict[Name, Example] = {
    ("server", "listen"): Example(
        'listen = ["tcp:1"]',
        "tcp:port=2:interface=127.0.0.1, unix:/run/x",
        ["systemd:domain=INET:index=0"],
        (
            ("tcp:1",),
            ("tcp:port=2:interface=127.0.0.1", "unix:/run/x"),
            ("systemd:domain=INET:index=0",),
        ),
    ),
    ("server", "max_connections"): plain("max_connections", 1, 10_000_000, 3),
    ("timeouts", "sniff"): plain("sniff", 0.5, 2.5, 604_800),
    ("timeouts", "connect"): plain("connect", 1, 2, 3.5),
    ("timeouts", "idle"): plain("idle", 1, 2, 3),
    ("timeouts", "chat_idle"): plain("chat_idle", 1, 2, 3),
    ("timeouts", "shutdown"): plain("shutdown", 0, 2, 3),
    ("timeouts", "lame_duck"): plain("lame_duck", 1, 2, 3),
    ("upstream", "chat"): Example(
        'chat = ["G.whatsapp.net.:443", "faß.de:80"]',
        "a.b:1,[2001:DB8::1]:2",
        ["127.0.0.1:3"],
        (
            (D("g.whatsapp.net", 443), D("xn--fa-hia.de", 80)),
            (D("a.b", 1), D("2001:db8::1", 2)),
            (D("127.0.0.1", 3),),
        ),
    ),
    ("upstream", "xmpp"): Example(
        'xmpp = ["a.b:1"]', "refuse", ["c.d:2"], ((D("a.b", 1),), None, (D("c.d", 2),))
    ),
    ("upstream", "raw"): Example(
        'raw = ["refuse"]', "a.b:1, c.d:2", ("refuse",), (None, (D("a.b", 1), D("c.d", 2)), None)
    ),
    ("socks5", "proxies"): Example(
        'proxies = ["socks5://us%40er:p%3Aw@h:99", "direct"]',
        "socks5://h,socks5h://[::1]:2",
        ["socks5://1.2.3.4"],
        (
            (SocksProxy(D("h", 99), (b"us@er", b"p:w")), Direct()),
            (SocksProxy(D("h", 1080)), SocksProxy(D("::1", 2))),
            (SocksProxy(D("1.2.3.4", 1080)),),
        ),
    ),
    ("policy", "allow"): Example(
        'allow = ["*.Faß.de"]', "A.b,*.c.d.", [], (("*.xn--fa-hia.de",), ("a.b", "*.c.d"), ())
    ),
    ("policy", "allow_ports"): Example(
        "allow_ports = [1, 65535]", "443, 5222", [], ((1, 65535), (443, 5222), ())
    ),
    ("metrics", "listen"): plain("listen", "unix:/run/m", "tcp6:9", ""),
    ("logging", "level"): plain("level", "debug", "error", "warn"),
    ("logging", "format"): Example('format = "json"', "json", "json", ("json",) * 3),
    ("logging", "output"): plain("output", "stderr", "/var/log/x", "a file"),
}
_ENDPOINT: list[tuple[object, str]] = [
    ("", "endpoint"),
    (5, "string"),
    ("tcp:65536", "65535"),
    ("tcp:x", "65535"),
]
_SECONDS: list[tuple[object, str]] = [
    *[(raw, "seconds.*604800") for raw in ("5", True, [5], {}, -1, -0.001, 604_801)],
    *[(raw, "seconds.*604800") for raw in (float("inf"), float("nan"), 1e300)],
]
_ADDRESSES: list[tuple[object, str]] = [
    *[(raw, "list.*host:port") for raw in ("a.b:1", 5, {}, True)],
    *[([raw], "g.whatsapp.net:5222") for raw in ("a.b", "a.b:0", "a b:1", "::1:5", "0x7f.1:1")],
    ([5], "string"),
]
_CHOICE: list[tuple[object, str]] = [
    (raw, "one of .*{}") for raw in ("", "INFO", "loud", 5, True, ["info"], {"a": 1})
]
#: What is wrong with each key, and what its error must say would be right.
BAD: dict[Name, list[tuple[object, str]]] = {
    ("server", "listen"): [
        ("tcp:1", "list.*endpoint"),
        ([], "endpoint"),
        (5, "list"),
        *(([raw], right) for raw, right in _ENDPOINT),
        (["tcp:1", "tcp6:"], "tcp6:8443"),
    ],
    ("server", "max_connections"): [
        (raw, "integer from 1 to 10000000")
        for raw in ("5", 0, -1, 10_000_001, 1.0, True, [1], {}, 2**70)
    ],
    **{("timeouts", n): [*_SECONDS, (0, "more than 0")] for n in ("sniff", "connect", "idle")},
    ("timeouts", "chat_idle"): [*_SECONDS, (0, "more than 0")],
    ("timeouts", "shutdown"): _SECONDS,
    ("timeouts", "lame_duck"): _SECONDS,
    ("upstream", "chat"): [*_ADDRESSES, ([], "host:port"), (["refuse"], "host:port")],
    ("upstream", "xmpp"): [*_ADDRESSES, ("refuse", "list"), (["a.b:1", "refuse"], "host:port")],
    ("upstream", "raw"): [*_ADDRESSES, (["refuse", "refuse"], "host:port")],
    ("socks5", "proxies"): [
        ("socks5://h", "list.*socks5://"),
        ([5], "string"),
        *(
            ([raw], r"socks5://\[user:password@\]host\[:port\]")
            for raw in ("http://h", "socks4://h", "socks5://", "socks5://h:0", "socks5://h/x", "h")
        ),
        *(([f"socks5://{u}@h"], "1 to 255 bytes") for u in ("", "u", "u:", ":p", "u:" + "p" * 256)),
    ],
    ("policy", "allow"): [
        ("a.b", "list.*names"),
        (["*"], "name the domains"),
        *(([raw], "whatsapp.net or") for raw in ("", "a b", "127.0.0.1", "*.*.a", "a.b:1")),
        ([5], "string"),
    ],
    ("policy", "allow_ports"): [
        (80, "list.*ports"),
        *(([raw], "1 to 65535") for raw in (0, 65536, -1, 1.0, True, "80", [1])),
    ],
    ("metrics", "listen"): [*((" ", right) for _, right in _ENDPOINT[:1]), *_ENDPOINT[1:]],
    ("logging", "level"): [(raw, right.format("debug")) for raw, right in _CHOICE],
    ("logging", "format"): [(raw, right.format("text, json")) for raw, right in _CHOICE],
    ("logging", "output"): [
        *((raw, "stdout, stderr or the path") for raw in ("", "a\0b")),
        *((raw, "string") for raw in (5, True, ["stdout"])),
    ],
}
#: What is wrong as the text of an environment variable.
BAD_TEXT: dict[Name, list[tuple[str, str]]] = {
    ("server", "listen"): [("", "endpoint"), ("tcp:1,tcp:" + "9" * 5000, "no port from 0 to")],
    ("server", "max_connections"): [
        (text, "integer from 1") for text in ("many", "", "0", "1.5", "9" * 5000, "0x10")
    ],
    **{
        ("timeouts", name): [(text, "seconds") for text in ("", "5 minutes", "nan", "inf", "-1")]
        for name in ("sniff", "connect", "idle", "chat_idle", "shutdown", "lame_duck")
    },
    ("upstream", "chat"): [("", "host:port"), ("refuse", "host:port"), ("a.b:1 c.d:2", "would be")],
    ("upstream", "xmpp"): [("a.b", "host:port"), ("refuse,a.b:1", "host:port")],
    ("upstream", "raw"): [("a.b:http", "1 to 65535"), ("[::1]", "host:port")],
    ("socks5", "proxies"): [("127.0.0.1:1080", "socks5://"), ("direct,none", "socks5://")],
    ("policy", "allow"): [("a.b,*", "name the domains"), ("a_b c", "whatsapp.net or")],
    ("policy", "allow_ports"): [(text, "1 to 65535") for text in ("80,http", "0x50", "0", "1.0")],
    ("metrics", "listen"): [("tcp:metrics", "65535"), ("tcp6:65536", "65535"), (" ", "endpoint")],
    ("logging", "level"): [("Info", "debug, info, warn, error"), ("", "debug")],
    ("logging", "format"): [("JSON", "text, json")],
    ("logging", "output"): [("", "stdout, stderr or the path")],
}


def variable(section: str, name: str) -> str:
    """Return the name of a key's environment variable."""
    return f"WHATSPROXY_{section}_{name}".upper()


def whole_file() -> str:
    """Return a file that sets every key to its first example."""
    sections = dict.fromkeys(section for section, _ in EXAMPLES)
    return "".join(
        f"[{section}]\n"
        + "".join(f"{e.file}\n" for (of, _), e in EXAMPLES.items() if of == section)
        for section in sections
    )
