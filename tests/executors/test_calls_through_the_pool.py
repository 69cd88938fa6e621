"""Placing calls on executors, on a real pool."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.health import heard_health
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.match import require
from tests.support.native import native_hold
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE, eventually, until
from trunkline_protocol.errors import ErrorCode

LONG = {"timeout_ms": 120_000}


@pytest.fixture(scope="module")
def narrow_hub() -> Iterator[RunningHub]:
    """One executor, one coroutine at a time, five calls may wait in the hub."""
    options = ["TRUNKLINE_MAX_CONCURRENCY", "TRUNKLINE_QUEUE_LIMIT"]
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, env=dict(zip(options, ("1", "5"), strict=True))) as hub:
        yield hub


@pytest.fixture
async def narrow_peer(narrow_hub: RunningHub) -> AsyncIterator[Peer]:
    """A connection to a hub that has just seen a slow call: it sends nothing ahead of what runs."""
    async with peer(narrow_hub.url) as connection:
        await connection.result("debug.sleep", {"seconds": 0.1})
        yield connection


async def all_quiet(connection: Peer) -> dict[str, Any]:
    """Wait until no executor has anything left to do: a cancelled caller is answered before the work ends."""

    async def quiet() -> dict[str, Any] | None:
        health = await heard_health(connection)
        return health if all(executor["active_requests"] == 0 for executor in health["executors"]) else None

    return await until(quiet, "no executor has anything left to do")


async def test_plain_functions_run_one_at_a_time_an_executor(lab_peer: Peer) -> None:
    ids = [await lab_peer.request("lab.alone", {"seconds": 0.03}) for _ in range(12)]
    results = [(await lab_peer.reply(each))["result"] for each in ids]
    assert len({result["pid"] for result in results}) == 2
    assert len({result["thread"] for result in results}) == 1


async def test_a_slow_function_does_not_hold_up_what_the_other_executor_can_do(lab_peer: Peer, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    slow = await lab_peer.request("lab.until_cancelled", {"marker": str(marker)})
    await asyncio.to_thread(eventually, Path(f"{marker}.started").exists, "it runs")
    for _ in range(5):
        await lab_peer.result("lab.alone", {"seconds": 0.001})
    assert lab_peer.others == []
    await lab_peer.cancel(slow)
    await lab_peer.reply(slow)


async def test_coroutines_run_many_at_once(lab_peer: Peer) -> None:
    ids = [await lab_peer.request("debug.count", {"n": 2, "interval_ms": 60_000}) for _ in range(60)]
    chunks = [(await lab_peer.receive())["params"] for _ in range(60)]
    assert {chunk["request_id"] for chunk in chunks} == {*ids}, "all have begun, and none has ended"
    for each in ids:
        await lab_peer.cancel(each)
        await lab_peer.reply(each)


async def test_keyed_calls_stick_to_one_executor_each(lab_peer: Peer) -> None:
    owners: dict[str, set[int]] = {}
    for value in range(5):
        for key in ("a", "b", "c", "d", "e", "f"):
            by = {"key": key, "value": value} if value % 2 else [key, value]
            owners.setdefault(key, set()).add((await lab_peer.result("lab.owned", by))["worker"])
    assert all(len(pids) == 1 for pids in owners.values())
    assert len(set.union(*owners.values())) == 2


async def test_a_missing_key_is_refused_before_any_executor(lab_peer: Peer) -> None:
    require(
        {"code": ErrorCode.INVALID_PARAMS, "message": {"$contains": "key"}, "data": {"maybe_executed": False}},
        await lab_peer.error("lab.owned", {}),
    )


async def test_the_deadline_reaches_the_method(lab_peer: Peer) -> None:
    left = await lab_peer.result("lab.remaining", metadata={"timeout_ms": 100_000})
    assert 100 - PATIENCE < left <= 100
    default = await lab_peer.result("lab.remaining")
    assert 30 - PATIENCE < default <= 30


async def test_a_full_queue_answers_at_once_and_says_when_to_come_again(narrow_peer: Peer, tmp_path: Path) -> None:
    held = [await narrow_peer.request("debug.sleep", {"seconds": 60}, metadata=LONG) for _ in range(1 + 5)]
    # Stuck: the executor cannot even read its wire.
    with native_hold(tmp_path) as hold:
        stuck = await narrow_peer.request("lab.native", hold.params)
        await hold.runs()
        for _ in range(10):
            error = await narrow_peer.error("debug.sleep", {"seconds": 0})
            require(
                {
                    "code": ErrorCode.WORKER_OVERLOADED,
                    "data": {"maybe_executed": False, "retryable": True, "retry_after_ms": {"$type": "number"}},
                },
                error,
            )
            assert 0 < error["data"]["retry_after_ms"] <= 10_000
        for each in held:
            await narrow_peer.cancel(each)
            assert (await narrow_peer.reply(each))["error"]["code"] == ErrorCode.CANCELLED
    await narrow_peer.reply(stuck)
    assert await narrow_peer.result("debug.echo", {"value": 1}) == 1


async def test_a_queued_call_that_times_out_never_ran(narrow_peer: Peer, tmp_path: Path) -> None:
    busy = await narrow_peer.request("debug.sleep", {"seconds": 30})
    params = {"marker": str(tmp_path / "marker")}
    error = await narrow_peer.error("lab.cleanup", params, metadata={"timeout_ms": 100})
    require({"code": ErrorCode.COMMUNICATION_TIMEOUT, "data": {"maybe_executed": False}}, error)
    await narrow_peer.cancel(busy)
    await narrow_peer.reply(busy)
    assert await narrow_peer.result("debug.echo", {"value": 2}) == 2
    assert os.listdir(tmp_path) == []


async def test_a_cancel_frees_the_slot(narrow_peer: Peer) -> None:
    busy = await narrow_peer.request("debug.sleep", {"seconds": 30})
    waiting = await narrow_peer.request("debug.echo", {"value": "next"})
    await narrow_peer.cancel(busy)
    assert (await narrow_peer.reply(busy))["error"]["code"] == ErrorCode.CANCELLED
    assert (await narrow_peer.reply(waiting))["result"] == "next"


async def test_a_passed_deadline_frees_the_slot(narrow_peer: Peer) -> None:
    busy = await narrow_peer.request("debug.sleep", {"seconds": 30}, metadata={"timeout_ms": 100})
    waiting = await narrow_peer.request("debug.echo", {"value": "next"})
    assert (await narrow_peer.reply(busy))["error"]["code"] == ErrorCode.COMMUNICATION_TIMEOUT
    assert (await narrow_peer.reply(waiting))["result"] == "next"


async def test_a_vanished_client_frees_its_slot(narrow_hub: RunningHub, narrow_peer: Peer, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    async with peer(narrow_hub.url) as gone:
        await gone.request("lab.cleanup", {"marker": str(marker)})
        await gone.request("debug.sleep", {"seconds": 30})
        await asyncio.to_thread(eventually, Path(f"{marker}.started").exists, "it runs")
        gone.socket.transport.abort()
    assert await narrow_peer.result("debug.echo", {"value": 1}) == 1
    assert marker.read_text() == "cancelled"


async def test_a_plain_function_is_told_of_its_cancel(narrow_peer: Peer, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    call = await narrow_peer.request("lab.until_cancelled", {"marker": str(marker)})
    await asyncio.to_thread(eventually, Path(f"{marker}.started").exists, "it runs")
    await narrow_peer.cancel(call)
    assert (await narrow_peer.reply(call))["error"]["code"] == ErrorCode.CANCELLED
    assert (await narrow_peer.result("lab.alone", {"seconds": 0}))["pid"]
    assert marker.read_text() == "cancelled"


async def test_high_priority_goes_first(narrow_peer: Peer) -> None:
    busy = await narrow_peer.request("debug.sleep", {"seconds": 30})
    for name in ("low", "normal", "high"):
        await narrow_peer.request("debug.echo", {"value": 1}, id=name, metadata={"priority": name})
    await narrow_peer.cancel(busy)
    order = [(await narrow_peer.receive())["id"] for _ in range(4)]
    assert order[0] == busy
    assert order.index("high") < order.index("low")


async def test_a_queued_call_can_be_cancelled(narrow_peer: Peer) -> None:
    busy = await narrow_peer.request("debug.sleep", {"seconds": 30})
    waiting = await narrow_peer.request("debug.echo", {"value": 1})
    await narrow_peer.cancel(waiting)
    refused = (await narrow_peer.reply(waiting))["error"]
    require({"code": ErrorCode.CANCELLED, "data": {"maybe_executed": False}}, refused)
    await narrow_peer.cancel(busy)
    await narrow_peer.reply(busy)
    health = await all_quiet(narrow_peer)
    assert (health["waiting_requests"], health["executors"][0]["status"]) == (0, "ready")


async def test_work_goes_to_the_executor_that_answers() -> None:
    """One of two holds its interpreter lock, and lets go of it now and then for a moment: it gets no calls.

    But for one, perhaps, each time that the machine lets the other stand still as well.
    """
    with ready_hub(executors=2) as fresh:
        async with peer(fresh.url) as connection:
            spinning = await connection.request("debug.spin", {"seconds": 3})

            async def known() -> Any:
                calls = (await connection.result("system.calls"))["calls"]
                return next((each for each in calls if "spin" in each["method"] and each["age_ms"] > 500), None)

            call = await until(known, "it has been quiet for long enough that the hub knows")
            workers: Counter[str] = Counter()
            last = await connection.request("debug.pid")
            while (reply := await connection.receive())["id"] != spinning:
                workers[reply["result"]["worker_id"]] += 1
                await asyncio.sleep(0.02)  # the rate of the calls, not a wait
                last = await connection.request("debug.pid")
            await connection.reply(last)
            assert workers.total() >= 10
            assert workers[call["executor"]] <= workers.total() / 5
