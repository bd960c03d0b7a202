"""How many connections this process has file descriptors for, and how many it has left."""

import errno
import os
import resource

#: A client's socket and its upstream's.
PER_CONNECTION = 2
#: What not even readers of the metrics may take: a log that is reopened, certificates, and so on.
FILES = 8
#: What no connection may take: FILES, 24 readers of the metrics, 32 look-ups of names.
KEPT = 64
#: All that is not a connection's: KEPT, listeners, the reactor, the log, and connections that take
#: a third one while two addresses of an upstream are being tried.
RESERVE = 2 * KEPT
#: What the system says when it has no descriptor, or no memory for what stands behind one.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

#: How often the limit is used before it is read again; fewer than what is kept.
USES = 16

# O_PATH needs no permission to read, and like a socket a file structure of the whole system's.
_PROBE = getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC


class DescriptorError(ValueError):
    """So many connections do not fit; ``str()`` shows the arithmetic."""


class NoDescriptorsError(Exception):
    """Something was not begun, or has failed, for want of descriptors; ``str()`` says what."""


def raise_limit() -> int | None:
    """Raise the soft limit to the hard one; the answer is the limit, None where there is none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):
            pass  # some systems cap it below the hard limit; the soft one stands
    return None if soft == resource.RLIM_INFINITY else soft


def fit(connections: int, limit: int | None) -> int:
    """Return how many of so many connections fit into ``limit`` descriptors.

    Raises DescriptorError where not even one does.
    """
    if limit is None or connections * PER_CONNECTION + RESERVE <= limit:
        return connections
    fitting = (limit - RESERVE) // PER_CONNECTION
    if fitting < 1:
        raise DescriptorError(f"a limit of {limit} descriptors leaves none beside {RESERVE}")
    return fitting


def arithmetic(connections: int, limit: int | None) -> str:
    """Say in one line why so many connections do not fit."""
    return (
        f"{connections} connections x {PER_CONNECTION} descriptors + {RESERVE} for the service = "
        f"{connections * PER_CONNECTION + RESERVE}, but the limit (ulimit -n) is {limit}"
    )


class _Limit:
    """The limit as it was not long ago: it can be changed from outside (prlimit)."""

    def __init__(self) -> None:
        self.limit = 0
        self.uses = 0

    def look(self) -> int:
        self.uses = USES
        self.limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return self.limit


_known = _Limit()


def below(number: int, kept: int) -> bool:
    """Is a descriptor of this number far from the last ``kept``? By a limit USES answers old."""
    _known.uses -= 1
    limit = _known.limit if _known.uses > 0 else _known.look()
    return number < limit - kept or limit == resource.RLIM_INFINITY


def room(wanted: int, kept: int = KEPT) -> int:
    """Return how many of so many further descriptors are to be had, the last ``kept`` apart.

    The system gives the lowest number that is free, so the numbers of what is opened for a moment
    tell, without a list of what is open: 2 microseconds each. The limit is read anew each time,
    because it can be changed from outside (prlimit).
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened: list[int] = []
    try:
        while len(opened) < wanted:
            number = os.open("/", _PROBE)
            opened.append(number)
            if limit != resource.RLIM_INFINITY and number >= limit - kept:
                return len(opened) - 1
    except OSError as e:
        # Where it is something else that fails, there is nothing that can be said against it.
        return len(opened) if e.errno in EXHAUSTED else wanted
    finally:
        for number in opened:
            os.close(number)
    return wanted


def short(kept: int = KEPT) -> bool:
    """Would the next descriptor be one of the last ``kept``, or is there none?"""
    return room(1, kept) == 0


def low(kept: int = KEPT) -> bool:
    """Answer as :func:`short` does, for less than half its price, on every connect.

    A copy of standard input's descriptor takes no place in the system's own table: of that one's
    being full the connect itself has to tell.
    """
    try:
        number = os.dup(0)
    except OSError:  # none is left, or there is no standard input
        return short(kept)
    os.close(number)
    return not below(number, kept)
