"""Methods that call methods."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE, SCALE, eventually
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
        call = await connection.request("lab.relay", params, metadata={"timeout_ms": 20_000})
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
    require({"code": ErrorCode.INTERNAL_ERROR, "message": {"$contains": "debug.fail failed: RuntimeError (id "}}, error)


async def test_a_nested_timeout_of_its_own(lab_peer: Peer) -> None:
    assert await lab_peer.result("lab.nested_timeout", {"timeout_ms": 100}) == {"code": ErrorCode.COMMUNICATION_TIMEOUT}


async def test_a_nested_call_inherits_what_is_left(lab_peer: Peer) -> None:
    left = await lab_peer.result("debug.call", {"method": "lab.remaining"}, metadata={"timeout_ms": 70_000})
    assert 70 - PATIENCE < left <= 70


async def test_a_nested_call_may_last_as_long_as_its_outer_one(lab_peer: Peer) -> None:
    left = await lab_peer.result("debug.call", {"method": "lab.remaining"}, metadata={"timeout_ms": 90_000})
    assert 90 - PATIENCE < left <= 90, "the default of calls that nobody waits for"


async def test_a_nested_call_of_a_call_without_metadata_has_what_is_left_of_the_default(lab_peer: Peer) -> None:
    assert 30 - PATIENCE < await lab_peer.result("debug.call", {"method": "lab.remaining"}) <= 30


async def test_metadata_goes_on_but_for_what_is_the_callers_alone(lab_peer: Peer) -> None:
    own = {"idempotency_key": "k-inherit", "progress_token": 7, "window": {"items": 3}, "timeout_ms": 50_000}
    goes_on = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "request_id": "r", "tag": [1]}
    metadata = goes_on | own | {"priority": "high"}
    inner = await lab_peer.result("debug.call", {"method": "lab.where"}, metadata=metadata)
    assert inner["metadata"] == goes_on | {"priority": "high"}
    assert inner["depth"] == 1


async def test_metadata_goes_on_beside_what_the_nested_call_says_itself(lab_peer: Peer) -> None:
    params = {"method": "lab.where_streamed", "params": {}, "timeout_ms": 40_000}
    await lab_peer.result("lab.relay", params, metadata={"traceparent": "00-t", "timeout_ms": 90_000})
    assert lab_peer.others[0]["params"]["data"]["metadata"] == {"traceparent": "00-t", "timeout_ms": 40_000}


async def test_publishing_from_a_method(lab_peer: Peer) -> None:
    await lab_peer.result("subscribe", {"topic": "lab.events"})
    params = {"topic": "lab.events", "data": {"n": 1}, "key": "once"}
    position = await lab_peer.result("lab.publish", params)
    assert await lab_peer.result("lab.publish", params) == position, "the same key is the same event"
    later = await lab_peer.result("lab.publish", {"topic": "lab.events", "data": {"n": 2}})
    assert (later["epoch"], later["offset"]) == (position["epoch"], position["offset"] + 1)
    events = [m["params"] for m in lab_peer.others if m.get("method") == "event"]
    while len(events) < 2:
        events.append((await lab_peer.receive())["params"])
    assert [(event["data"]["n"], event["offset"]) for event in events] == [
        (1, position["offset"]),
        (2, later["offset"]),
    ]


@pytest.mark.parametrize(
    ("topic", "code"), [("a b", ErrorCode.INVALID_PARAMS), ("system.lab", ErrorCode.FORBIDDEN), ("a.*", -32602)]
)
async def test_what_a_method_cannot_publish(lab_peer: Peer, topic: str, code: int) -> None:
    assert (await lab_peer.error("lab.publish", {"topic": topic, "data": 1}))["code"] == code


async def test_nested_params_may_be_what_results_may_be(lab_peer: Peer) -> None:
    echoed = await lab_peer.result("lab.pass_point", {"method": "debug.echo"})
    assert echoed == {"point": {"x": 1.0, "y": 0.0, "born": "2026-01-02"}, "seen": [1]}


@pytest.mark.parametrize("how", ["publish", "progress", "call"])
async def test_what_json_cannot_carry_is_no_silent_null(lab_peer: Peer, how: str) -> None:
    error = await lab_peer.error("lab.pass_nan", {"how": how})
    require({"code": ErrorCode.SERIALIZATION_ERROR, "message": {"$contains": "lab.pass_nan"}}, error)


async def test_progress_of_a_method_that_calls_others(lab_peer: Peer) -> None:
    """Reports go to whoever called the method that makes them; a nested one has nobody who asked."""
    outer = await lab_peer.request(
        "debug.call", {"method": "lab.progress", "params": {"steps": 2}}, metadata={"progress_token": "p"}
    )
    assert (await lab_peer.reply(outer))["result"] == 2
    assert lab_peer.others == []


async def test_a_client_serves_a_nested_stream(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with peer(lab_hub.url) as node:
        await node.result("method.register", {"method": "node.nested_stream", "streaming": True})
        params = {"method": "node.nested_stream", "params": {"n": 300}}
        outer = await lab_peer.request("lab.relay", params, metadata={"traceparent": "00-x", "timeout_ms": 50_000})
        request = await node.receive()
        require({"params": {"n": 300}, "metadata": {"traceparent": "00-x"}}, request)
        granted, index = 0, 0
        while index < 300:
            while index - granted >= 200:
                granted = (await node.receive())["params"]["consumed"]
            chunk = {"request_id": request["id"], "chunk_type": "part", "data": index, "index": index}
            await node.notify("stream_chunk", chunk)
            index += 1
        await node.send({"jsonrpc": "2.0", "id": request["id"], "result": None})
        assert (await lab_peer.reply(outer))["result"] == {"chunks": 300}
        chunks = [m["params"] for m in lab_peer.others if m["params"]["data"] is not None]
        assert [chunk["data"] for chunk in chunks] == list(range(300))
        assert {chunk["chunk_type"] for chunk in chunks} == {"part"}


async def test_the_end_of_the_outer_call_reaches_the_client_that_serves_the_inner(
    lab_hub: RunningHub, lab_peer: Peer
) -> None:
    async with peer(lab_hub.url) as node:
        await node.result("method.register", {"method": "node.nested_wait"})
        outer = await lab_peer.request("debug.call", {"method": "node.nested_wait"})
        request = await node.receive()
        assert 0 < request["metadata"]["timeout_ms"] <= 30_000
        await lab_peer.cancel(outer)
        assert (await lab_peer.reply(outer))["error"]["code"] == ErrorCode.CANCELLED
        require({"method": "$/cancelRequest", "params": {"id": request["id"]}}, await node.receive())


@pytest.mark.parametrize("how", ["cancel", "vanish", "deadline"])
async def test_whatever_ends_the_outer_call_ends_the_inner(lab_hub: RunningHub, tmp_path: Path, how: str) -> None:
    marker = tmp_path / "marker"
    params = {"method": "lab.cleanup", "params": {"marker": str(marker)}}
    metadata = {"timeout_ms": int(1500 * SCALE)} if how == "deadline" else {}
    async with peer(lab_hub.url) as connection:
        outer = await connection.request("debug.call", params, metadata=metadata)
        await asyncio.to_thread(eventually, Path(f"{marker}.started").exists, "the inner call runs")
        if how == "cancel":
            await connection.cancel(outer)
        elif how == "vanish":
            connection.socket.transport.abort()
        await asyncio.to_thread(eventually, marker.exists, "the inner call was cancelled")
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
    params = {"method": "debug.count", "params": {"n": 10}, "timeout_ms": 20_000}
    outer = await lab_peer.request("lab.relay", params, metadata={"window": {"items": 4}})
    seen = 0
    while "id" not in (message := await lab_peer.receive()):
        seen += 1
        await lab_peer.notify("stream.credit", {"request_id": outer, "consumed": seen})
    assert message["result"] == {"chunks": 10}
