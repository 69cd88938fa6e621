"""Recovery that methods declare: what runs again, and what never does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub import MODULES, RunningHub, ready_hub
from tests.support.peer import peer
from trunkline.methods.declaration import RegistrationError, method
from trunkline_protocol.errors import ErrorCode


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    with ready_hub("mending", cwd=MODULES) as running:
        yield running


async def test_a_retryable_error_is_tried_again(hub: RunningHub, tmp_path: Path) -> None:
    async with peer(hub.url) as client:
        asked = {"marker": str(tmp_path / "a"), "times": 2}
        assert await client.result("mending.retry", asked) == 3
        asked = {"marker": str(tmp_path / "b"), "times": 9}
        error = await client.error("mending.retry", asked)
        assert (error["code"], error["data"]["maybe_executed"]) == (ErrorCode.DATABASE_CONNECTION_ERROR, True)
        assert len((tmp_path / "b").read_text()) == 3, "three attempts in all"


async def test_what_may_not_run_again_does_not(hub: RunningHub, tmp_path: Path) -> None:
    async with peer(hub.url) as client:
        for number, (name, more) in enumerate([
            ("mending.undeclared", {}),
            ("mending.once", {}),
            ("mending.retry", {"code": int(ErrorCode.PIPELINE_EXECUTION_ERROR)}),
            ("mending.stream", {}),
        ]):  # fmt: skip
            marker = tmp_path / str(number)
            made = await client.request(name, {"marker": str(marker), "times": 1, **more})
            assert "error" in await client.reply(made), name
            assert marker.read_text() == "x", name
        marker = tmp_path / "nothing ran"
        assert await client.result("mending.once", {"marker": str(marker), "times": 1, "ran": False}) == 2


async def test_a_pause_beyond_the_deadline_is_not_waited_for(hub: RunningHub, tmp_path: Path) -> None:
    async with peer(hub.url) as client:
        asked = {"marker": str(tmp_path / "a"), "times": 1, "pause_ms": 60_000}
        error = await client.error("mending.retry", asked, metadata={"timeout_ms": 20_000})
        assert error["code"] == ErrorCode.DATABASE_CONNECTION_ERROR
        slow = await client.request("mending.retry", asked | {"marker": str(tmp_path / "b"), "pause_ms": 15_000})
        await client.cancel(slow)
        assert (await client.reply(slow))["error"]["code"] == ErrorCode.CANCELLED


async def test_a_broken_process_is_replaced_and_the_call_runs_in_the_new_one(hub: RunningHub) -> None:
    async with peer(hub.url) as client:
        broken = await client.result("mending.pid")
        result = await client.result("mending.restart", {"broken": broken})
        assert result["pid"] != broken
        now = await client.result("mending.pid")
        assert now == result["pid"]
        error = await client.error("mending.restart", {"broken": now})
        assert error["code"] == ErrorCode.WORKER_CRASHED, "once a minute at most"
        assert await client.result("mending.pid") == now


async def test_it_is_told_by_discovery(hub: RunningHub) -> None:
    async with peer(hub.url) as client:
        methods = {each["name"]: each["x-trunkline"] for each in (await client.result("rpc.discover"))["methods"]}
        assert methods["mending.retry"]["recovery"] == ["retry"]
        assert "recovery" not in methods["mending.undeclared"]


@pytest.mark.parametrize("recovery", ["retry", ("again",), ["fallback"]])
def test_other_words_are_refused(recovery: object) -> None:
    with pytest.raises(RegistrationError, match=r"recovery=.*'retry', 'restart_worker'"):
        method("a.b", recovery=recovery)  # type: ignore[arg-type]  # as a user may write it
