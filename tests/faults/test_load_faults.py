"""Fault 17: methods that cannot be loaded. Not ready, the cause named, no restart storm."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import pytest

from tests.support.health import heard_health
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.jobs import job, until
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE, eventually
from trunkline.executors.supervisor import pause
from trunkline_protocol.errors import ErrorCode

CAUSES = {
    "broken_import": "the model file model.bin is corrupt",
    "broken_load": "no weights for model tiny-test; fetch them first",
    "broken_dependency": "no_such_library",
    "no_module_of_that_name": "no_module_of_that_name",
}

RESTARTS = 3

CODES = {
    "broken_dependency": ErrorCode.MISSING_DEPENDENCIES,
    "no_module_of_that_name": ErrorCode.MISSING_DEPENDENCIES,
}

TOLD = {"broken_import": "ValueError (id "}
"""What callers are told where that is not the cause: the text of an exception that was not meant for them."""


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
            assert ready.json()["causes"], "what is wrong is told to everybody"
            assert cause not in str(ready.json()["causes"]).partition(module)[2], (
                "and why, which may hold secrets, in health.detailed"
            )
            error = await connection.error("broken.ping")
            require(
                {
                    "code": CODES.get(module, ErrorCode.PIPELINE_INITIALIZATION_FAILED),
                    "message": {"$contains": TOLD.get(module, cause)},
                    "data": {"maybe_executed": False, "retryable": False, "modules": [module]},
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
            started, first, asked = time.monotonic(), await restarts_of(connection), 0
            async with asyncio.timeout(4 * PATIENCE):
                while (last := await restarts_of(connection)) < first + RESTARTS:
                    await connection.error(f"made.up.{asked}")
                    asked += 1
            took = time.monotonic() - started
            assert took > sum(map(pause, range(first + 1, last))), f"restarts {first} to {last} in {took:.1f} s"
            said = re.findall(r"starting it again in ([\d.]+) s", "\n".join(hub.stderr))
            assert said[:last] == [f"{pause(number):.1f}" for number in range(1, len(said[:last]) + 1)]
            assert asked, "while it was restarted"
            methods = (await connection.result("metrics.get"))["methods"]
            assert not [name for name in methods if name.startswith("made.up")], "peers must not make labels"


async def restarts_of(connection: Peer) -> int:
    return int((await connection.result("health.detailed"))["executors"][0]["restarts"])


@pytest.mark.parametrize(
    ("module", "last"),
    [
        ("broken_load", True),
        ("broken_load", False),
        ("broken_import", True),
        ("broken_dependency", False),
        ("no_module_of_that_name", True),
    ],
)
async def test_the_good_modules_serve_and_the_bad_one_says_why(module: str, last: bool) -> None:
    names = [DEBUG_METHODS, module] if last else [module, DEBUG_METHODS]
    with ready_hub(*names, cwd=MODULES) as hub:
        async with peer(hub.url) as connection:
            assert await connection.result("debug.echo", {"value": 1}) == 1
            code = CODES.get(module, ErrorCode.PIPELINE_INITIALIZATION_FAILED)
            error = await connection.error("broken.ping")
            require({"code": code, "message": {"$contains": TOLD.get(module, CAUSES[module])}}, error)
            require({"data": {"maybe_executed": False, "retryable": False, "modules": [module]}}, error)
            assert "Traceback" not in str(error)
            slip = await connection.error("debug.ehco")
            assert slip["code"] == ErrorCode.METHOD_NOT_FOUND, "names like it are served: it is nobody's"
            health = await heard_health(connection)
            require({"status": "degraded", "executors": [{"status": "ready", "restarts": 0}]}, health)
            (cause,) = health["causes"]
            assert all(part in cause for part in (module, CAUSES[module], "trunkline reload"))
            assert hub.get("/ready").status == 200
            assert hub.get("/health").json()["status"] == "degraded"
            methods = [method["name"] for method in (await connection.result("rpc.discover"))["methods"]]
            assert "debug.echo" in methods
            assert "broken.ping" not in methods
        hub.wait_for("Traceback" if module in ("broken_import", "broken_dependency") else CAUSES[module])


async def test_a_pack_with_a_wrong_setting_leaves_the_others_alone() -> None:
    env = {"TRUNKLINE_LLM_BASE_URL": "http://127.0.0.1:1/v1"}
    with ready_hub(DEBUG_METHODS, "trunkline.methods.rag", "broken_load", cwd=MODULES, env=env) as hub:
        async with peer(hub.url) as connection:
            assert await connection.result("debug.echo", {"value": 1}) == 1
            error = await connection.error("rag.execute", {"technique": "basic", "query": "?"})
            require({"code": ErrorCode.INVALID_CONFIGURATION, "message": {"$contains": "LLM_MODEL"}}, error)
            require({"data": {"retryable": False, "maybe_executed": False}}, error)
            # A name that is nobody's is unknown where all names are known.
            assert (await connection.error("made.up"))["code"] == ErrorCode.METHOD_NOT_FOUND
            # Clients may serve what is nobody's, and not what a module of the hub's would serve.
            assert (await connection.result("method.register", {"method": "made.up"}))["callees"] == 1
            await connection.error("method.register", {"method": "broken.ping"})


async def test_a_module_that_is_mended_is_served_after_a_drain(tmp_path: Path) -> None:
    mended = tmp_path / "weights.bin"
    with ready_hub(DEBUG_METHODS, "mended", cwd=MODULES, env={"MENDED_BY": str(mended)}) as hub:
        async with peer(hub.url) as connection:
            require({"code": ErrorCode.INVALID_CONFIGURATION}, await connection.error("mended.ping"))
            nested = await connection.error("jobs.create", {"method": "mended.ping"})
            require({"code": ErrorCode.INVALID_CONFIGURATION}, nested)
            mended.touch()
            await connection.result("executors.drain", {"worker_id": "executor-0"}, within=2 * PATIENCE)
            assert await connection.result("mended.ping") == "pong"
            assert (await heard_health(connection))["status"] == "healthy"
            mended.unlink()
            refused = await connection.error("executors.drain", {"worker_id": "executor-0"}, within=2 * PATIENCE)
            require({"code": ErrorCode.INVALID_CONFIGURATION, "message": {"$contains": "weights.bin"}}, refused)
            assert await connection.result("mended.ping") == "pong", "what could serve it goes on"
            assert await connection.result("debug.echo", {"value": 1}) == 1


async def test_a_job_waits_for_its_module_to_be_mended(tmp_path: Path) -> None:
    """What was accepted is not lost because the next start of the hub lacks a file."""
    mended = tmp_path / "weights.bin"
    mended.touch()
    env = {"MENDED_BY": str(mended)}
    data = ["--data", str(tmp_path / "data")]
    with ready_hub("mended", "labours", cwd=MODULES, env=env, arguments=data) as hub:
        async with peer(hub.url) as connection:
            params = {"folder": str(tmp_path), "count": 1, "hold_at": 0}
            first = await job(connection, "labours.steps", params)
            await until(connection, first["id"], "running")
            waits = await job(connection, "mended.ping")
    mended.unlink()
    (tmp_path / "go").touch()
    with ready_hub("mended", "labours", cwd=MODULES, env=env, arguments=data) as hub:
        async with peer(hub.url) as connection:
            await until(connection, first["id"], "succeeded", within=2 * PATIENCE)
            assert (await connection.result("jobs.get", {"id": waits["id"]}))["status"] == "queued"


@pytest.mark.parametrize("modules", [["broken_load"], [DEBUG_METHODS, "broken_import"]], ids=["all", "one of two"])
def test_strict_refuses_to_serve_and_says_why(modules: list[str]) -> None:
    with RunningHub(modules, cwd=MODULES, arguments=["--strict"]) as hub:
        hub.wait_ended(2)
        assert CAUSES[modules[-1]] in hub.stderr[-1]


async def test_while_loading_it_is_starting_and_not_ready(tmp_path: Path) -> None:
    with RunningHub(["slow_load"], cwd=MODULES, env={"SLOW_LOAD_UNTIL": str(tmp_path / "go")}) as hub:
        async with peer(hub.url) as connection:
            assert (await connection.result("health.check"))["status"] == "starting"
            assert hub.get("/ready").status == 503
            require({"code": ErrorCode.WORKER_UNAVAILABLE}, await connection.error("slow.ping"))
            (tmp_path / "go").touch()
            await asyncio.to_thread(hub.ready)
            assert await connection.result("slow.ping") == "pong"
            await asyncio.to_thread(eventually, lambda: hub.get("/ready").status == 200, "it is ready")


def test_stopping_does_not_wait_for_executors_that_load() -> None:
    with RunningHub(["slow_load"], cwd=MODULES, env={"TRUNKLINE_DRAIN_SECONDS": "600"}) as hub:
        hub.stop()  # which waits 20 s for its end
