"""Supervisors go on, whatever fails and however often: real executors, without a hub around them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.groups import one_group
from tests.support.timing import PATIENCE, until
from trunkline.client.retrying import full_jitter
from trunkline.executors import supervisor
from trunkline.executors.pool import ExecutorPool
from trunkline.executors.specs import ExecutorSpec
from trunkline.executors.supervisor import BACKOFF_LIMIT
from trunkline.jobs.job import LONGEST_PAUSE
from trunkline.jobs.job import pause as job_pause

MODULE = """
import pathlib
from trunkline import method

if pathlib.Path({broken!r}).exists():
    raise OSError("the model file is not there")

@method("flaky.ping")
async def ping() -> str:
    return "pong"
"""


@asynccontextmanager
async def pool_of(folder: Path, on_change: Callable[[], None] = lambda: None) -> AsyncIterator[ExecutorPool]:
    """One executor, whose module does not load while ``folder/broken`` is there."""
    (folder / "flaky.py").write_text(MODULE.format(broken=str(folder / "broken")))
    spec = ExecutorSpec(("flaky",), python_path=(str(folder),))
    pool = ExecutorPool(one_group(1, spec), lambda _call: None, on_change=on_change)
    pool.start()
    try:
        yield pool
    finally:
        await pool.stop(1.0)


def test_pauses_of_ten_thousand_failures_are_the_longest_there_is() -> None:
    pauses = [supervisor.pause(failures) for failures in range(1, 10_001)]
    assert pauses[0] == supervisor.BACKOFF_FIRST
    assert pauses == sorted(pauses)
    assert set(pauses[16:]) == {BACKOFF_LIMIT}
    assert job_pause(10_000, None) == LONGEST_PAUSE
    assert full_jitter(10_000, 0.2, lambda: 1.0, cap=30.0) == 30.0


async def test_an_executor_that_failed_for_hours_comes_back_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF_LIMIT", 0.05)
    (tmp_path / "broken").touch()
    async with pool_of(tmp_path) as pool, asyncio.timeout(3 * PATIENCE):
        pool.crew._supervisors[pool.executors[0]]._failures = 1_024  # 30 s each: eight and a half hours
        (handle,) = pool.executors
        await until(lambda: handle.restarts >= 2, "it has failed twice more", 3 * PATIENCE)
        (tmp_path / "broken").unlink()
        await pool.wait_ready()
        assert "flaky.ping" in pool.methods


async def test_failures_to_load_do_not_count_against_what_has_loaded_since(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF_FIRST", 0.1)
    (tmp_path / "broken").touch()
    async with pool_of(tmp_path) as pool, asyncio.timeout(3 * PATIENCE):
        (handle,) = pool.executors
        await until(lambda: handle.restarts >= 4, "it has failed four times", 3 * PATIENCE)
        (tmp_path / "broken").unlink()
        for doublings in range(2):  # while crashes in a row go on to count
            before = handle.restarts
            await until(lambda: handle.state == "ready", "it is ready", 3 * PATIENCE)
            assert handle.pid is not None
            os.kill(handle.pid, signal.SIGKILL)
            await until(lambda: handle.restarts > before, "it is down", 3 * PATIENCE)  # noqa: B023
            said = re.findall(r"starting it again in ([\d.]+) s", caplog.text)
            assert float(said[-1]) == 0.1 * 2**doublings


@pytest.mark.parametrize("error", [RuntimeError("a fault of the hub"), OverflowError("too large")], ids=repr)
async def test_a_fault_of_the_hub_does_not_end_its_supervisor(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    faults: list[Exception] = []

    def changed() -> None:
        if faults:
            raise faults.pop()

    async with pool_of(tmp_path, changed) as pool, asyncio.timeout(3 * PATIENCE):
        await pool.wait_ready()
        (handle,) = pool.executors
        assert handle.pid is not None
        first = handle.pid
        faults += [error, error]  # the wire is lost, and the process is gone
        os.kill(first, signal.SIGKILL)
        await until(lambda: handle.state == "ready" and handle.pid != first, "the next one is ready", 3 * PATIENCE)
    assert str(error) in caplog.text


async def test_a_process_that_cannot_be_made_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    spec = ExecutorSpec(("flaky",), threads="1\0")  # type: ignore[arg-type]  # no environment takes that
    pool = ExecutorPool(one_group(1, spec), lambda _call: None)
    pool.start()
    try:
        await until(lambda: pool.executors[0].restarts >= 2, "it was tried again")
        assert "could not be started: embedded null byte" in str(pool.executors[0].last_failure)
        assert "ValueError: embedded null byte" in caplog.text
    finally:
        await pool.stop(1.0)


async def test_the_pools_clock_goes_on_after_a_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pool_of(tmp_path) as pool, asyncio.timeout(3 * PATIENCE):
        await pool.wait_ready()
        looked = 0

        def look(_now: float) -> None:
            nonlocal looked
            looked += 1
            if looked == 1:
                raise ZeroDivisionError("once")

        monkeypatch.setattr(pool.watchdog, "look", look)
        await until(lambda: looked >= 3, "it looks again")
    assert "ZeroDivisionError: once" in caplog.text
