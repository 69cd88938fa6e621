"""FAULTS 15 and 16, with neighbours: native code that hangs, and inputs that kill executors, through real processes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from tests.support.groups import one_group
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.match import require
from tests.support.native import native_hold
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE, SCALE, START, eventually, until
from trunkline.executors import supervisor
from trunkline.executors.pool import ExecutorPool
from trunkline.executors.quarantine import QuarantineLimits
from trunkline.executors.specs import ExecutorSpec
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode, RpcError

QUARANTINED: dict[str, Any] = {
    "code": ErrorCode.WORKER_CRASHED,
    "message": {"$contains": "3 executors died while running"},
    "data": {"quarantined": True, "kills": 3, "retryable": True, "retry_after_ms": {"$type": "number"}},
}


def lab(executors: int, kill_after: float) -> AbstractContextManager[RunningHub]:
    """A hub whose executors come back soon, however often they die."""
    return ready_hub(
        *(DEBUG_METHODS, "lab"),
        cwd=MODULES,
        executors=executors,
        env={"TRUNKLINE_KILL_AFTER": str(kill_after)},
        constants={f"{supervisor.__name__}:BACKOFF_LIMIT": 0.1},
    )


@pytest.fixture(scope="module")
def hub_of_one() -> Iterator[RunningHub]:
    with lab(executors=1, kill_after=5) as hub:
        yield hub


@pytest.fixture(scope="module")
def hub_of_two() -> Iterator[RunningHub]:
    with lab(executors=2, kill_after=1) as hub:
        yield hub


async def deaths(connection: Peer) -> int:
    """How often the executors have been started again so far."""
    health = await connection.result("health.detailed")
    return sum(executor["restarts"] for executor in health["executors"])


async def whole_again(connection: Peer, restarts: int) -> None:
    """Wait until all executors are back after so many deaths of all."""

    async def is_whole() -> bool:
        health = await connection.result("health.detailed")
        died = sum(executor["restarts"] for executor in health["executors"])
        return bool(health["status"] == "healthy" and died >= restarts)

    await until(is_whole, f"healthy after {restarts} deaths", 2 * PATIENCE)


def letters(marker: Path) -> int:
    return marker.stat().st_size if marker.exists() else 0


async def test_fault_16_an_input_that_kills_is_not_run_again_and_others_are(
    hub_of_two: RunningHub, tmp_path: Path
) -> None:
    """Idempotent: one call takes three executors along, and is the last of its kind."""
    marker = tmp_path / "m"
    poison = {"marker": str(marker), "poison": True}
    async with peer(hub_of_two.url) as connection, peer(hub_of_two.url) as stranger:
        before = await deaths(connection)
        error = await connection.error("lab.deadly", poison, within=2 * PATIENCE)
        require({**QUARANTINED, "data": {**QUARANTINED["data"], "maybe_executed": True}}, error)
        assert letters(marker) == 3
        error = await stranger.error("lab.deadly", poison)
        require({**QUARANTINED, "data": {**QUARANTINED["data"], "maybe_executed": False}}, error)
        assert 250_000 < error["data"]["retry_after_ms"] <= 300_001
        assert letters(marker) == 3, "it was not run"
        assert (await stranger.result("lab.deadly", {"marker": str(marker)}))["pid"], "other params are"
        await whole_again(connection, before + 3)
        require(QUARANTINED, await connection.error("lab.deadly", poison))
        hub_of_two.executor_pids()


async def test_fault_16_calls_that_wait_with_such_an_input_are_refused_with_it(
    hub_of_one: RunningHub, tmp_path: Path
) -> None:
    marker = tmp_path / "m"
    poison = {"marker": str(marker), "poison": True}
    async with peer(hub_of_one.url) as connection:
        before = await deaths(connection)
        calls = [await connection.request("lab.deadly_once", poison) for _ in range(6)]
        other = await connection.request("lab.deadly_once", {"marker": str(marker)})
        errors = [(await connection.reply(call, within=3 * PATIENCE))["error"] for call in calls]
        assert letters(marker) <= 4, "three that killed, and perhaps the one with other params"
        refused = [error for error in errors if not error["data"]["maybe_executed"]]
        assert refused
        for error in refused:
            require(QUARANTINED, error)
        # It may have been sent ahead into an executor that died; then it is the caller's to send again.
        outcome = await connection.reply(other, within=3 * PATIENCE)
        assert outcome.get("result") or outcome["error"]["data"]["maybe_executed"]
        await whole_again(connection, before + 3)
        assert (await connection.result("lab.deadly_once", {"marker": str(marker)}))["pid"]
        hub_of_one.executor_pids()


async def test_fault_16_bystanders_are_not_taken_for_killers(hub_of_two: RunningHub, tmp_path: Path) -> None:
    """What runs beside a killer dies with it, but it gets through in between: that clears it."""
    marker, other = tmp_path / "m", tmp_path / "other"
    innocent = {"marker": str(other), "seconds": 0.3}
    async with peer(hub_of_two.url) as connection:
        for n in range(4):
            beside = [await connection.request("lab.deadly", innocent) for _ in range(2)]
            await asyncio.to_thread(eventually, lambda: letters(other), "they run")
            await connection.error("lab.deadly_once", {"marker": str(marker), "poison": True})
            for each in beside:
                assert "result" in await connection.reply(each, within=2 * PATIENCE), n
            other.unlink()
        hub_of_two.executor_pids()


async def avoids_one(connection: Peer) -> int:
    """Wait until calls go past an executor that does not hear; which process answers them."""
    async with asyncio.timeout(2 * PATIENCE):
        while True:
            probes = [await connection.request("debug.pid") for _ in range(6)]  # they take turns over all that hear
            with contextlib.suppress(TimeoutError):
                pids = {(await connection.reply(probe, within=0.6))["result"]["pid"] for probe in probes}
                if len(pids) == 1:
                    return int(pids.pop())


async def test_fault_15_neighbours_of_a_stuck_executor_are_unharmed(hub_of_two: RunningHub, tmp_path: Path) -> None:
    with native_hold(tmp_path) as hold:
        async with peer(hub_of_two.url) as connection, peer(hub_of_two.url) as neighbour:
            died = await deaths(connection)
            await whole_again(connection, died)
            before = hub_of_two.executor_pids()
            # What ends it is the cancel, however long the machine takes up to there.
            stuck = await connection.request("lab.native", hold.params, metadata={"timeout_ms": 120_000})
            await hold.runs()
            other = await avoids_one(neighbour)
            # Not idempotent, and longer than the other lives: one that went to the stuck executor would be lost.
            streams = [await neighbour.request("debug.count", {"n": 100, "interval_ms": 30}) for _ in range(4)]
            await connection.cancel(stuck)
            require({"error": {"code": ErrorCode.CANCELLED}}, await connection.reply(stuck))
            for stream in streams:
                assert (await neighbour.reply(stream, within=2 * PATIENCE))["result"] == {"chunks": 100}
            await whole_again(connection, died + 1)
            after = hub_of_two.executor_pids()
            assert before & after == {other}
            assert len(after) == 2


async def test_fault_15_what_waits_for_a_silent_executor_runs_when_it_hears_again(
    hub_of_one: RunningHub, tmp_path: Path
) -> None:
    """The only one there is holds the interpreter lock for a while, as it may: what comes meanwhile is not lost."""
    async with peer(hub_of_one.url) as connection:
        with native_hold(tmp_path) as hold:
            stuck = await connection.request("lab.native", hold.params)
            await hold.runs()
            # It is to count as silent, which nothing tells; if it does not yet, the rest holds too.
            await asyncio.sleep(1.0)
            late = await connection.error("debug.sleep", {"seconds": 0}, metadata={"timeout_ms": 50})
            require({"code": ErrorCode.COMMUNICATION_TIMEOUT}, late)
            waiting = [await connection.request("debug.echo", {"value": n}) for n in range(50)]
            keyed = await connection.request("lab.owned", {"key": "k", "value": 7})
            await connection.result("rpc.ping")
        assert [(await connection.reply(call))["result"] for call in waiting] == list(range(50))
        assert (await connection.reply(keyed))["result"]["value"] == 7
        assert "result" in await connection.reply(stuck)


async def test_fault_15_closing_tabs_does_not_make_all_executors_load_again(tmp_path: Path) -> None:
    """Three that are stuck because their clients have gone: they are replaced one after the other."""
    with lab(executors=3, kill_after=0.5) as hub:
        before = hub.executor_pids()
        async with peer(hub.url) as watching:
            async with peer(hub.url) as tab:
                for n in range(3):
                    marker = tmp_path / str(n)
                    await tab.request("lab.stuck", {"marker": str(marker), "seconds": 60})
                    await asyncio.to_thread(eventually, partial(letters, marker), "it runs")
                tab.socket.transport.abort()
            fewest = 3
            async with asyncio.timeout(6 * PATIENCE):
                while True:
                    health = await watching.result("health.detailed")
                    fewest = min(fewest, sum(e["status"] in ("ready", "busy", "silent") for e in health["executors"]))
                    if sum(executor["restarts"] for executor in health["executors"]) == 3:
                        break
                    await asyncio.sleep(0.01)
            assert fewest == 2, "never two at once"
            await whole_again(watching, 3)
            assert not before & hub.executor_pids()


# --- the pool alone, whose limits are the test's ---


class Asked(Call):
    """A call of the test's."""

    __slots__ = ("outcome",)

    def __init__(self, method: str, params: bytes) -> None:
        Call.__init__(self, method, params)
        self.outcome: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    @override
    def caller(self) -> None:
        return None

    @override
    def deliver_result(self, result: bytes) -> None:
        self.outcome.set_result(result)

    @override
    def deliver_error(self, error: RpcError) -> None:
        self.outcome.set_exception(error)


@asynccontextmanager
async def running_pool(quarantine: QuarantineLimits) -> AsyncIterator[ExecutorPool]:
    spec = ExecutorSpec(modules=("lab",), python_path=(str(MODULES),))
    pool = ExecutorPool(one_group(1, spec), lambda _: None, quarantine=quarantine)
    pool.start()
    try:
        await asyncio.wait_for(pool.wait_ready(), START)
        yield pool
    finally:
        await pool.stop(1.0)


async def ask(pool: ExecutorPool, method: str, params: bytes) -> bytes:
    call = Asked(method, params)
    call.info = pool.find(method)
    pool.submit(call)
    return await asyncio.wait_for(call.outcome, 2 * PATIENCE)


async def test_fault_16_released_after_a_while_and_on_probation(tmp_path: Path) -> None:
    marker = tmp_path / "m"
    poison = b'{"marker":"%b","poison":true}' % str(marker).encode()
    seconds = 1.5 * SCALE
    async with running_pool(QuarantineLimits(kills=2, seconds=seconds)) as pool:
        for kills in (1, 2):
            with pytest.raises(RpcError, match="died") as caught:
                await ask(pool, "lab.deadly_once", poison)
            assert caught.value.maybe_executed
            assert letters(marker) == kills
        assert pool.quarantine.quarantined(time.monotonic()) == 1
        with pytest.raises(RpcError, match="2 executors died") as caught:
            await ask(pool, "lab.deadly_once", poison)
        assert not caught.value.maybe_executed
        assert caught.value.retry_after_ms is not None
        await asyncio.sleep(caught.value.retry_after_ms / 1000)  # as it was told to
        assert pool.quarantine.quarantined(time.monotonic()) == 0
        with pytest.raises(RpcError, match="3 executors died while running"):
            await ask(pool, "lab.deadly_once", poison)
        assert letters(marker) == 3, "it was let in again, and killed again"
        with pytest.raises(RpcError, match="3 executors died while running") as caught:
            await ask(pool, "lab.deadly_once", poison)
        assert caught.value.retry_after_ms is not None
        assert caught.value.retry_after_ms > 1000 * seconds, "twice as long"
        assert letters(marker) == 3


async def test_fault_16_one_that_behaves_after_its_release_is_cleared(tmp_path: Path) -> None:
    """The executor died of something else, or was repaired: whoever gets through is as good as anyone."""
    marker = tmp_path / "m"
    params = b'{"marker":"%b"}' % str(marker).encode()
    async with running_pool(QuarantineLimits(kills=1, seconds=0.2)) as pool:
        with pytest.raises(RpcError, match="1 executor died") as caught:
            await ask(pool, "lab.once", params)  # kills at its first run only
        await asyncio.sleep((caught.value.retry_after_ms or 300) / 1000)  # as it was told to
        assert b"second" in await ask(pool, "lab.once", params)
        marker.unlink()
        with pytest.raises(RpcError) as caught:
            await ask(pool, "lab.once", params)
        assert caught.value.retry_after_ms is not None
        assert caught.value.retry_after_ms <= 201, "not twice as long"
