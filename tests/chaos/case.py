"""A proxy that can be looked into, honest clients that never rest, and what is left after them."""

import asyncio
import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.chaos.orders import Order
from tests.chaos.origins import Origins
from tests.chaos.subject import FREE_FOR_ALL, Watched
from tests.chaos.transfers import ORIGIN, WAYS, Outcome, Site
from tests.integration.programs import LOOPBACK, eventually, sandboxed
from tests.integration.proxy import Proxy
from tests.integration.third_party import authority
from tests.integration.tls_clients import TlsTestCase
from tests.integration.tls_origins import present
from tests.integration.traffic import ALLOWED_NAME


class ChaosTestCase(TlsTestCase):
    """A proxy under faults."""

    def setUp(self) -> None:
        sandboxed()
        super().setUp()
        self.origins = Origins()
        identity = authority(ALLOWED_NAME)
        self.trust = ssl.create_default_context(cafile=str(identity.trust(self.directory)))
        context = present(identity).context(self.directory)
        self.origin = self.background.run(self.origins.start())
        self.background.run(self.origins.start(443, context))
        self.addCleanup(lambda: self.background.run(self.origins.stop()))

    #: Where the proxy logs, if it is to be a file: to read many lines takes this process's time.
    log_file: Path | None = None
    #: What the proxy is started by, if by something.
    prefix: tuple[str, ...] = ()

    def twistd(self, *options: str | Path, env: dict[str, str] | None = None) -> Watched:
        """Start twistd in the foreground, with a window into it."""
        how = {"prefix": self.prefix, "log_file": self.log_file, "env": env}
        proxy = Watched.begin(self.directory, *options, **how)
        self.addCleanup(proxy.stop)
        return proxy

    def carry(
        self,
        *options: str | Path,
        config: str = "",
        ports: Sequence[int] = (),
        env: dict[str, str] | None = None,
    ) -> Watched:
        """Start a proxy that leads to the origins, and note how it is when nobody is there."""
        ports = [443, self.origin, *ports]
        lines = f"{FREE_FOR_ALL}policy.allow_ports = {ports}\n{config}\n"
        if self.log_file is not None:
            lines += f'logging.output = "{self.log_file}"\n'
        options = ("--allow", ORIGIN, "--allow", "*.whatsapp.net", *options)
        if "--chat" not in options:
            options = ("--chat", f"{LOOPBACK}:{self.origin}", *options)
        self.service: Any = self.proxy(*options, config=lines, env=env)
        self.site = Site(self.service.port, self.origin, self.trust)
        if str(self.origin) in " ".join(map(str, options)):
            self.warm()
        self.note_rest()
        return self.service

    def warm(self) -> None:
        """Go every way once: what the first one takes, every process takes once."""
        for way in WAYS:
            (outcome,) = self.transfer(way, self.site.order(100, 100))
            self.assertEqual("complete", outcome.how, (way, outcome))

    def transfer(self, way: str, *orders: Order) -> list[Outcome]:
        """Do transfers on one connection."""
        patience = self.site.patience + 5
        return self.background.run(self.site.carry(way, *orders), patience)

    def transfers(
        self, jobs: Sequence[tuple[str, Order]], site: Site | None = None
    ) -> list[Outcome]:
        """Do transfers at the same time, a connection each."""
        carry = (site or self.site).carry

        async def together() -> list[Outcome]:
            done = await asyncio.gather(*(carry(way, order) for way, order in jobs))
            return [outcomes[-1] for outcomes in done]

        return self.background.run(together(), self.site.patience + 10)

    def note_rest(self) -> None:
        """Remember what there is while nobody is connected."""
        self.emptied()
        self.service.note_rest()

    def emptied(self, deadline: float = 20.0) -> None:
        """Wait until no session is live."""
        eventually(
            lambda: self.service.figure("connections_active") == 0, "all have ended", deadline
        )

    def nothing_is_left(self, deadline: float = 20.0) -> None:
        """See that all sessions end, and that everything is as it was with nobody there."""
        self.emptied(deadline)
        self.assertEqual("", self.service.left_behind())
        self.nothing_is_wrong(self.service)

    def nothing_is_wrong(self, proxy: Proxy) -> None:
        """See that the proxy has met nothing that it does not know."""
        bad = re.compile(r"^\S+ (error|critical) |Traceback|Unhandled")
        self.assertEqual([], [line for line in proxy.output().splitlines() if bad.search(line)][:9])
        self.assertEqual(0, proxy.figure("connections_ended_total", reason="internal"))

    @contextmanager
    def crowd(self, count: int, ways: Sequence[str] = WAYS) -> Iterator["Crowd"]:
        """Run restless clients beside the block."""
        crowd = Crowd(self.site, count, ways)
        running = asyncio.run_coroutine_threadsafe(crowd.run(), self.background.loop)
        try:
            yield crowd
        finally:
            crowd.go_on = False
            running.result(self.site.patience + 10)

    @contextmanager
    def honest(self, count: int = 8, ways: Sequence[str] = WAYS) -> Iterator["Crowd"]:
        """The same; and none of them may notice anything of what the block does."""
        with self.crowd(count, ways) as crowd:
            crowd.some_more()
            yield crowd
            crowd.some_more()
        self.assertEqual([], crowd.failures[:3])


class Crowd:
    """Clients that come, exchange something, and come again; every byte is checked."""

    def __init__(self, site: Site, count: int, ways: Sequence[str]) -> None:
        self.go_on = True
        self.failures: list[Outcome] = []
        self._site = site
        self._ways = ways
        #: Transfers done, by client.
        self._done = [0] * count

    async def run(self) -> None:
        """Go on until told not to."""
        await asyncio.gather(*map(self._one, range(len(self._done))))

    @property
    def done(self) -> int:
        """How many transfers are done, well or not."""
        return sum(self._done)

    def some_more(self) -> None:
        """Wait until every client has done a transfer that it has begun after this."""
        before = list(self._done)

        def all_have() -> bool:
            return all(now >= then + 2 for now, then in zip(self._done, before, strict=True))

        eventually(all_have, "all clients go on", 30)

    def stands_still(self) -> None:
        """Wait until nobody gets on any more."""
        seen: list[int] = []

        def same() -> bool:
            seen.append(self.done)
            return len(seen) > 20 and len(set(seen[-20:])) == 1

        eventually(same, "nobody gets on")

    async def _one(self, who: int) -> None:
        turn = who
        while self.go_on:
            way = self._ways[turn % len(self._ways)]
            turn += 1
            order = self._site.order(3000, 20_000, chunked=bool(turn % 2))
            (outcome,) = await self._site.carry(way, order)
            if outcome.how != "complete":
                self.failures.append(outcome)
            self._done[who] += 1
