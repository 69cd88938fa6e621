"""``cache.clear`` in every executor: answered when all have done it, and typed where one does not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.native import native_hold
from tests.support.peer import peer
from tests.support.timing import PATIENCE, until
from trunkline_protocol.errors import ErrorCode


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    """Two executors with caches of their own, and as much time to answer as anything that has to happen."""
    constants = {"trunkline.control.caches:SECONDS": PATIENCE}
    with ready_hub(DEBUG_METHODS, "caching", cwd=MODULES, executors=2, constants=constants) as running:
        yield running


async def test_every_executor_clears_its_own_and_says_how_much(hub: RunningHub) -> None:
    async with peer(hub.url) as client:
        workers: list[str] = []

        async def both() -> bool:  # they take turns, unless one of them is slow just now
            workers.append(await client.result("kept.put", {"key": str(len(workers))}))
            return len(workers) >= 6 and set(workers) == {"executor-0", "executor-1"}

        await until(both, "each has something in its cache")
        cleared = await client.result("cache.clear", {"cache_type": "kept"})
        kept = {"entries": len(workers), "bytes": 10 * len(workers)}
        assert cleared == {"cache_type": "kept", "executors": 2, "cleared": {"kept": kept}}
        assert (await client.result("cache.clear", ["all"]))["cleared"]["kept"] == {"entries": 0, "bytes": 0}
        assert (await client.result("cache.clear"))["cache_type"] == "all"
        error = await client.error("cache.clear", ["no such"])
        assert error["code"] == ErrorCode.INVALID_PARAMS
        assert error["message"].endswith("no executor has a cache 'no such'; there are: all, kept")


async def test_one_that_fails_is_named_and_the_others_have_done_it(hub: RunningHub) -> None:
    async with peer(hub.url) as client:
        error = await client.error("cache.clear", ["broken"])
        assert (error["code"], error["data"]["maybe_executed"]) == (ErrorCode.INTERNAL_ERROR, True)
        assert "executor-" in error["message"]
        assert "clear_cache failed" in error["message"]


async def test_one_that_does_not_answer_is_a_typed_error(tmp_path: Path) -> None:
    constants = {"trunkline.control.caches:SECONDS": 0.5}
    with ready_hub("caching", "lab", cwd=MODULES, constants=constants) as hub, native_hold(tmp_path) as hold:
        async with peer(hub.url) as client:
            await client.request("lab.native", hold.params)
            await hold.runs()
            error = await client.error("cache.clear", ["kept"])
            assert (error["code"], error["data"]["maybe_executed"]) == (ErrorCode.COMMUNICATION_TIMEOUT, True)
            assert error["data"]["executors"] == ["executor-0"]


async def test_one_that_dies_meanwhile_holds_nothing_any_more(hub: RunningHub) -> None:
    stopped = min(hub.executor_pids())
    os.kill(stopped, signal.SIGSTOP)
    async with peer(hub.url) as client:
        clearing = await client.request("cache.clear", ["kept"])
        await client.result("rpc.ping")  # behind it: it has been sent
        os.kill(stopped, signal.SIGKILL)
        assert (await client.reply(clearing))["result"]["executors"] == 2
