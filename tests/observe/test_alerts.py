"""Alerts fire at faults of real hubs, and are silent where there is none."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from tests.observe.promtool import Page, goes_on, page_of, promtool, require_firing
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.peer import peer
from tests.support.timing import PATIENCE, eventually

MORE_THAN_ARE_SENT_AHEAD: Final = 600
CONNECTIONS: Final = 400


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    promtool()


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    env = {"TRUNKLINE_QUEUE_LIMIT": "1", "TRUNKLINE_MAX_CONCURRENCY": "1", "TRUNKLINE_QUARANTINE_KILLS": "2"}
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, executors=2, env=env) as running:
        yield running


def scrape(hub: RunningHub, **changed: float) -> Page:
    return page_of(hub.get("/metrics").body.decode(), **changed)


def value(hub: RunningHub, key: str) -> float:
    return scrape(hub).get(key.replace("{", '{instance="here",job="trunkline",', 1), 0.0)


def scrape_well(hub: RunningHub) -> Page:
    """A scrape in which all executors are heard: one that stands still for a moment is not."""
    pages: list[Page] = []

    def is_well() -> bool:
        pages.append(scrape(hub))
        state = '{instance="here",job="trunkline",state="ready"}'
        return pages[-1].get(f"trunkline_executors{state}") == hub.executors

    eventually(is_well, "all executors are ready")
    return pages[-1]


def test_a_hub_that_is_well_alarms_nobody(hub: RunningHub, tmp_path: Path) -> None:
    page = scrape_well(hub)
    require_firing(tmp_path, goes_on(page, page), set())


def test_one_that_does_not_answer(hub: RunningHub, tmp_path: Path) -> None:
    gone = {'up{instance="here",job="trunkline"}': 0.0}
    require_firing(tmp_path, goes_on(scrape(hub), gone), {"TrunklineDown"})


def test_executors_that_are_stopped(hub: RunningHub, tmp_path: Path) -> None:
    before, pids = scrape_well(hub), hub.executor_pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: hub.get("/ready").status == 503, "nothing is served")
        during = scrape(hub)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    eventually(lambda: hub.get("/ready").status == 200, "they go on")
    fired = {"TrunklineNotReady", "TrunklineMethodsUnavailable", "TrunklineExecutorDown"}
    require_firing(tmp_path, goes_on(before, during), fired)


def test_a_group_that_cannot_be_loaded(tmp_path: Path) -> None:
    config = tmp_path / "hub.toml"
    config.write_text(
        f'[groups.good]\nmethods = ["{DEBUG_METHODS}"]\nsize = 1\n[groups.bad]\nmethods = ["broken_load"]\nsize = 1\n'
    )
    with RunningHub((), cwd=MODULES, arguments=("--config", str(config))) as hub:
        eventually(lambda: hub.get("/ready").status == 200, "the other group serves", PATIENCE)
        eventually(lambda: hub.get("/health").json()["status"] == "degraded", "the bad group has failed")
        page = scrape(hub)
    names = {"TrunklineGroupDown", "TrunklineNotReady", "TrunklineDegraded"}
    require_firing(tmp_path, goes_on(page, page), names - {"TrunklineNotReady"}, "|".join(names))


def test_a_hub_that_is_started_over_and_over(tmp_path: Path) -> None:
    pages: list[Page] = []
    for _ in range(4):
        with RunningHub(()) as started:
            pages += [scrape(started)] * 4
    require_firing(tmp_path, pages, {"TrunklineRestarts"})


async def test_calls_that_fail_time_out_or_are_served_by_nobody(hub: RunningHub, tmp_path: Path) -> None:
    before = scrape(hub)
    async with peer(hub.url) as caller:
        for _ in range(5):
            await caller.error("debug.fail")
            await caller.error("nobody.serves.this")
            await caller.error("debug.sleep", {"seconds": 5}, metadata={"timeout_ms": 30})
    eventually(lambda: value(hub, 'trunkline_method_failing{method="debug.fail"}') == 1, "it is judged to fail")
    names = {f"Trunkline{name}" for name in ("MethodFailing", "Degraded", "Failures", "Timeouts", "NobodyServes")}
    require_firing(tmp_path, goes_on(before, scrape(hub)), names, "|".join(names))


async def test_calls_that_are_refused_because_there_are_too_many(hub: RunningHub, tmp_path: Path) -> None:
    before = scrape(hub)
    async with peer(hub.url) as caller:
        for _ in range(MORE_THAN_ARE_SENT_AHEAD):
            await caller.request("debug.sleep", {"seconds": 60})
        assert (await caller.receive())["error"]["code"] == 2002
    require_firing(tmp_path, goes_on(before, scrape(hub)), {"TrunklineOverloaded"}, "TrunklineOverloaded")


async def test_an_input_that_kills_executors(hub: RunningHub, tmp_path: Path) -> None:
    before = scrape(hub)
    async with peer(hub.url) as caller:
        for _ in range(2):
            await caller.error("debug.crash", {"signal": "SIGSEGV"}, within=PATIENCE)
            eventually(lambda: hub.get("/health").json()["ready"], "another is ready")
    names = {"TrunklineExecutorRestarts", "TrunklineQuarantine"}
    require_firing(tmp_path, goes_on(before, scrape(hub)), names, "|".join(names))


async def test_the_first_session_that_is_lost(hub: RunningHub, tmp_path: Path) -> None:
    before = scrape(hub)
    async with peer(hub.url) as client:
        await client.result("session.open", {})
        await client.send({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 1}, "seq": 7})
        await client.close_code()
    pages = [before] * 8 + [scrape(hub)] * 8
    require_firing(tmp_path, pages, {"TrunklineSessionsLost"}, "TrunklineSessionsLost")


async def test_descriptors_that_run_out(tmp_path: Path) -> None:
    with RunningHub(()) as hub:
        before, process = scrape(hub), psutil.Process(hub.process.pid)
        async with AsyncExitStack() as stack:
            for _ in range(CONNECTIONS):
                await stack.enter_async_context(peer(hub.url))
            _, hard = process.rlimit(resource.RLIMIT_NOFILE)
            process.rlimit(resource.RLIMIT_NOFILE, (int(process.num_fds() / 0.85), hard))
            during = scrape(hub)
    require_firing(tmp_path, goes_on(before, during), {"TrunklineDescriptors"}, "TrunklineDescriptors")


def test_a_disk_that_fills(hub: RunningHub, tmp_path: Path) -> None:
    full = scrape(hub, trunkline_disk_free_bytes=3e9, trunkline_disk_bytes=1e11, trunkline_disk_low=1)
    require_firing(tmp_path, goes_on(scrape(hub), full), {"TrunklineDisk"}, "TrunklineDisk")


async def test_jobs_that_fail_and_jobs_that_wait_for_ever(hub: RunningHub, tmp_path: Path) -> None:
    before = scrape(hub)
    async with peer(hub.url) as caller:
        made = await caller.result("jobs.create", {"method": "debug.echo", "params": {"no such": 1}})

        async def job() -> Any:
            return await caller.result("jobs.get", {"id": made["id"]})

        async with asyncio.timeout(PATIENCE):
            while (await job())["status"] != "failed":
                await asyncio.sleep(0.05)  # there is no topic to wait for once it is over
    pages = [before] * 8 + [scrape(hub)] * 8
    require_firing(tmp_path, pages, {"TrunklineJobsFailed"}, "TrunklineJobs.*")
    waiting = {'trunkline_jobs{instance="here",job="trunkline",status="queued"}': 3.0}
    require_firing(tmp_path, goes_on(before, {**before, **waiting}), {"TrunklineJobsStand"}, "TrunklineJobs.*")
