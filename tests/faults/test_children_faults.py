"""Processes that methods start: they get signals as usual, and end with the executor; nobody leaves zombies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from tests.support.hub import MODULES, RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE, eventually
from trunkline_protocol.errors import ErrorCode


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    with ready_hub("parents", cwd=MODULES) as hub:
        yield hub


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_children_get_signals_as_in_any_python_program(hub: RunningHub, number: signal.Signals) -> None:
    async with peer(hub.url) as connection:
        status = await connection.result("parents.terminate", {"number": number.name}, within=3 * PATIENCE)
        assert status == -number


async def test_a_pool_of_forked_workers_can_be_terminated(hub: RunningHub) -> None:
    async with peer(hub.url) as connection:
        assert await connection.result("parents.pool", within=3 * PATIENCE) == [0, 1, 4, 9]


async def test_an_executor_goes_on_where_everybody_is_told_to_end(hub: RunningHub) -> None:
    async with peer(hub.url) as connection:
        pid = await connection.result("parents.signal")
        assert await connection.result("parents.signal") == pid


async def left(connection: Peer) -> psutil.Process:
    return psutil.Process(await connection.result("parents.leave"))


async def ended(child: psutil.Process) -> None:
    await asyncio.to_thread(eventually, lambda: _has_ended(child), f"{child} has ended")


def _has_ended(child: psutil.Process) -> bool:
    try:
        return child.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("how", ["killed", "drained", "crashed"])
async def test_children_end_with_their_executor(hub: RunningHub, how: str) -> None:
    async with peer(hub.url) as connection:
        child = await left(connection)
        parent = child.ppid()
        if how == "killed":
            os.kill(parent, signal.SIGKILL)
        elif how == "drained":
            await connection.result("executors.drain", {"worker_id": "executor-0"}, within=3 * PATIENCE)
        else:
            error = await connection.error("parents.leave", {"then": "SIGKILL"})
            require({"code": ErrorCode.WORKER_CRASHED}, error)
        await ended(child)
        await asyncio.to_thread(eventually, lambda: hub.executor_pids() - {parent}, "the next one is there")


async def test_children_end_with_the_hub() -> None:
    with ready_hub("parents", cwd=MODULES) as hub:
        async with peer(hub.url) as connection:
            child = await left(connection)
        hub.stop()
        await ended(child)


async def test_a_hub_that_is_process_1_leaves_no_zombies() -> None:
    """Orphans become its children, by what the kernel offers to those that are not process 1."""
    with ready_hub("parents", cwd=MODULES, constants={}, env={"TEST_ADOPTS_ORPHANS": "1"}) as hub:
        async with peer(hub.url) as connection:
            child = await left(connection)
            os.kill(child.ppid(), signal.SIGKILL)
            await asyncio.to_thread(eventually, lambda: not child.is_running(), "nothing is left", 2 * PATIENCE)
            assert await connection.result("parents.pool", within=3 * PATIENCE) == [0, 1, 4, 9]
