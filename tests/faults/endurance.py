"""A hub with clients at work, whose executors are replaced, or killed, again and again: what fails, what it costs.

``python -m tests.faults.endurance --reloads 100 --crashes 1000`` prints one JSON object. Safe to keep are with reloads
all calls, with crashes those of idempotent methods.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from tests.support.hub import RunningHub, forks_executors, ready_hub
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE, until

MODULE: Final = """
import asyncio, time
from trunkline import Context, method

@method("work.quick", idempotent=True)
async def quick(number: int) -> int:
    return number

@method("work.plain", idempotent=True)
def plain(number: int) -> int:
    time.sleep(0.005)
    return number

@method("work.once")
async def once(number: int) -> int:
    await asyncio.sleep(0.02)
    return number

@method("work.nested", idempotent=True)
async def nested(number: int, ctx: Context) -> int:
    return await ctx.call("work.keyed", {"key": f"n{number % 7}", "number": number})

@method("work.keyed", idempotent=True, routing_key="key")
async def keyed(key: str, number: int) -> int:
    await asyncio.sleep(0.002)
    return number

@method("work.stream")
async def stream(number: int):
    for each in range(10):
        await asyncio.sleep(0.01)
        yield each
"""

SAFE_AFTER_CRASHES: Final = ("work.quick", "work.plain", "work.nested", "work.keyed")


@dataclass
class Usage:
    """What the hub has at one moment; ``processes`` are its children of any depth."""

    rss_mb: float
    descriptors: int
    threads: int
    processes: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        """That of a process."""
        hub = psutil.Process(pid)
        children = 0
        for child in hub.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                children += not forks_executors(child)
        return cls(round(hub.memory_info().rss / 2**20, 1), hub.num_fds(), hub.num_threads(), children)


@dataclass
class Report:
    """What a run has found."""

    before: Usage
    after: Usage
    seconds: float
    orders: int
    calls: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    slowest_seconds: float = 0.0

    def failed_safe(self, safe: tuple[str, ...]) -> int:
        """How many calls of these methods failed."""
        return sum(count for name, count in self.failed.items() if name.split()[0] in safe)


class Load:
    """Clients that call, stream and wait, until told to stop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = asyncio.Event()
        self.calls = 0
        self.failed: Counter[str] = Counter()
        self.slowest = 0.0

    async def run(self, clients: int) -> None:
        """Work until :meth:`stop`."""
        await asyncio.gather(*(self._client(random.Random(number)) for number in range(clients)))

    def stop(self) -> None:
        """End the work; calls in flight are waited for."""
        self._stop.set()

    async def _client(self, chance: random.Random) -> None:
        async with peer(self._url) as connection:
            while not self._stop.is_set():
                method = chance.choice([*SAFE_AFTER_CRASHES, "work.once", "work.stream"])
                params: dict[str, Any] = {"number": self.calls}
                if method == "work.keyed":
                    params["key"] = f"k{self.calls % 50}"
                began = time.monotonic()
                reply = await connection.call(method, params, within=3 * PATIENCE)
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.calls += 1
                connection.others.clear()
                if "error" in reply:
                    self.failed[f"{method} {reply['error']['code']}"] += 1
                elif reply["result"] not in (params["number"], {"chunks": 10}):
                    self.failed[f"{method} wrong"] += 1


async def measured(
    hub: RunningHub, orders: int, order: Callable[[RunningHub, Peer], Coroutine[Any, Any, None]]
) -> Report:
    """Give orders under load; usage is taken at rest, after a few orders, and at the end."""
    async with peer(hub.url) as operator:
        for _ in range(3):  # what the first ones load stays
            await order(hub, operator)
        before = await at_rest(hub, operator)
        load, began = Load(hub.url), time.monotonic()
        working = asyncio.create_task(load.run(4))
        for _ in range(orders):
            await order(hub, operator)
        load.stop()
        await working
        seconds = round(time.monotonic() - began, 1)
        after = await at_rest(hub, operator)
    return Report(before, after, seconds, orders, load.calls, dict(load.failed), round(load.slowest, 2))


async def at_rest(hub: RunningHub, operator: Peer) -> Usage:
    """What is used when all that was replaced has ended."""

    async def quiet() -> bool:
        health = await operator.result("health.check")
        connections = (await operator.result("system.info"))["connections"]
        alone = connections == 1 and Usage.of(hub.process.pid).processes == hub.executors
        return bool(alone and health["status"] == "healthy")

    await until(quiet, "the executors are there, no others, and the operator alone", 3 * PATIENCE)
    return Usage.of(hub.process.pid)


async def reload(_hub: RunningHub, operator: Peer) -> None:
    """Replace all executors."""
    await operator.result("executors.reload", within=6 * PATIENCE)


async def crash(hub: RunningHub, operator: Peer) -> None:
    """Kill an executor, and wait until another is in its place."""
    health = await operator.result("health.detailed")
    victim = random.choice([each for each in health["executors"] if each["pid"]])
    os.kill(victim["pid"], signal.SIGKILL)

    async def replaced() -> bool:
        now = {each["worker_id"]: each for each in (await operator.result("health.detailed"))["executors"]}
        found = now[victim["worker_id"]]
        return found["pid"] not in (None, victim["pid"]) and found["status"] in ("ready", "busy")

    await until(replaced, "it was replaced", 6 * PATIENCE)


async def run(reloads: int, crashes: int, executors: int = 2) -> dict[str, Report]:
    """Those of which there are some, on a hub of its own each. No input is quarantined, for none is to blame."""
    reports = {}
    env = {"TRUNKLINE_QUARANTINE_KILLS": "1000000"}
    constants = {"trunkline.executors.supervisor:BACKOFF_LIMIT": 0.05}
    for name, count, order in (("reloads", reloads, reload), ("crashes", crashes, crash)):
        if not count:
            continue
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "work_of_mine.py").write_text(MODULE)
            options: dict[str, Any] = {"cwd": Path(folder), "executors": executors, "env": env, "constants": constants}
            with ready_hub("work_of_mine", **options) as hub:
                reports[name] = await measured(hub, count, order)
    return reports


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reloads", type=int, default=100)
    parser.add_argument("--crashes", type=int, default=1000)
    options = parser.parse_args()
    print(json.dumps({name: asdict(each) for name, each in asyncio.run(run(options.reloads, options.crashes)).items()}))


if __name__ == "__main__":
    main()
