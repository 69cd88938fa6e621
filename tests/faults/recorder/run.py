"""One run: a hub, clients of several sorts behind proxies, faults, the end, and the judgement."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.recorder.checker import HISTORY, LEDGER, check, read_record
from tests.faults.recorder.history import Appender, recorder_in
from tests.faults.recorder.lives import SESSION_SECONDS, HubLives
from tests.faults.recorder.nemesis import Fault, Nemesis, heal, schedule
from tests.faults.recorder.node import NodeWorker, node_worker
from tests.faults.recorder.operations import SHORT_SESSIONS, Record, Violation
from tests.faults.recorder.raw import raw_connect
from tests.faults.recorder.workload import RECONNECT_SECONDS, TOPICS, Part, Worker
from tests.support.proxy import Proxy
from tests.support.timing import PATIENCE
from trunkline.client import connect
from trunkline.client.retrying import Reconnect

SETTLING: Final = 3 * PATIENCE
"""Seconds until everything that is open has ended, once nothing is wrong any more: deadlines have 10."""

KINDS: Final = ("py", "node", "raw")
"""Of clients: ``trunkline.client``, the JavaScript one, and the one of ``raw.py``."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.

    Attributes:
        seed: of the faults and of what clients do.
        seconds: how long things break.
        clients: how many of each kind in ``kinds``, in turn.
        folder: for histories, ledger and logs; emptied first.
        kinds: of clients, some of :data:`KINDS`.
        session_seconds: how long sessions outlive their connection.
    """

    seed: int
    seconds: float
    clients: int
    folder: Path
    kinds: Sequence[str] = KINDS
    session_seconds: float = SESSION_SECONDS

    @property
    def names(self) -> list[str]:
        """Of the clients' processes."""
        return [f"{self.kinds[number % len(self.kinds)]}-{number}" for number in range(self.clients)]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    record: Record
    violations: list[Violation]


async def run(plan: Plan, progress: Callable[[float], None] = lambda _: None) -> Outcome:
    """Carry out a plan.

    Args:
        progress: told every now and then how many seconds of it have passed.

    Raises:
        BadLine: a process wrote what is no history.
    """
    shutil.rmtree(plan.folder, ignore_errors=True)
    (plan.folder / HISTORY).mkdir(parents=True)
    lives = HubLives(plan.folder / LEDGER, plan.folder, plan.session_seconds)
    try:
        await lives.start()
        await _run_with(lives, plan, progress)
        await lives.end()
    finally:
        lives.discard()
    record = read_record(plan.folder)
    return Outcome(record, check(record))


async def _run_with(lives: HubLives, plan: Plan, progress: Callable[[float], None]) -> None:
    async with AsyncExitStack() as stack:
        proxies = [
            await stack.enter_async_context(Proxy(lives.port, seed=plan.seed + number))
            for number in range(plan.clients)
        ]
        workers = [
            await stack.enter_async_context(_worker(name, proxy.url, plan))
            for name, proxy in zip(plan.names, proxies, strict=True)
        ]
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(worker.start() for worker in workers))
        recorder = recorder_in(plan.folder / HISTORY, "nemesis")
        stack.callback(recorder.close)
        if plan.session_seconds < SESSION_SECONDS:
            op = recorder.next_op()
            recorder.invoke(op, "fault", method=SHORT_SESSIONS)
            recorder.end(op, "ok")
        culprit = await stack.enter_async_context(_culprit(lives.url, plan))
        await _break(Nemesis(lives, proxies, recorder, culprit), plan, progress)
        for proxy in proxies:
            heal(proxy)
        await asyncio.gather(*(worker.settle(SETTLING) for worker in workers))
        last = await _say_the_last(lives.url, plan)
        await asyncio.gather(*(worker.finish(last, SETTLING) for worker in workers))


async def _break(nemesis: Nemesis, plan: Plan, progress: Callable[[float], None]) -> None:
    """Everything that the schedule has, in its time."""
    faults: list[Fault] = schedule(plan.seed, plan.seconds, plan.clients)
    striking = asyncio.create_task(nemesis.run(faults))
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with asyncio.timeout(plan.seconds + SETTLING * (1 + len(faults) / 10)):
        while not striking.done() or loop.time() - started < plan.seconds:
            await asyncio.sleep(0.2)
            progress(min(plan.seconds, loop.time() - started))
    await striking


async def _say_the_last(url: str, plan: Plan) -> dict[str, str]:
    """One more event for each topic, that everybody has to hear before the end."""
    part = _part("last", plan)
    last = {}
    with closing(recorder_in(part.history, part.name)) as recorder, closing(Appender(part.ledger)) as ledger:
        async with raw_connect(url) as client:
            worker = Worker(client, part, recorder, ledger)
            for topic in TOPICS:
                last[topic], stored = await worker.publish(topic)
                assert stored, "the hub is whole, and takes events"
    return last


def _part(name: str, plan: Plan) -> Part:
    folder = plan.folder
    return Part(name, plan.seed, plan.names, folder / HISTORY, folder / LEDGER, patterns=not name.startswith("raw"))


@asynccontextmanager
async def _culprit(url: str, plan: Plan) -> AsyncIterator[Worker]:
    part = _part("culprit", plan)
    with closing(recorder_in(part.history, part.name)) as recorder, closing(Appender(part.ledger)) as ledger:
        async with connect(url, reconnect=Reconnect(*RECONNECT_SECONDS)) as client:
            yield Worker(client, part, recorder, ledger)


@asynccontextmanager
async def _worker(name: str, url: str, plan: Plan) -> AsyncIterator[Worker | NodeWorker]:
    part = _part(name, plan)
    kind, _, _ = name.partition("-")
    if kind == "node":
        async with node_worker(url, part, plan.folder / f"{name}.log") as worker:
            yield worker
        return
    with closing(recorder_in(part.history, part.name)) as recorder, closing(Appender(part.ledger)) as ledger:
        if kind == "raw":
            async with raw_connect(url) as raw:
                yield Worker(raw, part, recorder, ledger)
        else:
            async with connect(url, reconnect=Reconnect(*RECONNECT_SECONDS)) as client:
                yield Worker(client, part, recorder, ledger)
