"""What a list of 100,000 networks costs: to load, and for each look-up.

    .venv/bin/python bench/networks.py [--help]

The list is a file, half IPv4 and half IPv6, in no order, as [clients] deny takes it. The look-ups
are of addresses of which about half are in it. The best of several rounds is shown.
"""

import argparse
import random
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import report

from whatsproxy.network_lists import NetworkList
from whatsproxy.networks import address_of, number_from

#: What repeats the same list and the same addresses each time.
SEED = 5
LOOKUPS = 100_000


def main() -> None:
    """Measure and print."""
    arguments = parse()
    print(f"    {report.command_line()}\n\n{report.environment()}\n", flush=True)
    generator = random.Random(SEED)  # secures nothing
    lines, addresses = made_up(arguments.networks, generator)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "networks")
        path.write_text("\n".join(lines))
        networks = NetworkList("[clients] deny", [f"file:{path}"])
        loading = best(arguments.rounds, networks.load)
        tracemalloc.start()
        networks.load()
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    found = sum(number in networks for number in addresses)

    def look_up() -> None:
        for number in addresses:
            number in networks  # noqa: B015  # the look-up is the point

    looking = best(arguments.rounds, look_up)
    rows = [
        ("networks", f"{arguments.networks:,}"),
        ("loading", f"{loading:.3f} s"),
        ("memory", f"{size / 2**20:.1f} MiB"),
        ("a look-up", f"{looking / len(addresses) * 1e6:.2f} µs"),
        ("addresses found", f"{found / len(addresses):.0%}"),
    ]
    print(report.table(("", "figure"), rows))


def parse() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--networks", type=int, default=100_000, help="lines of the list")
    parser.add_argument("--rounds", type=int, default=5, help="of which the best is shown")
    return parser.parse_args()


def made_up(count: int, generator: random.Random) -> tuple[list[str], list[int]]:
    """Return the lines of a list of networks, and numbers of addresses, half of them in it."""
    lines, numbers = [], []
    for n in range(count):
        if n % 2:
            host_bits = generator.randrange(0, 13)
            first = number_from((generator.getrandbits(32) >> host_bits << host_bits).to_bytes(4))
            lines.append(f"{address_of(first)}/{32 - host_bits}")
        else:
            host_bits = generator.randrange(64, 97)
            first = (0x2000 << 112 | generator.getrandbits(112)) >> host_bits << host_bits
            lines.append(f"{address_of(first)}/{128 - host_bits}")
        numbers.append(first)
    generator.shuffle(lines)
    chosen = generator.choices(numbers, k=LOOKUPS // 2)
    others = (generator.getrandbits(112) | 0x2000 << 112 for _ in range(LOOKUPS // 2))
    addresses = [*chosen, *others]
    generator.shuffle(addresses)
    return lines, addresses


def best(rounds: int, work: Callable[[], None]) -> float:
    """Return the seconds of the fastest of several rounds."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    main()
