"""Carries out who owns what: fail-over, hand-over and rebalancing. What is decided, :mod:`.slot_table` decides.

A hand-over parks new calls of the slots, waits for those that run, has the owner release what it holds (RELEASE), and
lets the new owner go on. What never happens is two owners: an owner that cannot be heard is killed, and until its
process has ended nobody else gets its slots.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from trunkline import defaults
from trunkline.background import start_task
from trunkline.executors import ipc
from trunkline.executors.endings import may_run_again, not_done_in_time
from trunkline.executors.handle import ExecutorHandle
from trunkline.executors.nesting import NestedCall
from trunkline.executors.queueing import PoolBacklog
from trunkline.executors.slot_table import HandOverPlan, Move, SlotTable, parked_queue
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import Lane
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.slots import slot_of

LANES: Final[tuple[Lane, ...]] = ("loop", "thread")
REBALANCE_DRAIN: Final = 1.0
"""Seconds that calls may hold up a hand-over which nobody asked for."""

MAX_PAUSE: Final = 120.0

logger = logging.getLogger("trunkline.executors")


@dataclass(frozen=True, slots=True)
class HandOverLimits:
    """Settings ``hand_over_seconds`` and ``rebalance_seconds``.

    Attributes:
        seconds: how long calls may go on when their slot is handed over; how long an owner may take to release.
        rebalance_seconds: between hand-overs that nobody asked for; 0 for none.
    """

    seconds: float = defaults.HAND_OVER_SECONDS
    rebalance_seconds: float = defaults.REBALANCE_SECONDS


class HandOverHost(Protocol):
    """The pool, as far as it is needed here."""

    def cancel(self, call: Call) -> None:
        """End a call that is in flight; its executor is killed if it does not."""

    def dispatch(self, handle: ExecutorHandle, call: Call) -> None:
        """Send a call to an executor, whatever it holds."""

    def refill(self, handle: ExecutorHandle) -> None:
        """Give an executor what waits for it, as far as it has room."""

    def kill(self, handle: ExecutorHandle, reason: str) -> None:
        """End its process."""

    async def replace(self, handle: ExecutorHandle, grace: float) -> None:
        """Have it finish, exit and be started again; returns when it has ended."""


class KeyOwners:
    """Routes calls that have a routing key.

    Args:
        executors: the places.
        backlog: where calls wait.
        on_change: called when slots have changed hands.
    """

    def __init__(
        self,
        executors: Sequence[ExecutorHandle],
        backlog: PoolBacklog,
        limits: HandOverLimits,
        host: HandOverHost,
        on_change: Callable[[], None],
    ) -> None:
        self.table = SlotTable(len(executors))
        self._executors = executors
        self._backlog = backlog
        self._limits = limits
        self._host = host
        self._on_change = on_change
        self._one = asyncio.Lock()
        self._news = asyncio.Event()
        self._numbers = itertools.count(1)
        self._number = 0
        self._held: list[Call] = []
        self._rebalancing: asyncio.Task[None] | None = None
        self._pause = limits.rebalance_seconds
        self._not_before = 0.0

    # --- calls, from the pool ---

    def still_at(self, call: Call) -> ExecutorHandle | None:
        """The owner whose slots are handed over, if that waits for this call: what it runs has made it."""
        plan = self.table.moving
        source = self._executors[plan.source] if plan is not None else None
        while source is not None and isinstance(call, NestedCall):
            parent = call.made_by.in_flight.get(call.parent)
            if parent is None:
                break
            if call.made_by is source and call.parent in source.draining:
                return source
            call = parent
        return None

    def put_back(self, call: Call) -> None:
        """A call that its executor has lost, or given back, waits for the owner, before all that came later.

        Of several the last has to be put back first.
        """
        assert call.info is not None
        queue = self.table.queues[call.slot]
        if queue < 0:
            self._held.append(call)
        else:
            self._backlog.push_front(call, (call.info.lane, queue))

    def ended(self, handle: ExecutorHandle, key: int) -> None:
        """One of the calls that a hand-over waits for."""
        handle.draining.discard(key)
        if not handle.draining:
            # What those had called may still run, though nobody wants it any more.
            handle.draining = self._in_flight(handle)
            if not handle.draining:
                self._news.set()

    # --- executors, from the pool ---

    def ready(self, handle: ExecutorHandle) -> None:
        """It is warm."""
        self._not_before = max(self._not_before, time.monotonic() + self._limits.rebalance_seconds)
        self._apply(self.table.ready(handle.index))
        self._news.set()

    def wire_lost(self, handle: ExecutorHandle) -> None:
        """It hears nothing any more, but its process may live and own."""
        handle.draining.clear()
        self.table.leaving(handle.index)
        self._news.set()

    def gone(self, handle: ExecutorHandle) -> None:
        """Its process has ended: the kernel has freed what it had locked."""
        self._apply(self.table.gone(handle.index))
        self._news.set()

    def released(self, handle: ExecutorHandle, number: int, body: bytes) -> None:
        """It says that it has let go, or could not."""
        plan = self.table.moving
        if number != self._number or plan is None or plan.source != handle.index:
            return
        if body:
            self._host.kill(handle, f"it could not release what it owns: {body.decode(errors='replace'):.500}")
            return
        self._apply(self.table.released())
        self._news.set()

    def look(self, now: float) -> None:
        """Begin a hand-over that evens the load out, if one is due."""
        limits = self._limits
        if not limits.rebalance_seconds or now < self._not_before or self._one.locked():
            return
        plan = self.table.rebalance(self._busy_slots())
        if plan is None or self._executors[plan.source].silent:
            return
        self._not_before = now + self._pause
        self._rebalancing = start_task(self._rebalance(plan), "rebalance")

    def stop(self) -> None:
        """No more hand-overs. What is held goes back to those that wait."""
        if self._rebalancing is not None:
            self._rebalancing.cancel()
        self._put_back_held(lambda _call: True)

    # --- an operator's wishes ---

    async def assign(self, key: str, worker_id: str) -> dict[str, Any]:
        """Give the slot of a key to an executor, and keep it there. Returns ``{key, slot, worker_id}``.

        Raises:
            RpcError: -32602, no such executor; 1001, it or the owner is not ready, or did not live to see it.
        """
        target = self._executor(worker_id)
        slot = slot_of(key)
        async with self._one:
            self._require_ready(target)
            owner = self._executors[self.table.owners[slot]]
            self._require_ready(owner)
            plan = self.table.assign(slot, target.index)
            if plan is not None:
                await self._hand_over(plan, self._limits.seconds, insist=True)
            if self.table.owners[slot] != target.index:
                raise _unavailable(f"{worker_id} went down meanwhile; it gets the key when it is back")
        return {"key": key, "slot": slot, "worker_id": worker_id}

    async def drain(self, worker_id: str) -> dict[str, Any]:
        """Hand over all that an executor owns, let it finish, and start a fresh one in its place.

        Returns ``{worker_id, slots, pid}`` when that is ready: how many slots the old one had, and the new process.

        Raises:
            RpcError: -32602, no such executor; 1001, it is not ready, or the fresh one does not start.
        """
        handle = self._executor(worker_id)
        async with self._one:
            self._require_ready(handle)
            slots = len(self.table.owned(handle.index))
            await self._vacate(handle)
            restarts = handle.restarts
        await self._wait(lambda: handle.state == "ready" or handle.restarts > restarts or handle.state == "stopping")
        if handle.state != "ready":
            raise _unavailable(f"{worker_id} was drained, and the fresh one does not start: {handle.last_failure}")
        return {"worker_id": worker_id, "slots": slots, "pid": handle.pid}

    async def _vacate(self, handle: ExecutorHandle) -> None:
        handle.state = "stopping"
        self.table.leaving(handle.index)
        self._on_change()
        # First the slots that hold nobody up, so that they do not have to wait for those that do.
        for only_idle in (True, False):
            busy = self._busy_slots() if only_idle else Counter()
            slots = [slot for slot in self.table.owned(handle.index) if slot not in busy]
            if slots and handle.state == "stopping":
                plan = self.table.vacate(handle.index, slots)
                await self._hand_over(plan, self._limits.seconds, insist=True)
        if handle.state == "stopping":
            await self._host.replace(handle, self._limits.seconds)

    def _executor(self, worker_id: str) -> ExecutorHandle:
        for handle in self._executors:
            if handle.name == worker_id:
                return handle
        known = ", ".join(handle.name for handle in self._executors) or "none"
        raise RpcError(ErrorCode.INVALID_PARAMS, f"worker_id: no executor {worker_id!r:.100}; there are: {known}")

    def _require_ready(self, handle: ExecutorHandle) -> None:
        if handle.state != "ready":
            raise _unavailable(f"{handle.name} is {handle.state}: wait until it is ready")

    # --- a hand-over ---

    async def _rebalance(self, plan: HandOverPlan) -> None:
        async with self._one:
            if await self._hand_over(plan, REBALANCE_DRAIN, insist=False):
                self._pause = self._limits.rebalance_seconds
            else:
                self._pause = min(MAX_PAUSE, 2 * self._pause)
            self._not_before = time.monotonic() + self._pause

    async def _hand_over(self, plan: HandOverPlan, patience: float, *, insist: bool) -> bool:
        """See the file.

        Args:
            patience: seconds until calls that still run hold it up no longer.
            insist: end those then; else give the hand-over up.

        Returns:
            Whether it was not given up.
        """
        table, source = self.table, self._executors[plan.source]
        if any(table.owners[slot] != plan.source for slot in plan.targets):
            return True  # fail-over was quicker
        self._park(plan, source)
        if not await self._wait(lambda: not source.draining, patience):
            if not insist:
                source.draining.clear()
                self._apply(table.give_up())
                return False
            self._end_calls(source)
            await self._wait(lambda: not source.draining)
        if table.moving is plan:
            await self._have_released(plan, source)
        logger.info("routing keys handed over", extra={"executor": plan.source, "slots": len(plan.targets)})
        return True

    def _park(self, plan: HandOverPlan, source: ExecutorHandle) -> None:
        self.table.hand_over(plan)
        source.draining = self._in_flight(source)
        for call in self._sort([plan.source]):
            self._host.dispatch(source, call)

    async def _have_released(self, plan: HandOverPlan, source: ExecutorHandle) -> None:
        table = self.table
        table.drained()
        self._number = next(self._numbers)
        source.send(ipc.frame(ipc.RELEASE, self._number, ipc.release_body(plan.targets)))
        while not await self._wait(lambda: table.moving is not plan, self._limits.seconds):
            # One that does not hear, for a method holds its interpreter lock, is the watchdog's business.
            if not source.silent:
                self._host.kill(source, f"it did not release what it owns in {self._limits.seconds:.3g} s")

    def _end_calls(self, source: ExecutorHandle) -> None:
        """Those that may run again will, with the new owner; the others are over."""
        for key in sorted(source.draining):
            call = source.in_flight[key]
            if call.settled:
                continue  # it was to end before
            if may_run_again(call):
                source.recalled.add(key)
            else:
                call.settle_error(not_done_in_time(call, self._limits.seconds))
            self._host.cancel(call)

    async def _wait(self, condition: Callable[[], bool], seconds: float | None = None) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return condition()
        return True

    # --- queues ---

    def _apply(self, moves: Sequence[Move]) -> None:
        """Slots have their owner now: so has what waits for them."""
        if not moves:
            return
        queues = {move.source for move in moves} | {parked_queue(move.slot) for move in moves}
        self._sort(queues)
        slots = {move.slot for move in moves}
        self._put_back_held(lambda call: call.slot in slots)
        for place in {move.target for move in moves}:
            self._host.refill(self._executors[place])
        self._on_change()

    def _sort(self, queues: Iterable[int]) -> list[Call]:
        """Put what waits where it belongs; returns what a hand-over waits for itself."""
        awaited = []
        for queue in queues:
            for lane in LANES:
                awaited += self._backlog.move((lane, queue), functools.partial(self._where, lane))
        return awaited

    def _where(self, lane: Lane, call: Call) -> tuple[Lane, int] | None:
        queue = self.table.queues[call.slot]
        return None if queue < 0 and self.still_at(call) is not None else (lane, queue)

    def _put_back_held(self, wanted: Callable[[Call], bool]) -> None:
        held, self._held = self._held, []
        for call in sorted(held, key=lambda call: call.key, reverse=True):
            if call.settled:
                continue
            if not wanted(call):
                self._held.append(call)
                continue
            assert call.info is not None
            self._backlog.push_front(call, (call.info.lane, self.table.queues[call.slot]))

    # --- what runs ---

    def _in_flight(self, handle: ExecutorHandle) -> set[int]:
        """Keys of the calls an executor has of slots that are handed over."""
        plan = self.table.moving
        if plan is None:
            return set()
        return {
            key
            for key, call in handle.in_flight.items()
            if call.info is not None and call.info.routing_key is not None and call.slot in plan.targets
        }

    def _busy_slots(self) -> Counter[int]:
        """How many calls of a slot run."""
        return Counter(
            call.slot
            for handle in self._executors
            for call in handle.in_flight.values()
            if call.info is not None and call.info.routing_key is not None
        )


def _unavailable(words: str) -> RpcError:
    return RpcError(ErrorCode.WORKER_UNAVAILABLE, words, retry_after_ms=1000)
