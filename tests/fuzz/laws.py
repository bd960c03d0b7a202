"""The laws of all parsers (whatsproxy.incremental), and choices that depend on the input alone.

What breaks a law raises LawBroken; an assert could be turned off.
"""

import random
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from whatsproxy.incremental import NeedMore


class LawBroken(Exception):
    """An input for which something does not hold that always should."""


def insist(holds: object, *what: object) -> None:
    """Raise LawBroken unless something holds."""
    if not holds:
        raise LawBroken(" ".join(item if isinstance(item, str) else repr(item) for item in what))


def insist_equal(one: object, other: object, *what: object) -> None:
    """Raise LawBroken unless two things are the same."""
    if one != other:
        insist(False, *what, ":", one, "!=", other)


def choices(data: bytes) -> random.Random:
    """Return what chooses splits: at random, but always the same for the same input."""
    return random.Random(zlib.crc32(data))


def pieces(data: bytes, chosen: random.Random) -> list[bytes]:
    """Cut data into pieces: a few places, or every byte of it."""
    if len(data) <= 64 and chosen.random() < 0.3:
        return [data[i : i + 1] for i in range(len(data))]
    cuts = sorted(chosen.randrange(len(data) + 1) for _ in range(chosen.randrange(1, 6)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


#: So many prefixes of an input are looked at; of a short one all.
_LOOKS = 24


def check_parser(parse: Callable[[bytes], Any], data: bytes, chosen: random.Random) -> Any:
    """Insist on the two laws; return the answer to all of the data.

    The parser is asked when it said that it can decide, and for some other prefixes.
    """
    answer = parse(data)
    wanted, decided = 0, None
    for size in _sizes(len(data), chosen):
        now = parse(data[:size])
        if not isinstance(now, NeedMore):
            insist(size >= wanted, "decided at", size, "though", wanted, "bytes were asked for")
            if decided is not None:
                insist_equal(now, decided, "another decision at", size)
            decided = now
            continue
        insist(decided is None, "a decision was taken back at", size, decided, now)
        insist(now.at_least > size, "at", size, "asks for", now.at_least)
        insist(now.at_least >= wanted, "asks for less than before at", size, now)
        wanted = now.at_least
        if wanted > size + 1:
            _check_promise(parse, data[:size], wanted, chosen)
    if decided is not None:
        insist_equal(answer, decided, "another decision at the end")
    return answer


def _sizes(size: int, chosen: random.Random) -> Iterator[int]:
    """Yield the prefixes to look at, the shortest first, the whole last."""
    if size <= _LOOKS:
        yield from range(size + 1)
        return
    yield from sorted({*range(6), size - 1, size, *(chosen.randrange(size) for _ in range(10))})


def _check_promise(
    parse: Callable[[bytes], Any], beginning: bytes, wanted: int, chosen: random.Random
) -> None:
    """Insist that nothing decides before so many bytes are here, whatever they are."""
    size = chosen.randrange(len(beginning) + 1, wanted) if wanted < 1 << 20 else wanted
    fillers = (b"\0", b"\xff", b"\r\n", b"A", chosen.randbytes(7), beginning or b"\x16\x03")
    for filler in chosen.sample(fillers, 2):
        filled = (beginning + filler * (size // len(filler) + 1))[:size]
        now = parse(filled)
        insist(
            isinstance(now, NeedMore) and now.at_least >= wanted,
            *("asked for", wanted, "bytes, and answers", now, "to", filled[:200]),
        )
