"""Settings from the environment, and from the command line: likewise."""

from collections.abc import Iterator

from tests.config_examples import EXAMPLES
from tests.fuzz.config_laws import SECRET, check_source
from tests.fuzz.target import Plant, Target
from whatsproxy.config import ENVIRONMENT_PREFIX, KEYS, load

_KEYS = list(KEYS)


def check(data: bytes) -> None:
    """Each line is a variable, its name without the prefix: ``SERVER_LISTEN=tcp:1``."""
    environ = {}
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        name, _, value = line.partition("=")
        if not len(name) > 0 or "\0" in line:
            continue  # there is no such variable
        environ[ENVIRONMENT_PREFIX + name] = value
    text = "\n".join(environ.values())
    if not any(SECRET in name for name in environ):
        check_source(text, lambda: load(environ=environ))
    options = {}
    for name, value in environ.items():
        section, _, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("_")
        if (section, key) in KEYS:
            options[section, key] = KEYS[section, key].codec.from_text(value)
    check_source(text, lambda: load(options=options))


def seeds() -> Iterator[bytes]:
    for (section, name), example in EXAMPLES.items():
        yield f"{section}_{name}={example.environment}".upper().encode()
        yield f"{section}_{name}".upper().encode() + f"={example.environment}".encode()
    yield f"SOCKS5_PROXIES=socks5://me:{SECRET}@h:99,direct".encode()
    yield f"SOCKS5_PROXIES=socks5://me:{SECRET}@h:99999\nUPSTREAM_CHAT=socks5://a:{SECRET}@h".encode()
    yield b"NOPE_X=1\nSERVER_X=2\nCONFIG=/x"


TARGET = Target(
    "config_environment",
    check,
    seeds,
    plants=(
        Plant("codecs.py", 'return "***" if self.encode_masked else toml(raw)', "return toml(raw)"),
        Plant("codecs.py", '"[\\x7f-\\x9f', '"[\\x80-\\x9f'),
    ),
    words=tuple(
        text.encode()
        for text in (
            *(f"{section}_{name}=".upper() for section, name in KEYS),
            *("tcp:1", "refuse", "a.b:1", "true", "1e9", "inf", "nan", "0", "-1", ",", "haproxy:"),
            *(
                "=sha256/",
                "socks5://",
                f"me:{SECRET}@h",
                "direct",
                "file:",
                "*.",
                "=",
                "tls://",
                "\n",
            ),
        )
    ),
    longest=400,
)
