"""Code is loaded anew: by ``executors.reload``, ``trunkline reload``, SIGHUP, and whenever it is saved."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.code import RESTART, Code
from tests.support.command import requires_failure, trunkline
from tests.support.hub import MODULES, RunningHub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import eventually, until
from trunkline_protocol.errors import ErrorCode

HELPER = "from helper_of_mine import LOUD"
OTHER = """
from trunkline import method

@method("other.one")
async def one() -> int:
    return 1
"""


@pytest.fixture
def code(tmp_path: Path) -> Code:
    return Code(tmp_path)


async def versions(connection: Peer) -> set[str]:
    return {await connection.result("code.version") for _ in range(6)}


async def serves(connection: Peer, version: str) -> None:
    async def only() -> bool:
        return await versions(connection) == {version}

    await until(only, f"all serve {version}", RESTART)


async def test_all_executors_are_replaced_and_what_differs_is_told(code: Code) -> None:
    async with code.served(2) as (hub, connection):
        before = hub.executor_pids()
        code.write("two")
        held = await connection.request("code.hold", {"name": "held"})
        await code.appears("held")
        said = await connection.result("executors.reload", within=RESTART)
        assert [each["worker_id"] for each in said["executors"]] == ["executor-0", "executor-1"]
        assert {each["pid"] for each in said["executors"]}.isdisjoint(before)
        assert (said["added"], said["removed"], said["failed"]) == (["code.two"], ["code.one"], [])
        assert await versions(connection) == {"two"}, "saved in the second of the first, with as many bytes"
        assert not (code.folder / "__pycache__").exists()
        code.let_go("held")
        assert (await connection.reply(held))["result"] == "one"


async def test_orders_that_come_while_one_waits_are_one(code: Code) -> None:
    async with code.served() as (_hub, connection):
        # In one message: they come at the same time, however long this process stands still.
        await connection.send([{"jsonrpc": "2.0", "id": id, "method": "executors.reload"} for id in range(5)])
        replies = await connection.receive(within=RESTART)
        answers = [reply["result"]["executors"][0]["pid"] for reply in replies]
        assert len(answers) == 5
        assert len(set(answers)) <= 2, "one that runs has perhaps read older code: one more is enough for all others"


async def test_the_first_that_cannot_load_ends_it(code: Code) -> None:
    async with code.served(2) as (hub, connection):
        before = hub.executor_pids()
        code.write("two", "import no_such_module")
        error = await connection.error("executors.reload", within=RESTART)
        assert error["code"] == ErrorCode.MISSING_DEPENDENCIES
        assert "executor-0 goes on as it was" in error["message"]
        await asyncio.to_thread(eventually, lambda: hub.executor_pids() == before, "what could not load is gone")
        assert await versions(connection) == {"one"}


async def test_one_group_is_replaced(code: Code) -> None:
    groups = {"light": {"methods": ["code_of_mine"]}, "heavy": {"methods": ["other"]}}
    (code.folder / "other.py").write_text(OTHER)
    async with code.served(TRUNKLINE_GROUPS=json.dumps(groups)) as (_hub, connection):
        code.write("two")
        said = await connection.result("executors.reload", {"group": "light"}, within=RESTART)
        assert [each["worker_id"] for each in said["executors"]] == ["light-0"]
        assert await connection.result("code.version") == "two"
        error = await connection.error("executors.reload", {"group": "dark"})
        require({"code": ErrorCode.INVALID_PARAMS}, error)
        assert "there are: heavy, light" in error["message"]


async def test_by_command(code: Code) -> None:
    async with code.served() as (hub, connection):
        code.write("two")
        done = await asyncio.to_thread(trunkline, "reload", "default", "--url", hub.url)
        assert done.returncode == 0, done
        assert "executors reloaded in" in done.stdout
        assert "+code.two -code.one" in done.stdout
        assert await connection.result("code.version") == "two"
        code.write("three", "def broken(:")
        done = await asyncio.to_thread(trunkline, "reload", "--url", hub.url)
        requires_failure(done, 1, "SyntaxError", "code_of_mine.py, line 4")
        assert await connection.result("code.version") == "two"


async def test_sighup_loads_code_that_has_changed(code: Code) -> None:
    async with code.served(2) as (hub, connection):
        before = hub.executor_pids()
        hub.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(hub.wait_for, "their code has not changed")
        code.write("two", "import no_such_module")
        hub.process.send_signal(signal.SIGHUP)

        async def degraded() -> Any:
            health = await connection.result("health.detailed")
            return health["status"] == "degraded" and health["causes"]

        (cause,) = await until(degraded, "health tells", RESTART)
        assert "no_such_module" in cause
        gone = "nor were any replaced at the first, when nothing had changed"
        await asyncio.to_thread(eventually, lambda: hub.executor_pids() == before, gone)
        code.write("three")
        hub.process.send_signal(signal.SIGHUP)
        await serves(connection, "three")
        await until(lambda: is_healthy(connection), "nothing is wrong any more")


async def is_healthy(connection: Peer) -> bool:
    return bool((await connection.result("health.check"))["status"] == "healthy")


async def test_on_save(code: Code) -> None:
    """A line for each change says what became of it; files that are imported count as well."""
    async with code.served(arguments=("--reload",)) as (hub, connection):
        code.write("two", HELPER)
        await asyncio.to_thread(
            hub.wait_for, r"code_of_mine.py changed: not reloaded: .*helper_of_mine", within=RESTART
        )
        (code.folder / "helper_of_mine.py").write_text("LOUD = (1\n")
        code.write("three", HELPER)
        await asyncio.to_thread(hub.wait_for, r"not reloaded: .*SyntaxError.*helper_of_mine.py, line 1", within=RESTART)
        assert await connection.result("code.version") == "one"
        (code.folder / "helper_of_mine.py").write_text("LOUD = 1\n")
        await asyncio.to_thread(
            hub.wait_for,
            r"changed: 1 executors reloaded in [\d.]+ s, \d+ methods \+code.three -code.one",
            within=RESTART,
        )
        assert await connection.result("code.version") == "three"
        (code.folder / "helper_of_mine.py").write_text("LOUD = 2\nONE_MORE = 3\n")
        await asyncio.to_thread(hub.wait_for, r"helper_of_mine.py changed: 1 executors reloaded", within=RESTART)


async def test_on_save_a_hub_that_could_load_nothing_recovers(code: Code) -> None:
    code.write("one", "def broken(:")
    arguments = ("--reload",)
    with RunningHub(("code_of_mine",), cwd=code.folder, arguments=arguments) as hub:
        async with peer(hub.url) as connection:
            await asyncio.to_thread(hub.wait_for, "starting it again in", within=RESTART)
            code.write("two")
            await serves_at_last(connection)


async def serves_at_last(connection: Peer) -> None:
    async def served() -> bool:
        return "result" in await connection.call("code.version")

    await until(served, "it serves", RESTART)


def test_on_save_is_for_loopback_only() -> None:
    env = {"TRUNKLINE_TOKEN": "secret-enough"}
    done = trunkline("serve", "--host", "0.0.0.0", "--reload", "--methods", "lab", env=env, cwd=MODULES)
    requires_failure(done, 2, "--reload is for development: bind 127.0.0.1")


def test_a_reload_without_a_hub_says_so() -> None:
    requires_failure(trunkline("reload", "--url", "ws://127.0.0.1:9/ws"), 3, "no hub at")
