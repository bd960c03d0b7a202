"""The configuration file: settings that stand whatever is in it, or one line for the operator."""

from collections.abc import Iterator

from tests.config_examples import EXAMPLES
from tests.fuzz.config_laws import SECRET, check_source, written
from tests.fuzz.laws import choices
from tests.fuzz.target import Plant, Target
from whatsproxy.config import KEYS, load
from whatsproxy.reference import annotated_file


def check(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    check_source(text, lambda: load(written("whatsproxy.toml", data)))
    if data and choices(data).random() < 0.1:
        _check_options(text)


def _check_options(text: str) -> None:
    """The same text as the value of every option of the command line."""
    for section, name in KEYS:
        raw = KEYS[section, name].codec.from_text(text)
        for value in (raw, [text], text, {text: text}):
            check_source("", lambda key=(section, name), value=value: load(options={key: value}))


def seeds() -> Iterator[bytes]:
    yield annotated_file().encode()
    for (section, _), example in EXAMPLES.items():
        yield f"[{section}]\n{example.file}\n".encode()
    yield f'[socks5]\nproxies = ["socks5://me:{SECRET}@h:99", "direct"]\n'.encode()
    yield f'[socks5]\nproxies = ["socks5://me:{SECRET}@h:99999"]\n'.encode()
    yield b'[[listener]]\nendpoint = "haproxy:tcp:1"\n[server]\nlistener = [{endpoint = "tcp:2"}]\n'
    yield from (
        b"[server]\nlisten = 5",
        b"server = 1",
        b"[nope]",
        b"[http]\nx = 1",
        b"\xff",
        b"a = [",
    )
    yield b"a = " + b"[" * 1200
    yield b'[http]\nset_request = {"X-A" = "b", x-a = "c"}\nvia = "\\u0000"'


TARGET = Target(
    "config_file",
    check,
    seeds,
    plants=(
        Plant("field_codecs.py", "if _VALUE.fullmatch(value) is None:", "if False:"),
        Plant(
            "codecs.py",
            'raise ValueError("host[:port] of socks5://[user:password@]host[:port] is wrong")',
            "raise ValueError(found[0])",
        ),
    ),
    words=tuple(
        text.encode()
        for text in (
            *(f"[{section}]\n" for section in dict.fromkeys(section for section, _ in KEYS)),
            *(f"{name} = " for _, name in KEYS),
            *('"tcp:1"', '"refuse"', '"a.b:1"', "true", "1e9", "inf", "nan", "{}", "[]", "0", "-1"),
            *("[[listener]]\n", "endpoint = ", "kinds = ", "[[tls.certificate]]\n", "cert_file = "),
            *(
                '"sha256/',
                '"socks5://',
                f"me:{SECRET}@",
                '"direct"',
                '"file:',
                '"*."',
                "\\u0000",
                "'''",
            ),
        )
    ),
    longest=1500,
)
