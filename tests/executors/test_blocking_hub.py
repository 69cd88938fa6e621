"""One executor, whose plain functions call each other, and which calls outside of any call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.hub.callers import as_who, tokens_file
from tests.support.hub import MODULES, RunningHub, ready_hub
from tests.support.match import require
from tests.support.timing import SCALE, until
from trunkline_protocol.errors import ErrorCode

ENTRIES = {"ann": 'methods = ["plain.*", "own.*", "loop.*", "waiters.*"]\npublish = []', "root": 'roles = ["admin"]'}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    file = tokens_file(tmp_path_factory.mktemp("tokens"), "", ENTRIES)
    with ready_hub("waiters", "callers", cwd=MODULES, env={"TRUNKLINE_TOKENS_FILE": str(file)}) as running:
        yield running


async def test_plain_functions_that_call_each_other_do_not_deadlock_one_executor(hub: RunningHub) -> None:
    deep: dict[str, Any] = {"method": "plain.upper", "params": {"text": "a"}}
    for _ in range(3):
        deep = {"method": "plain.call", "params": deep}
    async with as_who(hub, "ann") as ann:
        asked = [await ann.request("plain.call", deep) for _ in range(5)]
        assert [(await ann.reply(one))["result"] for one in asked] == ["A"] * 5
        seen = await ann.result("waiters.seen")
        assert not [said for said in seen if said.endswith("with another")], "one at a time, as ever"
        assert await ann.result("plain.read", {"method": "loop.letters", "params": {"text": "ab"}}) == ["a", "b"]


async def test_it_ends_with_the_deadline_and_with_a_cancel(hub: RunningHub) -> None:
    async with as_who(hub, "ann") as ann:
        wait = {"method": "loop.forever"}

        async def begun(times: int) -> None:
            async def seen() -> bool:
                return bool((await ann.result("waiters.seen")).count("forever begun") == times)

            await until(seen, "what it waits for has begun")

        deadline = {"timeout_ms": int(1500 * SCALE)}
        asked = await ann.request("plain.ends", wait, metadata=deadline)
        await begun(1)
        require({"error": {"code": ErrorCode.COMMUNICATION_TIMEOUT}}, await ann.reply(asked))
        asked = await ann.request("plain.ends", wait)
        assert await ann.result("plain.upper", {"text": "a"}) == "A", "others run meanwhile"
        await begun(2)
        await ann.cancel(asked)
        require({"error": {"code": ErrorCode.CANCELLED}}, await ann.reply(asked))

        async def ended() -> bool:
            seen = await ann.result("waiters.seen")
            return bool(seen.count("forever ended") == 2 and sum(said.startswith("ended") for said in seen) == 2)

        await until(ended, "both functions have gone on, and what they waited for is cancelled")
        shorter = {"method": "loop.forever", "timeout_ms": 100}
        require({"code": ErrorCode.COMMUNICATION_TIMEOUT}, await ann.error("plain.call", shorter))


async def test_rights_are_the_callers(hub: RunningHub) -> None:
    async with as_who(hub, "ann") as ann:
        require({"code": ErrorCode.FORBIDDEN}, await ann.error("plain.publish", {"topic": "a.b"}))
        require({"code": ErrorCode.FORBIDDEN}, await ann.error("plain.call", {"method": "who.calls"}))


async def test_the_executors_own_calls(hub: RunningHub) -> None:
    async with as_who(hub, "ann") as ann, as_who(hub, "root") as root:
        position = await ann.result("own.go")
        assert position["topic"] == "own.loaded"
        recover = {"epoch": position["epoch"], "offset": 0}
        await root.request("subscribe", {"topic": "own.loaded", "recover": recover})
        loaded = [message for message in (await root.receive(), await root.receive()) if "method" in message]
        require({"data": {"worker": "executor-0"}, "publisher": "(executor)"}, loaded[0]["params"])
        who = await ann.result("own.asks", {"method": "who.calls"})
        assert who == {"name": "(executor)", "roles": [], "tenant": "default", "claims": {}}
        require({"code": ErrorCode.FORBIDDEN}, await ann.error("own.asks", {"method": "system.calls"}))
        require(
            {"code": ErrorCode.FORBIDDEN},
            await ann.error("own.asks", {"method": "publish", "params": {"topic": "system.a", "data": 1}}),
        )
        later = {"topic": "own.later", "recover": {"epoch": position["epoch"], "offset": 0}}

        async def published() -> bool:
            return bool((await root.result("subscribe", later))["recovered"] and root.others)

        await until(published, "a task that load began publishes when the call is over")
        assert "RuntimeError" in (await ann.error("own.late"))["message"]
        await asyncio.to_thread(hub.wait_for, "the call of own.go has ended")  # why is in the log
