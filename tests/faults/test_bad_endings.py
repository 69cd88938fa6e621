"""Methods that raise what nobody expects: an outcome at once, and the executor goes on. On real executors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.health import heard_health
from tests.support.hub import MODULES, RunningHub, ready_hub
from tests.support.jobs import job, until
from tests.support.match import require
from tests.support.modules.endings import BAD
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE
from trunkline_protocol.errors import ErrorCode

CALLED: dict[str, dict[str, Any]] = {
    name: {} for name in ("function", "coroutine", "later", "helped", "awaited_task", "parameter")
}
STREAMED: dict[str, dict[str, Any]] = {
    "generator": {"after": 2}, "generator_finally": {}, "async_generator": {"after": 2}, "async_generator_finally": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    with ready_hub("endings", cwd=MODULES) as running:
        yield running


async def require_unharmed(connection: Peer, pid: int) -> None:
    """The same process answers, in both of its lanes."""
    assert await connection.result("endings.pid", within=PATIENCE) == pid
    assert await connection.result("endings.thread_pid", within=PATIENCE) == pid
    (executor,) = (await heard_health(connection))["executors"]  # its methods fail, of which health tells
    assert (executor["status"], executor["restarts"]) == ("ready", 0)


def type_in(words: str) -> str:
    """What callers are told of an exception: its type, and nothing of its text."""
    return words.partition(":")[0]


@pytest.mark.parametrize("kind", BAD)
async def test_every_method_that_ends_badly_is_answered_at_once(hub: RunningHub, kind: str) -> None:
    async with peer(hub.url) as connection:
        pid = await connection.result("endings.pid")
        for name, more in {**CALLED, **STREAMED}.items():
            error = await connection.error(f"endings.{name}", {"kind": kind, **more}, within=PATIENCE)
            if name == "parameter" and kind in ("huge", "surrogate"):
                continue  # a ValueError is how a validator refuses
            require({"code": ErrorCode.INTERNAL_ERROR, "message": {"$contains": type_in(BAD[kind][1])}}, error)
            require({"data": {"maybe_executed": name != "parameter", "retryable": False}}, error)
        await require_unharmed(connection, pid)


@pytest.mark.parametrize("kind", ["stop_iteration", "own", "interrupt", "exit", "argparse", "cancelled"])
@pytest.mark.parametrize("name", ["background", "callback", "threads"])
async def test_what_a_method_has_begun_ends_alone(hub: RunningHub, name: str, kind: str) -> None:
    async with peer(hub.url) as connection:
        pid = await connection.result("endings.pid")
        other = await connection.request("endings.pid")
        assert await connection.result(f"endings.{name}", {"kind": kind}, within=PATIENCE) == "it ended"
        assert (await connection.reply(other))["result"] == pid
        await require_unharmed(connection, pid)
        if kind == "exit":
            async with asyncio.timeout(PATIENCE):  # what is printed is limited in rate
                while not any("SystemExit: 2" in line for line in hub.stderr):
                    await connection.result(f"endings.{name}", {"kind": kind})
                    await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", ["stop_iteration", "own", "argparse", "cancelled"])
@pytest.mark.parametrize("name", ["function", "coroutine"])
async def test_the_same_as_a_job(hub: RunningHub, name: str, kind: str) -> None:
    async with peer(hub.url) as connection:
        made = await job(connection, f"endings.{name}", {"kind": kind})
        over = await until(connection, made["id"])
        require({"status": "failed", "attempts": 1, "error": {"code": ErrorCode.INTERNAL_ERROR}}, over)
        require({"error": {"message": {"$contains": type_in(BAD[kind][1])}}}, over)


@pytest.mark.parametrize("how", ["import:argparse", "load:cancelled", "load:interrupt"])
async def test_loading_that_ends_badly_is_told_at_once(how: str) -> None:
    with RunningHub(["broken_oddly"], cwd=MODULES, env={"BROKEN_ODDLY": how}) as hub:
        async with peer(hub.url) as connection, asyncio.timeout(PATIENCE):
            cause = type_in(BAD[how.partition(":")[2]][1])
            while cause not in str((await connection.result("health.detailed"))["causes"]):
                await asyncio.sleep(0.02)
