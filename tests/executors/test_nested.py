"""Methods that call methods."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import SOON, eventually
from trunkline_protocol.errors import ErrorCode

MAX_DEPTH = 8


@pytest.fixture(scope="module")
def single_hub() -> Iterator[RunningHub]:
    """One executor that runs one coroutine at a time."""
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, env={"TRUNKLINE_MAX_CONCURRENCY": "1"}) as hub:
        yield hub


async def test_nesting_cannot_deadlock_the_only_slot(single_hub: RunningHub) -> None:
    async with peer(single_hub.url) as connection:
        assert await connection.result("lab.dive", {"levels": MAX_DEPTH}) == MAX_DEPTH


async def test_many_nested_at_once_on_the_only_slot(single_hub: RunningHub) -> None:
    async with peer(single_hub.url) as connection:
        ids = [await connection.request("lab.dive", {"levels": 4}) for _ in range(20)]
        assert [(await connection.reply(each))["result"] for each in ids] == [4] * 20


async def test_a_nested_stream_cannot_deadlock_the_only_slot(single_hub: RunningHub) -> None:
    async with peer(single_hub.url) as connection:
        params = {"method": "debug.count", "params": {"n": 5}}
        call = await connection.request("lab.relay", params, metadata={"timeout_ms": 2000})
        require({"result": {"chunks": 5}}, await connection.reply(call))


async def test_slots_are_whole_again_afterwards(single_hub: RunningHub) -> None:
    async with peer(single_hub.url) as connection:
        params = {"method": "debug.echo", "params": [{"value": n} for n in range(10)]}
        assert await connection.result("lab.fan_out", params) == list(range(10))
        # A slot too many would show: two calls at once where one is allowed.
        await connection.result("debug.sleep", {"seconds": 0.1})
        slow = await connection.request("debug.sleep", {"seconds": 0.3})
        quick = await connection.request("debug.echo", {"value": 1})
        assert (await connection.receive())["id"] == slow
        assert (await connection.receive())["id"] == quick


async def test_too_deep_is_refused(lab_peer: Peer) -> None:
    error = await lab_peer.error("lab.dive", {"levels": MAX_DEPTH + 1})
    require({"code": ErrorCode.WORKER_OVERLOADED, "message": {"$contains": "nested"}}, error)


async def test_a_nested_failure_is_the_failure(lab_peer: Peer) -> None:
    error = await lab_peer.error("debug.call", {"method": "debug.fail", "params": {"message": "below"}})
    require({"code": ErrorCode.INTERNAL_ERROR, "message": {"$contains": "below"}}, error)


async def test_a_nested_timeout_of_its_own(lab_peer: Peer) -> None:
    assert await lab_peer.result("lab.nested_timeout", {"timeout_ms": 100}) == {"code": ErrorCode.COMMUNICATION_TIMEOUT}


async def test_a_nested_call_inherits_what_is_left(lab_peer: Peer) -> None:
    left = await lab_peer.result("debug.call", {"method": "lab.remaining"}, metadata={"timeout_ms": 3000})
    assert 1.5 < left <= 3.0


@pytest.mark.parametrize("how", ["cancel", "vanish", "deadline"])
async def test_whatever_ends_the_outer_call_ends_the_inner(lab_hub: RunningHub, tmp_path: Path, how: str) -> None:
    marker = tmp_path / "marker"
    params = {"method": "lab.cleanup", "params": {"marker": str(marker)}}
    metadata = {"timeout_ms": 400} if how == "deadline" else {}
    async with peer(lab_hub.url) as connection:
        outer = await connection.request("debug.call", params, metadata=metadata)
        await asyncio.to_thread(eventually, Path(f"{marker}.started").exists, "the inner call runs")
        if how == "cancel":
            await connection.cancel(outer)
        elif how == "vanish":
            connection.socket.transport.abort()
        await asyncio.to_thread(eventually, marker.exists, "the inner call was cancelled", SOON)
        if how != "vanish":
            codes = {"cancel": ErrorCode.CANCELLED, "deadline": ErrorCode.COMMUNICATION_TIMEOUT}
            assert (await connection.reply(outer))["error"]["code"] == codes[how]


async def test_a_nested_stream(lab_peer: Peer) -> None:
    params = {"method": "lab.typed", "params": {}}
    assert await lab_peer.result("lab.relay", params) == {"chunks": 3}
    kinds = [message["params"]["chunk_type"] for message in lab_peer.others]
    assert kinds[:3] == ["metadata", "document", "partial_answer"]


async def test_a_nested_stream_longer_than_its_window(lab_peer: Peer) -> None:
    params = {"method": "debug.count", "params": {"n": 500}}
    assert await lab_peer.result("lab.relay", params) == {"chunks": 500}
    assert [m["params"]["index"] for m in lab_peer.others] == list(range(501))


async def test_leaving_a_nested_stream_early_ends_it(lab_peer: Peer, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    params = {"method": "lab.flood", "params": {"n": 10**6, "marker": str(marker)}, "stop_after": 3}
    assert await lab_peer.result("lab.relay", params) == {"chunks": 3}
    await asyncio.to_thread(eventually, Path(f"{marker}.closed").exists, "the inner generator was closed")
    assert int(marker.read_text()) < 200


async def test_a_nested_stream_that_fails(lab_peer: Peer) -> None:
    params = {"method": "debug.count", "params": {"n": 5, "fail_at": 2}}
    error = await lab_peer.error("lab.relay", params)
    require({"code": ErrorCode.PIPELINE_EXECUTION_ERROR, "data": {"chunks": 2}}, error)


async def test_a_nested_stream_does_not_inherit_its_callers_window(lab_peer: Peer) -> None:
    params = {"method": "debug.count", "params": {"n": 10}, "timeout_ms": 2000}
    outer = await lab_peer.request("lab.relay", params, metadata={"window": {"items": 4}})
    seen = 0
    while "id" not in (message := await lab_peer.receive()):
        seen += 1
        await lab_peer.notify("stream.credit", {"request_id": outer, "consumed": seen})
    assert message["result"] == {"chunks": 10}
