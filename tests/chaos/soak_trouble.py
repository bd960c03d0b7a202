"""What befalls the proxies of a soak, besides their upstreams and clients."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.chaos.channels import BROKEN, Channel
from tests.chaos.soak_account import Account
from tests.chaos.soak_parties import MAX_CONNECTIONS, Party
from tests.integration.programs import LOOPBACK, Program, connects, eventually, free_port, installed

#: Seconds for which a process is stopped, a SOCKS server is dead, or a flood lasts.
PAUSE, DEAD, FLOOD = 1.0, 1.5, 2.0
#: Clients that come, say half a word or none, and go again.
IDLERS = 150


class Socks:
    """microsocks, which is killed and started again on the same port."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._directory = directory
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        words = [installed("microsocks"), "-i", LOOPBACK, "-p", str(self.port)]
        self.program = Program(words, self._directory)
        eventually(lambda: connects(self.port), "microsocks listens")

    def stop(self) -> None:
        """Kill it."""
        self.program.stop()

    def forgotten(self) -> set[str]:
        """Return its sockets that have been reset, and that it has not noticed.

        Where poll(2) tells of an error and not yet of input, which happens while the reset is under
        way on another processor, microsocks reads from the other side, and waits there for ever.
        """
        ours = set()
        for link in Path(f"/proc/{self.program.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # it has just been closed
                ours.add(os.readlink(link).removeprefix("socket:[").removesuffix("]"))
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        listed = {line.split()[9] for line in lines}  # what is closed is not
        return {inode for inode in ours - listed if inode.isdigit()}


class Trouble:
    """Everything that happens from time to time; ``run`` goes on until it is cancelled."""

    def __init__(self, parties: list[Party], socks: Socks, account: Account, seed: int) -> None:
        self._parties = parties
        self._socks = socks
        self._account = account
        self._noise = random.Random(seed)
        # One of those that stop a process at a time: each explains nothing, or only its own.
        self._one_at_a_time = asyncio.Lock()

    async def run(self, scale: float) -> None:
        """Go on; ``scale`` makes everything more frequent (below 1) or less."""
        programme: dict[Callable[[], Awaitable[None]], float] = {
            self.kill_socks: 40,
            self.freeze_socks: 50,
            self.freeze_proxy: 60,
            self.flood: 70,
            self.idlers: 25,
            self.hang_up: 20,
            self.rotate: 30,
        }
        await asyncio.gather(*(self._often(do, pause * scale) for do, pause in programme.items()))

    async def _often(self, do: Callable[[], Awaitable[None]], pause: float) -> None:
        while True:
            await asyncio.sleep(pause * self._noise.uniform(0.5, 1.5))
            async with self._one_at_a_time:
                await do()

    async def kill_socks(self) -> None:
        """SIGKILL; it is back a little later."""
        (party,) = (party for party in self._parties if party.vague)
        hows = ("broken", "short", "refused", "late")
        with self._account.event("SOCKS server: killed, started again", party.name, *hows):
            await asyncio.to_thread(self._socks.stop)
            await asyncio.sleep(DEAD)
            await asyncio.to_thread(self._socks.start)

    async def freeze_socks(self) -> None:
        """It stops and goes on: that is no reason for anything to break."""
        self._account.faults["SOCKS server: stopped, continued"] += 1
        await self._freeze(self._socks.program)

    async def freeze_proxy(self) -> None:
        """The same with the proxy itself."""
        self._account.faults["proxy: stopped, continued"] += 1
        await self._freeze(self._noise.choice(self._parties).proxy)

    @staticmethod
    async def _freeze(program: Program) -> None:
        program.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(PAUSE)
        finally:
            program.signal(signal.SIGCONT)

    async def flood(self) -> None:
        """Twice as many come as are let in: newcomers are kept out, and only they."""
        party = self._noise.choice(self._parties)
        with self._account.event(
            "clients: a flood", party.name, "broken", "short", at_the_door=True
        ):
            await self._come(party, 2 * MAX_CONNECTIONS, FLOOD)

    async def idlers(self) -> None:
        """Those who say half a word or nothing, and go: within what is allowed."""
        self._account.faults["clients: idlers"] += 1
        await self._come(self._noise.choice(self._parties), IDLERS, PAUSE)

    async def _come(self, party: Party, count: int, stay: float) -> None:
        words = (b"", b"W", b"GET / HT", b"\x16\x03\x01", b"E")

        async def one(i: int) -> None:
            with contextlib.suppress(*BROKEN):
                channel = await Channel.to(party.proxy.port)
                with contextlib.suppress(*BROKEN):
                    await channel.send(words[i % len(words)])
                    await asyncio.sleep(stay)
                (channel.reset if i % 2 else channel.close)()

        await asyncio.gather(*map(one, range(count)))

    async def hang_up(self) -> None:
        """SIGHUP: everything is read anew, and nobody notices."""
        self._account.faults["proxy: reload (SIGHUP)"] += 1
        for party in self._parties:
            party.proxy.signal(signal.SIGHUP)

    async def rotate(self) -> None:
        """The log is moved away and reopened."""
        self._account.faults["proxy: log rotated (SIGUSR1)"] += 1
        for party in self._parties:
            await asyncio.to_thread(party.rotate)
