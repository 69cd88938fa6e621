"""What breaks, and when: a schedule that follows from a seed, and whoever carries it out."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tests.faults.recorder.history import Recorder
from tests.faults.recorder.operations import SHORT_SESSIONS
from tests.simulation.states import State, states_of
from tests.simulation.world import Client, World

FaultKind = Literal[
    "cut", "cut_to_hub", "cut_to_client", "stall", "delay", "slow_reader", "refuse",
    "executor_kill", "executors_kill", "hub_kill", "hub_stop", "disk_full", "disk_slow",
]  # fmt: skip
"""``cut_to_*``: what is sent in one direction is lost from now on, and the connection is reset later. ``stall``: in
either direction, or in both, nothing arrives for a while. ``delay``: everything takes longer, and not the same time.
``slow_reader``: what the client is sent stays on its way, until the hub may write no more. ``refuse``: a cut, and no
other connection comes about for a while. ``executors_kill``: all at once. ``disk_*``: of the jobs."""

NETWORK: Final[Sequence[FaultKind]] = (
    "cut", "cut", "cut", "cut_to_hub", "cut_to_client", "stall", "delay", "slow_reader", "refuse",
)  # fmt: skip
KILLS: Final[Sequence[FaultKind]] = ("executor_kill", "executor_kill", "executors_kill")
DISK: Final[Sequence[FaultKind]] = ("disk_full", "disk_slow")
HUB_ENDS: Final[Sequence[FaultKind]] = ("hub_kill", "hub_stop")

MIN_NETWORK, MAX_NETWORK = 4, 7
MAX_KILLS: Final = 2
DISK_SHARE: Final = 0.5
"""How many of the runs have trouble with the disk."""

HUB_ENDS_SHARE: Final = 0.5
"""How many of the runs have an end of the hub."""

FOLLOWED_SHARE: Final = 0.3
"""How many cuts are followed by another one soon: in the middle of what is resumed."""

CUTS_AFTER_HUB: Final = 3
"""Cuts soon after the end of a hub."""

DOWN_SECONDS: Final = 0.02, 0.6
"""Bounds of how long there is no hub."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that breaks.

    Attributes:
        at: seconds from the beginning.
        kind: what.
        target: which client or executor, by a number of any size.
        seconds: how long it lasts, where it does.
    """

    at: float
    kind: FaultKind
    target: int
    seconds: float


def schedule(seed: int, seconds: float) -> list[Fault]:
    """Everything that breaks in a run, in order: five times at least."""
    dice = random.Random(f"faults of {seed}")
    kinds = [dice.choice(NETWORK) for _ in range(dice.randint(MIN_NETWORK, MAX_NETWORK))]
    kinds += [dice.choice(KILLS) for _ in range(dice.randint(1, MAX_KILLS))]
    if dice.random() < DISK_SHARE:
        kinds.append(dice.choice(DISK))
    if dice.random() < HUB_ENDS_SHARE:
        kinds.append(dice.choice(HUB_ENDS))
    faults = []
    for kind in kinds:
        at, target = dice.uniform(0.05, seconds), dice.randrange(1000)
        faults.append(Fault(at, kind, target, dice.uniform(0.02, 0.6)))
        if kind.startswith("cut") and dice.random() < FOLLOWED_SHARE:
            faults.append(Fault(at + dice.uniform(0.0, 0.3), "cut", target, 0.0))
        if kind not in HUB_ENDS:
            continue
        # While clients come back, and make again what the former hub had.
        faults += [Fault(at + dice.uniform(0.1, 1.2), "cut", target + number, 0.0) for number in range(CUTS_AFTER_HUB)]
        if dice.random() < FOLLOWED_SHARE:  # what is to be run again must not be, by the next hub
            faults.append(Fault(max(0.0, at - dice.uniform(0.0, 0.3)), "executors_kill", 0, 0.0))
    return sorted(faults, key=lambda fault: fault.at)


class Nemesis:
    """Carries a schedule out, and writes down what it did.

    Args:
        clients: to whose connections it does things.

    Attributes:
        met: how often which fault met which state of an operation.
    """

    def __init__(self, world: World, clients: Sequence[Client]) -> None:
        self.met: Counter[tuple[FaultKind, State]] = Counter()
        self._world = world
        self._clients = clients
        self._recorder = Recorder("nemesis", world.lines)
        self._dice = random.Random(f"nemesis of {world.seed}")
        self._hub_lock = asyncio.Lock()
        self._acts: Mapping[FaultKind, Callable[[Fault], Awaitable[None]]] = {
            "cut": self._cut,
            "cut_to_hub": self._cut_one_way,
            "cut_to_client": self._cut_one_way,
            "stall": self._stall,
            "delay": self._delay,
            "slow_reader": self._slow_reader,
            "refuse": self._refuse,
            "executor_kill": self._kill_executors,
            "executors_kill": self._kill_executors,
            "disk_full": self._fill_disk,
            "disk_slow": self._slow_disk,
            "hub_kill": self._end_hub,
            "hub_stop": self._end_hub,
        }

    async def run(self, faults: Sequence[Fault]) -> None:
        """Break what is to be broken, each in its time. Returns when nothing is broken any more."""
        if self._world.has_short_sessions:
            self._recorder.end(self._note(SHORT_SESSIONS), "ok")
        await asyncio.gather(*(self._strike(fault) for fault in faults))

    async def _strike(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at)
        if fault.kind in HUB_ENDS:
            async with self._hub_lock:
                await self._do(fault)
        else:
            await self._do(fault)

    async def _do(self, fault: Fault) -> None:
        self._world.trace.note(f"{fault.kind} {fault.target} for {fault.seconds:.3f} s")
        self.met.update((fault.kind, state) for state in states_of(self._world, self._concerned(fault)))
        op = self._note(fault.kind)
        await self._acts[fault.kind](fault)
        self._recorder.end(op, "ok")

    def _note(self, kind: str) -> str:
        """Write down that something begins to be broken."""
        op = self._recorder.next_op()
        self._recorder.invoke(op, "fault", method=kind)
        return op

    def _concerned(self, fault: Fault) -> Sequence[Client]:
        is_of_one = fault.kind in NETWORK
        return [self._client(fault)] if is_of_one else self._clients

    def _client(self, fault: Fault) -> Client:
        return self._clients[fault.target % len(self._clients)]

    # --- the network ---

    async def _cut(self, fault: Fault) -> None:
        connection = self._client(fault).connection
        if connection is not None and connection.is_open:
            connection.reset(self._dice.choice((0.001, 0.01, 0.3)))

    async def _cut_one_way(self, fault: Fault) -> None:
        connection = self._client(fault).connection
        if connection is None or not connection.is_open:
            return
        way = connection.to_hub if fault.kind == "cut_to_hub" else connection.to_client
        way.cut()
        await asyncio.sleep(fault.seconds)
        connection.reset()

    async def _stall(self, fault: Fault) -> None:
        connection = self._client(fault).connection
        if connection is not None:
            ways = (connection.to_hub, connection.to_client)
            for way in self._dice.choice((ways, ways[:1], ways[1:])):
                way.held_until = self._world.loop.now + fault.seconds
        await asyncio.sleep(fault.seconds)

    async def _delay(self, fault: Fault) -> None:
        connection = self._client(fault).connection
        if connection is not None:
            for way in (connection.to_hub, connection.to_client):
                way.latency = way.latency[0], self._dice.choice((0.03, 0.1, 0.3))
        await asyncio.sleep(fault.seconds)

    async def _slow_reader(self, fault: Fault) -> None:
        connection = self._client(fault).connection
        if connection is not None:
            connection.to_client.hold()
            await asyncio.sleep(fault.seconds)
            connection.to_client.release()

    async def _refuse(self, fault: Fault) -> None:
        client = self._client(fault)
        client.is_refused = True
        await self._cut(fault)
        await asyncio.sleep(fault.seconds)
        client.is_refused = False

    # --- processes ---

    async def _kill_executors(self, fault: Fault) -> None:
        executors = self._world.hub.executors
        if executors and fault.kind == "executor_kill":
            executors = [executors[fault.target % len(executors)]]
        for each in executors:
            each.kill()

    async def _end_hub(self, fault: Fault) -> None:
        expected = []
        if fault.kind == "hub_stop":
            expected = list(await self._world.hub.stop())
        else:
            self._world.hub.kill()
        await asyncio.sleep(self._dice.uniform(*DOWN_SECONDS))
        await self._world.start(expected)

    # --- the disk ---

    async def _fill_disk(self, fault: Fault) -> None:
        self._world.disk.full_until = self._world.loop.now + fault.seconds
        await asyncio.sleep(fault.seconds)

    async def _slow_disk(self, fault: Fault) -> None:
        self._world.disk.slow_until = self._world.loop.now + fault.seconds
        await asyncio.sleep(fault.seconds)
