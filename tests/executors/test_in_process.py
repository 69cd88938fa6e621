"""``--executors 0``: methods run in the hub's own process, under the same rules, and a debugger can stop in them."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.code import RESTART, Code
from tests.support.command import requires_failure, trunkline
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import peer
from tests.support.timing import PATIENCE
from trunkline_protocol.errors import ErrorCode


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, executors=0) as hub:
        yield hub


async def test_the_hub_is_the_executor(hub: RunningHub) -> None:
    assert hub.executor_pids() == set()
    async with peer(hub.url) as connection:
        health = await connection.result("health.detailed")
        require({"status": "healthy", "executors": [{"worker_id": "executor-0", "pid": hub.process.pid}]}, health)


async def test_calls_are_answered_nested_ones_too(hub: RunningHub) -> None:
    async with peer(hub.url) as connection:
        assert await connection.result("debug.echo", {"value": [1, None]}) == [1, None]
        assert (await connection.result("debug.pid"))["pid"] == hub.process.pid
        nested = {"method": "debug.echo", "params": {"value": 2}}
        assert await connection.result("debug.call", {"method": "debug.call", "params": nested}) == 2


async def test_deadlines_cancels_streams_and_errors_are_as_ever(hub: RunningHub) -> None:
    async with peer(hub.url) as connection:
        slow = await connection.error("debug.sleep", {"seconds": 60}, metadata={"timeout_ms": 100})
        assert slow["code"] == ErrorCode.COMMUNICATION_TIMEOUT
        running = await connection.request("debug.sleep", {"seconds": 60})
        await connection.result("rpc.ping")
        await connection.cancel(running)
        assert (await connection.reply(running))["error"]["code"] == ErrorCode.CANCELLED
        stream = await connection.call("debug.count", {"n": 3})
        require({"result": {"chunks": 3}}, stream)
        assert len([each for each in connection.others if each.get("method") == "stream_chunk"]) == 4
        error = await connection.error("debug.echo", {"wrong": 1})
        assert error["code"] == ErrorCode.INVALID_PARAMS


async def test_one_may_stop_in_a_method(tmp_path: Path) -> None:
    text = """
from trunkline import method

@method("stops.here")
def here(value: int) -> int:
    breakpoint()
    return value
"""
    (tmp_path / "stops.py").write_text(text)
    with ready_hub("stops", cwd=tmp_path, executors=0, stdin=subprocess.PIPE) as hub:
        async with peer(hub.url) as connection:
            running = await connection.request("stops.here", {"value": 1})
            await asyncio.to_thread(hub.wait_for, r"\(Pdb\)|-> return value")
            assert await connection.result("rpc.ping", within=PATIENCE), "a plain function stops its thread alone"
            assert hub.process.stdin is not None
            hub.process.stdin.write("value = 41 + value\ncontinue\n")
            hub.process.stdin.flush()
            assert (await connection.reply(running))["result"] == 42
        hub.process.stdin.close()


async def test_code_is_loaded_anew_here_too(tmp_path: Path) -> None:
    code = Code(tmp_path)
    async with code.served(0, arguments=("--reload",)) as (hub, connection):
        held = await connection.request("code.hold", {"name": "held"})
        await code.appears("held")
        code.write("two")
        await asyncio.to_thread(hub.wait_for, "changed: 1 executors reloaded", within=RESTART)
        assert await connection.result("code.version") == "two"
        code.write("three", "def broken(:")
        await asyncio.to_thread(hub.wait_for, "not reloaded: .*SyntaxError", within=RESTART)
        assert await connection.result("code.version") == "two"
        code.let_go("held")
        assert (await connection.reply(held))["result"] == "one"


async def test_without_methods_there_is_nothing_to_run(tmp_path: Path) -> None:
    with RunningHub((), executors=0, cwd=tmp_path) as hub:
        async with peer(hub.url) as connection:
            require({"status": "healthy"}, await connection.result("health.check"))
            assert (await connection.error("debug.echo"))["code"] == ErrorCode.METHOD_NOT_FOUND


def test_it_is_for_loopback_only() -> None:
    env = {"TRUNKLINE_TOKEN": "secret-enough"}
    done = trunkline("serve", "--host", "0.0.0.0", "--executors", "0", "--methods", "lab", env=env, cwd=MODULES)
    requires_failure(done, 2, "executors 0 is for debuggers: bind 127.0.0.1")
