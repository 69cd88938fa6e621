"""What breaks, and when: a schedule that follows from a seed, and whoever carries it out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tests.faults.recorder.call_rules import MISDEEDS_OF
from tests.faults.recorder.history import Recorder
from tests.faults.recorder.lives import EXECUTORS, HubLives
from tests.faults.recorder.workload import PATIENT_MS, Worker
from tests.support.proxy import Proxy

FaultKind = Literal[
    "cut", "cut_frame_to_hub", "cut_frame_to_client", "stall", "delay", "split", "refuse",
    "executor_kill", "executors_kill", "hub_kill", "hub_stop",
    "raises", "raises_in_thread", "exits", "hangs", "forks", "leaks", "bloats",
]  # fmt: skip
"""``cut_frame_*``: a cut after some more bytes, in the middle of a frame as a rule. ``executors_kill``: all at once."""

CUTS: Final[Sequence[FaultKind]] = ("cut", "cut_frame_to_hub", "cut_frame_to_client")
NETWORK: Final[Sequence[FaultKind]] = (*CUTS, *CUTS, "stall", "delay", "split", "refuse")
EXECUTOR_KILLS: Final[Sequence[FaultKind]] = ("executor_kill", "executors_kill")
HUB_ENDS: Final[Sequence[FaultKind]] = ("hub_kill", "hub_stop")
MISDEEDS: Final[Sequence[FaultKind]] = ("raises", "raises_in_thread", "exits", "hangs", "forks", "leaks", "bloats")
"""Methods of ``tests/support/modules/misdeeds.py``, which are called beside all that the clients do."""

CALM: Final = 1.0
"""Seconds at the beginning without faults."""

NETWORK_PER_SECOND: Final = 0.5
"""Of each client."""

SECONDS_PER_EXECUTOR_KILL: Final = 5.0
SECONDS_PER_HUB_END: Final = 12.0
SECONDS_PER_MISDEED: Final = 1.5
MIN_CUTS, MIN_EXECUTOR_KILLS, MIN_HUB_ENDS = 6, 2, 1


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that breaks.

    Attributes:
        at: seconds from the beginning of the run.
        kind: what.
        target: which client, or which executor; of a misdeed which variant.
        seconds: how long it lasts; cuts and kills are over at once.
        bytes: after how many it cuts, or the largest piece it leaves.
    """

    at: float
    kind: FaultKind
    target: int = 0
    seconds: float = 0.0
    bytes: int = 0


def schedule(seed: int, seconds: float, clients: int) -> list[Fault]:
    """Everything that breaks in a run, in order. The same arguments give the same list."""
    rng = random.Random(f"faults of {seed}")
    faults: list[Fault] = []
    network = max(2 * MIN_CUTS, round(seconds * NETWORK_PER_SECOND * clients))
    kinds: list[FaultKind] = [rng.choice(CUTS) for _ in range(MIN_CUTS)]
    kinds += [rng.choice(NETWORK) for _ in range(network - MIN_CUTS)]
    for kind in kinds:
        at, target = rng.uniform(CALM, seconds), rng.randrange(clients)
        faults += _network(rng, kind, at, target)
    kills = max(MIN_EXECUTOR_KILLS, round(seconds / SECONDS_PER_EXECUTOR_KILL))
    for at in _spread(rng, seconds, kills):
        faults.append(Fault(at, rng.choice(EXECUTOR_KILLS), rng.randrange(1000)))
    first = rng.randrange(2)
    moments = _spread(rng, seconds, max(MIN_HUB_ENDS, round(seconds / SECONDS_PER_HUB_END)))
    faults += [Fault(at, HUB_ENDS[(first + number) % 2]) for number, at in enumerate(moments)]
    # What died with its executor, and is tried again, must not be run by the next hub as if it were new.
    faults += [Fault(at - rng.uniform(0.05, 0.5), "executors_kill") for at in moments if rng.random() < 0.5]
    misdeeds = list(MISDEEDS) * max(1, round(seconds / SECONDS_PER_MISDEED / len(MISDEEDS)))
    rng.shuffle(misdeeds)
    moments = _spread(rng, seconds, len(misdeeds))
    faults += [Fault(at, kind, rng.randrange(1000)) for at, kind in zip(moments, misdeeds, strict=True)]
    return sorted(faults, key=lambda fault: fault.at)


def _network(rng: random.Random, kind: FaultKind, at: float, target: int) -> list[Fault]:
    """Something on the way to one client. A cut may be followed by others, in the middle of what is resumed."""
    first = Fault(at, kind, target, _length(rng, kind), rng.randrange(1, 500))
    if kind not in CUTS or rng.random() < 0.7:
        return [first]
    follow = [Fault(at + rng.uniform(0, 0.4), rng.choice(CUTS), target, 0, rng.randrange(1, 300)) for _ in range(3)]
    return [first, *follow]


def _length(rng: random.Random, kind: FaultKind) -> float:
    return 0.0 if kind.startswith("cut") else rng.uniform(0.2, 1.5)


def _spread(rng: random.Random, seconds: float, count: int) -> list[float]:
    """So many moments, one in each part of the time."""
    part = (seconds - CALM) / count
    return [CALM + part * (number + rng.uniform(0.1, 0.9)) for number in range(count)]


class Nemesis:
    """Carries a schedule out, and writes down what it did.

    Args:
        lives: the hub.
        proxies: what stands between it and each client.
        culprit: a client that calls methods which harm their executor, with nothing between it and the hub.
    """

    def __init__(self, lives: HubLives, proxies: Sequence[Proxy], recorder: Recorder, culprit: Worker) -> None:
        self._lives = lives
        self._culprit = culprit
        self._proxies = proxies
        self._recorder = recorder

    async def run(self, faults: Sequence[Fault]) -> None:
        """Everything at its time; returns when all is whole again."""
        started = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                group.create_task(self._strike(fault, started + fault.at))

    async def _strike(self, fault: Fault, when: float) -> None:
        await asyncio.sleep(when - asyncio.get_running_loop().time())
        op = self._recorder.next_op()
        if fault.kind in MISDEEDS:
            self._recorder.invoke(op, "fault", method=fault.kind)
            await self._culprit.call(f"{MISDEEDS_OF}{fault.kind}", fault.target, 0, timeout_ms=PATIENT_MS)
        elif fault.kind in (*EXECUTOR_KILLS, *HUB_ENDS):
            async with self._lives.lock:
                self._recorder.invoke(op, "fault", method=fault.kind)
                await self._strike_hub(fault)
        else:
            if fault.kind in CUTS:
                async with self._lives.lock:  # without a hub there is nothing to cut
                    pass
            self._recorder.invoke(op, "fault", method=fault.kind, expect=fault.target)
            await self._strike_network(fault, self._proxies[fault.target])
        self._recorder.end(op, "ok")

    async def _strike_hub(self, fault: Fault) -> None:
        match fault.kind:
            case "executor_kill":
                await self._lives.kill_executors(fault.target, 1)
            case "executors_kill":
                await self._lives.kill_executors(0, EXECUTORS)
            case "hub_kill":
                await self._lives.kill()
            case _:
                await self._lives.stop()

    async def _strike_network(self, fault: Fault, proxy: Proxy) -> None:
        match fault.kind:
            case "cut":
                proxy.cut()
                return
            case "cut_frame_to_hub":
                proxy.cut_after(fault.bytes, "to_hub")
                return
            case "cut_frame_to_client":
                proxy.cut_after(fault.bytes, "to_client")
                return
            case "stall":
                proxy.stall()
            case "delay":
                proxy.delay(fault.seconds / 10)
            case "split":
                proxy.split(fault.bytes)
            case _:
                proxy.refuse()
                proxy.cut()
        await asyncio.sleep(fault.seconds)
        heal(proxy)


def heal(proxy: Proxy) -> None:
    """Nothing is wrong with it any more."""
    proxy.resume()
    proxy.delay(0)
    proxy.split(None)
    proxy.refuse(False)
