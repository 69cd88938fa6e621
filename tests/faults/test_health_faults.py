"""Health says within two seconds what cannot be served: executors that are stopped, held up, or stuck."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import peer
from tests.support.timing import PATIENCE, SCALE, SOON, eventually

TOLD = 2.0 * SCALE


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningHub]:
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, executors=2) as running:
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
            os.kill(pid, signal.SIGCONT)


def ready(hub: RunningHub) -> tuple[int, list[str]]:
    answer = hub.get("/ready")
    return answer.status, answer.json()["causes"]


def health(hub: RunningHub) -> dict[str, Any]:
    found: dict[str, Any] = hub.get("/health/detailed").json()
    return found


def test_stopped_executors_are_not_healthy(hub: RunningHub) -> None:
    with stopped(hub, 2):
        eventually(lambda: ready(hub)[0] == 503, "nothing can be served", within=TOLD)
        said = health(hub)
        assert said["status"] == "unhealthy"
        assert [executor["status"] for executor in said["executors"]] == ["silent", "silent"]
        assert len(ready(hub)[1]) == 2
    eventually(lambda: health(hub)["status"] == "healthy", "they go on", within=TOLD)
    assert ready(hub) == (200, [])


async def test_one_of_two_stopped_is_degraded_and_its_part_is_done_by_the_other(hub: RunningHub) -> None:
    with stopped(hub, 1):
        eventually(lambda: health(hub)["status"] == "degraded", "one does not answer", within=TOLD)
        assert ready(hub) == (200, [])
        require({"causes": [{"$contains": "does not answer"}]}, health(hub))
        async with peer(hub.url) as connection:
            for _ in range(20):
                assert await connection.result("debug.echo", {"value": 1}, within=SOON) == 1


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
        require({"causes": [{"$contains": "lab.until_cancelled has run for"}]}, health(hub))
        assert ready(hub) == (200, []), "coroutines are served"
        assert await connection.result("debug.echo", {"value": 1}, within=SOON) == 1
        for each in held:
            await connection.cancel(each)
        eventually(lambda: health(hub)["status"] == "healthy", "they are done", within=TOLD)
