"""Hand-overs of slots without a process: executors are frames on a wire, and the pool notes what it is asked for."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import pytest

from tests.support.doubles import Asked, Wire, ready_handle
from tests.support.in_process import group_here
from trunkline.executors import ipc
from trunkline.executors.groups import ExecutorGroup
from trunkline.executors.handle import ExecutorHandle
from trunkline.executors.handover import MAX_PAUSE, HandOverHost, HandOverLimits, KeyOwners
from trunkline.executors.nesting import NestedCall
from trunkline.executors.queueing import PoolBacklog
from trunkline_protocol.backlog import QueueLimits
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.slots import slot_of

pytestmark = pytest.mark.virtual_time

KEY = "k"
SLOT = slot_of(KEY)
KEEP = MethodInfo("keep", routing_key="key")
KEEP_AGAIN = MethodInfo("keep_again", routing_key="key", idempotent=True)


class Pool(HandOverHost):
    """Executors that are ready, and what they and the pool were asked for.

    Attributes:
        cancelled: calls whose cancel was asked for.
        killed: the names of executors that were to be killed, and why.
        changes: how often slots had a new owner.
    """

    def __init__(self, executors: int = 2, *, groups: tuple[str, ...] = (), **limits: float) -> None:
        made = [ready_handle(index) for index in range(executors)]
        self.handles = [handle for handle, _ in made]
        self.wires: dict[ExecutorHandle, Wire] = dict(made)
        for handle, group in zip(self.handles, groups, strict=False):
            handle.group = group
        self.cancelled: list[Call] = []
        self.killed: list[tuple[str, str]] = []
        self.changes = 0
        self.backlog: PoolBacklog = PoolBacklog(QueueLimits(), lambda: 0)
        self._keys = itertools.count(1)
        self.owners = KeyOwners(self.handles, self.backlog, HandOverLimits(**limits), self, self._changed)
        for handle in self.handles:
            self.owners.ready(handle)

    def _changed(self) -> None:
        self.changes += 1

    def cancel(self, call: Call) -> None:
        self.cancelled.append(call)

    def dispatch(self, handle: ExecutorHandle, call: Call) -> None:
        call.key = next(self._keys)
        call.executor = handle
        handle.in_flight[call.key] = call

    def refill(self, handle: ExecutorHandle) -> None:
        while (call := self.backlog.pop(("loop", handle.place))) is not None:
            self.dispatch(handle, call)

    def kill(self, handle: ExecutorHandle, reason: str) -> None:
        self.killed.append((handle.name, reason))

    # --- what a test does ---

    def call(self, info: MethodInfo = KEEP, slot: int = SLOT) -> Asked:
        """A call of a slot, which runs, or waits, where its slot says."""
        call = Asked(info.name)
        call.info, call.slot = info, slot
        queue, handle = self.owners.choose(slot, "loop")
        if handle is None:
            self.backlog.push(call, ("loop", queue))
        else:
            self.dispatch(handle, call)
        return call

    def end(self, call: Call) -> None:
        """A call ends at its executor."""
        handle = call.executor
        assert isinstance(handle, ExecutorHandle)
        del handle.in_flight[call.key]
        self.owners.ended(handle, call.key)

    def parked(self) -> bool:
        """Whether slots are being handed over."""
        return self.owners.table.moving is not None

    def owner(self, slot: int = SLOT) -> ExecutorHandle:
        return self.owners.places[self.owners.table.owners[slot]]

    def other(self) -> ExecutorHandle:
        return next(handle for handle in self.handles if handle is not self.owner())

    def release(self, handle: ExecutorHandle, trouble: bytes = b"") -> None:
        """An executor answers the last RELEASE that it was sent."""
        (*_, number) = [number for kind, number, _ in self.wires[handle].frames if kind == ipc.RELEASE]
        self.owners.released(handle, number, trouble)

    def asked_to_release(self, handle: ExecutorHandle) -> int:
        return sum(kind == ipc.RELEASE for kind, _, _ in self.wires[handle].frames)

    def assign(self, target: ExecutorHandle) -> asyncio.Task[object]:
        return asyncio.create_task(self.owners.assign(KEY, target.name))


async def turns(condition: Callable[[], object], what: str) -> None:
    """Wait for what takes no time, only turns of the loop."""
    for _ in range(100):
        if condition():
            return
        await asyncio.sleep(0)
    pytest.fail(what)


async def test_a_slot_waits_for_its_calls_then_for_its_owner_to_let_go() -> None:
    pool = Pool()
    old, new = pool.owner(), pool.other()
    running = pool.call()
    order = pool.assign(new)
    await turns(pool.parked, "the slot is parked")
    later = pool.call()
    assert (later.executor, pool.asked_to_release(old)) == (None, 0)
    pool.end(running)
    await turns(lambda: pool.asked_to_release(old), "it is asked to release")
    assert later.executor is None, "its owner still holds what belongs to the key"
    pool.release(old)
    await order
    assert pool.owner() is new
    assert later.executor is new


async def test_an_answer_to_an_earlier_release_concludes_nothing() -> None:
    pool = Pool()
    old = pool.owner()
    order = pool.assign(pool.other())
    await turns(lambda: pool.asked_to_release(old), "it is asked to release")
    pool.owners.released(old, 0, b"")
    pool.owners.released(pool.other(), 1, b"")
    assert pool.owner() is old
    pool.release(old)
    await order


async def test_one_that_cannot_release_is_killed_and_the_slot_goes_on_when_it_has_ended() -> None:
    pool = Pool()
    old, new = pool.owner(), pool.other()
    order = pool.assign(new)
    await turns(lambda: pool.asked_to_release(old), "it is asked to release")
    pool.release(old, b"the disk is gone")
    assert pool.killed == [(old.name, "it could not release its routing keys: the disk is gone")]
    assert not order.done(), "its process may still hold the key"
    pool.owners.gone(old)
    await order
    assert pool.owner() is new


async def test_one_that_does_not_release_in_time_is_killed_unless_it_is_silent() -> None:
    pool = Pool(seconds=3.0)
    old = pool.owner()
    old.silent = True
    order = pool.assign(pool.other())
    await asyncio.sleep(7)
    assert pool.killed == [], "a method holds its interpreter lock: that is the watchdog's"
    old.silent = False
    await asyncio.sleep(3)
    assert pool.killed == [(old.name, "it did not release its routing keys within 3 s")]
    pool.owners.gone(old)
    await order


async def test_what_runs_too_long_is_ended_or_runs_again_with_the_new_owner() -> None:
    pool = Pool(seconds=3.0)
    old = pool.owner()
    once, again, unwanted = pool.call(), pool.call(KEEP_AGAIN), pool.call()
    unwanted.abandon()
    order = pool.assign(pool.other())
    await asyncio.sleep(3.5)
    assert pool.cancelled == [once, again]
    assert (once.error.code, once.error.maybe_executed) == (ErrorCode.WORKER_UNAVAILABLE, True)
    assert (again.settled, old.recalled) == (False, {again.key})
    for call in (once, again, unwanted):
        pool.end(call)
    pool.owners.put_back(again)
    await turns(lambda: pool.asked_to_release(old), "it is asked to release")
    pool.release(old)
    await order
    assert again.executor is pool.owner()


async def test_those_that_were_put_back_run_in_their_order_before_later_ones() -> None:
    pool = Pool()
    old, new = pool.owner(), pool.other()
    first, second, dropped = (pool.call(KEEP_AGAIN) for _ in range(3))
    order = pool.assign(new)
    await turns(pool.parked, "the slot is parked")
    later = pool.call()
    for call in (dropped, second, first):
        pool.end(call)
        pool.owners.put_back(call)
    dropped.abandon()
    await turns(lambda: pool.asked_to_release(old), "it is asked to release")
    pool.release(old)
    await order
    assert list(new.in_flight.values()) == [first, second, later]


async def test_a_call_that_the_running_one_makes_for_its_key_runs_where_that_runs() -> None:
    pool = Pool()
    old = pool.owner()
    running = pool.call()
    order = pool.assign(pool.other())
    await turns(pool.parked, "the slot is parked")
    nested = nested_call(running, old)
    assert pool.owners.awaiting(nested) is old
    deeper = nested_call(nested, old)
    pool.dispatch(old, nested)
    deeper.parent = nested.key
    assert pool.owners.awaiting(deeper) is old
    stranger = nested_call(running, old)
    stranger.parent = 999
    assert pool.owners.awaiting(stranger) is None, "the call that has made it is over"
    pool.end(running)
    assert pool.asked_to_release(old) == 0
    assert old.draining == {nested.key}, "what it has called may still run"
    pool.end(nested)
    await turns(lambda: pool.asked_to_release(old), "it is asked to release")
    pool.release(old)
    await order


async def test_one_that_was_waiting_when_its_callers_slot_was_parked_runs_at_once() -> None:
    pool = Pool()
    old, new = pool.owner(), pool.other()
    running = pool.call()
    nested = nested_call(running, old)
    pool.backlog.push(nested, ("loop", old.index))
    order = pool.assign(new)
    await turns(pool.parked, "the slot is parked")
    assert nested.executor is old
    for call in (nested, running):
        pool.end(call)
    await turns(lambda: pool.asked_to_release(old), "it is asked to release")
    pool.release(old)
    await order


async def test_one_that_is_to_stop_still_runs_what_its_own_calls_need_of_it() -> None:
    pool = Pool()
    stopping, _ = pool.handles
    plain = MethodInfo("plain")
    outer = Asked("outer")
    outer.info = plain
    pool.dispatch(stopping, outer)
    nested = nested_call(outer, stopping, plain)
    stopping.catalogue = ready_handle(7, "plain")[0].catalogue
    assert pool.owners.awaiting(nested) is None, "it is not to stop"
    stopping.state = "stopping"
    assert pool.owners.awaiting(nested) is stopping


def nested_call(outer: Call, made_by: ExecutorHandle, info: MethodInfo = KEEP) -> NestedCall:
    body = ipc.CallBody(0.0, 1, 0, info.name, b"", b"{}")
    call = NestedCall(made_by, 1, outer.key, body, outer)
    call.info, call.slot = info, SLOT
    return call


@pytest.mark.parametrize("state", ["starting", "down", "stopping"])
async def test_keys_are_assigned_from_and_to_those_that_are_ready(state: str) -> None:
    pool = Pool()
    for handle in pool.handles:
        handle.state, before = state, handle.state  # type: ignore[assignment]
        with pytest.raises(RpcError, match=f"{handle.name} is {state}: wait until it is ready") as caught:
            await pool.owners.assign(KEY, pool.other().name)
        assert caught.value.retry_after_ms == 1000
        handle.state = before


async def test_one_of_another_group_gets_no_key() -> None:
    pool = Pool(groups=("state", "other"))
    pool.owners.serve_in(ExecutorGroup(group_here("state"), pool.handles, range(1)))
    with pytest.raises(RpcError, match="executor-1 is in the group other; state has the routing keys") as caught:
        await pool.owners.assign(KEY, "executor-1")
    assert caught.value.code == ErrorCode.INVALID_PARAMS
    assert set(pool.owners.table.owners) == {0}


async def test_a_target_that_dies_meanwhile_is_told_to_who_gave_the_order() -> None:
    pool = Pool()
    old, new = pool.owner(), pool.other()
    order = pool.assign(new)
    await turns(lambda: pool.asked_to_release(old), "it is asked to release")
    pool.owners.gone(new)
    pool.release(old)
    with pytest.raises(RpcError, match=f"{new.name} went down meanwhile; it gets the key when it is ready again"):
        await order
    pool.owners.ready(new)
    assert pool.owner() is old
    pool.owners.look(1e9)
    await turns(lambda: pool.asked_to_release(old) == 2, "the key goes home")
    pool.release(old)
    await turns(lambda: pool.owner() is new, "it has come home")


async def test_an_owner_that_dies_before_its_turn_has_nothing_left_to_hand_over() -> None:
    pool = Pool(3, rebalance_seconds=5.0)
    pool.owners.gone(pool.handles[2])
    pool.owners.ready(pool.handles[2])
    pool.owners.look(1e9)
    source = max(pool.handles, key=lambda handle: len(pool.owners.table.owned(handle.place)))
    pool.owners.gone(source)
    await asyncio.sleep(60)
    assert (pool.parked(), pool.killed, pool.owners.one.locked()) == (False, [], False)
    assert not pool.owners.table.owned(source.place)


async def test_rebalancing_gives_up_where_calls_run_and_waits_longer_each_time() -> None:
    pool = Pool(3, seconds=3.0, rebalance_seconds=5.0)
    table, now = pool.owners.table, asyncio.get_running_loop().time
    pool.owners.gone(pool.handles[2])
    held = [pool.call(slot=slot) for slot in range(len(table.owners))]
    pool.owners.ready(pool.handles[2])
    pool.owners.look(now())
    assert not pool.parked(), "one has just become ready: its first calls come first"
    begun: list[float] = []
    while len(begun) < 7:
        await asyncio.sleep(0.5)
        pool.owners.look(now())
        if pool.parked():
            begun.append(now())
            await asyncio.sleep(1.5)
            assert not pool.parked(), "a call has run for longer than rebalancing may delay others"
    pauses = [round(later - earlier) for earlier, later in itertools.pairwise(begun)]
    assert pauses == sorted(pauses)
    assert (pauses[0] >= 10, pauses[-1] <= MAX_PAUSE + 2) == (True, True)
    assert pool.cancelled == [], "rebalancing ends no call"
    for call in held:
        pool.end(call)


async def test_a_hub_that_stops_rebalances_no_more() -> None:
    pool = Pool(3, rebalance_seconds=5.0)
    pool.owners.gone(pool.handles[2])
    pool.owners.ready(pool.handles[2])
    pool.owners.look(1e9)
    await turns(pool.parked, "it has begun")
    source = max(pool.handles, key=lambda handle: len(pool.owners.table.owned(handle.place)))
    pool.owners.stop()
    await asyncio.sleep(0)
    asked = pool.asked_to_release(source)
    await asyncio.sleep(60)
    assert (pool.asked_to_release(source), pool.killed) == (asked, [])
