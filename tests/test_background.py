"""Tasks that run beside: they are held, and what they die of is logged at that moment."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import threading

import pytest

from tests.support.timing import PATIENCE
from trunkline import background
from trunkline.background import keep_up, start_task


async def fail(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


async def ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task], timeout=PATIENCE)
    await asyncio.sleep(0)


@pytest.mark.parametrize("error", [ValueError("no"), OverflowError("int too large"), BaseException("x")], ids=repr)
async def test_what_a_task_dies_of_is_logged_while_it_is_still_held(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    task = start_task(fail(error), "a chore")
    await ended(task)
    (record,) = [record for record in caplog.records if record.name == "trunkline.background"]
    assert record.levelno == logging.ERROR
    assert record.getMessage() == f"task a chore died of {type(error).__name__}: {error}"
    assert record.exc_info is not None


async def test_ends_that_are_no_accident_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    for task in (
        start_task(asyncio.sleep(0), "well"),
        start_task(fail(ValueError("x")), "awaited", expected=ValueError),
    ):
        await ended(task)
    cancelled = start_task(asyncio.sleep(60), "cancelled")
    cancelled.cancel()
    await ended(cancelled)
    assert not caplog.records


async def test_a_task_that_nobody_holds_is_not_collected() -> None:
    done = asyncio.Event()

    async def chore() -> None:
        gate = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.05, gate.set_result, None)
        await gate
        done.set()

    start_task(chore(), "held")
    await asyncio.sleep(0)
    gc.collect()
    await asyncio.wait_for(done.wait(), PATIENCE)


async def test_what_must_not_die_is_begun_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "PAUSE_SECONDS", 0.001)
    runs = 0

    async def chore() -> None:
        nonlocal runs
        runs += 1
        if runs <= 1_100:
            raise OverflowError("int too large to convert to float")

    caplog.set_level(logging.CRITICAL)  # so many tracebacks are slow
    await asyncio.wait_for(keep_up(chore, "chore"), 3 * PATIENCE)
    assert runs == 1_101


async def test_what_must_not_die_can_be_stopped() -> None:
    task = keep_up(asyncio.Event().wait, "chore")  # type: ignore[arg-type]
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait_for(asyncio.wait([task]), PATIENCE)
    assert task.cancelled()


@pytest.mark.parametrize("ending", ["ValueError('no')", "SystemExit(2)"])
def test_what_ends_a_thread_is_logged(ending: str) -> None:
    code = (
        "import threading, logging; from trunkline.background import thread_died; logging.basicConfig();"
        "threading.excepthook = thread_died\n"
        f"def work(): raise {ending}\n"
        "thread = threading.Thread(target=work, name='worker'); thread.start(); thread.join()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "thread worker died of " + ending.partition("(")[0] in done.stderr
    assert threading.current_thread() is threading.main_thread()
