"""Ask the databases of known vulnerabilities about what is installed with whatsproxy (make lint).

A package that is known to be vulnerable ends this with status 1. Where no database can be reached
one line says so, and the status is 0. Tools for development are not asked about: nobody who runs
the proxy has them.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any, NamedTuple

from packaging.requirements import Requirement

#: Asked in this order, until one knows the packages.
SERVICES = ("pypi", "osv")
#: Seconds for one question, and for all questions to one service.
QUESTION, SERVICE = 5, 30


class Finding(NamedTuple):
    """What a service says: how many packages it knows, and the vulnerable ones in words."""

    known: int
    vulnerable: list[str]


class UnreachedError(Exception):
    """A service gave no answer; ``str()`` says why."""


def installed_with(name: str) -> dict[str, str]:
    """Return the versions of all that is installed because ``name`` requires it, itself apart."""
    versions: dict[str, str] = {}
    asked = set()
    open_ = [Requirement(name)]
    while open_:
        requirement = open_.pop()
        extras = ("", *sorted(requirement.extras))
        if (requirement.name, extras) in asked:
            continue
        asked.add((requirement.name, extras))
        if requirement.name != name:
            versions[requirement.name] = metadata.version(requirement.name)
        for line in metadata.requires(requirement.name) or ():
            further = Requirement(line)
            if further.marker is None or any(further.marker.evaluate({"extra": e}) for e in extras):
                open_.append(further)
    return versions


def ask(service: str, versions: dict[str, str], *more: str) -> Finding:
    """Return what a service says of the packages, by pip-audit. Raises UnreachedError."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{name}=={version}\n" for name, version in versions.items())
        file.flush()
        options = ["--no-deps", "--disable-pip", "--requirement", file.name, "--format", "json"]
        options += ["--vulnerability-service", service, "--timeout", str(QUESTION), *more]
        command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", *options]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SERVICE)
        except subprocess.TimeoutExpired:
            raise UnreachedError(f"no answer within {SERVICE} s") from None
    try:
        return finding_of(json.loads(done.stdout))
    except ValueError:
        *_, last = done.stderr.strip().splitlines() or ["no answer"]
        raise UnreachedError(last[:100]) from None


def finding_of(answer: dict[str, Any]) -> Finding:
    """Read the answer of pip-audit, which calls it clean when a service knows no package at all."""
    known = [package for package in answer["dependencies"] if "skip_reason" not in package]
    return Finding(
        len(known),
        [
            f"{package['name']} {package['version']}: {vulnerability['id']}, mended in "
            + (", ".join(vulnerability["fix_versions"]) or "no version yet")
            for package in known
            for vulnerability in package["vulns"]
        ],
    )


def audit(
    versions: dict[str, str],
    services: Iterable[str] = SERVICES,
    ask: Callable[[str, dict[str, str]], Finding] = ask,
) -> tuple[int, list[str]]:
    """Return the exit status, and the lines that say why."""
    unreached = []
    for service in services:
        try:
            known, vulnerable = ask(service, versions)
        except UnreachedError as e:
            unreached.append(f"{service}: {e}")
            continue
        if vulnerable:
            return 1, [f"known vulnerabilities ({service}):", *vulnerable]
        if known:
            return 0, [f"no known vulnerability in {known} of {len(versions)} packages ({service})"]
        unreached.append(f"{service}: knows none of {len(versions)} packages")
    return 0, [f"NOT CHECKED: no database can be reached ({'; '.join(unreached)})"]


if __name__ == "__main__":
    if importlib.util.find_spec("pip_audit") is None:
        sys.exit("pip-audit is not installed")
    status, lines = audit(installed_with("whatsproxy"))
    for line in lines:
        print(f"pip-audit: {line}")
    sys.exit(status)
