"""What is put off to the end of the hub's batch: in which order it is done."""

from collections.abc import Callable

from twisted.python.failure import Failure

from tests.hub_support import HubCase, Planted
from tests.peers import until


class PutOff:
    """Does something when it is settled."""

    def __init__(self, heard: list[str], name: str, act: Callable[[], object] = bool) -> None:
        self.heard = heard
        self.name = name
        self.act = act

    def settle(self) -> None:
        self.heard.append(self.name)
        self.act()

    def fail(self, failure: Failure) -> None:
        self.heard.append(f"{self.name} failed")


class SettlingTests(HubCase):
    def setUp(self) -> None:
        super().setUp()
        self.heard: list[str] = []

    def put_off(self, name: str, act: Callable[[], object] = bool) -> None:
        self.fast.hub.settle_later(PutOff(self.heard, name, act))

    def put_last(self, name: str, act: Callable[[], object] = bool) -> None:
        self.fast.hub.settle_last(PutOff(self.heard, name, act))

    async def test_order(self) -> None:
        """What takes long is done in a row, between what came before and what comes of it."""
        self.put_last("long 1", lambda: self.put_off("of long 1"))
        self.put_off("short 1", lambda: self.put_last("long 3", lambda: self.put_off("of long 3")))
        self.put_last("long 2", lambda: self.put_last("again"))
        self.put_off("short 2", lambda: self.put_off("of short 2"))
        self.assertEqual(self.heard, [])
        await until(lambda: "again" in self.heard)
        short = ["short 1", "short 2", "of short 2"]
        long = ["long 1", "long 2", "long 3", "of long 1", "of long 3", "again"]
        self.assertEqual(self.heard, short + long)

    async def test_an_error(self) -> None:
        """It is one's own."""

        def raising() -> None:
            raise Planted

        self.put_last("long 1", raising)
        self.put_last("long 2")
        await until(lambda: "long 2" in self.heard)
        self.assertEqual(self.heard, ["long 1", "long 1 failed", "long 2"])
        self.assertEqual(len(self.flushLoggedErrors(Planted)), 1)
