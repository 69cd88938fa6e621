"""One run: seeded clients at work, seeded faults, the end, and the judgement."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from tests.faults.recorder.checker import check
from tests.faults.recorder.operations import Record, Violation
from tests.faults.recorder.workload import TOPICS
from tests.simulation.faults import FaultKind, Nemesis, schedule
from tests.simulation.jobs import JobMaker, faults_of
from tests.simulation.leftovers import leftovers, overdue, slow
from tests.simulation.loop import seeded
from tests.simulation.states import State
from tests.simulation.world import World
from trunkline.client import DisconnectedError
from trunkline.collector import collector_paused

NAMES: Final = ("a", "b", "c")
"""Of the clients."""

VISITOR: Final = "v"
"""The name of those that come, serve for a while, and go."""

VISITS: Final = 3

DEATHS_SHARE: Final = 0.5
"""How many of them die, and say no word."""

SETTLING: Final = 60.0
"""Seconds, virtual, until everything that is open has ended, once nothing is wrong any more."""

SECONDS: Final = 1.8
"""How long things break, virtual, while clients begin new work."""

MIN_OPERATIONS: Final = 230
"""How many operations are begun, the faults among them, before clients begin nothing new any more."""

WATCH_EVERY: Final = 0.1
"""Seconds, virtual, between two looks at what must not be at any time."""

QUIET: Final = 1.0
"""Seconds, virtual, after which everything has been acknowledged."""

Met = Counter[tuple[FaultKind, State]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a seed.

    Attributes:
        seed: its number.
        digest: hash of everything that arrived anywhere; the same for the same seed.
        record: what clients and executors wrote down.
        violations: of the recorder's rules.
        faults: what else was wrong: what callbacks raised, what was logged as an error, and what was left at the end.
        met: how often which fault met which state of an operation.
    """

    seed: int
    digest: str
    record: Record
    violations: list[Violation]
    faults: list[str]
    met: Met

    @property
    def is_clean(self) -> bool:
        """Whether nothing was wrong."""
        return not self.violations and not self.faults


def simulate(seed: int, say: Callable[[str], None] | None = None) -> Outcome:
    """Run a seed.

    Args:
        say: takes the lines of a log of everything that arrives anywhere.
    """
    # It is short, and what it leaves behind is collected at once after it.
    with _errors() as faults, seeded(seed) as loop, collector_paused():
        world, met = loop.run(_run(seed, say, faults))
    record = world.record
    raised = [f"a callback raised: {context}" for context in loop.failures]
    found = [*dict.fromkeys(faults), *raised, *slow(record)]
    return Outcome(seed, world.trace.digest, record, check(record), found, met)


async def _run(seed: int, say: Callable[[str], None] | None, faults: list[str]) -> tuple[World, Met]:
    world = World(seed, (*NAMES, VISITOR), say)
    await world.start()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(world.client(name)) for name in NAMES]
        await asyncio.gather(*(each.begin(each.worker.start()) for each in clients))
        nemesis = Nemesis(world, clients)
        watching = asyncio.create_task(_watch(world, faults))
        maker = JobMaker(world, (await stack.enter_async_context(world.client("j"))).name)
        making = world.clients["j"].begin(maker.work())
        await asyncio.gather(asyncio.sleep(SECONDS), nemesis.run(schedule(seed, SECONDS)), _visits(world))
        while world.lines.operations < MIN_OPERATIONS:
            await asyncio.sleep(0.05)
        await asyncio.gather(*(each.begin(each.worker.settle(SETTLING)) for each in clients))
        await asyncio.wait([making], timeout=SETTLING)
        last = await _say_the_last(world)
        await asyncio.gather(*(each.begin(each.worker.finish(last, SETTLING)) for each in clients))
        await world.clients["j"].begin(maker.look_again())
        await asyncio.sleep(QUIET)
        watching.cancel()
        faults += leftovers(world)
        faults += faults_of(world, maker)
    await world.hub.stop()
    world.disk.remove()
    return world, nemesis.met


async def _visits(world: World) -> None:
    dice = random.Random(f"visits of {world.seed}")
    for number in range(VISITS):
        await asyncio.sleep(dice.uniform(0.02, 0.4))
        async with world.client(f"{VISITOR}{number}", VISITOR) as client:
            with suppress(DisconnectedError):
                await client.begin(client.worker.serve())
            await asyncio.sleep(dice.uniform(0.02, 0.4))
            if world.has_short_sessions and dice.random() < DEATHS_SHARE:  # else what it serves waits for it for long
                client.kill()


async def _watch(world: World, faults: list[str]) -> None:
    while True:
        await asyncio.sleep(WATCH_EVERY)
        faults += overdue(world)


async def _say_the_last(world: World) -> dict[str, str]:
    """One more event for each topic, that everybody has to hear before the end."""
    last = {}
    async with world.client("last") as client:
        for topic in TOPICS:
            last[topic], stored = await client.worker.publish(topic)
            assert stored, "the hub is whole, and takes events"
    return last


@contextmanager
def _errors() -> Iterator[list[str]]:
    """What is logged as an error meanwhile; nothing else is made a record of."""
    faults: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name == "trunkline.jobs" and record.msg == "%s; retrying":
                return  # the disk is full, which ends
            faults.append(f"{record.name} logged: {self.format(record)}")

    handler = Handler(logging.ERROR)
    root = logging.getLogger()
    disabled = root.manager.disable
    logging.disable(logging.WARNING)
    root.addHandler(handler)
    try:
        yield faults
    finally:
        root.removeHandler(handler)
        logging.disable(disabled)
