"""Runs fuzz targets: for some seconds each, on what is in the repository and was found before.

    python tests/fuzz/run.py [TARGET ...] [--seconds 60] [--jobs 2]
    python tests/fuzz/run.py TARGET --replay FILE ...     once more, with the whole traceback
    python tests/fuzz/run.py [TARGET ...] --merge         make the corpora anew, and small

New inputs, and those that broke a law, are put below .fuzz/. The status is 1 if there are any of
the latter.
"""

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.target import FOUND, KEPT, ROOT, Target, in_memory, load, names

#: libFuzzer's status for an input that broke a law, and for one that took too long.
BROKEN, TOO_LONG = 77, 70
#: Seconds that one input may take.
INPUT_SECONDS = 20
#: Seconds that a worker may take beyond its time: to start, and to read its corpus.
GRACE = 120
#: The largest file of a corpus, in bytes.
LARGEST = 2048


@dataclass(frozen=True)
class Outcome:
    """What a worker has said."""

    target: str
    status: int
    output: str
    seconds: float

    @property
    def executions(self) -> int:
        return self._number(r"stat::number_of_executed_units: (\d+)")

    @property
    def rate(self) -> int:
        return self._number(r"stat::average_exec_per_sec:\s+(\d+)")

    @property
    def coverage(self) -> int:
        """Edges of the program that were reached."""
        return self._number(r"cov: (\d+)")

    @property
    def reproducer(self) -> str:
        found = re.findall(r"Test unit written to (\S+)", self.output)
        return found[-1] if found else ""

    @property
    def complaint(self) -> str:
        """The traceback, or the end of what was said."""
        _, marker, rest = self.output.partition("=== Uncaught Python exception: ===\n")
        if marker:
            return rest.split("\n\n==")[0]
        return "\n".join(self.output.splitlines()[-25:])

    def _number(self, pattern: str) -> int:
        found = re.findall(pattern, self.output)
        return int(found[-1]) if found else 0


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Make a directory for a worker, which cannot tidy up: libFuzzer ends it."""
    path = tempfile.mkdtemp(prefix="whatsproxy-fuzz-", dir=in_memory())
    try:
        yield Path(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def work(target: str, *arguments: str, program: Path | None = None, limit: float = 60) -> Outcome:
    """Run a worker with libFuzzer's arguments; ``program`` is where another whatsproxy is."""
    command = [sys.executable, "-m", "tests.fuzz.worker", target]
    if program is not None:
        command += ["--program", str(program)]
    started = time.monotonic()
    with scratch() as temporary:
        done = subprocess.run(
            [*command, *arguments],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(temporary), "PYTHONHASHSEED": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit + GRACE,
        )
    output = done.stdout.decode("utf-8", "backslashreplace")
    return Outcome(target, done.returncode, output, time.monotonic() - started)


def fuzz(
    target: str,
    seconds: float,
    where: Path,
    corpora: Sequence[Path],
    *,
    program: Path | None = None,
    seed: int = 0,
) -> Outcome:
    """Fuzz a target for some seconds: new inputs and reproducers are put into ``where``.

    ``seed`` makes two runs alike; 0 is another one each time.
    """
    found = load(target)
    inputs = where / target
    inputs.mkdir(parents=True, exist_ok=True)
    words = where / f"{target}.words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in found.words))
    return work(
        *(target, str(inputs), *map(str, corpora)),
        *(f"-max_total_time={seconds:.0f}", f"-max_len={found.longest}", f"-dict={words}"),
        *(f"-artifact_prefix={where}/{target}-", f"-timeout={INPUT_SECONDS}"),
        *("-print_final_stats=1", "-rss_limit_mb=2048", "-len_control=20", f"-seed={seed}"),
        program=program,
        limit=seconds,
    )


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def report(outcome: Outcome) -> str:
    """Return what is to be said of a run."""
    line = (
        f"{outcome.target:20} {outcome.seconds:4.0f} s {outcome.executions:10,} executions"
        f" ({outcome.rate:,}/s), {outcome.coverage} edges"
    )
    if outcome.status == 0:
        return line
    what = {BROKEN: "A LAW IS BROKEN", TOO_LONG: "AN INPUT TAKES TOO LONG"}
    said = f"{line}: {what.get(outcome.status, f'STATUS {outcome.status}')}\n{outcome.complaint}\n"
    if outcome.reproducer:
        corpus = load(outcome.target).corpus
        said += (
            f"  reproducer:  {outcome.reproducer}\n"
            f"  once more:   python tests/fuzz/run.py {outcome.target}"
            f" --replay {outcome.reproducer}\n"
            f"  when it is mended, keep it as {corpus.relative_to(ROOT)}/{KEPT}NAME"
        )
    return said


def fuzz_all(targets: Sequence[str], seconds: float, jobs: int) -> int:
    """Fuzz targets, several at a time; return the status."""

    with ThreadPoolExecutor(jobs) as pool, scratch() as temporary:

        def one(name: str) -> bool:
            target = load(name)
            seeds = sow(target, temporary / name)
            outcome = fuzz(name, seconds, FOUND, [target.corpus, seeds])
            print(report(outcome), flush=True)
            return outcome.status == 0

        return 0 if all(list(pool.map(one, targets))) else 1


def sow(target: Target, where: Path) -> Path:
    """Write a target's seeds; return where they are."""
    where.mkdir()
    for seed in target.seeds():
        if len(seed) <= LARGEST:
            (where / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    return where


def merge(target: str) -> None:
    """Make a corpus anew of seeds, the old one, and what was found: the fewest that reach all."""
    found = load(target)
    with scratch() as temporary:
        seeds, merged = temporary / "seeds", temporary / "merged"
        merged.mkdir()
        sow(found, seeds)
        sources = [path for path in (found.corpus, FOUND / target, seeds) if path.is_dir()]
        # Counters would keep hundreds that differ in how often a line is run.
        outcome = work(
            *(target, "-merge=1", "-use_counters=0", f"-max_len={LARGEST}"),
            f"-artifact_prefix={temporary}/",
            *map(str, (merged, *sources)),
            limit=600,
        )
        if outcome.status != 0:
            raise SystemExit(report(outcome))
        for path in found.corpus.glob(KEPT + "*"):
            shutil.copy(path, merged)
        shutil.rmtree(found.corpus, ignore_errors=True)
        shutil.copytree(merged, found.corpus)
    files = list(found.corpus.iterdir())
    size = sum(path.stat().st_size for path in files)
    print(f"{target:20} {len(files):4} files, {size:7,} bytes", flush=True)


def main(arguments: list[str]) -> int:
    """Do what the command line says; return the status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(names()))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 4))
    parser.add_argument("--replay", nargs="+", metavar="FILE")
    parser.add_argument("--merge", action="store_true")
    options = parser.parse_args(arguments)
    targets = options.targets or names()
    if unknown := set(targets) - set(names()):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    if options.replay:
        for path in options.replay:
            load(targets[0]).check(Path(path).read_bytes())
        return 0
    if options.merge:
        for target in targets:
            if not load(target).shares:
                merge(target)
        return 0
    return fuzz_all(targets, options.seconds, options.jobs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
