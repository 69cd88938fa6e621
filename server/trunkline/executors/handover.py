"""Carries out fail-over, hand-over and rebalancing of slots; :mod:`.slot_table` decides what goes where.

A hand-over parks new calls of the slots, waits for those that run, has the owner release what it holds (RELEASE), and
lets the new owner go on. A slot never has two owners: an owner that does not answer is killed, and until its process
has ended its slots go to nobody else.
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
from typing import Final, Protocol

from trunkline import defaults
from trunkline.background import start_task
from trunkline.executors import ipc
from trunkline.executors.endings import may_run_again, not_done_in_time
from trunkline.executors.groups import ExecutorGroup
from trunkline.executors.handle import NOWHERE, ExecutorHandle
from trunkline.executors.nesting import NestedCall
from trunkline.executors.queueing import LANES, PoolBacklog, Queue
from trunkline.executors.slot_table import HandOverPlan, Move, SlotTable, parked_queue
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import Lane
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.principals import DEFAULT_TENANT
from trunkline_protocol.reports import Assigned
from trunkline_protocol.slots import slot_of
from trunkline_protocol.tenants import key_in

REBALANCE_DRAIN: Final = 1.0
"""Seconds that running calls may delay a hand-over for rebalancing."""

MAX_PAUSE: Final = 120.0

logger = logging.getLogger("trunkline.executors")


@dataclass(frozen=True, slots=True)
class HandOverLimits:
    """The settings ``hand_over_seconds`` and ``rebalance_seconds``.

    Attributes:
        seconds: how long calls may go on when their slot is handed over, and how long an owner may take to release it.
        rebalance_seconds: between hand-overs for rebalancing; 0 for none.
    """

    seconds: float = defaults.HAND_OVER_SECONDS
    rebalance_seconds: float = defaults.REBALANCE_SECONDS


class HandOverHost(Protocol):
    """The pool, as far as hand-overs need it."""

    def cancel(self, call: Call) -> None:
        """Cancel a call in flight; its executor is killed if the call does not end in time."""

    def dispatch(self, handle: ExecutorHandle, call: Call) -> None:
        """Send a call to an executor, whatever its load."""

    def refill(self, handle: ExecutorHandle) -> None:
        """Give an executor the calls that wait for it, as far as it has room."""

    def kill(self, handle: ExecutorHandle, reason: str) -> None:
        """Kill an executor's process; the reason is logged."""


class KeyOwners:
    """Assigns the slots of routing keys to executors, and moves them.

    Args:
        executors: all executors, by place.
        backlog: where calls wait.
        limits: of hand-overs.
        host: the pool.
        on_change: called when slots have a new owner.

    Attributes:
        places: the executors that the places of the table stand for.
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
        self.places = list(executors)
        self._backlog = backlog
        self._limits = limits
        self._host = host
        self._on_change = on_change
        self.one = asyncio.Lock()
        self._news = asyncio.Event()
        self._numbers = itertools.count(1)
        self._number = 0
        self._held: list[Call] = []
        self._rebalancing: asyncio.Task[None] | None = None
        self._pause = limits.rebalance_seconds
        self._not_before = 0.0
        self._group = "" if len({handle.group for handle in executors}) > 1 else None

    def serve_in(self, group: ExecutorGroup | None) -> None:
        """Have the executors of a group own all slots, from the first time on that it is known; None does nothing."""
        if group is not None and self._group == "":
            self._group = group.name
            self.table.spread(group.indexes)

    def _takes_part(self, handle: ExecutorHandle) -> bool:
        return self._group is None or handle.group == self._group

    # --- calls, from the pool ---

    def choose(self, slot: int, lane_name: Lane) -> tuple[Queue, ExecutorHandle | None]:
        """The queue of a slot's calls, and its owner if that has room for one now."""
        queue = self.table.queues[slot]
        if queue >= 0:
            handle = self.places[queue]
            if handle.state == "ready" and not handle.silent and handle.has_room(lane_name):
                return queue, handle
        return queue, None

    def still_at(self, call: Call) -> ExecutorHandle | None:
        """The owner whose slots are handed over, if that waits for this call, because a call it runs has made it."""
        plan = self.table.moving
        source = self.places[plan.source] if plan is not None else None
        while source is not None and isinstance(call, NestedCall):
            parent = call.made_by.in_flight.get(call.parent)
            if parent is None:
                break
            if call.made_by is source and call.parent in source.draining:
                return source
            call = parent
        return None

    def awaiting(self, call: NestedCall) -> ExecutorHandle | None:
        """The executor that is to stop, or hand slots over, but has to run this call of its own first; else None."""
        assert call.info is not None
        if call.info.routing_key is not None:
            return self.still_at(call)
        origin = call.made_by
        if isinstance(origin, ExecutorHandle) and origin.state == "stopping" and origin.offers(call.method):
            return None if any(handle.serves(call.method) for handle in self._executors) else origin
        return None

    def put_back(self, call: Call) -> None:
        """Queue a call that its executor has lost, or given back, for the slot's owner, before all later calls.

        Of several calls the last has to be put back first.
        """
        assert call.info is not None
        queue = self.table.queues[call.slot]
        if queue < 0:
            self._held.append(call)
        else:
            self._backlog.push_front(call, (call.info.lane, queue))

    def ended(self, handle: ExecutorHandle, key: int) -> None:
        """Note the end of a call that a hand-over waits for."""
        handle.draining.discard(key)
        if not handle.draining:
            # Calls that those had made may still run, although their outcome is not wanted any more.
            handle.draining = self._in_flight(handle)
            if not handle.draining:
                self._news.set()

    # --- executors, from the pool ---

    def ready(self, handle: ExecutorHandle) -> None:
        """Give an executor that has become ready the slots whose owners are gone, if its group owns slots."""
        if not self._takes_part(handle):
            return
        self._not_before = max(self._not_before, time.monotonic() + self._limits.rebalance_seconds)
        self._apply(self.table.ready(handle.place))
        self._news.set()

    def wire_lost(self, handle: ExecutorHandle) -> None:
        """Give an executor whose wire is closed no new slots; it keeps its own until its process has ended."""
        handle.draining.clear()
        self.table.leaving(handle.place)
        self._news.set()

    def gone(self, handle: ExecutorHandle) -> None:
        """Give the slots of an executor whose process has ended to others: the kernel has released its locks."""
        self._apply(self.table.gone(handle.place))
        self._news.set()

    def released(self, handle: ExecutorHandle, number: int, body: bytes) -> None:
        """Handle RELEASED: conclude the hand-over, or kill the executor where it could not release its slots."""
        plan = self.table.moving
        if number != self._number or plan is None or plan.source != handle.place:
            return
        if body:
            self._host.kill(handle, f"it could not release its routing keys: {body.decode(errors='replace'):.500}")
            return
        self._apply(self.table.released())
        self._news.set()

    def look(self, now: float) -> None:
        """Begin a hand-over for rebalancing, if one is due."""
        limits = self._limits
        if not limits.rebalance_seconds or now < self._not_before or self.one.locked() or self.table.succeeding:
            return
        plan = self.table.rebalance(self._busy_slots())
        if plan is None or self.places[plan.source].silent:
            return
        self._not_before = now + self._pause
        self._rebalancing = start_task(self._rebalance(plan), "rebalance")

    def stop(self) -> None:
        """Stop rebalancing, and put held calls back into the queues."""
        if self._rebalancing is not None:
            self._rebalancing.cancel()
        self._put_back_held(lambda _call: True)

    # --- orders of an operator ---

    async def assign(self, key: str, worker_id: str, tenant: str = DEFAULT_TENANT) -> Assigned:
        """Move the slot of a key to an executor and keep it there; returns when that owns it.

        Args:
            tenant: whose collection it is.

        Raises:
            RpcError: -32602, no such executor; 1001, that executor or the owner is not ready, or ended meanwhile.
        """
        target = self.named(worker_id)
        if not self._takes_part(target):
            words = f"worker_id: {worker_id} is in the group {target.group}; {self._group} has the routing keys"
            raise RpcError(ErrorCode.INVALID_PARAMS, words)
        slot = slot_of(key_in(tenant, key))
        async with self.one:
            self._require_ready(target)
            owner = self.places[self.table.owners[slot]]
            self._require_ready(owner)
            plan = self.table.assign(slot, target.index)
            if plan is not None:
                await self._hand_over(plan, self._limits.seconds, insist=True)
            if self.table.owners[slot] != target.index:
                raise _unavailable(f"{worker_id} went down meanwhile; it gets the key when it is ready again")
        return Assigned(key, slot, worker_id)

    # --- replacements ---

    def succeed(self, old: ExecutorHandle, new: ExecutorHandle) -> None:
        """Put a process at the place of another, which owns its slots on if it is ready.

        No hand-over may be under way.
        """
        place = new.place = old.place
        self.places[place] = new
        if old.state != "ready" or not self._takes_part(old):
            old.place = NOWHERE
            return
        old.place, moves = self.table.succeed(place)
        self.places[old.place :] = [old, *self.places[old.place + 1 :]]
        self._apply(moves)

    async def hand_over_all(self, old: ExecutorHandle, target: int, end: float) -> None:
        """Hand all slots of a process over to its successor, first those without running calls. No call is cut.

        Where a call runs long, its slot is parked again and again, longer each time, and goes on meanwhile.

        Args:
            end: when streams are ended, which have no deadline; monotonic, in seconds.
        """
        patience = REBALANCE_DRAIN
        while old.state == "ready" and (slots := self.table.owned(old.place)):
            if time.monotonic() >= end:
                self.end_streams(old, self._limits.seconds)
            busy = self._busy_slots()
            for group in ([slot for slot in slots if slot not in busy], *([slot] for slot in slots if slot in busy)):
                async with self.one:
                    plan = HandOverPlan(old.place, dict.fromkeys(group, target))
                    await self._hand_over(plan, patience, insist=False)
            if self.table.owned(old.place):
                await asyncio.sleep(patience)
                patience = min(2 * patience, max(patience, self._limits.seconds))

    async def vacate(self, handle: ExecutorHandle, end: float) -> None:
        """Hand all slots of an executor over to the others; where there are none they wait for its successor."""
        handle.state = "stopping"
        self.table.leaving(handle.place)
        self._on_change()
        for only_idle in (True, False):
            busy = self._busy_slots() if only_idle else Counter()
            slots = [slot for slot in self.table.owned(handle.place) if slot not in busy]
            if slots and handle.state == "stopping":
                async with self.one:
                    plan = self.table.vacate(handle.place, slots)
                    await self._hand_over(plan, max(0.0, end - time.monotonic()), insist=True)

    def end_streams(self, handle: ExecutorHandle, seconds: float) -> None:
        """Cancel the streams of an executor, which have no deadline; those that may run again do so elsewhere."""
        self._end(handle, [key for key, call in handle.in_flight.items() if call.idle_timeout], seconds)

    def named(self, worker_id: str) -> ExecutorHandle:
        """The executor of that name.

        Raises:
            RpcError: -32602, there is none.
        """
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
        async with self.one:
            if await self._hand_over(plan, REBALANCE_DRAIN, insist=False):
                self._pause = self._limits.rebalance_seconds
            else:
                self._pause = min(MAX_PAUSE, 2 * self._pause)
            self._not_before = time.monotonic() + self._pause

    async def _hand_over(self, plan: HandOverPlan, patience: float, *, insist: bool) -> bool:
        """Hand slots over, as the module's docstring describes.

        Args:
            patience: seconds to wait for running calls.
            insist: whether calls that still run then are cancelled; otherwise the hand-over is given up.

        Returns:
            Whether the hand-over was completed.
        """
        table, source = self.table, self.places[plan.source]
        if any(table.owners[slot] != plan.source for slot in plan.targets):
            return True  # the owner died, and fail-over has moved the slots already
        self._park(plan, source)
        if not await self._wait(lambda: not source.draining, patience):
            if not insist:
                source.draining.clear()
                self._apply(table.give_up())
                return False
            self._end(source, source.draining, self._limits.seconds)
            await self._wait(lambda: not source.draining)
        if table.moving is plan:
            await self._have_released(plan, source)
        logger.info("routing keys handed over", extra={"executor": source.name, "slots": len(plan.targets)})
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
            # An owner that is silent, because a method holds its interpreter lock, is left to the watchdog.
            if not source.silent:
                self._host.kill(source, f"it did not release its routing keys within {self._limits.seconds:.3g} s")

    def _end(self, source: ExecutorHandle, keys: Iterable[int], seconds: float) -> None:
        """Cancel calls that still run; those that may run again do so elsewhere."""
        for key in sorted(keys):
            call = source.in_flight[key]
            if call.settled:
                continue  # it was cancelled before
            if may_run_again(call):
                source.recalled.add(key)
            else:
                call.settle_error(not_done_in_time(call, seconds))
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
        """Move the waiting calls of slots to the slots' new owners."""
        if not moves:
            return
        queues = {move.source for move in moves} | {parked_queue(move.slot) for move in moves}
        self._sort(queues)
        slots = {move.slot for move in moves}
        self._put_back_held(lambda call: call.slot in slots)
        for place in {move.target for move in moves}:
            self._host.refill(self.places[place])
        self._on_change()

    def _sort(self, queues: Iterable[int]) -> list[Call]:
        """Move waiting calls to the queue of their slot; returns those that the hand-over itself waits for."""
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
        """The keys of an executor's calls for slots that are being handed over."""
        plan = self.table.moving
        if plan is None:
            return set()
        return {
            key
            for key, call in handle.in_flight.items()
            if call.info is not None and call.info.routing_key is not None and call.slot in plan.targets
        }

    def _busy_slots(self) -> Counter[int]:
        """The number of running calls, by slot."""
        return Counter(
            call.slot
            for handle in self.places
            for call in handle.in_flight.values()
            if call.info is not None and call.info.routing_key is not None
        )


def _unavailable(words: str) -> RpcError:
    return RpcError(ErrorCode.WORKER_UNAVAILABLE, words, retry_after_ms=1000)
