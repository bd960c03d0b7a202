"""How many connections this process has file descriptors for."""

import resource

#: A client's socket and its upstream's.
PER_CONNECTION = 2
#: Listeners, metrics, logs, the resolver's and the reactor's own.
RESERVE = 64


class DescriptorError(ValueError):
    """So many connections do not fit; ``str()`` shows the arithmetic."""


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
