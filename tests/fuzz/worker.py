"""The process that fuzzes one target; run.py starts it, and reads what it says.

    python -m tests.fuzz.worker TARGET [--program DIRECTORY] [--replay] ARGUMENT ...

The arguments are libFuzzer's. With --replay they are files, which are checked without a fuzzer;
the names of those that break a law are printed. --program is where another copy of whatsproxy is.
"""

import argparse
import logging
import sys
from pathlib import Path

from twisted.logger import globalLogBeginner

from tests.fuzz.target import Target, load


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.fuzz.worker")
    parser.add_argument("target")
    parser.add_argument("--program")
    parser.add_argument("--replay", action="store_true")
    options, more = parser.parse_known_args(arguments)
    if options.program is not None:
        sys.path.insert(0, options.program)
    logging.disable()
    # What targets want of the log they take from the publisher; nobody reads the rest.
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    if options.replay:
        return replay(load(options.target), more)
    import atheris

    with atheris.instrument_imports(include=["whatsproxy"]):
        target = load(options.target)
    # libFuzzer starts itself again to merge, by its own name and a shell.
    command = f"{sys.executable} -m tests.fuzz.worker {options.target}"
    atheris.Setup([command, *more], target.check)
    atheris.Fuzz()
    return 0


def replay(target: Target, paths: list[str]) -> int:
    """Check files; print those that break a law, and why."""
    for path in paths:
        try:
            target.check(Path(path).read_bytes())
        except Exception as e:
            print(f"{path}\t{type(e).__name__}: {e}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
