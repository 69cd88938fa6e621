"""What a pool can serve now, judged by whether executors answer and calls progress, not by which processes live."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, Literal

from trunkline.executors.crew import Crew
from trunkline.executors.handle import ExecutorHandle, State
from trunkline.executors.queueing import PoolBacklog
from trunkline.executors.slot_table import SlotTable
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import Lane

Status = State | Literal["busy", "silent"]

SILENT_SECONDS: Final = 1.0
"""Seconds without an answer to a ping after which an executor is silent: it is stopped, or a method blocks its loop or
holds its interpreter lock."""

STILL_SECONDS: Final = 1.5
STILL_RUNS: Final = 4
"""A call that others wait for makes no progress when it has run :data:`STILL_SECONDS`, and this many times as long as
the calls of its lane do on average."""

_WORDS: Final[dict[Lane, str]] = {"thread": "plain functions", "loop": "coroutines and streams"}


def status_of(handle: ExecutorHandle, now: float) -> Status:
    """The status of an executor; ``now`` is monotonic, in seconds."""
    if handle.state != "ready":
        return handle.state
    if handle.ping_sent_at and now - handle.ping_sent_at >= SILENT_SECONDS:
        return "silent"
    return "busy" if handle.busy else "ready"


def report(handle: ExecutorHandle, slots: int, slots_leaving: int) -> dict[str, Any]:
    """The state of an executor, as ``health.detailed`` reports it.

    Args:
        slots: how many slots of routing keys it owns.
        slots_leaving: how many of those are being handed over.
    """
    return {
        "worker_id": handle.name,
        "group": handle.group,
        "status": status_of(handle, time.monotonic()),
        "pid": handle.pid,
        "slots": slots,
        "slots_leaving": slots_leaving,
        "active_requests": len(handle.in_flight),
        "request_count": handle.finished_calls,
        "error_count": handle.failed_calls,
        "restarts": handle.restarts,
        "restart_causes": dict(handle.restart_causes),
        "last_restart": handle.last_restart,
        "last_failure": handle.last_failure,
        "latency_ms": None if handle.latency is None else round(handle.latency * 1000, 3),
    }


def reports(crew: Crew, table: SlotTable) -> list[dict[str, Any]]:
    """The state of each executor. Slots that a process still owns which was replaced count as the executor's."""
    slots, leaving = table.counts()
    places = [[each.place for each in crew.processes if each.index == handle.index] for handle in crew.executors]
    return [
        report(handle, sum(slots[place] for place in own), sum(leaving[place] for place in own))
        for handle, own in zip(crew.executors, places, strict=True)
    ]


def running(crew: Crew) -> dict[str, list[tuple[Call, bool]]]:
    """The calls of each executor, and whether they are parked: waiting without a slot."""
    calls: dict[str, list[tuple[Call, bool]]] = {handle.name: [] for handle in crew.executors}
    for handle in crew.processes:
        calls[handle.name] += ((call, bool(handle.parked.get(key))) for key, call in handle.in_flight.items())
    return calls


class Standstill:
    """Finds the lanes that make no progress although calls wait for them.

    Args:
        executors: all executors of a group.
        backlog: what waits in the hub.
        now: monotonic, in seconds.

    Attributes:
        answering: the executors that are ready and answer.
        causes: what waits, and for what, as text.
    """

    def __init__(self, executors: Sequence[ExecutorHandle], backlog: PoolBacklog, now: float) -> None:
        self._backlog = backlog
        self._shared = {queue for handle in executors for queue in handle.queues[1:]}
        self._now = now
        self._lanes: set[Lane] = set()
        self.answering = [handle for handle in executors if status_of(handle, now) in ("ready", "busy")]
        self.causes = [cause for lane in _WORDS for cause in self._look(lane)]

    def serves(self, lanes: Collection[Lane]) -> bool:
        """Whether a method of one of these lanes could run now; no lanes stand for any."""
        return bool(self.answering) and (not lanes or any(lane not in self._lanes for lane in lanes))

    def _look(self, lane: Lane) -> Iterator[str]:
        held = {handle: call for handle in self.answering if (call := self._holding(handle, lane)) is not None}
        waiting = [handle for handle in held if self._waits_for(handle, lane)]
        if held and len(held) == len(self.answering) and (waiting or self._someone_waits(lane)):
            self._lanes.add(lane)
            runs = ", ".join(self._run(handle, call) for handle, call in held.items())
            yield f"{_WORDS[lane]} wait: no executor makes progress ({runs})"
        else:
            yield from (
                f"calls that only {handle.name} may run wait: {self._run(handle, held[handle])}" for handle in waiting
            )

    def _run(self, handle: ExecutorHandle, call: Call) -> str:
        return f"{call.method:.100} has run for {self._age(call):.1f} s on {handle.name}"

    def _age(self, call: Call) -> float:
        return self._now - call.received - call.waited

    def _holding(self, handle: ExecutorHandle, lane: Lane) -> Call | None:
        """The first of the calls that hold all slots of a lane without progress; None where one slot is not held so."""
        load = handle.lanes[lane]
        patience = max(STILL_SECONDS, STILL_RUNS * load.mean_run)
        running = self._calls(handle, lane)[: load.slots]
        if len(running) < load.slots or any(self._age(call) < patience for call in running):
            return None
        return running[0]

    def _waits_for(self, handle: ExecutorHandle, lane: Lane) -> bool:
        """Whether calls that only this executor may run wait, in the hub or in the executor itself."""
        return len(self._calls(handle, lane)) > handle.lanes[lane].slots or self._backlog.has((lane, handle.index))

    def _someone_waits(self, lane: Lane) -> bool:
        return any(self._backlog.has((lane, queue)) for queue in self._shared)

    def _calls(self, handle: ExecutorHandle, lane: Lane) -> list[Call]:
        return [
            call
            for key, call in handle.in_flight.items()
            if call.info is not None and call.info.lane == lane and not handle.parked.get(key)
        ]
