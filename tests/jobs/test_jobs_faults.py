"""Jobs through the death of executor and hub, a full disk, damage, and two hubs at one folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.test_store import made, sql
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.jobs import job, until
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.small_disk import fill, small_disk
from tests.support.timing import PATIENCE, eventually
from tests.support.timing import until as reached
from trunkline.jobs.job import Started
from trunkline_protocol.errors import ErrorCode


def hub_at(data: Path, **options: Any) -> contextlib.AbstractContextManager[RunningHub]:
    """A hub with this data folder."""
    return ready_hub(DEBUG_METHODS, "labours", cwd=MODULES, arguments=["--data", str(data)], **options)


async def halfway(one: Peer, folder: Path) -> dict[str, Any]:
    """A job that has done two of four steps, and waits."""
    await asyncio.to_thread(folder.mkdir)
    made = await job(one, "labours.steps", {"folder": str(folder), "count": 4, "hold_at": 2})

    async def is_there() -> bool:
        found = await one.result("jobs.get", {"id": made["id"]})
        return bool(found["progress"] == {"done": 2, "total": 4})

    await reached(is_there, "two steps are done")
    return made


def require_went_on(folder: Path, over: dict[str, Any], starts: int = 2) -> None:
    """It did what was left, in another process, and nothing twice."""
    require({"status": "succeeded", "attempts": starts, "result": {"steps": 4}, "error": None}, over)
    assert (folder / "steps").read_text().split() == ["0", "1", "2", "3"]
    assert len(set((folder / "starts").read_text().split())) == starts


async def test_a_job_goes_on_when_its_executor_is_killed(tmp_path: Path) -> None:
    with hub_at(tmp_path / "data") as hub:
        async with peer(hub.url) as one:
            made = await halfway(one, tmp_path / "a")
            (pid,) = hub.executor_pids()
            os.kill(pid, signal.SIGKILL)
            starts = tmp_path / "a" / "starts"
            await asyncio.to_thread(eventually, lambda: len(starts.read_text().split()) == 2, "it has begun again")
            found = await one.result("jobs.get", {"id": made["id"]})
            require({"status": "running", "attempts": 2, "progress": {"done": 2, "total": 4}}, found)
            (tmp_path / "a" / "go").touch()
            require_went_on(tmp_path / "a", await until(one, made["id"]))
            hub.executor_pids()


def damage(jobs: Path, job_id: str) -> None:
    """Another method than the one that was written down, by a program that writes the log back, too."""
    (jobs / "lock").unlink()  # as the hub says where it finds no log
    event = "CAST(replace(CAST(event AS TEXT), 'labours.where', 'labours.large') AS BLOB)"
    sql(jobs, f"UPDATE events SET event = {event} WHERE job = ?", job_id)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
async def test_jobs_go_on_with_the_next_hub_which_sets_aside_what_is_damaged(
    tmp_path: Path, number: signal.Signals
) -> None:
    folder, data = tmp_path / "a", tmp_path / "data"
    with hub_at(data, env={"TRUNKLINE_DRAIN_SECONDS": "600"}) as hub:
        async with peer(hub.url) as one:
            over = await until(one, (await job(one, "labours.large", {"length": 40_000}))["id"])
            running = await halfway(one, folder)
            queued = await job(one, "labours.where", idempotency_key="k")
            gone, bad = await job(one, "labours.where"), await job(one, "labours.where")
            require({"cancelled": True}, await one.result("jobs.cancel", {"id": gone["id"]}))
        hub.executor_pids()
        hub.process.send_signal(number)
        # The drain would be ten minutes: a job that goes on later is not waited for.
        hub.wait_ended(0 if number == signal.SIGTERM else -number)
    await asyncio.to_thread(damage, data / "jobs", bad["id"])
    with hub_at(data) as hub:
        async with peer(hub.url) as one:
            require({"code": ErrorCode.INVALID_PARAMS}, await one.error("jobs.get", {"id": bad["id"]}))
            hub.wait_for(bad["id"])
            assert (await one.result("jobs.get", {"id": over["id"]})) == over
            found = await until(one, running["id"], "running")
            require({"attempts": 2}, found)
            require({"status": "queued", "attempts": 0}, await one.result("jobs.get", {"id": queued["id"]}))
            require({"status": "cancelled"}, await one.result("jobs.get", {"id": gone["id"]}))
            (folder / "go").touch()
            require_went_on(folder, await until(one, running["id"]))
            require({"status": "succeeded", "attempts": 1}, await until(one, queued["id"]))
            assert (await job(one, "labours.where", idempotency_key="k"))["id"] == queued["id"]
            listed = (await one.result("jobs.list"))["jobs"]
            assert [each["id"] for each in listed] == [gone["id"], queued["id"], running["id"], over["id"]]


async def test_two_hubs_at_one_folder_do_not_run_the_same_jobs(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with hub_at(data) as first, contextlib.ExitStack() as later:
        async with peer(first.url) as one:
            made = await halfway(one, tmp_path / "a")
            second = later.enter_context(hub_at(data))
            async with peer(second.url) as other:
                for method, params in (("jobs.create", {"method": "labours.where"}), ("jobs.get", {"id": made["id"]})):
                    error = await other.error(method, params)
                    assert error["code"] == ErrorCode.DATABASE_CONNECTION_ERROR
                    assert f"process {first.process.pid} " in error["message"]
                assert await other.result("debug.echo", {"value": 1}) == 1
                first.stop()
                starts = tmp_path / "a" / "starts"
                await asyncio.to_thread(
                    eventually, lambda: len(starts.read_text().split()) == 2, "the second has taken over"
                )
                (tmp_path / "a" / "go").touch()
                require_went_on(tmp_path / "a", await until(other, made["id"]))


async def test_without_a_folder_everything_else_works(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_text("a file, where the folder should be")
    with hub_at(data) as hub:
        async with peer(hub.url) as one:
            assert (await one.result("jobs.list")) == {"jobs": [], "cursor": None}
            error = await one.error("jobs.create", {"method": "labours.where"})
            require({"code": ErrorCode.DATABASE_CONNECTION_ERROR, "message": {"$contains": str(data)}}, error)
            assert await one.result("debug.echo", {"value": 1}) == 1
            data.unlink()  # it is mended, and nobody has to start the hub again
            require({"status": "succeeded"}, await until(one, (await job(one, "labours.where"))["id"]))


async def test_a_method_that_is_gone_fails_the_job(tmp_path: Path) -> None:
    made_before = made(tmp_path / "jobs", Started(2))
    with ready_hub(DEBUG_METHODS, arguments=["--data", str(tmp_path)]) as hub:
        async with peer(hub.url) as one:
            over = await until(one, made_before)
            require({"status": "failed", "attempts": 1, "error": {"code": ErrorCode.METHOD_NOT_FOUND}}, over)


async def test_a_full_disk_refuses_jobs_and_holds_outcomes_back_until_there_is_room(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path) as disk, hub_at(disk / "data") as hub:
        async with peer(hub.url) as one:
            made = await halfway(one, tmp_path / "a")
            fill(disk / "filler")
            error = await one.error("jobs.create", {"method": "labours.where", "params": {"x": "y" * 5000}})
            require({"code": ErrorCode.INSUFFICIENT_RESOURCES, "message": {"$contains": "disk is full"}}, error)
            (tmp_path / "a" / "go").touch()
            hub.wait_for(f"the outcome of job {made['id']} cannot be recorded")
            assert (await one.result("jobs.get", {"id": made["id"]}))["status"] == "running"
            assert len((await one.result("jobs.list"))["jobs"]) == 1
            assert await one.result("debug.echo", {"value": 1}) == 1
            (disk / "filler").unlink()
            require_went_on(tmp_path / "a", await until(one, made["id"]), starts=1)
            require({"status": "succeeded"}, await until(one, (await job(one, "labours.where"))["id"]))


async def test_many_jobs_several_at_once(tmp_path: Path) -> None:
    with hub_at(tmp_path / "data", env={"TRUNKLINE_JOBS_AT_ONCE": "4"}, executors=2) as hub:
        async with peer(hub.url) as one:
            asked = [{"method": "labours.large", "params": {"length": n}} for n in range(50)]
            ids = [await one.request("jobs.create", params) for params in asked]
            made = [(await one.reply(each))["result"]["id"] for each in ids]
            for n, each in enumerate(made):
                assert (await until(one, each, within=3 * PATIENCE))["result"] == "x" * n
