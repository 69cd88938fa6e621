"""Replacing executors that run in this process: who serves meanwhile, what moves when, and what goes on as it was."""

from __future__ import annotations

import asyncio

import pytest

from tests.executors import served
from tests.support.in_process import PoolHere, group_here, pool_here
from tests.support.timing import until
from trunkline.executors.handover import HandOverLimits
from trunkline.executors.replacement import ReplacementLimits
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.slots import slot_of

NEW_FIRST = ReplacementLimits(order="new_first")
OLD_FIRST = ReplacementLimits(order="old_first")


@pytest.fixture(autouse=True)
def stage(monkeypatch: pytest.MonkeyPatch) -> served.Stage:
    """What methods and test know of each other."""
    fresh = served.Stage()
    monkeypatch.setattr(served, "stage", fresh)
    return fresh


async def refused(here: PoolHere, worker_id: str = "executor-0") -> RpcError:
    with pytest.raises(RpcError) as caught:
        await here.pool.replacements.drain(worker_id)
    return caught.value


async def test_the_new_one_serves_while_the_old_one_ends_its_calls(stage: served.Stage) -> None:
    async with pool_here(replacement=NEW_FIRST) as here:
        old = here.executor()
        held = here.submit("served.hold", name="a")
        await stage.started["a"].wait()
        drained = await here.pool.replacements.drain("executor-0")
        assert drained.worker_id == "executor-0"
        assert here.executor() is not old
        assert await here.result("served.number") == 2
        await until(lambda: old.state == "stopping", "its keys have moved")
        assert (held.settled, stage.closed) == (False, [])
        assert here.pool.running()["executor-0"] == [(held, False)], "both are executor-0"
        stage.go["a"].set()
        assert await here.outcome(held) == 1
        await until(lambda: old not in here.pool.crew.processes, "the old one has ended")
        assert stage.closed == [1]
        (report,) = here.pool.snapshot()
        assert (report.request_count, report.slots, report.restarts) == (2, 64, 0)


async def test_without_calls_the_old_one_ends_at_once(stage: served.Stage) -> None:
    async with pool_here(replacement=NEW_FIRST) as here:
        await here.pool.replacements.drain("executor-0")
        await until(lambda: len(here.pool.crew.processes) == 1, "the old one has ended")
        assert stage.closed == [1]
        assert await here.result("served.number") == 2


async def test_a_key_moves_when_its_call_is_over_and_the_others_before(stage: served.Stage) -> None:
    async with pool_here(replacement=NEW_FIRST) as here:
        assert slot_of("busy") != slot_of("idle")
        assert await here.result("served.keep", key="idle") == 1
        held = here.submit("served.keep", key="busy", name="a")
        await stage.started["a"].wait()
        await here.pool.replacements.drain("executor-0")
        owners = here.pool.owners.table.owners
        place = here.executor().place
        await until(lambda: owners[slot_of("idle")] == place, "the idle key has moved")
        assert owners[slot_of("busy")] != place
        assert await here.result("served.keep", key="idle") == 2
        assert (1, ["idle"]) in stage.released
        stage.go["a"].set()
        assert await here.outcome(held) == 1
        await until(lambda: stage.closed == [1], "the old one has ended")
        assert (1, ["busy"]) in stage.released
        assert await here.result("served.keep", key="busy") == 2


async def test_a_new_one_that_does_not_load_changes_nothing(stage: served.Stage) -> None:
    async with pool_here(replacement=NEW_FIRST) as here:
        old, before = here.executor(), here.changes
        stage.trouble = OSError("the model file is not there")
        error = await refused(here)
        assert error.code == ErrorCode.PIPELINE_INITIALIZATION_FAILED
        assert "executor-0 goes on as it was" in error.message
        assert "the model file is not there" in error.message
        assert here.executor() is old
        assert here.pool.replacements.failures == {0: error.message}
        assert here.changes > before, "whoever judges the hub looks again"
        assert await here.result("served.number") == 1
        assert (old.restarts, here.pool.failed_modules) == (0, [])

        stage.trouble = None
        await here.pool.replacements.drain("executor-0")
        assert here.pool.replacements.failures == {}
        assert await here.result("served.number") == 2


async def test_a_new_one_that_lacks_a_module_of_the_old_one_is_not_taken(
    stage: served.Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = ("tests.executors.served", "tests.executors.served_beside")
    async with pool_here(group_here("default", 1, *modules), replacement=NEW_FIRST) as here:
        from tests.executors import served_beside

        monkeypatch.setattr(served_beside, "trouble", OSError("the disk is gone"))
        error = await refused(here)
        assert "served_beside could not be loaded: OSError: the disk is gone" in error.message
        assert await here.result("beside.number") == 1
        await until(lambda: stage.closed == [2], "what had loaded is closed")


async def test_the_old_one_first_where_that_is_asked_for(stage: served.Stage) -> None:
    async with pool_here(replacement=OLD_FIRST) as here:
        held = here.submit("served.hold", name="a")
        await stage.started["a"].wait()
        draining = asyncio.create_task(here.pool.replacements.drain("executor-0"))
        await until(lambda: here.executor().state == "stopping", "it takes nothing new")
        waiting = here.submit("served.number")
        assert here.pool.waiting == 1
        stage.go["a"].set()
        assert await here.outcome(held) == 1
        assert (await draining).worker_id == "executor-0"
        assert await here.outcome(waiting) == 2, "it has waited for the new one"
        assert stage.closed == [1]


async def test_the_keys_of_one_that_goes_first_wait_for_its_successor(stage: served.Stage) -> None:
    async with pool_here(replacement=OLD_FIRST) as here:
        assert await here.result("served.keep", key="k") == 1
        await here.pool.replacements.drain("executor-0")
        assert await here.result("served.keep", key="k") == 2
        assert stage.closed == [1]


async def test_one_that_went_first_for_nothing_is_started_again_and_again(stage: served.Stage) -> None:
    async with pool_here(replacement=OLD_FIRST) as here:
        stage.trouble = OSError("the disk is gone")
        error = await refused(here)
        assert "executor-0 was ended, and its replacement cannot serve" in error.message
        assert not here.pool.ready
        stage.trouble = None
        await until(lambda: here.pool.ready, "it has come up by itself")
        assert await here.result("served.echo", value=1) == 1


async def test_calls_go_to_others_while_one_is_replaced(stage: served.Stage) -> None:
    async with pool_here(group_here(size=2), replacement=OLD_FIRST) as here:
        held = [here.submit("served.hold", name=name) for name in ("a", "b")]
        for name in ("a", "b"):
            await stage.started[name].wait()
        draining = asyncio.create_task(here.pool.replacements.drain("executor-1"))
        await until(lambda: here.executor(1).state == "stopping", "it takes nothing new")
        assert await here.result("served.number") == 1, "the other one serves"
        for name in ("a", "b"):
            stage.go[name].set()
        await draining
        assert sorted([await here.outcome(each) for each in held]) == [1, 2]


async def test_streams_may_go_on_for_so_long(stage: served.Stage) -> None:
    limits = ReplacementLimits(finish_seconds=0.05, order="new_first")
    async with pool_here(replacement=limits) as here:
        stream = here.submit("served.count", n=10_000)
        stream.idle_timeout = 60.0
        await until(lambda: stream.chunks_seen, "it streams")
        await here.pool.replacements.drain("executor-0")
        error = await here.outcome(stream)
        assert error.code == ErrorCode.WORKER_UNAVAILABLE
        assert "served.count was cancelled: its executor is replaced" in error.message
        await until(lambda: stage.closed == [1], "then the old one ends")


async def test_all_are_replaced_or_those_of_a_group_one_after_the_other() -> None:
    groups = group_here("light", 2), group_here("heavy", 1, "tests.executors.served_beside")
    async with pool_here(*groups, replacement=NEW_FIRST) as here:
        first = [here.executor(index) for index in range(3)]
        reloaded = await here.pool.replacements.reload("light")
        assert [each.worker_id for each in reloaded.executors] == ["light-0", "light-1"]
        assert (reloaded.added, reloaded.removed, reloaded.failed) == ([], [], [])
        assert here.executor(2) is first[2]
        both = await asyncio.gather(here.pool.replacements.reload(), here.pool.replacements.reload())
        assert both[0] is both[1], "who comes while one waits for its turn gets its outcome"
        assert [each.worker_id for each in both[0].executors] == ["light-0", "light-1", "heavy-0"]
        assert here.executor(2) is not first[2]
        with pytest.raises(RpcError, match="no group 'medium'; there are: heavy, light") as caught:
            await here.pool.replacements.reload("medium")
        assert caught.value.code == ErrorCode.INVALID_PARAMS


async def test_only_executors_can_be_replaced() -> None:
    async with pool_here() as here:
        error = await refused(here, "executor-7")
        assert error.code == ErrorCode.INVALID_PARAMS
        assert "no executor 'executor-7'; there are: executor-0" in error.message


async def test_a_hub_that_stops_gives_orders_up(stage: served.Stage) -> None:
    async with pool_here(replacement=NEW_FIRST) as here:
        stage.loading_holds = True
        draining = asyncio.create_task(here.pool.replacements.drain("executor-0"))
        await stage.started["load"].wait()
        here.pool.replacements.stop()
        stage.go["load"].set()
        with pytest.raises(RpcError, match="the hub is stopping"):
            await draining


async def test_a_key_can_be_assigned_and_stays(stage: served.Stage) -> None:
    async with pool_here(group_here(size=2), hand_over=HandOverLimits(seconds=5.0)) as here:
        number = await here.result("served.keep", key="k")
        owner = here.pool.owners.table.owners[slot_of("k")]
        other = 1 - owner
        assigned = await here.pool.owners.assign("k", f"executor-{other}")
        assert (assigned.key, assigned.slot, assigned.worker_id) == ("k", slot_of("k"), f"executor-{other}")
        assert await here.result("served.keep", key="k") == 3 - number
        assert (number, ["k"]) in stage.released
        await here.pool.owners.assign("k", f"executor-{other}")
        with pytest.raises(RpcError, match="no executor 'nobody'"):
            await here.pool.owners.assign("k", "nobody")


async def test_a_call_that_delays_an_order_for_too_long_is_ended(stage: served.Stage) -> None:
    async with pool_here(group_here(size=2), hand_over=HandOverLimits(seconds=0.05)) as here:
        held = here.submit("served.keep", key="k", name="a")
        await stage.started["a"].wait()
        owner = here.pool.owners.table.owners[slot_of("k")]
        parked = asyncio.create_task(here.pool.owners.assign("k", f"executor-{1 - owner}"))
        await until(lambda: here.pool.owners.table.moving, "the slot is parked")
        later = here.submit("served.keep", key="k")
        assert later.executor is None, "it waits for the new owner"
        error = await here.outcome(held)
        assert (error.code, error.maybe_executed) == (ErrorCode.WORKER_UNAVAILABLE, True)
        await parked
        assert await here.outcome(later) == 2 - owner
