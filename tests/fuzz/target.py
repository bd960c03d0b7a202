"""What a fuzz target is, and where it is found."""

import atexit
import functools
import hashlib
import importlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
#: Inputs that together reach all that was ever reached; they are part of the repository.
CORPUS = HERE / "corpus"
#: How inputs of a corpus are called that stay in it, though others reach all that they do: those
#: that have shown a bug.
KEPT = "kept-"
#: What a run finds: new inputs, and what broke a law. Not part of the repository.
FOUND = ROOT / ".fuzz"


class Plant(NamedTuple):
    """A bug to be put into a copy of the program, which the fuzzer has to find.

    ``old`` stands exactly once in ``file`` (below whatsproxy/), and becomes ``new``.
    """

    file: str
    old: str
    new: str

    @property
    def digest(self) -> str:
        """What it is called where its name is too long."""
        return hashlib.sha256("\0".join(self).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Target:
    """A law about bytes: ``check`` raises for those that break it.

    ``seeds`` are inputs to begin with, ``words`` what mutations are made of, ``longest`` is in
    bytes. ``shares`` names the target whose corpus is this one's, too.
    """

    name: str
    check: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    plants: tuple[Plant, ...]
    words: tuple[bytes, ...] = ()
    longest: int = 1024
    shares: str = ""

    @property
    def corpus(self) -> Path:
        """Where its corpus is."""
        return CORPUS / (self.shares or self.name)


def names() -> list[str]:
    """Return all targets there are."""
    return sorted(path.stem for path in (HERE / "targets").glob("[a-z]*.py"))


def load(name: str) -> Target:
    """Import a target, and with it what it is about."""
    target: Target = importlib.import_module(f"tests.fuzz.targets.{name}").TARGET
    assert target.name == name
    return target


def corpus_of(name: str) -> list[Path]:
    """Return the files of a target's corpus."""
    return sorted(path for path in (CORPUS / name).glob("*") if path.is_file())


def in_memory() -> str | None:
    """Return where small files are made fast; None where the default is as good as any."""
    memory = Path("/dev/shm")
    return str(memory) if "TMPDIR" not in os.environ and memory.is_dir() else None


@functools.cache
def scratch() -> Path:
    """Return a directory for files of this process, in memory where that is to be had."""
    path = tempfile.mkdtemp(prefix="whatsproxy-fuzz-", dir=in_memory())
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # and not somebody who was forked
            shutil.rmtree(path, ignore_errors=True)

    atexit.register(remove)
    return Path(path)
