"""twistd with a window: on SIGUSR2 it writes down what objects are alive, and how many.

In twistd's place, with its options. The file is $WATCHED; it appears whole, by a rename. So a test
can look into the service without the service having a door for it.
"""

import gc
import json
import os
import signal
import sys
from collections import Counter
from types import FrameType

from twisted.scripts.twistd import run


def census() -> None:
    """Write down how many objects of each type there are, when all garbage is collected."""
    from twisted.internet import reactor

    gc.unfreeze()  # what was there at the start is not seen otherwise
    gc.collect()
    counts = Counter(f"{type(o).__module__}.{type(o).__qualname__}" for o in gc.get_objects())
    counts["scheduled"] = len(reactor.getDelayedCalls())
    path = os.environ["WATCHED"]
    with open(path + ".new", "w") as f:
        json.dump(counts, f)
    os.replace(path + ".new", path)


def look(_number: int, _frame: FrameType | None) -> None:
    """Look when it is the reactor's turn, not between any two instructions."""
    from twisted.internet import reactor

    reactor.callFromThread(census)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, look)
    sys.argv[0] = "twistd"
    run()
