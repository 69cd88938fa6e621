"""Executors that grow, and those that have run their share of calls: real processes that bloat."""

from __future__ import annotations

import resource
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub import RunningHub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import START, until
from trunkline.config import load_settings
from trunkline.hosting.executor_settings import group_specs
from trunkline.hosting.runtime import ConfigurationError
from trunkline.settings.naming import SettingsError
from trunkline_protocol.errors import ErrorCode

DEBUG = 'methods = ["trunkline.methods.debug"]\nsize = 1\n'


MODULE = """
import asyncio, os, subprocess, sys, time
from trunkline import method

@method("parents.share")
async def share() -> float:
    kept = b"x" * (120 << 20)
    pids = []
    for _ in range(3):
        if not (pid := os.fork()):
            time.sleep(60)
            os._exit(0)
        pids.append(pid)
    await asyncio.sleep(1.5)  # the hub looks, and is not to kill this
    pages = sum(int(open(f"/proc/{pid}/statm").read().split()[1]) for pid in [os.getpid(), *pids])
    for pid in pids:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

CHILD = "import time; kept = b'x' * (350 << 20); time.sleep(60)"
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"

@method("parents.start")
async def start() -> None:
    subprocess.Popen([sys.executable, "-c", PARENT, CHILD])
    await asyncio.sleep(60)
"""


def hub_with(folder: Path, limits: str) -> RunningHub:
    config = folder / "hub.toml"
    config.write_text(f"[groups.work]\n{DEBUG}{limits}\n")
    return RunningHub((), arguments=("--config", str(config)))


async def executor(connection: Peer) -> dict[str, Any]:
    (found,) = (await connection.result("health.detailed"))["executors"]
    return dict(found)


def replaced_for(connection: Peer, cause: str) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return bool((await executor(connection))["restart_causes"].get(cause))

    return look


async def restarted(connection: Peer) -> bool:
    return bool((await executor(connection))["restarts"])


async def test_one_that_is_too_large_is_replaced_and_its_calls_end_where_they_run(tmp_path: Path) -> None:
    with hub_with(tmp_path, 'memory_soft = "300MiB"') as hub:
        hub.ready()
        async with peer(hub.url) as connection:
            before = (await executor(connection))["pid"]
            running = await connection.request("debug.sleep", {"seconds": 2})
            await connection.result("debug.allocate", {"mb": 320})
            await until(replaced_for(connection, "memory_soft"), "it is replaced", START)
            assert (await executor(connection))["pid"] != before
            assert (await executor(connection))["restarts"] == 0, "that is no failure"
            assert "result" in await connection.reply(running, within=START)
            page = hub.get("/metrics").body.decode()
            assert 'trunkline_executor_restarts_by_cause_total{cause="memory_soft"} 1.0' in page


async def test_one_that_is_far_too_large_is_killed_and_its_calls_end_with_that(tmp_path: Path) -> None:
    with hub_with(tmp_path, 'memory_hard = "300MiB"') as hub:
        hub.ready()
        async with peer(hub.url) as connection:
            running = await connection.request("debug.sleep", {"seconds": 60}, metadata={"timeout_ms": 60_000})
            await connection.request("debug.allocate", {"mb": 320})
            error = (await connection.reply(running, within=START))["error"]
            require(
                {
                    "code": ErrorCode.RESOURCE_EXHAUSTED,
                    "message": {"$contains": "groups.work.memory_hard"},
                    "data": {"maybe_executed": True},
                },
                error,
            )
            await until(replaced_for(connection, "memory_hard"), "the cause is counted", START)
            assert await connection.result("debug.echo", {"value": 1}, within=START) == 1


async def test_after_so_many_calls_it_is_replaced(tmp_path: Path) -> None:
    with hub_with(tmp_path, "max_requests = 20") as hub:
        hub.ready()
        async with peer(hub.url) as connection:
            before = (await executor(connection))["pid"]
            replaced, calls = replaced_for(connection, "max_requests"), 0

            async def worn() -> bool:
                nonlocal calls
                await connection.result("debug.echo", {"value": 1})
                calls += 1
                return await replaced()

            await until(worn, "it is replaced", START)
            assert calls >= 16, "not before, a fifth earlier than twenty"
            assert (await executor(connection))["pid"] != before


async def test_what_it_has_started_counts_too(tmp_path: Path) -> None:
    (tmp_path / "parents_of_large.py").write_text(MODULE)
    config = tmp_path / "hub.toml"
    config.write_text('[groups.work]\nmethods = ["parents_of_large"]\nsize = 1\nmemory_hard = "300MiB"\n')
    with RunningHub((), cwd=tmp_path, arguments=("--config", str(config))) as hub:
        hub.ready()
        async with peer(hub.url) as connection:
            shared = await connection.result("parents.share")
            assert shared > 300, "added up, its processes are larger than that; what they share counts once"
            error = (await connection.call("parents.start", within=START))["error"]
            assert error["code"] == ErrorCode.RESOURCE_EXHAUSTED
            assert "2 child processes" in error["message"]
            await until(replaced_for(connection, "memory_hard"), "the cause is counted", START)


def test_a_soft_limit_above_the_hard_one_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "hub.toml"
    config.write_text(f'[groups.work]\n{DEBUG}memory_soft = "2GiB"\nmemory_hard = "1GiB"\n')
    with pytest.raises(SettingsError, match=r"groups\.work: memory_soft is not below memory_hard"):
        load_settings(config)


LIMITED = """
import asyncio, os, resource
from trunkline import method

@method("limited.tell")
async def tell() -> list[list[int]]:
    child = await asyncio.create_subprocess_exec("sh", "-c", "ulimit -n", stdout=asyncio.subprocess.PIPE)
    said, _ = await child.communicate()
    found = [resource.getrlimit(kind) for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)]
    return [*map(list, found), [int(said)]]

@method("limited.write")
def write() -> int:
    with open("large", "wb") as file:
        return file.write(b"x" * 4096)

@method("limited.spin")
def spin() -> None:
    while True:
        pass
"""


PATIENT = {"timeout_ms": int(3000 * START)}
"""For what takes seconds of a processor that others use, too."""


async def test_limits_of_the_kernel_hold_for_it_and_for_what_it_starts(tmp_path: Path) -> None:
    (tmp_path / "limited.py").write_text(LIMITED)
    config = tmp_path / "hub.toml"
    config.write_text(
        '[groups.work]\nmethods = ["limited"]\nsize = 1\nrlimits = { nofile = 200, fsize = "2KiB", cpu = 3 }\n'
    )
    with RunningHub((), cwd=tmp_path, arguments=("--config", str(config))) as hub:
        hub.ready()
        async with peer(hub.url) as connection:
            assert await connection.result("limited.tell") == [[200, 200], [2048, 2048], [200]]
            error = (await connection.call("limited.write"))["error"]
            assert (error["code"], error["data"]["maybe_executed"]) == (ErrorCode.INTERNAL_ERROR, True)
            assert "OSError" in error["message"]
            error = (await connection.call("limited.spin", within=3 * START, metadata=PATIENT))["error"]
            assert error["code"] == ErrorCode.WORKER_CRASHED
            await until(lambda: restarted(connection), "another is started", START)
            assert "SIGXCPU" in (await executor(connection))["last_restart"]["words"]


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (
            "descriptors = 5",
            r"groups\.work\.rlimits\.descriptors.*no limit 'descriptors'; there are: as, core",
        ),
        ("nofile = -1", r"groups\.work\.rlimits\.nofile: "),
        ('nofile = "many"', r"groups\.work\.rlimits\.nofile: "),
    ],
)
def test_a_limit_that_cannot_be_is_refused(tmp_path: Path, limits: str, why: str) -> None:
    config = tmp_path / "hub.toml"
    config.write_text(f"[groups.work]\n{DEBUG}rlimits = {{ {limits} }}\n")
    with pytest.raises(SettingsError, match=why):
        load_settings(config)


def test_a_limit_above_the_hubs_own_is_refused(tmp_path: Path) -> None:
    _, own = resource.getrlimit(resource.RLIMIT_NOFILE)
    config = tmp_path / "hub.toml"
    config.write_text(f"[groups.work]\n{DEBUG}rlimits = {{ nofile = {own + 1} }}\n")
    with pytest.raises(ConfigurationError, match=rf"groups\.work\.rlimits\.nofile: {own + 1} is above {own}, that of"):
        group_specs(load_settings(config))
