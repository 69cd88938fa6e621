"""Jobs of a run: who makes them, what is seen of them, and the rules.

- A job that was acknowledged is there to the end, and ends; with the value that it has to have.
- Its state only goes forward: once it is over it stays as it is; ``attempts`` only falls where the next life of the hub
  knows of fewer.
- One key is one job. What was refused was not made.
- Each execution has its attempt, and each attempt its execution, but for those that something broke; and nothing is
  executed once it was seen to be over.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from tests.faults.recorder.history import Execution
from tests.simulation.world import World
from trunkline.client import DisconnectedError
from trunkline_protocol.errors import ErrorCode, RpcError

JOBS: Final = 10
WORK: Final = "job:"
"""What the works of jobs begin with."""

KEYED_SHARE: Final = 0.6
FAILING_SHARE: Final = 0.25
PAUSE: Final = 0.1
"""Seconds between two looks at a job."""

PATIENCE_MS: Final = 5_000
OVER: Final = frozenset({"succeeded", "failed", "cancelled"})
BROKEN: Final = frozenset({"executor_kill", "executors_kill", "hub_kill", "hub_stop"})
"""Faults that end an attempt, or keep one that has begun from being executed."""
HUB_ENDS: Final = frozenset({"hub_kill", "hub_stop"})


@dataclass
class Made:
    """A job, as its maker sees it.

    Attributes:
        ids: under which it was acknowledged: one.
        is_refused: it was said that there is none.
        views: what was seen, in order, with the time.
    """

    work: str
    fails: bool
    begun: float
    key: str | None
    ids: set[str] = field(default_factory=set)
    is_refused: bool = False
    views: list[tuple[float, dict[str, Any]]] = field(default_factory=list)


class JobMaker:
    """Makes jobs, and looks at them until they are over, through whatever breaks.

    Args:
        name: of its client, which is connected.
    """

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._client = world.clients[name]
        self._dice = random.Random(f"jobs of {world.seed}")
        self.made: list[Made] = []

    async def work(self) -> None:
        """Make jobs, and wait for their ends."""
        waiting = []
        for number in range(JOBS):
            waiting.append(asyncio.create_task(self._make(number)))
            await asyncio.sleep(self._dice.uniform(0, 0.25))
        await asyncio.gather(*waiting)

    async def look_again(self) -> None:
        """See what has become of them in the end."""
        for made in self.made:
            for each in made.ids:
                await self._look(made, each)

    async def _make(self, number: int) -> None:
        work, dice, loop = f"{WORK}{number}", self._dice, self._world.loop
        made = Made(work, dice.random() < FAILING_SHARE, loop.now, work if dice.random() < KEYED_SHARE else None)
        self.made.append(made)
        params: dict[str, Any] = {"work": work, "seconds": dice.choice((0, 0.02, 0.3))}
        asked = {"method": "recorded.refuse.again", "params": params}
        if not made.fails:
            asked = {"method": "recorded.echo.again", "params": params | {"value": work}}
        if made.key is not None:
            asked["idempotency_key"] = made.key
        again = dice.random() < 0.3  # a caller that asks twice
        if not await self._ask(made, asked) or (made.key is not None and again and not await self._ask(made, asked)):
            return
        while not await self._look(made, next(iter(made.ids))):
            await asyncio.sleep(PAUSE)

    async def _ask(self, made: Made, asked: dict[str, Any]) -> bool:
        """Whether it was acknowledged. A caller without a key does not know whether to ask again."""
        while True:
            try:
                view = await self._call("jobs.create", asked)
            except (RpcError, DisconnectedError) as error:
                maybe = error.maybe_executed if isinstance(error, RpcError) else True
                if made.key is None:
                    made.is_refused = not maybe
                    return False
                await asyncio.sleep(PAUSE)
                continue
            made.ids.add(view["id"])
            made.views.append((self._world.loop.now, view))
            return True

    async def _look(self, made: Made, id: str) -> bool:
        """See what has become of a job. Returns whether it is over."""
        while True:
            try:
                view = await self._call("jobs.get", {"id": id})
            except (RpcError, DisconnectedError) as error:
                if isinstance(error, RpcError) and error.code == ErrorCode.INVALID_PARAMS:
                    made.views.append((self._world.loop.now, {"id": id, "status": "gone", "attempts": 0}))
                    return True
                await asyncio.sleep(PAUSE)
                continue
            made.views.append((self._world.loop.now, view))
            return view["status"] in OVER

    async def _call(self, method: str, params: dict[str, Any]) -> Any:
        return await self._client.hub.call(method, params, timeout_ms=PATIENCE_MS)


def faults_of(world: World, maker: JobMaker) -> list[str]:
    """What the rules say of the jobs of a run that has ended."""
    begun = {line.op: line for line in world.lines.history if line.method in BROKEN and line.kind == "invoke"}
    broken = [line.time for line in begun.values()]
    lives = [
        line.time
        for line in world.lines.history
        if line.kind == "ok" and (fault := begun.get(line.op)) is not None and fault.method in HUB_ENDS
    ]
    executions: dict[str, list[Execution]] = {}
    for each in world.lines.ledger:
        executions.setdefault(each.work, []).append(each)
    faults = []
    for made in maker.made:
        wrong = _wrong(made, executions.get(made.work, []), broken, lives)
        faults += [f"{made.work}: {words}" for words in wrong]
    return faults


def _wrong(made: Made, executions: list[Execution], broken: list[float], lives: list[float]) -> Iterator[str]:
    if len(made.ids) > 1:
        yield f"its key is {len(made.ids)} jobs"
    if made.is_refused and executions:
        yield "it was refused, and is executed"
    if not made.ids:
        return
    _, last = made.views[-1]
    if last["status"] not in OVER:
        yield f"it was acknowledged, and is {last['status']} at the end"
        return
    yield from _backward(made, lives)
    over = next(time for time, view in made.views if view["status"] in OVER)
    if any(each.time > over for each in executions):
        yield "it is executed once it is over"
    breaks = sum(made.begun <= each <= over for each in broken)
    if abs(last["attempts"] - len(executions)) > breaks:
        yield f"{last['attempts']} attempts, {len(executions)} executions, and {breaks} faults meanwhile"
    if len(executions) > 1 + breaks:
        yield f"executed {len(executions)} times, with {breaks} faults meanwhile"
    yield from _ended_otherwise(made, last, breaks)


def _backward(made: Made, lives: list[float]) -> Iterator[str]:
    for (earlier, before), (later, after) in zip(made.views, made.views[1:], strict=False):
        if before["status"] in OVER and (before["status"], before["attempts"]) != (after["status"], after["attempts"]):
            yield f"it was {before['status']}, and is {after['status']} later"
        is_of_one_life = not any(earlier <= begun <= later for begun in lives)
        if is_of_one_life and after["attempts"] < before["attempts"]:
            yield f"{before['attempts']} attempts became {after['attempts']}"


def _ended_otherwise(made: Made, last: dict[str, Any], breaks: int) -> Iterator[str]:
    if made.fails:
        is_right = last["status"] == "failed" and last["error"]["code"] == ErrorCode.INVALID_CONFIGURATION
    else:
        is_right = last["status"] == "succeeded" and last["result"] == made.work
    if not is_right and not (breaks and last["status"] == "failed"):
        yield f"it ended as {last['status']}: {last.get('error')}"
