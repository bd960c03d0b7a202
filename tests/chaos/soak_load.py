"""The clients of a soak: what they do, and how they are kept from taking the whole machine."""

import asyncio
import random
import time
from collections.abc import Iterator

from tests.chaos.channels import BROKEN
from tests.chaos.orders import FAULTS, PIECE, Order
from tests.chaos.origins import Origins, Upload
from tests.chaos.soak_account import Account
from tests.chaos.soak_parties import Party
from tests.chaos.soak_trouble import Socks
from tests.chaos.transfers import HTTP, TUNNELS, WAYS, UnwantedError

CLIENTS = 60
#: What a client does next, and how often of a hundred times.
JOBS = {"talk": 40, "some": 30, "bulk": 4, "slow": 3, "fault": 15, "break": 8}
#: Bytes of an upload that is never read, or broken off.
ENDLESS = 50 << 20
#: Seconds between two looks at how much of a processor all this takes.
GOVERN = 5.0
#: How often an origin is asked whether it has seen that a client has broken off, and the seconds in
#: between. Stopped processes are allowed for; who has not even begun by the sixth part never will.
ASKED, PAUSE = 80, 0.1


class Load:
    """Clients that pause between two connections so long that all this takes ``core`` CPUs."""

    def __init__(
        self, parties: list[Party], socks: Socks, origins: Origins, account: Account, seed: int
    ) -> None:
        self.go_on = True
        #: Seconds, in the mean.
        self.think = 0.5
        self.parties = parties
        self._socks = socks
        self._known: set[str] = set()
        self._origins = origins
        self.account = account
        self._seed = seed
        self._numbers = 1000  # those before were for warming up

    async def run(self) -> None:
        """Go on until told not to."""
        noises = (random.Random(self._seed * 1000 + who) for who in range(CLIENTS))
        await asyncio.gather(*map(self._client, noises))

    async def govern(self, core: float) -> None:
        """Let all processes together take so much of a processor, by the clients' pauses."""
        while True:
            began, before = time.monotonic(), self._taken()
            await asyncio.sleep(GOVERN)
            share = (self._taken() - before) / (time.monotonic() - began)
            self.think = min(10.0, max(0.02, self.think * min(1.5, max(0.7, share / core))))

    def _taken(self) -> float:
        return time.process_time() + sum(party.proxy.cpu() for party in self.parties)

    async def _client(self, noise: random.Random) -> None:
        while self.go_on:
            party, way = noise.choice(self.parties), noise.choice(WAYS)
            (job,) = noise.choices(list(JOBS), list(JOBS.values()))
            if job == "break":
                await self._break(party, noise.choice(list(TUNNELS)))
            else:
                await self._carry(party, way, job, list(self._orders(job, way, noise)))
            await asyncio.sleep(noise.expovariate(1 / self.think))

    async def _carry(self, party: Party, way: str, job: str, orders: list[Order]) -> None:
        began = time.monotonic()
        if job == "slow":
            self.account.faults["client: reads slowly"] += 1
        site = party.slow_site if job == "slow" else party.site
        outcomes = await site.carry(way, *orders)
        self.account.connection(party.name, way, orders, outcomes, began)
        for order in orders:
            self._origins.uploads.pop(order.number, None)

    def _order(self, up: int, down: int, fault: str = "", after: int = 0, **more: bool) -> Order:
        self._numbers += 1
        return Order(self._numbers, up, down, fault, after, **more)

    def _orders(self, job: str, way: str, noise: random.Random) -> Iterator[Order]:
        """Make the orders of one connection."""
        chunked = noise.random() < 0.5

        def size(most: int) -> int:
            return noise.randint(0, most)

        if job == "talk":
            for _ in range(noise.randint(1, 30)):
                yield self._order(size(1000), size(1000), chunked=chunked)
        elif job == "some":
            for _ in range(noise.randint(1, 3)):
                yield self._order(size(100_000), size(300_000), chunked=chunked)
        elif job == "bulk":
            yield self._order(size(6 << 20), size(12 << 20), chunked=chunked)
        elif job == "slow":
            yield self._order(100, 1 << 20, chunked=chunked)
        else:
            yield self._faulty(way, noise, chunked)

    def _faulty(self, way: str, noise: random.Random, chunked: bool) -> Order:
        """Make an order that asks for a fault; few for one that waits for a time limit."""
        weights = [1 if fault in ("hang", "unread") else 5 for fault in FAULTS]
        (fault,) = noise.choices(FAULTS, weights)
        after = noise.randint(0, 200_000)
        down = after + (50 if fault == "trickle" else noise.randint(100, 400_000))
        up = noise.randint(0, 100_000)
        if way in HTTP and fault == "unread":
            fault = "hang"  # an HTTP origin reads the request first
        if fault == "unread":
            up = ENDLESS
        if fault == "garbage" and way in HTTP:
            after = 0  # in a body it would be the body
        return self._order(up, down, fault, after, chunked=chunked)

    async def _end_of(self, order: Order) -> Upload | None:
        """Wait until an upload has ended for its origin; None where it has not begun there."""
        for times in range(ASKED):
            await asyncio.sleep(PAUSE)
            upload = self._origins.uploads.get(order.number)
            if (upload is not None and upload.how) or (upload is None and times > ASKED / 6):
                break
        return self._origins.uploads.pop(order.number, None)

    async def _break(self, party: Party, way: str) -> None:
        """Break off in the middle of an upload; see that the origin knows."""
        order = self._order(ENDLESS, 10)
        began = time.monotonic()
        self.account.line(party.name, way).connections += 1
        self.account.faults["client: breaks off"] += 1
        channel = None
        try:
            async with asyncio.timeout(party.site.patience):
                channel = await party.site.open(way, order)
                await channel.send(party.site.words(way, order))
                await channel.send(order.sent_up(0, PIECE))
        except (UnwantedError, *BROKEN, asyncio.IncompleteReadError) as e:
            how = getattr(e, "how", "broken")
            known = self.account.excused(party.name, how, 0, began)
            self.account.enter("broken" if known else "unexplained", party.name, way, repr(e))
            return
        finally:
            if channel is not None:
                channel.reset()
        upload = await self._end_of(order)
        # It may not have come so far; a SOCKS server may make an end of the break.
        vague = party.vague and way != "through"
        told = upload is None or upload.how == "reset" or (vague and upload.how == "short")
        if not told and party.vague and await self._forgotten():
            self.account.faults["SOCKS server: forgets a connection by a mistake of its own"] += 1
        elif not told and not self.account.excused(party.name, "short", 0, began):
            when = time.monotonic() - began
            what = f"{when:.1f} s after an upload was cut the origin knows {upload}"
            self.account.enter("lost", party.name, way, what)
            return
        self.account.enter("broken", party.name, way)

    async def _forgotten(self) -> bool:
        """Tell whether the SOCKS server has been told of a break, and has not understood it."""
        before = self._socks.forgotten()
        await asyncio.sleep(1)  # what it is just opening, or closing, has a moment
        found = before & self._socks.forgotten() - self._known
        self._known |= set(list(found)[:1])  # each explains one
        return bool(found)
