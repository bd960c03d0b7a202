"""Shows that the fuzzer would find a bug: puts some into copies of the program, and looks for them.

    python tests/fuzz/plant.py [TARGET ...] [--seconds 120] [--first] [--keep]

Each target names a few. What of its corpus would show the bug at once is left out, so that it is
the fuzzer that finds it. The status is 1 if one is not found in time.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.run import BROKEN, TOO_LONG, fuzz, scratch, sow, work
from tests.fuzz.target import KEPT, ROOT, Plant, Target, load, names

#: What is found once is found each time.
SEED = 1


class PlantError(Exception):
    """The program is not any more what a plant takes it for."""


def planted(plant: Plant, where: Path) -> Path:
    """Copy the program with the bug in it; return where it is. Raises PlantError."""
    shutil.copytree(
        ROOT / "whatsproxy", where / "whatsproxy", ignore=shutil.ignore_patterns("__pycache__")
    )
    path = where / "whatsproxy" / plant.file
    text = path.read_text(encoding="utf-8")
    if text.count(plant.old) != 1:
        raise PlantError(f"{plant.file} has {text.count(plant.old)} times {plant.old!r}, not once")
    path.write_text(text.replace(plant.old, plant.new), encoding="utf-8")
    return where


def innocent(target: Target, program: Path, where: Path) -> tuple[list[Path], set[Path]]:
    """Copy what of corpus and seeds does not show the bug; return where it is, and what does."""
    seeds = sow(target, where / "seeds")
    corpus = Path(shutil.copytree(target.corpus, where / "corpus"))
    files = [str(path) for place in (corpus, seeds) for path in place.iterdir()]
    if broken := showing(target, files):
        raise PlantError(f"{target.name}: without a bug, too, {broken.pop()} breaks a law")
    guilty = {Path(path) for path in showing(target, files, program)}
    for path in guilty:
        path.unlink()
    return [corpus, seeds], guilty


def showing(target: Target, files: Sequence[str], program: Path | None = None) -> set[str]:
    """Return which of the files break a law."""
    outcome = work(target.name, "--replay", *files, program=program)
    if outcome.status != 0:
        raise PlantError(outcome.complaint)
    lines = [line.partition("\t") for line in outcome.output.splitlines()]
    return {path for path, tab, _ in lines if tab and path in files}


def search(target: Target, plant: Plant, seconds: float, keep: bool) -> bool:
    """Look for a bug; say what came of it, and whether it was found.

    ``keep``: what has shown it goes into the corpus, if nothing there would.
    """
    with scratch() as temporary:
        program = planted(plant, temporary / "program")
        corpora, known = innocent(target, program, temporary)
        found = temporary / "found"
        outcome = fuzz(target.name, seconds, found, corpora, program=program, seed=SEED)
        good = outcome.status in (BROKEN, TOO_LONG)
        if good and keep and corpora[0] not in {path.parent for path in known}:
            shutil.copy(outcome.reproducer, target.corpus / (KEPT + plant.digest))
    what = f"found after {outcome.executions:,} executions" if good else "NOT FOUND"
    print(
        f"{target.name:20} {plant.file}: {plant.old.strip()!r} -> {plant.new.strip()!r}: {what},"
        f" {outcome.seconds:.0f} s ({len(known)} of its inputs left out)",
        flush=True,
    )
    if not good and outcome.status != 0:
        print(outcome.complaint, flush=True)
    return good


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; return the status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--first", action="store_true", help="only the first bug of each target")
    parser.add_argument("--keep", action="store_true", help="keep what shows a bug in the corpus")
    options = parser.parse_args(arguments)
    targets = [load(name) for name in options.targets or names()]
    plants = [
        (target, plant)
        for target in targets
        for plant in (target.plants[:1] if options.first else target.plants)
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        found = list(pool.map(lambda pair: search(*pair, options.seconds, options.keep), plants))
    print(f"{sum(found)} of {len(plants)} bugs found", flush=True)
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
