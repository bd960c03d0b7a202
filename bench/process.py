"""What a process costs, and where it runs (Linux)."""

import contextlib
import ctypes
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_libc = ctypes.CDLL(None)
_TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, its threads and its children, dead ones included.

    It is utime + stime of /proc/PID/stat, read from the clock behind it (clock_getcpuclockid(3)):
    in nanoseconds instead of ticks of 10 ms, which a hundred connections through C do not fill.
    """
    clock = ctypes.c_int()
    if _libc.clock_getcpuclockid(pid, ctypes.byref(clock)) != 0:
        raise ProcessLookupError(pid)
    # Behind the name, which may hold anything, cutime and cstime are the 14th and 15th field.
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    buried = (int(stat[13]) + int(stat[14])) / _TICK
    return time.clock_gettime(clock.value) + buried + sum(map(cpu_seconds, _children(pid)))


def memory(pid: int) -> tuple[float, float]:
    """Return bytes resident now and at the peak, of a process and its children."""
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    now, peak = (int(fields[name].split()[0]) * 1024.0 for name in ("VmRSS", "VmHWM"))
    for child in _children(pid):
        child_now, child_peak = memory(child)
        now, peak = now + child_now, peak + child_peak
    return now, peak


def reset_peak(pid: int) -> None:
    """Let the peak of a process and its children be what is resident now."""
    with contextlib.suppress(OSError):  # not everywhere allowed; then it is the peak of its life
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    for child in _children(pid):
        reset_peak(child)


def _children(pid: int) -> list[int]:
    found = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            found += [int(child) for child in tasks.read_text().split()]
    return found


def divide_cpus() -> tuple[set[int], set[int]]:
    """Return the CPUs for what is measured and for the rest; the same one where there is one."""
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}


@contextlib.contextmanager
def pinned(cpus: set[int]) -> Iterator[None]:
    """Run on these CPUs, and so do the processes that are started meanwhile."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def descriptors() -> int:
    """Raise the limit of descriptors as far as it goes, for the children too, and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else sys.maxsize
