"""What a pool can serve now, judged by whether executors answer and calls progress, not by which processes live."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from trunkline.executors.crew import Crew
from trunkline.executors.handle import ExecutorHandle, Tally
from trunkline.executors.queueing import PoolBacklog
from trunkline.executors.slot_table import SlotTable
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import Lane
from trunkline_protocol.health_reports import SERVING, ExecutorReport, ExecutorStatus, Held

SILENT_SECONDS: Final = 1.0
"""Seconds without an answer to a ping after which an executor is silent: it is stopped, or a method blocks its loop or
holds its interpreter lock."""

STILL_SECONDS: Final = 1.5
STILL_RUNS: Final = 4
"""A call that others wait for makes no progress when it has run :data:`STILL_SECONDS`, and this many times as long as
the calls of its lane do on average."""

_WORDS: Final[dict[Lane, str]] = {"thread": "plain functions", "loop": "coroutines and streams"}


def status_of(handle: ExecutorHandle, now: float) -> ExecutorStatus:
    """The status of an executor; ``now`` is monotonic, in seconds."""
    if handle.state != "ready":
        return handle.state
    if handle.ping_sent_at and now - handle.ping_sent_at >= SILENT_SECONDS:
        return "silent"
    return "busy" if handle.busy else "ready"


def report(handle: ExecutorHandle, slots: int, slots_leaving: int, now: float) -> ExecutorReport:
    """The state of an executor, as ``health.detailed`` reports it, without what its process uses.

    Args:
        slots: how many slots of routing keys it owns.
        slots_leaving: how many of those are being handed over.
        now: monotonic, in seconds.
    """
    catalogue = handle.catalogue
    return ExecutorReport(
        worker_id=handle.name,
        group=handle.group,
        status=status_of(handle, now),
        pid=handle.pid,
        uptime_seconds=None if handle.pid is None else round(now - handle.started_at, 3),
        slots=slots,
        slots_leaving=slots_leaving,
        active_requests=len(handle.in_flight),
        request_count=handle.finished_calls,
        error_count=handle.failed_calls,
        error_rate=handle.failed_calls / handle.finished_calls if handle.finished_calls else 0.0,
        pipelines_loaded=0 if catalogue is None else len(catalogue.packs),
        restarts=handle.restarts,
        restart_causes={str(cause): number for cause, number in handle.restart_causes.items()},
        last_restart=handle.last_restart,
        last_failure=handle.last_failure,
        latency_ms=None if handle.latency is None else round(handle.latency * 1000, 3),
    )


def reports(crew: Crew, table: SlotTable, now: float) -> list[ExecutorReport]:
    """The state of each executor. Slots that a process still owns which was replaced count as the executor's."""
    slots, leaving = table.counts()
    places = [[each.place for each in crew.processes if each.index == handle.index] for handle in crew.executors]
    return [
        report(handle, sum(slots[place] for place in own), sum(leaving[place] for place in own), now)
        for handle, own in zip(crew.executors, places, strict=True)
    ]


def running(crew: Crew) -> dict[str, list[tuple[Call, bool]]]:
    """The calls of each executor, and whether they are parked: waiting without a slot."""
    calls: dict[str, list[tuple[Call, bool]]] = {handle.name: [] for handle in crew.executors}
    for handle in crew.processes:
        calls[handle.name] += ((call, bool(handle.parked.get(key))) for key, call in handle.in_flight.items())
    return calls


def tallies(crew: Crew) -> dict[str, dict[str, Tally]]:
    """What each executor has finished, by method, whichever of its processes it was."""
    found: dict[str, dict[str, Tally]] = {handle.name: {} for handle in crew.executors}
    for handle in crew.processes:
        for method, tally in handle.tallies.items():
            found[handle.name].setdefault(method, Tally()).add(tally)
    return found


class Standstill:
    """Finds the lanes that make no progress although calls wait for them.

    Args:
        executors: all executors of the group.
        backlog: what waits in the hub.
        now: monotonic, in seconds.

    Attributes:
        answering: the executors that are ready and answer.
        held: what waits, and for what.
    """

    def __init__(self, executors: Sequence[ExecutorHandle], backlog: PoolBacklog, now: float) -> None:
        self._backlog = backlog
        self._shared = {queue for handle in executors for queue in handle.queues[1:]}
        self._now = now
        self.answering = [handle for handle in executors if status_of(handle, now) in SERVING]
        self.held = [held for lane in _WORDS for held in self._look(lane)]

    def _look(self, lane: Lane) -> Iterator[Held]:
        held = {handle: call for handle in self.answering if (call := self._holding(handle, lane)) is not None}
        waiting = [handle for handle in held if self._waits_for(handle, lane)]
        if held and len(held) == len(self.answering) and (waiting or self._someone_waits(lane)):
            runs = ", ".join(self._run(handle, call) for handle, call in held.items())
            yield Held(lane, None, f"{_WORDS[lane]} wait: no executor makes progress ({runs})")
        else:
            for handle in waiting:
                words = f"calls that only {handle.name} may run wait: {self._run(handle, held[handle])}"
                yield Held(lane, handle.name, words)

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
