"""The pool with real executors that run in this process: calls, queues, streams, and calls that methods make."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.executors import served
from tests.support.in_process import PoolHere, group_here, pool_here
from tests.support.timing import until
from trunkline.executors.queueing import LaneLoad
from trunkline_protocol.backlog import QueueLimits
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.flow import WINDOW_ITEMS


@pytest.fixture(autouse=True)
def stage(monkeypatch: pytest.MonkeyPatch) -> served.Stage:
    """What methods and test know of each other."""
    fresh = served.Stage()
    monkeypatch.setattr(served, "stage", fresh)
    return fresh


async def test_coroutines_and_plain_functions_are_answered_and_counted() -> None:
    async with pool_here() as here:
        assert await here.result("served.echo", value=[1, None]) == [1, None]
        assert await here.result("served.plain", value=1) == 2
        handle = here.executor()
        assert {name: tally.count for name, tally in handle.tallies.items()} == {"served.echo": 1, "served.plain": 1}
        assert (handle.finished_calls, handle.failed_calls, handle.busy) == (2, 0, False)
        assert {lane: load.load for lane, load in handle.lanes.items()} == {"loop": 0, "thread": 0}


async def test_calls_spread_over_the_least_loaded() -> None:
    async with pool_here(group_here(size=2, max_concurrency=32)) as here:
        calls = [here.submit("served.hold", name="a") for _ in range(20)]
        assert [len(handle.in_flight) for handle in here.pool.executors] == [10, 10]
        served.stage.go["a"].set()
        assert Counter([await here.outcome(call) for call in calls]) == {1: 10, 2: 10}


async def test_errors_are_typed_and_count_as_failures() -> None:
    async with pool_here() as here:
        own = await here.error("served.fail", code=7)
        assert (own.code, own.message, own.maybe_executed) == (7, "on purpose", True)
        mistake = await here.error("served.fail")
        assert (mistake.code, "error_id" in mistake.data) == (ErrorCode.INTERNAL_ERROR, True)
        assert "a mistake" not in mistake.message, "its text is nobody's business"
        wrong = await here.error("served.plain", value="one")
        assert (wrong.code, wrong.maybe_executed) == (ErrorCode.INVALID_PARAMS, False)
        unknown = await here.error("served.nothing")
        assert unknown.code == ErrorCode.METHOD_NOT_FOUND
        assert here.executor().failed_calls == 3


async def test_params_that_are_nested_too_deep_reach_no_method() -> None:
    async with pool_here() as here:
        deep: list[object] = []
        for _ in range(600):
            deep = [deep]
        error = await here.error("served.echo", value=deep)
        assert error.code == ErrorCode.INVALID_PARAMS
        assert "served.echo: params" in error.message


async def test_what_has_no_slot_waits_and_can_be_cancelled_there(stage: served.Stage) -> None:
    async with pool_here(group_here(max_concurrency=1)) as here:
        running = here.submit("served.hold", name="a")
        waiting, unwanted = (here.submit("served.echo", value=number) for number in (1, 2))
        await stage.started["a"].wait()
        assert here.pool.waiting == 2
        assert unwanted.executor is None
        unwanted.abandon()
        assert here.pool.waiting == 1
        stage.go["a"].set()
        assert await here.outcome(waiting) == 1
        assert (await here.outcome(running), here.pool.waiting) == (1, 0)
        assert waiting.waited > 0


async def test_a_full_queue_refuses(stage: served.Stage) -> None:
    async with pool_here(group_here(max_concurrency=1), queue_limits=QueueLimits(calls=1)) as here:
        here.submit("served.hold", name="a")
        here.submit("served.echo", value=1)
        refused = await here.error("served.echo", value=2)
        assert (refused.code, refused.data["limit"]) == (ErrorCode.WORKER_OVERLOADED, "TRUNKLINE_QUEUE_LIMIT")
        assert not refused.maybe_executed
        stage.go["a"].set()


async def test_a_call_that_is_cancelled_ends_and_its_slot_is_free(stage: served.Stage) -> None:
    async with pool_here(group_here(max_concurrency=1)) as here:
        running = here.submit("served.hold", name="a")
        await stage.started["a"].wait()
        running.abandon()
        assert await here.result("served.echo", value=1) == 1
        assert not here.executor().busy
        assert running.failure is None


async def test_a_stream_waits_for_its_readers_credit() -> None:
    async with pool_here() as here:
        stream = here.submit("served.count", n=WINDOW_ITEMS + 10)
        handle = here.executor()
        await until(lambda: handle.parked, "it waits for its reader, without a slot")
        assert len(stream.chunks_seen) == WINDOW_ITEMS
        assert handle.lanes["loop"].load == 0
        here.pool.grant(stream, 10)
        await here.outcome(stream)
        assert stream.chunks_seen == list(range(WINDOW_ITEMS + 10))
        assert handle.lanes["loop"].load == 0


async def test_input_is_held_until_there_is_an_executor(stage: served.Stage) -> None:
    async with pool_here(group_here(max_concurrency=1)) as here:
        here.submit("served.hold", name="a")
        adding = here.submit("served.add")
        for number in range(3):
            here.pool.push(adding, number, b"%d" % (number + 1), False)
        assert adding.input is not None
        assert not adding.input.begun
        stage.go["a"].set()
        await until(lambda: adding.executor is not None, "it runs")
        here.pool.push(adding, 3, b"10", False)
        here.pool.push(adding, 4, b"null", True)
        assert await here.outcome(adding) == 16
        with pytest.raises(RpcError, match="takes no input"):
            here.pool.push(here.submit("served.echo", value=1), 0, b"1", False)


async def test_a_method_that_calls_another_has_no_slot_meanwhile() -> None:
    async with pool_here(group_here(max_concurrency=1)) as here:
        nested = {"method": "served.call", "params": {"method": "served.echo", "params": {"value": "inner"}}}
        assert await here.result("served.call", **nested) == "inner"
        error = await here.error("served.call", method="served.fail", params={"code": 7})
        assert (error.code, error.message) == (7, "on purpose")
        assert await here.result("served.relay", n=40) == list(range(40))
        assert await here.result("served.relay", n=1000, enough=2) == [0, 1]
        handle = here.executor()
        await until(lambda: not handle.busy, "the stream that was broken off has ended")
        assert (handle.nested, handle.lanes["loop"].load) == ({}, 0)


async def test_what_a_cancelled_method_has_called_is_cancelled_too(stage: served.Stage) -> None:
    async with pool_here() as here:
        outer = here.submit("served.call", method="served.hold", params={"name": "a"})
        await stage.started["a"].wait()
        outer.abandon()
        await until(lambda: not here.executor().busy, "both have ended")
        assert here.executor().nested == {}


async def test_reports_come_before_the_result() -> None:
    async with pool_here() as here:
        call = here.submit("served.report")
        await here.outcome(call)
        assert call.reports == [{"done": 1}, {"done": 2}]


async def test_a_hook_is_called_in_every_executor() -> None:
    async with pool_here(group_here(size=2)) as here:
        said = await here.pool.broadcasts.send("clear_cache", {"cache_type": "kept"}, 10.0)
        assert {name: found["kept"]["bytes"] for name, (found,) in said.items()} == {"executor-0": 10, "executor-1": 10}
        with pytest.raises(RpcError, match=r"executor-[01]: clear_cache failed: OSError: the disk is gone"):
            await here.pool.broadcasts.send("clear_cache", {"cache_type": "broken"}, 10.0)
        with pytest.raises(RpcError, match="packs have no hook 'no_hook'"):
            await here.pool.broadcasts.send("no_hook", {}, 10.0)


async def test_a_pool_without_executors_is_ready_and_knows_nothing() -> None:
    here = PoolHere([])
    here.pool.start()
    await here.pool.wait_ready()
    assert (await here.error("served.echo")).code == ErrorCode.METHOD_NOT_FOUND
    assert (here.pool.groups(), here.pool.snapshot()) == ([], [])
    await here.pool.stop(1.0)


async def test_before_it_is_ready_methods_are_not_known_yet() -> None:
    here = PoolHere([group_here()])
    error = await here.error("served.echo")
    assert (error.code, error.retryable) == (ErrorCode.WORKER_UNAVAILABLE, True)
    assert "still starting" in error.message


async def test_a_pool_that_stops_settles_what_waits_and_what_runs(stage: served.Stage) -> None:
    async with pool_here(group_here(max_concurrency=1)) as here:
        running, waiting = here.submit("served.hold", name="a"), here.submit("served.echo", value=1)
        await stage.started["a"].wait()
    assert (waiting.error.data["draining"], waiting.error.maybe_executed) == (True, False)
    assert (running.error.code, running.error.maybe_executed) == (ErrorCode.WORKER_CRASHED, True)
    assert "the hub is stopping" in running.error.message
    assert stage.closed == [1], "its instance was closed"
    assert here.executor().state == "stopping"


async def test_what_is_seen_of_a_group(stage: served.Stage) -> None:
    async with pool_here(group_here(max_concurrency=1)) as here:
        held = here.submit("served.hold", name="a")
        await stage.started["a"].wait()
        (group,) = here.pool.groups()
        (report,) = group.executors
        assert (group.name, report.status, report.active_requests, report.slots) == ("default", "busy", 1, 64)
        assert here.pool.running() == {"executor-0": [(held, False)]}
        stage.go["a"].set()
        await here.outcome(held)
        (report,) = here.pool.snapshot()
        assert (report.status, report.request_count, report.error_rate) == ("ready", 1, 0.0)


async def test_a_lost_wire_ends_calls_or_has_them_run_again_and_the_executor_starts_anew(stage: served.Stage) -> None:
    async with pool_here() as here:
        once, again = here.submit("served.hold", name="a"), here.submit("served.hold_again", name="b")
        stream = here.submit("served.count", n=300)
        for name in ("a", "b"):
            await stage.started[name].wait()
        await until(lambda: stream.chunks_seen, "it streams")
        stage.started["b"].clear()
        handle = here.executor()
        handle.abort()
        crash = await here.outcome(once)
        assert (crash.code, crash.maybe_executed) == (ErrorCode.WORKER_CRASHED, True)
        assert (await here.outcome(stream)).code == ErrorCode.WORKER_CRASHED, "chunks cannot be undone"
        await stage.started["b"].wait()
        stage.go["b"].set()
        assert await here.outcome(again) == 2, "in the instance that was loaded anew"
        assert (again.attempts, handle.restarts, handle.restart_causes["exit"]) == (2, 1, 1)


async def test_a_malformed_frame_costs_the_wire(caplog: pytest.LogCaptureFixture) -> None:
    async with pool_here() as here:
        handle = here.executor()
        handle.data_received(b"\0" * 20)
        await until(lambda: handle.restarts == 1 and handle.state == "ready", "it has started anew")
        assert "sent a malformed frame" in caplog.text
        assert await here.result("served.echo", value=1) == 1


async def test_a_module_that_does_not_load_takes_its_own_methods_along_only() -> None:
    modules = ("tests.executors.served", "tests.executors.no_such_module")
    async with pool_here(group_here("default", 1, *modules)) as here:
        assert await here.result("served.echo", value=1) == 1
        (failure,) = here.pool.failed_modules
        assert (failure.module, failure.code) == ("tests.executors.no_such_module", ErrorCode.MISSING_DEPENDENCIES)
        error = await here.error("tests.executors.no_such_module.run")
        assert error.data["modules"] == ["tests.executors.no_such_module"]


async def test_where_nothing_loads_calls_are_told_why_and_it_is_tried_again(stage: served.Stage) -> None:
    stage.trouble = OSError("the model file is not there")
    here = PoolHere([group_here()])
    here.pool.start()
    handle = here.executor()
    await until(lambda: handle.restarts, "it has failed")
    error = await here.error("served.echo", value=1)
    assert (error.code, error.data["known"]) == (ErrorCode.PIPELINE_INITIALIZATION_FAILED, True)
    assert handle.restart_causes["load_failed"] == handle.restarts
    assert handle.last_failure is not None
    assert "OSError: the model file is not there" in handle.last_failure
    stage.trouble = None
    await here.pool.wait_ready()
    assert await here.result("served.echo", value=1) == 1
    assert here.pool.failed_modules == []
    await here.pool.stop(1.0)


async def test_an_executor_that_says_it_is_broken_is_replaced_and_the_call_runs_in_the_new_one() -> None:
    async with pool_here() as here:
        assert await here.result("served.mended", broken=1) == 2
        error = await here.error("served.mended", broken=2)
        assert error.code == ErrorCode.WORKER_CRASHED, "once a minute at most"


async def test_what_is_quick_is_sent_ahead() -> None:
    async with pool_here(group_here(max_concurrency=1)) as here:
        load: LaneLoad = here.executor().lanes["loop"]

        async def quick() -> bool:  # each call; that one was not, for whatever reason, is forgotten in a while
            await here.result("served.echo", value=0)
            return load.limit > load.slots

        await until(quick, "what is quick is known")
        calls = [here.submit("served.echo", value=number) for number in range(2)]
        assert here.executor().lanes["loop"].load == 2
        assert await asyncio.gather(*map(here.outcome, calls)) == [0, 1]
