"""Streams whose reader gives credit: as far as it says and no further, and nobody else waits for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.hub import ready_hub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import SCALE
from trunkline_protocol.errors import ErrorCode


async def chunks(connection: Peer, request_id: Any, number: int) -> list[int]:
    """The indexes of so many chunks, behind which none comes though both executors go on."""
    indexes = []
    for _ in range(number):
        message = await connection.receive()
        assert message["params"]["request_id"] == request_id
        indexes.append(message["params"]["index"])
    calls = [await connection.request("debug.echo", {"value": n}) for n in range(6)]
    for call in calls:
        await connection.reply(call)
    assert connection.others == [], "more than there was credit for"
    return indexes


async def credit(connection: Peer, request_id: Any, consumed: int) -> None:
    await connection.notify("stream.credit", {"request_id": request_id, "consumed": consumed})


async def test_as_far_as_the_window_and_on_with_each_credit(debug_peer: Peer) -> None:
    stream = await debug_peer.request("debug.count", {"n": 20}, metadata={"window": {"items": 3}})
    assert await chunks(debug_peer, stream, 3) == [0, 1, 2]
    await credit(debug_peer, stream, 1)
    assert await chunks(debug_peer, stream, 1) == [3]
    await credit(debug_peer, stream, 1)  # repeated
    await credit(debug_peer, stream, 0)  # late
    assert await chunks(debug_peer, stream, 0) == []
    await credit(debug_peer, stream, 4)
    assert await chunks(debug_peer, stream, 3) == [4, 5, 6]
    await credit(debug_peer, stream, 10**6)  # nobody consumed what was not sent
    assert await chunks(debug_peer, stream, 3) == [7, 8, 9]
    await credit(debug_peer, stream, 10)
    while "result" not in (message := await debug_peer.receive()):
        await credit(debug_peer, stream, message["params"]["index"] + 1)
    assert message["result"] == {"chunks": 20}


async def test_a_stalled_stream_delays_no_other_and_no_call(debug_peer: Peer) -> None:
    stalled = await debug_peer.request("debug.count", {"n": 1000}, metadata={"window": {"items": 1}})
    await debug_peer.receive()
    other = await debug_peer.request("debug.count", {"n": 200})
    assert (await debug_peer.reply(other))["result"] == {"chunks": 200}
    assert await debug_peer.result("debug.echo", {"value": 1}) == 1
    await debug_peer.cancel(stalled)
    require({"error": {"code": ErrorCode.CANCELLED, "data": {"chunks": 1}}}, await debug_peer.reply(stalled))


async def test_who_waits_for_credit_holds_no_slot() -> None:
    """Forty stalled streams on one executor of 32 slots: one more call would find no slot if they held theirs."""
    window = {"window": {"items": 1}}
    with ready_hub(env={"TRUNKLINE_MAX_CONCURRENCY": "32"}) as hub:
        async with peer(hub.url) as connection:
            stalled = [await connection.request("debug.count", {"n": 10}, metadata=window) for _ in range(40)]
            for _ in stalled:
                await connection.receive()
            assert await connection.result("debug.echo", {"value": 1}) == 1
            for each in stalled:
                await connection.cancel(each)
                await connection.reply(each)


async def test_waiting_for_credit_is_no_silence(debug_peer: Peer) -> None:
    seconds = 1.5 * SCALE
    metadata = {"window": {"items": 2}, "timeout_ms": 1000 * seconds}
    stream = await debug_peer.request("debug.count", {"n": 4}, metadata=metadata)
    assert await chunks(debug_peer, stream, 2) == [0, 1]
    await asyncio.sleep(1.1 * seconds)  # longer than its timeout: that is what is tested
    await credit(debug_peer, stream, 2)
    assert (await debug_peer.reply(stream))["result"] == {"chunks": 4}


@pytest.mark.parametrize("window", [{"items": 0}, {"items": "3"}, {"bytes": 0}, 3])
async def test_windows_that_make_no_sense(debug_peer: Peer, window: Any) -> None:
    error = await debug_peer.error("debug.count", {"n": 1}, metadata={"window": window})
    require({"code": ErrorCode.INVALID_PARAMS, "message": {"$contains": "metadata"}}, error)


async def test_credit_that_makes_no_sense_is_ignored(debug_peer: Peer) -> None:
    for params in (
        {},
        {"request_id": 1},
        {"request_id": "none", "consumed": 1},
        [1],
        {"request_id": 1, "consumed": -1},
    ):
        await debug_peer.notify("stream.credit", params)
    assert await debug_peer.result("debug.echo", {"value": 1}) == 1
