"""A whole connection in memory: any bytes and segments from both sides, and all that happens."""

from collections.abc import Iterator

from tests.fuzz.player import play
from tests.fuzz.script import CLIENT_SAYS, UPSTREAM_SAYS, Script, Step, read, written
from tests.fuzz.target import Plant, Target


def check(data: bytes) -> None:
    play(read(data))


def seeds() -> Iterator[bytes]:
    for settings in (0, 1, 2, 8, 16, 36, 132, 134):
        for number in range(settings % 3, len(CLIENT_SAYS), 2):
            for finish, answer in enumerate((number % len(UPSTREAM_SAYS), 0)):
                steps = (
                    Step("client_says", number=number),
                    Step("name_resolves"),
                    Step("dial_succeeds"),
                    Step("upstream_says", number=answer),
                    Step("client_says", how=2, number=(number + 1) % len(CLIENT_SAYS)),
                    Step("client_ends" if finish else "upstream_ends"),
                )
                yield written(Script(settings, finish + 128 * (number % 2), steps))
    flood = (
        Step("client_says", number=2),
        Step("dial_succeeds"),
        Step("upstream_stalls"),
        Step("client_floods", how=6),
        Step("client_ends"),
        Step("upstream_floods", how=6),
        Step("upstream_reads"),
        Step("time_passes", how=3),
        Step("upstream_ends"),
    )
    yield written(Script(0, 2, flood))
    yield written(Script(64, 2, flood))


def _word(*does: str, how: int = 0) -> bytes:
    return written(Script(0, 0, tuple(Step(what, how) for what in does)))[2:]


WORDS = (
    *(_word("client_says")[:1] + bytes([number]) for number in range(len(CLIENT_SAYS))),
    *(_word("upstream_says")[:1] + bytes([number]) for number in range(len(UPSTREAM_SAYS))),
    *(
        _word(f"{who}_{does}")
        for who in ("client", "upstream")
        for does in ("ends", "stalls", "reads")
    ),
    *(_word(f"{who}_floods", how=7) for who in ("client", "upstream")),
    *(_word("time_passes", how=how) for how in range(8)),
    *(_word("name_resolves", "dial_succeeds"), _word("dial_succeeds"), _word("another_client")),
    *(b"\r\n", b"\r\n\r\n", b"HTTP/1.1 ", b"Content-Length: ", b"http://media.whatsapp.net"),
)

TARGET = Target(
    "connection",
    check,
    seeds,
    plants=(
        Plant("protocols/tunnel.py", "self._early += data", "self._early = data"),
        Plant(
            "relay.py",
            "        self._terms.watch.discard(self)\n        self.session.close",
            "        self.session.close",
        ),
        Plant("protocols/exchange.py", "            connecting.cancel()\n", "            pass\n"),
        Plant("policy.py", "destination.port not in self._ports", "False"),
        Plant("protocols/client_leg.py", "        self._patience.stop()\n", ""),
    ),
    words=WORDS,
    longest=400,
)
