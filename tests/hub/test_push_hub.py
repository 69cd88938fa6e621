"""Streaming input over the wire, with real executors."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub import RunningHub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE, eventually
from trunkline_protocol.errors import ErrorCode


async def push(connection: Peer, request_id: Any, index: int, data: Any = None, *, final: bool = False) -> None:
    params = {"request_id": request_id, "index": index, "data": data, "is_final": final}
    await connection.notify("stream.push", params)


async def test_items_and_the_end(lab_peer: Peer) -> None:
    call = await lab_peer.request("lab.sum", {"start": 10}, id="sum")
    for index, number in enumerate([1, 2, 3]):
        await push(lab_peer, call, index, number)
    await push(lab_peer, call, 3, final=True)
    assert (await lab_peer.reply(call))["result"] == 16


async def test_the_shortest_push(lab_peer: Peer) -> None:
    call = await lab_peer.request("lab.sum")
    await lab_peer.notify("stream.push", {"request_id": call, "index": 0, "data": 5})
    await lab_peer.notify("stream.push", {"request_id": call, "index": 1, "is_final": True})
    assert (await lab_peer.reply(call))["result"] == 5


async def test_credit_comes_back_and_a_long_input_goes_through(lab_peer: Peer) -> None:
    call = await lab_peer.request("lab.echo_input")
    consumed, sent, chunks = 0, 0, 0
    while sent < 500:
        while sent < 500 and sent - consumed < 64:
            await push(lab_peer, call, sent, sent)
            sent += 1
        if sent < 500:
            message = await lab_peer.receive()
            if message["method"] == "stream.credit":
                assert message["params"]["request_id"] == call
                assert consumed < message["params"]["consumed"] <= sent
                consumed = message["params"]["consumed"]
            else:
                assert message["params"]["data"] == chunks
                chunks += 1
    await push(lab_peer, call, sent, final=True)
    assert (await lab_peer.reply(call))["result"] == {"chunks": 500}


async def test_who_does_not_wait_for_credit_is_stopped(lab_peer: Peer, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    marker.touch()
    call = await lab_peer.request("lab.picky", {"marker": str(marker)})
    await asyncio.to_thread(eventually, Path(f"{marker}.started").exists, "it runs")
    for index in range(65):
        await push(lab_peer, call, index)
    error = (await lab_peer.reply(call))["error"]
    require({"code": ErrorCode.RESOURCE_EXHAUSTED, "message": {"$contains": "credit"}}, error)
    await asyncio.to_thread(eventually, Path(f"{marker}.ended").exists, "the method was told")
    assert await lab_peer.result("rpc.ping")


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"index": 1, "data": 1}, "expected"),
        ({"index": -1, "data": 1}, "index"),
        ({"index": "0", "data": 1}, "index"),
        ({"data": 1}, "index"),
        ({"index": 0, "data": 1, "is_final": True}, "is_final"),
        ({"index": 0, "data": 1, "is_final": 1}, "is_final"),
        ({"index": 0, "data": "x"}, "item 0"),
        ({"index": 0}, "item 0"),
    ],
)
async def test_bad_pushes_end_their_call(lab_peer: Peer, params: dict[str, Any], words: str) -> None:
    other = await lab_peer.request("lab.sum", id="other")
    call = await lab_peer.request("lab.sum")
    await lab_peer.notify("stream.push", {"request_id": call} | params)
    error = (await lab_peer.reply(call))["error"]
    require({"code": ErrorCode.INVALID_PARAMS, "message": {"$contains": words}}, error)
    await push(lab_peer, other, 0, final=True)
    assert (await lab_peer.reply(other))["result"] == 0


async def test_pushes_for_nobody_are_ignored(lab_peer: Peer) -> None:
    await push(lab_peer, "never asked", 0, 1)
    await lab_peer.notify("stream.push", {"index": 0})
    await lab_peer.notify("stream.push", [1, 2])
    done = await lab_peer.request("debug.echo", {"value": 1})
    await lab_peer.reply(done)
    await push(lab_peer, done, 0, 1)
    assert await lab_peer.result("rpc.ping")
    assert lab_peer.others == []


async def test_a_method_without_input(lab_peer: Peer) -> None:
    call = await lab_peer.request("debug.sleep", {"seconds": 30})
    await push(lab_peer, call, 0, 1)
    error = (await lab_peer.reply(call))["error"]
    require({"code": ErrorCode.INVALID_PARAMS, "message": {"$contains": "takes no input"}}, error)


async def test_silence_ends_it(lab_peer: Peer) -> None:
    """That input is no silence shows on a clock of its own: ``test_router`` and ``test_input_frames``."""
    started = time.monotonic()
    call = await lab_peer.request("lab.sum", metadata={"timeout_ms": 300})
    await push(lab_peer, call, 0, 1)
    error = (await lab_peer.reply(call))["error"]
    assert error["code"] == ErrorCode.COMMUNICATION_TIMEOUT
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize("how", ["cancel", "vanish"])
async def test_whatever_ends_the_call_ends_the_wait(lab_hub: RunningHub, tmp_path: Path, how: str) -> None:
    marker = tmp_path / "marker"
    marker.touch()
    async with peer(lab_hub.url) as connection:
        call = await connection.request("lab.picky", {"marker": str(marker)})
        await push(connection, call, 0, 1)
        await asyncio.to_thread(eventually, Path(f"{marker}.started").exists, "it runs")
        if how == "cancel":
            await connection.cancel(call)
            assert (await connection.reply(call))["error"]["code"] == ErrorCode.CANCELLED
        else:
            connection.socket.transport.abort()
        await asyncio.to_thread(eventually, Path(f"{marker}.ended").exists, "the method was told")


async def test_many_inputs_on_one_connection_do_not_wait_for_each_other(lab_peer: Peer, tmp_path: Path) -> None:
    """One method takes nothing; the others on the same connection go on."""
    marker = tmp_path / "marker"
    marker.touch()
    stuck = await lab_peer.request("lab.picky", {"marker": str(marker)})
    for index in range(64):
        await push(lab_peer, stuck, index, "x" * 1000)
    calls = [await lab_peer.request("lab.sum") for _ in range(20)]
    for index, call in itertools.product(range(10), calls):
        await push(lab_peer, call, index, 1)
    for call in calls:
        await push(lab_peer, call, 10, final=True)
    async with asyncio.timeout(PATIENCE):
        assert [(await lab_peer.reply(call))["result"] for call in calls] == [10] * 20
    await lab_peer.cancel(stuck)
    await lab_peer.reply(stuck)


async def test_a_batch_may_start_and_feed(lab_peer: Peer) -> None:
    notification = {"jsonrpc": "2.0", "method": "stream.push"}
    await lab_peer.send(
        [
            {"jsonrpc": "2.0", "id": "b", "method": "lab.sum", "params": {}},
            notification | {"params": {"request_id": "b", "index": 0, "data": 4}},
            notification | {"params": {"request_id": "b", "index": 1, "is_final": True}},
        ]
    )
    (reply,) = await lab_peer.receive()
    assert reply["result"] == 4


async def test_the_catalogue_tells_of_input(lab_peer: Peer) -> None:
    methods = {method["name"]: method for method in (await lab_peer.result("rpc.discover"))["methods"]}
    assert methods["lab.sum"]["x-trunkline"]["input"] == {"type": "integer"}
    assert "input" not in methods["lab.upper"]["x-trunkline"]


async def test_input_with_a_key(lab_peer: Peer, tmp_path: Path) -> None:
    metadata = {"idempotency_key": str(tmp_path)}
    call = await lab_peer.request("lab.sum", metadata=metadata)
    await push(lab_peer, call, 0, 5)
    error = await lab_peer.error("lab.sum", metadata=metadata)
    require({"code": ErrorCode.INVALID_REQUEST, "data": {"idempotency": "in_use"}}, error)
    await push(lab_peer, call, 1, final=True)
    assert (await lab_peer.reply(call))["result"] == 5
    assert await lab_peer.result("lab.sum", metadata=metadata) == 5
