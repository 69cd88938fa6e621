"""Executors are replaced while they work: no call is dropped, and code that does not load replaces nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.code import RESTART, Code
from tests.support.health import heard_health
from tests.support.hub import is_alive
from tests.support.match import require
from tests.support.peer import Peer
from tests.support.timing import PATIENCE, eventually, until
from trunkline_protocol.errors import ErrorCode


@pytest.fixture
def code(tmp_path: Path) -> Code:
    return Code(tmp_path)


async def drain(connection: Peer, number: int = 0) -> Any:
    return await connection.result("executors.drain", {"worker_id": f"executor-{number}"}, within=RESTART)


async def healthy(connection: Peer) -> None:
    """Wait until nothing is wrong: each executor may stand still for a moment."""

    async def is_healthy() -> bool:
        return bool((await connection.result("health.check"))["status"] == "healthy")

    await until(is_healthy, "the hub is healthy")


async def gone(pid: int) -> None:
    await asyncio.to_thread(eventually, lambda: not is_alive(pid), f"{pid} is gone")


async def test_what_runs_ends_where_it_runs_and_the_rest_is_served_by_the_new_code(code: Code) -> None:
    async with code.served() as (hub, connection):
        held = await connection.request("code.hold", {"name": "held"})
        thread = await connection.request("code.hold_thread", {"name": "thread"})
        outer = await connection.request("code.outer", {"name": "outer"})
        stream = await connection.request("code.count", {"name": "stream"})
        keyed = await connection.request("code.keyed", {"key": "a", "name": "keyed"})
        before = [await code.appears(name) for name in ("held", "thread", "outer", "stream", "keyed")]
        waiting = [await connection.request("code.hold_thread", {"name": "thread"}) for _ in range(5)]
        code.write("two")
        new = await drain(connection)
        assert new["pid"] not in before
        assert await connection.result("code.version") == "two"
        assert await connection.result("code.two") == "two"
        assert (await connection.error("code.one"))["code"] == ErrorCode.METHOD_NOT_FOUND
        await healthy(connection)
        assert set(before) == {before[0]}
        assert is_alive(before[0])
        assert hub.executor_pids() == {before[0], new["pid"]}
        for name in ("held", "thread", "outer", "stream", "keyed"):
            code.let_go(name)
        assert (await connection.reply(held))["result"] == "one"
        assert (await connection.reply(thread))["result"] == "one"
        assert (await connection.reply(outer))["result"] == ["one", "two"]
        assert (await connection.reply(stream))["result"] == {"chunks": 2}
        assert (await connection.reply(keyed))["result"] == "one"
        assert {(await connection.reply(call))["result"] for call in waiting} == {"two"}, "they were not yet sent"
        await gone(before[0])
        assert await connection.result("code.keyed", {"key": "a"}) == "two"
        health = await heard_health(connection)
        require({"executors": [{"restarts": 0, "slots": 64, "error_count": 0}]}, health)


async def test_a_key_goes_on_where_a_call_of_it_runs_long(code: Code) -> None:
    async with code.served() as (_hub, connection):
        keyed = await connection.request("code.keyed", {"key": "a", "name": "keyed"})
        old = await code.appears("keyed")
        code.write("two")
        await drain(connection)
        async with asyncio.timeout(PATIENCE):
            while await connection.result("code.keyed", {"key": "b"}) != "two":
                await asyncio.sleep(0.01)
        assert {await connection.result("code.keyed", {"key": "a"}) for _ in range(20)} == {"one"}, "one owner"
        code.let_go("keyed")
        assert (await connection.reply(keyed))["result"] == "one"
        await gone(old)
        assert await connection.result("code.keyed", {"key": "a"}) == "two"


@pytest.mark.parametrize(
    ("top", "code_of", "words"),
    [
        ("import no_such_module", ErrorCode.MISSING_DEPENDENCIES, "no_such_module"),
        ("def broken(:", ErrorCode.PIPELINE_INITIALIZATION_FAILED, "line 4"),
        ("os._exit(7)", ErrorCode.WORKER_UNAVAILABLE, "it exited with code 7"),
        ("time.sleep(60)", ErrorCode.WORKER_UNAVAILABLE, "not ready after"),
    ],
    ids=["dependency", "syntax", "exit", "slow"],
)
async def test_code_that_does_not_load_replaces_nothing(code: Code, top: str, code_of: int, words: str) -> None:
    env = {"TRUNKLINE_START_TIMEOUT": str(PATIENCE)} if "sleep" in top else {}
    async with code.served(2, (), **env) as (hub, connection):
        held = await connection.request("code.hold", {"name": "held"})
        await code.appears("held")
        pids = hub.executor_pids()
        code.write("two", top)
        reply = await connection.call("executors.drain", {"worker_id": "executor-1"}, within=RESTART)
        assert reply["error"]["code"] == code_of
        assert words in reply["error"]["message"]
        assert "executor-1 goes on as it was" in reply["error"]["message"]
        await asyncio.to_thread(eventually, lambda: hub.executor_pids() == pids, "the old ones are there")
        assert {await connection.result("code.version") for _ in range(4)} == {"one"}
        health = await heard_health(connection)
        assert health["status"] == "degraded"
        assert words in health["causes"][0]
        code.let_go("held")
        assert (await connection.reply(held))["result"] == "one"
        code.write("three")
        await drain(connection, 1)
        await healthy(connection)


async def test_names_go_where_they_are_served(code: Code) -> None:
    async with code.served(2) as (_hub, connection):
        code.write("two")
        await drain(connection)
        calls = [await connection.request(f"code.{name}") for name in ("one", "two") for _ in range(10)]
        assert [(await connection.reply(call))["result"] for call in calls] == ["one"] * 10 + ["two"] * 10
        versions: set[str] = set()

        async def both() -> bool:  # each has its part, unless one stands still for a moment
            versions.add(await connection.result("code.version"))
            return versions == {"one", "two"}

        await until(both, "both serve what both have")
        blocking = [await connection.request("code.hold_thread", {"name": f"b{n}"}) for n in range(2)]
        await code.appears("b0")
        await code.appears("b1")
        code.write("three")
        await drain(connection, 1)
        assert (await connection.error("code.one"))["code"] == ErrorCode.METHOD_NOT_FOUND
        calls = [await connection.request(f"code.{name}") for name in ("three", "two") for _ in range(10)]
        assert [(await connection.reply(call))["result"] for call in calls] == ["three"] * 10 + ["two"] * 10
        code.let_go("b0")
        code.let_go("b1")
        for call in blocking:
            assert "result" in await connection.reply(call)


async def test_the_old_one_goes_first_where_there_is_no_room(code: Code) -> None:
    async with code.served(TRUNKLINE_REPLACE="old_first") as (hub, connection):
        held = await connection.request("code.hold", {"name": "held"})
        old = await code.appears("held")
        code.write("two")
        drained = await connection.request("executors.drain", {"worker_id": "executor-0"})

        async def degraded() -> bool:
            return bool((await connection.result("health.detailed"))["causes"] == ["executor-0 is stopping"])

        await until(degraded, "health tells")
        late = [await connection.request("code.version") for _ in range(5)]
        assert hub.executor_pids() == {old}
        code.let_go("held")
        assert (await connection.reply(held))["result"] == "one"
        assert {(await connection.reply(call, RESTART))["result"] for call in late} == {"two"}
        assert (await connection.reply(drained, RESTART))["result"]["pid"] != old
        await healthy(connection)


async def test_a_process_that_dies_while_it_finishes_is_not_started_again(code: Code) -> None:
    async with code.served() as (hub, connection):
        held = await connection.request("code.hold", {"name": "held"})
        keyed = await connection.request("code.keyed", {"key": "a", "name": "keyed"})
        old = await code.appears("held")
        await code.appears("keyed")
        code.write("two")
        new = await drain(connection)
        os.kill(old, signal.SIGKILL)
        for call in (held, keyed):
            require({"error": {"code": ErrorCode.WORKER_CRASHED}}, await connection.reply(call))
        assert await connection.result("code.keyed", {"key": "a"}) == "two", "its keys have an owner"
        await gone(old)
        assert hub.executor_pids() == {new["pid"]}
        await healthy(connection)


async def test_what_it_holds_is_closed_before_a_process_ends(code: Code) -> None:
    async with code.served() as (hub, connection):
        (old,) = hub.executor_pids()
        code.write("two", closing=60)
        await drain(connection)
        assert await code.appears("closed") == old
        assert await code.appears("atexit") == old
        await gone(old)
        (new,) = hub.executor_pids()
        hub.stop()  # close takes a minute: the process ends all the same
        assert await code.appears("closed") == new
