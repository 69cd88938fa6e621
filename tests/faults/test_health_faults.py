"""Health says within two seconds what cannot be served: executors that are stopped, held up, or stuck; what fails."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.faults.test_hand_over import loading_stalls
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE, eventually, until
from trunkline.control.health import TICK_SECONDS
from trunkline.executors.availability import SILENT_SECONDS, STILL_SECONDS
from trunkline.executors.watchdog import IDLE_PING_AFTER, QUIET_AFTER

TOLD = PATIENCE
"""Two seconds where nobody stands still, as :func:`test_two_seconds_are_enough` adds them up."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a file says that no executor loads."""
    return tmp_path_factory.mktemp("keeper")


@pytest.fixture(scope="module")
def shared(folder: Path) -> Iterator[RunningHub]:
    options: Any = {"cwd": MODULES, "executors": 2, "env": {"KEEPER": str(folder)}}
    with ready_hub(DEBUG_METHODS, "lab", "keeper", **options) as running:
        yield running


@pytest.fixture
def hub(shared: RunningHub) -> RunningHub:
    """One that is healthy again after the test before."""
    eventually(lambda: health(shared)["status"] == "healthy", "what was stopped goes on", within=PATIENCE)
    return shared


@contextmanager
def stopped(hub: RunningHub, number: int) -> Iterator[None]:
    """So many executors get no time on the processor."""
    pids = sorted(hub.executor_pids())[:number]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):  # one that was stopped for too long is killed
                os.kill(pid, signal.SIGCONT)


def ready(hub: RunningHub) -> tuple[int, list[str]]:
    answer = hub.get("/ready")
    return answer.status, answer.json()["causes"]


def health(hub: RunningHub) -> dict[str, Any]:
    found: dict[str, Any] = hub.get("/health/detailed").json()
    return found


def test_two_seconds_are_enough() -> None:
    """An idle executor is pinged, and silent; or calls wait, and nothing ends: then somebody looks."""
    assert IDLE_PING_AFTER + QUIET_AFTER + SILENT_SECONDS + TICK_SECONDS <= 2.0
    assert STILL_SECONDS + TICK_SECONDS <= 2.0


def test_stopped_executors_are_not_healthy(hub: RunningHub) -> None:
    with stopped(hub, 2):
        eventually(lambda: ready(hub)[0] == 503, "nothing can be served", within=TOLD)
        said = health(hub)
        assert said["status"] == "unhealthy"
        assert [executor["status"] for executor in said["executors"]] == ["silent", "silent"]
        assert len(ready(hub)[1]) == 2
        (group,) = said["groups"]
        assert (group["name"], group["ready"], group["serving"]) == ("default", False, 0)
        unserved = {method["method"]: method for method in said["methods"]}
        assert unserved["debug.echo"]["reason"] == "no executor of the group default answers"
        assert abs(unserved["debug.echo"]["since"] - group["since"]) < 1000
        assert hub.get("/health").json()["ready"] is False
    eventually(lambda: ready(hub) == (200, []), "they go on", within=TOLD)
    eventually(lambda: health(hub)["status"] == "healthy", "they go on", within=TOLD)


async def test_one_of_two_stopped_is_degraded_and_its_part_is_done_by_the_other(hub: RunningHub) -> None:
    with stopped(hub, 1):
        eventually(lambda: health(hub)["status"] == "degraded", "one does not answer", within=TOLD)
        eventually(lambda: ready(hub) == (200, []), "the other does", within=TOLD)
        require({"causes": [{"$contains": "does not answer"}]}, health(hub))
        async with peer(hub.url) as connection:
            for _ in range(20):
                assert await connection.result("debug.echo", {"value": 1}) == 1


async def test_methods_that_hold_every_interpreter_are_not_healthy(hub: RunningHub, tmp_path: Path) -> None:
    async with peer(hub.url) as connection:
        held = hub.executor_pids()
        for number in range(2):
            marker = tmp_path / f"deaf-{number}"
            await connection.request("lab.deaf", {"marker": str(marker)})
            eventually(marker.exists, "it holds the interpreter lock")
        eventually(lambda: ready(hub)[0] == 503, "nothing can be served", within=TOLD)
        assert health(hub)["status"] == "unhealthy"
    for pid in held:
        os.kill(pid, signal.SIGKILL)  # or they would hold it for a minute


async def test_plain_functions_that_do_not_end_are_told_when_others_wait(hub: RunningHub, tmp_path: Path) -> None:
    async with peer(hub.url) as connection:
        markers = [str(tmp_path / f"held-{number}") for number in range(3)]
        held = [await connection.request("lab.until_cancelled", {"marker": marker}) for marker in markers]
        eventually(lambda: health(hub)["status"] == "degraded", "the third waits", within=TOLD)
        said = health(hub)
        require({"causes": [{"$contains": "lab.until_cancelled has run for"}]}, said)
        unserved = {method["method"] for method in said["methods"]}
        assert "debug.spin" in unserved, "a plain function waits"
        assert "debug.echo" not in unserved, "a coroutine does not"
        assert ready(hub) == (200, []), "coroutines are served"
        assert await connection.result("debug.echo", {"value": 1}) == 1
        for each in held:
            await connection.cancel(each)
        eventually(lambda: health(hub)["status"] == "healthy", "they are done", within=TOLD)


async def test_a_method_that_fails_is_named_by_its_rate_and_its_error_within_two_seconds(hub: RunningHub) -> None:
    async with peer(hub.url) as connection:
        for _ in range(40):
            await connection.result("debug.echo", {"value": 1})
        for _ in range(5):
            await connection.error("debug.count", {"n": 1, "fail_at": 0})
        eventually(lambda: health(hub)["status"] == "degraded", "it is counted by itself", within=TOLD)
        assert ready(hub) == (200, []), "all the others are served"
        said = health(hub)
        (method,) = said["methods"]
        assert (method["method"], method["status"], method["failed"]) == ("debug.count", "failing", 5)
        assert method["last_error"]["type"] == "PIPELINE_EXECUTION_ERROR"
        assert method["last_error"]["message"] in said["causes"][0]
        assert said["causes"][0].startswith("debug.count fails 100 %, ")
        for _ in range(5):
            await connection.error("debug.count", {"n": "many"})  # refused, and no success
        assert health(hub)["status"] == "degraded"
        for _ in range(5):
            await connection.result("debug.count", {"n": 0})
        eventually(lambda: health(hub)["status"] == "healthy", "it works again", within=TOLD)


async def test_a_callee_that_fails_counts_as_well_and_its_client_that_is_away(hub: RunningHub) -> None:
    async with peer(hub.url) as callee, peer(hub.url) as caller:
        opened = await callee.result("session.open", {})
        await callee.result("method.register", {"method": "theirs.see"})
        for _ in range(5):
            asking = await caller.request("theirs.see", {})
            call = await callee.receive()
            error = {"code": -32603, "message": "no camera"}
            await callee.send({"jsonrpc": "2.0", "id": call["id"], "error": error})
            await caller.reply(asking)

        def told(status: str) -> bool:
            found = {method["method"]: method for method in health(hub)["methods"]}.get("theirs.see")
            return found is not None and (found["status"], found["group"]) == (status, None)

        eventually(lambda: told("failing"), "clients' methods fail as others do", within=TOLD)
        await callee.socket.close()
        eventually(lambda: told("unavailable"), "its session waits to be resumed", within=TOLD)
    async with peer(hub.url) as again:
        await again.result("session.open", {"resume": {"session": opened["session"], "received": opened["received"]}})
        await again.result("method.unregister", {"method": "theirs.see"})
    eventually(lambda: not told("unavailable"), "nobody serves it any more", within=TOLD)


async def test_health_is_published_when_it_changes(hub: RunningHub) -> None:
    async with peer(hub.url) as watcher:
        await watcher.result("subscribe", {"topic": "system.health"})
        await said_by(watcher, ready=True)
        with stopped(hub, 2):
            event = await said_by(watcher, ready=False)
            assert (event["status"], len(event["causes"])) == ("unhealthy", 2)
            assert event == event | {key: health(hub)[key] for key in ("status", "ready", "since", "causes")}
        again = await said_by(watcher, ready=True)
        assert again["since"] > event["since"]


async def said_by(watcher: Peer, *, ready: bool) -> dict[str, Any]:
    """The next event of health that says so."""
    while True:
        message = await watcher.receive()
        if message.get("method") == "event" and message["params"]["data"]["ready"] is ready:
            found: dict[str, Any] = message["params"]["data"]
            return found


def test_one_of_two_that_restarts_is_no_reason_to_be_taken_out(hub: RunningHub, folder: Path) -> None:
    with loading_stalls(folder):
        os.kill(min(hub.executor_pids()), signal.SIGKILL)
        eventually(lambda: health(hub)["status"] == "degraded", "it is said", within=TOLD)
        eventually(lambda: ready(hub) == (200, []), "the other serves", within=TOLD)
    eventually(lambda: health(hub)["status"] == "healthy", "another is there", within=PATIENCE)


async def test_messages_of_errors_are_for_admins(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.toml"
    tokens.write_text("".join(entry(name, roles) for name, roles in (("ops", ["admin"]), ("worker", []))))
    tokens.chmod(0o600)
    with ready_hub(executors=1, env={"TRUNKLINE_TOKENS_FILE": str(tokens)}) as hub:
        async with peer(hub.url, bearer("worker")) as worker, peer(hub.url, bearer("ops")) as ops:
            for _ in range(5):
                await worker.error("debug.fail", {"message": "of somebody else"})

            async def told(reader: Peer) -> Any:
                return (await reader.result("health.detailed"))["methods"]

            (seen,) = await until(lambda: told(ops), "it fails", within=TOLD)
            (less,) = await told(worker)
            assert "RuntimeError" in seen["last_error"]["message"]
            assert (less["last_error"]["type"], less["last_error"]["message"]) == ("INTERNAL_ERROR", None)
            causes = (await worker.result("health.detailed"))["causes"]
            assert "RuntimeError" not in "".join(causes)


def secret_of(name: str) -> str:
    return f"the-token-of-{name}-0007"


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret_of(name)}"}


def entry(name: str, roles: list[str]) -> str:
    digest = hashlib.sha256(secret_of(name).encode()).hexdigest()
    return f'[[tokens]]\nname = "{name}"\nroles = {json.dumps(roles)}\nsha256 = "{digest}"\n'
