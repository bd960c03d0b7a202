"""A soak: mixed load with faults all the time, every byte checked, and the account at the end.

    tests/sandbox .venv/bin/python -m tests.chaos.soak [--minutes 30] [--core 0.8] [--seed 1]

Two proxies, one that dials directly and one by way of microsocks, carry transfers of every kind and
size, while upstreams, clients, the SOCKS server, the logs and the processes themselves are in
trouble. It prints what was carried, broken by those faults, lost and left behind, and ends with
status 1 if anything was lost, has leaked or cannot be explained.
"""

import argparse
import asyncio
import contextlib
import os
import platform
import resource
import signal
import ssl
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.origins import Origins
from tests.chaos.soak_account import Account, table
from tests.chaos.soak_load import Load
from tests.chaos.soak_parties import Party, start, warm
from tests.chaos.soak_trouble import Socks, Trouble
from tests.integration.programs import LOOPBACK, eventually
from tests.integration.third_party import authority
from tests.integration.tls_origins import present
from tests.integration.traffic import ALLOWED_NAME

#: When memory is looked at, in parts of the time.
LOOKS = {"10 %": 0.1, "50 %": 0.5, "100 %": 1.0}
#: Resident memory may grow by so much in the second half, and by so many bytes besides.
GROWTH, SLACK = 1.10, 4_000_000
MIB = 1 << 20


async def soak(minutes: float, core: float, seed: int) -> int:
    """Do it, print the account, and return the exit status."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        origins, account = Origins(), Account()
        identity = authority(ALLOWED_NAME)
        trust = ssl.create_default_context(cafile=str(identity.trust(directory)))
        origin = await origins.start()
        await origins.start(443, present(identity).context(directory))
        socks = await asyncio.to_thread(Socks, directory)
        stack.callback(socks.stop)
        parties = []
        hops = ("-s", f"socks5://{LOOPBACK}:{socks.port}")
        for title, options in (("direct", ()), ("SOCKS5", hops)):
            place = directory / title
            party = await asyncio.to_thread(
                start, place, title, origin, trust, *options, vague=bool(options)
            )
            parties.append(party)
            stack.callback(party.proxy.stop)
            await warm(party)
            await asyncio.to_thread(rest, party)
        load = Load(parties, socks, origins, account, seed)
        took = await under_load(minutes * 60, load, Trouble(parties, socks, account, seed), core)
        problems = [
            f"{party.name}: {problem}"
            for party in parties
            for problem in await asyncio.to_thread(end, party)
        ]
        await origins.stop()
        report(account, parties, took, seed)
    problems = account.wrong + problems + grown(parties)
    for problem in problems[:20]:
        print(problem)
    print(f"\n{len(problems)} problems" if problems else "\nNothing lost, leaked or unexplained.")
    return bool(problems)


async def under_load(seconds: float, load: Load, trouble: Trouble, core: float) -> float:
    """Run everything for so long; return the seconds that it took until all had ended."""
    began = time.monotonic()
    running = asyncio.create_task(load.run())
    besides = [
        asyncio.create_task(trouble.run(min(1.0, seconds / 240))),
        asyncio.create_task(load.govern(core)),
    ]
    for title, part in LOOKS.items():
        left = began + seconds * part - time.monotonic()
        ended, _ = await asyncio.wait([running, *besides], timeout=left)
        for task in ended:
            task.result()  # which is an error
        for party in load.parties:
            party.resident[title] = party.proxy.resident()
        progress(f"{title} of {seconds / 60:g} minutes: {len(load.account.wrong)} problems so far")
    for task in besides:
        task.cancel()
    await asyncio.gather(*besides, return_exceptions=True)
    load.go_on = False
    await running
    return time.monotonic() - began


def rest(party: Party) -> None:
    """Wait until nobody is connected, and note how it is then."""
    eventually(lambda: party.proxy.figure("connections_active") == 0, "all have ended", 60)
    party.proxy.note_rest()


def end(party: Party) -> list[str]:
    """See what is left when all have gone, and end the proxy; return what is wrong with it."""
    with contextlib.suppress(AssertionError):
        eventually(lambda: party.proxy.figure("connections_active") == 0, "all have ended", 60)
    problems = party.problems()
    party.cpu = party.proxy.cpu()
    party.proxy.signal(signal.SIGTERM)
    if status := party.proxy.wait():
        problems.append(f"exit status {status}")
    return problems


def grown(parties: list[Party]) -> list[str]:
    """Return whose memory has grown in the second half."""
    return [
        f"{party.name}: memory grows"
        for party in parties
        if party.resident["100 %"] > GROWTH * party.resident["50 %"] + SLACK
    ]


def report(account: Account, parties: list[Party], took: float, seed: int) -> None:
    """Print the account in Markdown."""
    print(f"{took / 60:.1f} minutes, seed {seed}; {os.cpu_count()} x {processor()}, ", end="")
    print(f"Linux {platform.release()}, Python {platform.python_version()}\n")
    print(table(account), end="\n\n")
    print("| trouble | times |\n| --- | ---: |")
    for name, times in sorted(account.faults.items()):
        print(f"| {name} | {times:,} |")
    heads = [f"RSS at {title}, MiB" for title in LOOKS]
    print(f"\n| proxy | connections | {' | '.join(heads)} | processor, s |")
    print("| --- |" + " ---: |" * (len(heads) + 2))
    for party in parties:
        memory = " | ".join(f"{party.resident[title] / MIB:.1f}" for title in LOOKS)
        print(f"| {party.name} | {party.accepted:,} | {memory} | {party.cpu:.0f} |")
    print()


def processor() -> str:
    """Return what the processor is called."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def progress(text: str) -> None:
    """Tell where it stands; no part of the result."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Mixed load with faults, and its account.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--core", type=float, default=0.8, help="processors to be taken, in all")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if os.environ.get("TEST_SANDBOX") != "1":
        raise SystemExit("to be run in tests/sandbox: it binds port 443, and needs the test names")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leave nothing running
    raise SystemExit(asyncio.run(soak(options.minutes, options.core, options.seed)))


if __name__ == "__main__":
    main()
