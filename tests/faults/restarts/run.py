"""A hub, a service in Node and callers in Node and Python, each a process; hub and service are restarted meanwhile."""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.faults.recorder.lives import free_port
from tests.faults.restarts.calls import Ended, Verdict, judge
from tests.support.hub import RunningHub
from tests.support.timing import PATIENCE, SCALE

FOLDER: Final = Path(__file__).parent
SERVICE: Final = FOLDER.with_name("restarted_callee.mjs")
CALLERS: Final = (
    ("node", str(FOLDER / "caller.mjs")),
    (sys.executable, "-m", "tests.faults.restarts.caller"),
)
AWAY_SECONDS: Final = 2.0
"""How long the service is away, longer than the hub: who calls it is back before it is."""

MODULE: Final = """
import asyncio, os
from trunkline import method

def note(n: int) -> None:
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(f"{n}\\n")

@method("hub.once")
async def once(n: int) -> int:
    note(n)
    await asyncio.sleep(0.005)
    return n

@method("hub.again", idempotent=True)
async def again(n: int) -> int:
    note(n)
    await asyncio.sleep(0.005)
    return n
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.

    Attributes:
        calls: of both callers together.
        restarts: of the hub, and as many of the service, in turn; evenly over the calls.
        at_once: calls in flight of each caller.
        folder: for the methods and the ledger.
    """

    calls: int
    restarts: int
    folder: Path
    at_once: int = 50


@dataclass(slots=True)
class Report:
    """What came of it."""

    verdict: Verdict
    seconds: float
    hub_restarts: int
    service_restarts: int

    def as_json(self) -> dict[str, Any]:
        """For printing: lists of calls that may be long as their lengths."""
        verdict = {
            name: len(value) if isinstance(value, list) else value for name, value in asdict(self.verdict).items()
        }
        rest = {name: value for name, value in asdict(self).items() if name != "verdict"}
        return verdict | rest


class Lives:
    """The hub and the service, at work and started again."""

    def __init__(self, plan: Plan) -> None:
        self._folder = plan.folder
        self._ledger = plan.folder / "ledger"
        self._ledger.touch()
        (plan.folder / "restarted_methods.py").write_text(MODULE)
        self._port = free_port()
        self.url = f"ws://127.0.0.1:{self._port}/ws"
        self.restarted: Counter[str] = Counter()
        self._hub: RunningHub | None = None
        self._service: Process | None = None

    async def begin(self) -> None:
        """Start both."""
        await asyncio.to_thread(self._start_hub)
        await self._start_service()

    def _start_hub(self) -> None:
        env = {"TRUNKLINE_CALLEE_GRACE": str(20 * SCALE), "LEDGER": str(self._ledger)}
        arguments = ("--port", str(self._port), "--data", str(self._folder / "data"))
        hub = RunningHub(("restarted_methods",), cwd=self._folder, executors=2, env=env, arguments=arguments)
        self._hub = hub.__enter__()

    async def _start_service(self) -> None:
        self._service = await asyncio.create_subprocess_exec(
            "node", str(SERVICE), self.url, str(self._ledger), stdout=PIPE
        )
        assert self._service.stdout is not None
        assert await asyncio.wait_for(self._service.stdout.readline(), 3 * PATIENCE) == b"serves\n"

    async def restart_hub(self) -> None:
        """SIGTERM, and the next one as soon as it has ended well."""
        assert self._hub is not None
        hub = self._hub
        await asyncio.to_thread(hub.stop)
        await asyncio.to_thread(hub.discard)
        await asyncio.to_thread(self._start_hub)
        self.restarted["hub"] += 1

    async def restart_service(self) -> None:
        """SIGTERM, and the next one a while after it has ended well."""
        await self._end_service()
        await asyncio.sleep(AWAY_SECONDS)
        await self._start_service()
        self.restarted["service"] += 1

    async def restart_both(self) -> None:
        """At the same time."""
        await asyncio.gather(self.restart_hub(), self.restart_service())

    async def _end_service(self) -> None:
        assert self._service is not None
        self._service.terminate()
        assert await asyncio.wait_for(self._service.wait(), 3 * PATIENCE) == 0

    async def end(self) -> None:
        """Both end well."""
        await self._end_service()
        assert self._hub is not None
        await asyncio.to_thread(self._hub.stop)

    def discard(self) -> None:
        """Leave nothing, whatever happened."""
        if self._service is not None and self._service.returncode is None:
            self._service.kill()
        if self._hub is not None:
            self._hub.discard()

    def executed(self) -> Counter[int]:
        """How often each call began to run."""
        return Counter(map(int, self._ledger.read_text().split()))


@asynccontextmanager
async def lives_of(plan: Plan) -> AsyncIterator[Lives]:
    """Hub and service for the length of a ``with`` block."""
    lives = Lives(plan)
    try:
        await lives.begin()
        yield lives
        await lives.end()
    finally:
        lives.discard()


class Progress:
    """The outcomes so far, and a word when there are so many."""

    def __init__(self) -> None:
        self.ended: list[Ended] = []
        self._more = asyncio.Condition()

    async def take(self, caller: Process) -> None:
        """All that one caller says; it has to end well."""
        assert caller.stdout is not None
        async for line in caller.stdout:
            self.ended.append(msgspec.json.decode(line, type=Ended))
            async with self._more:
                self._more.notify_all()
        assert await caller.wait() == 0, "a caller failed"

    async def wait_for(self, number: int) -> None:
        """Until so many calls have ended."""
        async with self._more:
            await self._more.wait_for(lambda: len(self.ended) >= number)


async def run(plan: Plan) -> Report:
    """Carry out a plan."""
    each = plan.calls // len(CALLERS)
    progress = Progress()
    async with lives_of(plan) as lives:
        begun = time.monotonic()
        callers = [
            await asyncio.create_subprocess_exec(
                *words, lives.url, str(number * each), str(each), str(plan.at_once), stdin=PIPE, stdout=PIPE
            )
            for number, words in enumerate(CALLERS)
        ]
        try:
            await _begin_together(callers)
            async with asyncio.TaskGroup() as group:
                takers = [group.create_task(progress.take(caller)) for caller in callers]
                await _restart_meanwhile(plan, lives, progress)
                await asyncio.wait(takers)
        finally:
            for caller in callers:
                if caller.returncode is None:
                    caller.kill()
        seconds = round(time.monotonic() - begun, 1)
    verdict = judge(range(each * len(CALLERS)), progress.ended, lives.executed())
    return Report(verdict, seconds, lives.restarted["hub"], lives.restarted["service"])


async def _begin_together(callers: list[Process]) -> None:
    """Let all begin once each is connected: who starts slowly would find the hub away, and be right to fail."""
    for caller in callers:
        assert caller.stdout is not None
        assert await asyncio.wait_for(caller.stdout.readline(), 3 * PATIENCE) == b"connected\n"
    for caller in callers:
        assert caller.stdin is not None
        caller.stdin.write(b"begin\n")
        await caller.stdin.drain()


async def _restart_meanwhile(plan: Plan, lives: Lives, progress: Progress) -> None:
    """Hub, service, and both at once, in turn: each after its share of the calls."""
    turns: list[Callable[[], Coroutine[Any, Any, object]]] = [
        lives.restart_hub,
        lives.restart_service,
        lives.restart_both,
    ]
    for number in range(plan.restarts):
        await progress.wait_for((number + 1) * plan.calls // (plan.restarts + 1))
        await turns[number % len(turns)]()
