"""Both ends of large transfers, both ways at once, in random pieces, with stalls and resets.

    python -m tests.chaos.big SEED

It is the origin, in a process of its own, and tells its port ("origin on PORT"). For each line
"PROXY_PORT BYTES" on its standard input it is the clients, too, until so many bytes have arrived
on either side, and says in JSON what came of it. Every byte is compared; what each transfer is
follows from the seed and its number, which is all that its client tells the origin.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import struct
import sys
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from tests.chaos.orders import OPENINGS
from tests.chaos.swarm import fork
from tests.integration.programs import LOOPBACK

#: Transfers at the same time.
AT_ONCE = 8
#: Seconds without a byte after which a transfer is stuck.
STUCK = 30.0
#: The largest transfer, each way.
MOST = 1 << 28
_MIB = 1 << 20
_RESET = struct.pack("ii", 1, 0)
#: What each side sends is a stretch of its own noise, again and again.
_NOISE = {side: random.Random(side).randbytes(2_000_003) for side in ("client", "origin")}
_TWICE = {side: noise + noise[: 2 * _MIB] for side, noise in _NOISE.items()}
_NUMBER = struct.Struct(">Q")
_WAYS = ("raw", "whatsapp", "connect")
_HOW = ("whole", "whole", "whole", "client resets", "origin resets")


class Plan(NamedTuple):
    """One transfer."""

    way: str
    how: str
    #: Bytes that each side sends, and after how many of them it breaks off, if it does.
    sizes: dict[str, int]
    after: int

    @classmethod
    def of(cls, seed: int, number: int) -> "Plan":
        """Make up the one of this number."""
        chance = random.Random(f"{seed} {number}")
        sizes = {side: int(2 ** chance.uniform(0, MOST.bit_length())) for side in _NOISE}
        how = chance.choice(_HOW)
        after = chance.randrange(sizes.get(how.partition(" ")[0], 1))
        return cls(chance.choice(_WAYS), how, sizes, after)


@dataclass
class End:
    """One side of a transfer, on a connection."""

    side: str
    plan: Plan
    bare: socket.socket
    chance: random.Random
    got: int = 0
    #: How its reading came to an end.
    saw: str = ""
    broken: bool = False

    async def play(self) -> None:
        """Send and receive at once; raises what must not happen."""
        await asyncio.gather(self._send(), self._receive())

    async def _send(self) -> None:
        size = self.plan.sizes[self.side]
        breaks = self.plan.how == f"{self.side} resets"
        stop = self.plan.after if breaks else size
        noise, sent = memoryview(_TWICE[self.side]), 0
        try:
            while sent < stop:
                piece = min(self._piece(), stop - sent)
                start = sent % len(_NOISE[self.side])
                sending = noise[start : start + piece]
                await in_time(asyncio.get_running_loop().sock_sendall(self.bare, sending))
                sent += piece
                await self._stall(piece)
            if not breaks:
                self.bare.shutdown(socket.SHUT_WR)
        except ConnectionError:
            self.broken = True  # who has been told by a failing write reads an end
        if breaks:
            self.bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.saw = self.saw or "own"
            # Whoever is reading wakes up, and closes.
            with contextlib.suppress(OSError):
                self.bare.shutdown(socket.SHUT_RD)

    async def _receive(self) -> None:
        other = "origin" if self.side == "client" else "client"
        noise = _TWICE[other]
        try:
            while data := await in_time(
                asyncio.get_running_loop().sock_recv(self.bare, self._piece())
            ):
                start = self.got % len(_NOISE[other])
                if data != noise[start : start + len(data)]:
                    raise AssertionError(f"other bytes from {self.got} on, for the {self.side}")
                self.got += len(data)
                await self._stall(len(data))
            # What wakes up the sender may be a turn behind.
            await asyncio.sleep(0)
            self.saw = self.saw or ("reset" if self.broken else "end")
        except ConnectionError:
            self.saw = self.saw or "reset"
        self.judge(self.plan.sizes[other])

    def judge(self, size: int) -> None:
        """Raise where this side has seen what the plan does not say."""
        if self.plan.how == "whole":
            right = (self.saw, self.got) == ("end", size)
        elif self.plan.how == f"{self.side} resets":
            right = self.saw in ("own", "end")  # the other one may have ended before
        else:
            right = self.saw == "reset" and self.got <= self.plan.after
        if not right:
            raise AssertionError(f"the {self.side} saw {self.saw} after {self.got}, of {self.plan}")

    def _piece(self) -> int:
        return int(2 ** self.chance.uniform(0, 21) if self.chance.random() < 0.02 else 256 * 1024)

    async def _stall(self, size: int) -> None:
        """Do nothing for a moment, now and then."""
        if self.chance.random() < size / (64 * _MIB):
            await asyncio.sleep(self.chance.uniform(0, 0.1))


async def in_time(doing):
    """Wait for a step of a transfer."""
    async with asyncio.timeout(STUCK):
        return await doing


async def client(seed: int, number: int, proxy: int, origin: int) -> tuple[Plan, int]:
    """Do a transfer through the proxy; return what it was, and how much came back."""
    plan = Plan.of(seed, number)
    loop = asyncio.get_running_loop()
    with socket.socket() as bare:
        bare.setblocking(False)
        await loop.sock_connect(bare, (LOOPBACK, proxy))
        if plan.way == "connect":
            place = f"origin.test:{origin}".encode()
            await loop.sock_sendall(
                bare, b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (place, place)
            )
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):
                answer += await in_time(loop.sock_recv(bare, 1))
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise AssertionError(f"{answer!r}, of {plan}")
        else:
            await loop.sock_sendall(bare, OPENINGS[plan.way])
        await loop.sock_sendall(bare, _NUMBER.pack(number))
        end = End("client", plan, bare, random.Random(f"{seed} {number} client"))
        await end.play()
        return plan, end.got


async def clients(seed: int, first: int, proxy: int, origin: int, amount: int) -> dict:
    """Do transfers until so many bytes have arrived; return what came of them."""
    account: Counter[str] = Counter()
    failures: list[str] = []
    number = first

    async def worker() -> None:
        nonlocal number
        while account["bytes down"] + account["bytes up"] < amount and not failures:
            mine, number = number, number + 1
            try:
                plan, got = await client(seed, mine, proxy, origin)
            except Exception as e:
                failures.append(f"transfer {mine}: {e!r}")
                return
            account[plan.how] += 1
            account["bytes down"] += got
            # The origin says so itself where this is wrong.
            account["bytes up"] += plan.sizes["client"] if plan.how == "whole" else 0

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return {"transfers": number - first, **account, "failures": failures}


async def origin(listener: socket.socket, seed: int) -> None:
    """Take one connection after the other; a failure is told on the standard error."""
    loop = asyncio.get_running_loop()
    tasks = set()
    listener.setblocking(False)

    async def one(bare: socket.socket) -> None:
        with bare:
            first = b""
            try:
                # The number has no opening before it where CONNECT has led here.
                while not (size := _opening(first)) or len(first) < size:
                    data = await in_time(loop.sock_recv(bare, max(1, size - len(first))))
                    if not data:
                        return
                    first += data
                (number,) = _NUMBER.unpack(first[-_NUMBER.size :])
                plan = Plan.of(seed, number)
                await End("origin", plan, bare, random.Random(f"{seed} {number} origin")).play()
            except ConnectionError:
                pass  # before it began
            except Exception as e:
                print(f"origin: {e!r}", file=sys.stderr, flush=True)

    while True:
        bare, _ = await loop.sock_accept(listener)
        bare.setblocking(False)
        task = asyncio.create_task(one(bare))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def _opening(first: bytes) -> int:
    """Return how many bytes there are before a transfer begins; 0: as yet unknown."""
    if len(first) < 2:
        return 0
    for words in (OPENINGS["raw"], OPENINGS["whatsapp"]):
        if words.startswith(first[:2]):
            return len(words) + _NUMBER.size
    return _NUMBER.size


def main() -> None:
    """Fork the origin; then be the clients, for each line."""
    seed = int(sys.argv[1])
    listener = socket.create_server((LOOPBACK, 0), backlog=128)
    port = listener.getsockname()[1]
    child = fork(lambda: asyncio.run(origin(listener, seed)))
    listener.close()
    print(f"origin on {port}", flush=True)
    first = 0
    try:
        for line in sys.stdin:
            proxy, amount = map(int, line.split())
            done = asyncio.run(clients(seed, first, proxy, port, amount))
            first += done["transfers"]
            print(json.dumps(done), flush=True)
    finally:
        os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
