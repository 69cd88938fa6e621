"""Fault 17: methods that cannot be loaded. Not ready, the cause named, no restart storm."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE, SCALE
from trunkline_protocol.errors import ErrorCode

CAUSES = {
    "broken_import": "the model file model.bin is corrupt",
    "broken_load": "no weights for model tiny-test; fetch them first",
    "broken_dependency": "no_such_library",
    "no_module_of_that_name": "no_module_of_that_name",
}


async def cause_is_known(connection: Peer, cause: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while cause not in str((await connection.result("health.detailed"))["causes"]):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("module", CAUSES)
async def test_fault_17_not_ready_and_the_cause_is_named(module: str) -> None:
    cause = CAUSES[module]
    with RunningHub([module], cwd=MODULES) as hub:
        async with peer(hub.url) as connection:
            await cause_is_known(connection, cause)
            ready = hub.get("/ready")
            assert ready.status == 503
            assert ready.json()["ready"] is False
            assert cause in str(ready.json()["causes"])
            error = await connection.error("broken.ping")
            require(
                {
                    "code": ErrorCode.WORKER_UNAVAILABLE,
                    "message": {"$contains": cause},
                    "data": {"maybe_executed": False, "retryable": True},
                },
                error,
            )
            async with asyncio.timeout(PATIENCE):
                while (health := await connection.result("health.detailed"))["status"] == "starting":
                    await asyncio.sleep(0.02)  # the process that failed is not quite gone yet
            assert health["status"] == "unhealthy"
            require({"executors": [{"last_failure": {"$contains": cause}}]}, health)
        assert hub.get("/health").status == 200, "the hub itself is well"


async def test_fault_17_no_restart_storm_and_no_names_that_peers_make_up() -> None:
    with RunningHub(["broken_import"], cwd=MODULES) as hub:
        async with peer(hub.url) as connection:
            await cause_is_known(connection, CAUSES["broken_import"])
            started = time.monotonic()
            for number in range(30):
                await connection.error(f"made.up.{number}")
                await asyncio.sleep(0.1)  # what is counted are restarts in this time
            health = await connection.result("health.detailed")
            assert 2 <= health["executors"][0]["restarts"] <= 6, f"in {time.monotonic() - started:.1f} s"
            methods = (await connection.result("metrics.get"))["methods"]
            assert not [name for name in methods if name.startswith("made.up")], "peers must not make labels"


async def test_fault_17_one_bad_module_of_two_is_named() -> None:
    with RunningHub([DEBUG_METHODS, "broken_load"], cwd=MODULES) as hub:
        async with peer(hub.url) as connection:
            await cause_is_known(connection, CAUSES["broken_load"])


async def test_while_loading_it_is_starting_and_not_ready() -> None:
    with RunningHub(["slow_load"], cwd=MODULES) as hub:
        async with peer(hub.url) as connection:
            assert (await connection.result("health.check"))["status"] == "starting"
            assert hub.get("/ready").status == 503
            require({"code": ErrorCode.WORKER_UNAVAILABLE}, await connection.error("slow.ping"))
            await asyncio.to_thread(hub.ready)
            assert await connection.result("slow.ping") == "pong"
            assert hub.get("/ready").status == 200


def test_stopping_while_executors_load_is_quick() -> None:
    with RunningHub(["slow_load"], cwd=MODULES) as hub:
        started = time.monotonic()
        hub.stop()
        assert time.monotonic() - started < 3 * SCALE
