"""Executors that die or hang during calls."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.test_hand_over import loading_stalls
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, is_alive, ready_hub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE, SCALE, eventually, until
from trunkline.executors.supervisor import pause
from trunkline_protocol.errors import ErrorCode

DEADLINE_MS = int(2500 * SCALE)
"""Milliseconds after which something is to happen, and before which something else has to have happened."""

CRASHED = {
    "code": ErrorCode.WORKER_CRASHED,
    "data": {
        "type": "WORKER_CRASHED",
        "recovery": "restart_process",
        "retryable": True,
        "maybe_executed": True,
        "retry_after_ms": {"$type": "number"},
    },
}


def lab(**options: Any) -> Any:
    return ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, **options)


async def whole_again(connection: Peer) -> dict[str, Any]:
    """Wait until all executors are back."""
    async with asyncio.timeout(3 * PATIENCE):
        while (health := await connection.result("health.detailed"))["status"] != "healthy":
            await asyncio.sleep(0.02)
    return health  # type: ignore[no-any-return]


async def test_fault_14_an_idempotent_call_runs_again(tmp_path: Path) -> None:
    with lab(executors=2) as hub:
        async with peer(hub.url) as connection:
            for restarts, name in enumerate(["SIGKILL", "SIGSEGV"], 1):
                params = {"marker": str(tmp_path / name), "signal_name": name}
                result = await connection.result("lab.again", params)
                assert result["first"] != result["second"]
                await gone(result["first"])
                health = await whole_again(connection)
                assert sum(executor["restarts"] for executor in health["executors"]) == restarts
                pids = {executor["pid"] for executor in health["executors"]}
                assert len(pids) == 2
                assert result["first"] not in pids
                hub.executor_pids()


async def gone(pid: int) -> None:
    await asyncio.to_thread(eventually, lambda: not is_alive(pid), f"the executor {pid} is gone")


async def test_fault_14_other_calls_end_as_crashed_and_never_run_twice(tmp_path: Path) -> None:
    """Nor does a stream that began."""
    marker, streamed = tmp_path / "m", tmp_path / "streamed"
    with lab() as hub:
        async with peer(hub.url) as connection:
            require(CRASHED, await connection.error("lab.once", {"marker": str(marker)}))
            first = marker.read_text()
            await whole_again(connection)
            assert marker.read_text() == first
            error = await connection.error("lab.chunk_then_die", {"marker": str(streamed)})
            require({**CRASHED, "data": {"maybe_executed": True, "chunks": 1}}, error)
            await whole_again(connection)
            assert streamed.read_text() == "x"
            hub.executor_pids()


async def test_fault_14_everything_in_flight_gets_its_own_outcome() -> None:
    with lab() as hub:
        async with peer(hub.url) as connection:
            lost = [await connection.request("debug.sleep", {"seconds": 30}) for _ in range(5)]
            again = [await connection.request("lab.owned", {"key": "k", "value": n}) for n in range(3)]
            for each in again:
                await connection.reply(each)
            (pid,) = hub.executor_pids()
            os.kill(pid, signal.SIGKILL)
            for each in lost:
                require(CRASHED, (await connection.reply(each))["error"])
            # Nobody is there to run it yet: it waits for the respawned executor, its owner.
            assert (await connection.result("lab.owned", {"key": "k"}))["worker"] != pid
            hub.executor_pids()


@pytest.mark.parametrize("key", [{}, {"idempotency_key": "k"}], ids=["", "with a key"])
async def test_fault_14_a_call_that_waits_to_run_again_may_have_been_executed(
    tmp_path: Path, key: dict[str, str]
) -> None:
    """It killed an executor and is queued again: whatever ends it now, it has run."""
    with ready_hub("lab", "keeper", cwd=MODULES, env={"KEEPER": str(tmp_path)}) as hub:
        async with peer(hub.url) as connection:
            marker = tmp_path / "deadline"
            with loading_stalls(tmp_path):
                metadata = {"timeout_ms": DEADLINE_MS, **key}
                error = await connection.error("lab.always_fatal", {"marker": str(marker)}, metadata=metadata)
            require({"code": ErrorCode.COMMUNICATION_TIMEOUT, "data": {"maybe_executed": True}}, error)
            assert marker.read_text() == "x"
            await whole_again(connection)
            marker = tmp_path / "cancel"
            with loading_stalls(tmp_path):
                call = await connection.request("lab.always_fatal", {"marker": str(marker)})
                await asyncio.to_thread(eventually, marker.exists, "it runs")
                await connection.cancel(call)
                error = (await connection.reply(call))["error"]
            require({"code": ErrorCode.CANCELLED, "data": {"maybe_executed": True}}, error)
            hub.executor_pids()


async def test_fault_14_a_call_that_kills_everyone_is_given_up(tmp_path: Path) -> None:
    marker = tmp_path / "m"
    with lab(executors=2) as hub:
        async with peer(hub.url) as connection:
            require(CRASHED, await connection.error("lab.always_fatal", {"marker": str(marker)}, within=2 * PATIENCE))
            assert len(marker.read_text()) == 3
            hub.executor_pids()


async def test_fault_14_while_one_is_down_the_other_serves_and_health_says_so(tmp_path: Path) -> None:
    options: Any = {"cwd": MODULES, "executors": 2, "env": {"KEEPER": str(tmp_path)}}
    with ready_hub(DEBUG_METHODS, "keeper", **options) as hub:
        async with peer(hub.url) as connection:

            async def told(status: str) -> dict[str, Any] | None:
                assert await connection.result("debug.echo", {"value": 1}) == 1
                health: dict[str, Any] = await connection.result("health.detailed")
                assert bool(health["causes"]) == (health["status"] != "healthy")
                return health if health["status"] == status and hub.get("/ready").status == 200 else None

            with loading_stalls(tmp_path):
                require(CRASHED, await connection.error("debug.crash"))
                await until(lambda: told("degraded"), "one of two serves")
            health = await until(lambda: told("healthy"), "both serve")
            assert sum(executor["restarts"] for executor in health["executors"]) == 1
            hub.executor_pids()


async def test_fault_14_restarts_back_off() -> None:
    with ready_hub() as hub:
        async with peer(hub.url) as connection:
            downtimes = []
            for _ in range(3):
                started = time.monotonic()
                await connection.error("debug.crash")
                await whole_again(connection)
                downtimes.append(time.monotonic() - started)
            assert all(down >= pause(number) for number, down in enumerate(downtimes, 1)), downtimes
            hub.executor_pids()


async def test_fault_15_stuck_in_native_code() -> None:
    with ready_hub(executors=2, env={"TRUNKLINE_KILL_AFTER": "0.5"}) as hub:
        before = hub.executor_pids()
        async with peer(hub.url) as connection:
            started = time.monotonic()
            stuck = await connection.request("debug.spin", {"seconds": 60}, metadata={"timeout_ms": DEADLINE_MS})
            others = {await connection.request("debug.pid") for _ in range(20)}
            answered: set[int] = set()
            while len(others) > 10:  # the other executor's calls are not held up
                message = await connection.receive()
                assert message["id"] != stuck, message
                others.remove(message["id"])
                answered.add(message["result"]["pid"])
            assert len(answered) == 1
            error = (await connection.reply(stuck))["error"]
            require({"code": ErrorCode.COMMUNICATION_TIMEOUT, "data": {"maybe_executed": True}}, error)
            assert DEADLINE_MS / 1000 <= time.monotonic() - started < PATIENCE, "at the deadline, not at its end"
            # Calls that had been sent to the stuck one are idempotent: they run again elsewhere.
            for each in others:
                assert "result" in await connection.reply(each)
            await asyncio.to_thread(hub.wait_for, "executor exited")
            health = await whole_again(connection)
            after = {executor["pid"] for executor in health["executors"]}
            assert len(before & after) == 1
            assert sum(executor["restarts"] for executor in health["executors"]) == 1
            hub.executor_pids()


async def test_fault_15_a_cancel_that_native_code_does_not_hear(tmp_path: Path) -> None:
    marker = tmp_path / "m"
    with lab(env={"TRUNKLINE_KILL_AFTER": str(DEADLINE_MS / 1000)}) as hub:
        (before,) = hub.executor_pids()
        async with peer(hub.url) as connection:
            stuck = await connection.request("lab.deaf", {"marker": str(marker)})
            await asyncio.to_thread(eventually, marker.exists, "it runs")
            await connection.cancel(stuck)
            assert (await connection.reply(stuck))["error"]["code"] == ErrorCode.CANCELLED
            assert is_alive(before), "its caller does not wait until it is killed"
            await asyncio.to_thread(eventually, lambda: not is_alive(before), "it is killed")
            assert (await connection.result("debug.pid"))["pid"] != before
            hub.executor_pids()


async def test_fault_15_native_work_within_its_deadline_is_left_alone(tmp_path: Path) -> None:
    """Even where a coroutine beside it cannot hear its cancel, while a function holds the interpreter lock."""
    marker = tmp_path / "m"
    kill_after = 1.5 * SCALE
    longer = kill_after + 0.6
    with lab(env={"TRUNKLINE_KILL_AFTER": str(kill_after)}) as hub:
        async with peer(hub.url) as connection:
            assert await connection.result("debug.spin", {"seconds": longer}) == {"spun": longer}
            health = await connection.result("health.detailed")
            assert health["executors"][0]["restarts"] == 0
            waiting = await connection.request("debug.sleep", {"seconds": 30})
            working = await connection.request("lab.stuck", {"marker": str(marker), "seconds": longer})
            await asyncio.to_thread(eventually, marker.exists, "it runs")
            await connection.cancel(waiting)
            assert "result" in await connection.reply(working)
            health = await whole_again(connection)
            assert health["executors"][0]["restarts"] == 0


async def test_fault_18_unserialisable_result(debug_peer: Peer) -> None:
    for kind, named in {"object": "builtins.object", "other": "builtins.complex"}.items():
        error = await debug_peer.error("debug.unserializable", {"kind": kind})
        require({"code": ErrorCode.SERIALIZATION_ERROR, "message": {"$contains": named}}, error)
    for kind in ("nan", "big"):
        require({"code": ErrorCode.SERIALIZATION_ERROR}, await debug_peer.error("debug.unserializable", {"kind": kind}))


@pytest.mark.parametrize("k", [0, 1, 64, 65, 200])
async def test_fault_19_a_stream_raises_at_chunk_k(debug_hub: RunningHub, k: int) -> None:
    async with peer(debug_hub.url) as connection:
        error = await connection.error("debug.count", {"n": 500, "fail_at": k})
        assert error["code"] == ErrorCode.PIPELINE_EXECUTION_ERROR
        assert error["data"].get("chunks", 0) == k
        assert [m["params"]["index"] for m in connection.others] == list(range(k))
        assert not any(m["params"]["is_final"] for m in connection.others)
