"""How seldom Python looks for garbage that hangs together in circles."""

import gc

from twisted.application.service import Service

#: Objects made and not gone again before the youngest are looked at, and how often that is done
#: before older ones are. A connection leaves no circles behind, so there is little to be found; to
#: look at everything takes milliseconds, in which nothing is relayed.
THRESHOLDS = (10_000, 10, 10)


class Collecting(Service):
    """Keeps the collector off what is there from the start, and lets it look more seldom.

    What was imported, a hundred thousand objects, stays until the end anyway.
    """

    def __init__(self) -> None:
        self._before = gc.get_threshold()

    def startService(self) -> None:
        """Begin, when all is there."""
        super().startService()  # type: ignore[no-untyped-call]
        self._before = gc.get_threshold()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*THRESHOLDS)

    def stopService(self) -> None:
        """Leave the interpreter as it was, to whoever goes on in it."""
        super().stopService()  # type: ignore[no-untyped-call]
        gc.set_threshold(*self._before)
        gc.unfreeze()
