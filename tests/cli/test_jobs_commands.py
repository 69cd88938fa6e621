"""``trunkline jobs``, against a real hub."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import COMMAND, requires_failure, trunkline, trunkline_process
from tests.support.hub import MODULES, RunningHub, clean_environment, ready_hub
from tests.support.jobs import job, until
from tests.support.peer import peer
from tests.support.timing import PATIENCE, START, eventually


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    with ready_hub("labours", cwd=MODULES) as running:
        yield running


async def command(hub: RunningHub, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(trunkline, "jobs", *arguments, "--url", hub.url)


async def test_list_get_cancel(hub: RunningHub, tmp_path: Path) -> None:
    async with peer(hub.url) as one:
        done = (await job(one, "labours.large", {"length": 3}))["id"]
        await until(one, done)
        held = (await job(one, "labours.steps", {"folder": str(tmp_path), "count": 1, "hold_at": 0}))["id"]
        listed = await asyncio.to_thread(trunkline_process, "jobs", "list", "--url", hub.url)
        assert (listed.returncode, listed.stderr) == (0, "")
        assert [line.split()[0] for line in listed.stdout.splitlines()] == ["ID", held, done]
        found = json.loads((await command(hub, "list", "--json", "--status", "succeeded")).stdout)
        assert [each["id"] for each in found["jobs"]] == [done]
        assert json.loads((await command(hub, "get", done)).stdout)["result"] == "xxx"
        assert (await command(hub, "cancel", held)).stdout == "cancelled\n"
        assert (await command(hub, "cancel", held)).stdout == "not cancelled, the job has ended already: cancelled\n"
        requires_failure(await command(hub, "get", "nope"), 1, "'nope'")
        requires_failure(await command(hub, "watch", held), 1, "was cancelled")
        assert json.loads((await command(hub, "watch", done)).stdout) == "xxx"
        failed = (await job(one, "labours.steps", {"count": "many"}))["id"]
        requires_failure(await command(hub, "watch", failed), 1, "-32602")


def watching(hub: RunningHub, job_id: str, errors: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "jobs", "watch", job_id, "--url", hub.url],
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env=clean_environment({"TERM": "xterm", "COLUMNS": "100"}),
    )


def read_until(descriptor: int, words: str) -> str:
    """What a terminal shows, until these words are there."""
    shown = ""

    def seen() -> bool:
        nonlocal shown
        shown += os.read(descriptor, 4096).decode()
        return words in shown

    eventually(seen, words, START)  # a program starts first
    return shown


async def test_watch_shows_progress_until_the_end(hub: RunningHub, tmp_path: Path) -> None:
    master, slave = pty.openpty()
    try:
        async with peer(hub.url) as one:
            made = await job(one, "labours.steps", {"folder": str(tmp_path), "count": 4, "hold_at": 2})
            with watching(hub, made["id"], slave) as process:
                await asyncio.to_thread(read_until, master, "2 of 4")
                (tmp_path / "go").touch()
                assert process.stdout is not None
                result = json.loads(await asyncio.to_thread(process.stdout.read))
                assert await asyncio.to_thread(process.wait, PATIENCE) == 0
            assert result["steps"] == 4
    finally:
        os.close(master)
        os.close(slave)


async def test_ctrl_c_leaves_the_job_running_and_says_so(hub: RunningHub, tmp_path: Path) -> None:
    master, slave = pty.openpty()
    try:
        async with peer(hub.url) as one:
            made = await job(one, "labours.steps", {"folder": str(tmp_path), "count": 4, "hold_at": 2})
            with watching(hub, made["id"], slave) as process:
                await asyncio.to_thread(read_until, master, "2 of 4")
                process.send_signal(signal.SIGINT)
                shown = await asyncio.to_thread(read_until, master, "jobs cancel")
                assert "the job keeps running" in shown
                assert await asyncio.to_thread(process.wait, PATIENCE) == 130
            assert (await one.result("jobs.get", {"id": made["id"]}))["status"] == "running"
            (tmp_path / "go").touch()
            assert (await until(one, made["id"]))["status"] == "succeeded"
    finally:
        os.close(master)
        os.close(slave)
