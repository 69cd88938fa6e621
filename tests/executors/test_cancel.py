"""Cancels and deadlines from the socket down to the process, on an executor with one slot: they free it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub import RunningHub
from tests.support.match import require
from tests.support.native import native_hold
from tests.support.peer import Peer, is_reply, peer
from tests.support.timing import PATIENCE, SCALE, eventually
from trunkline_protocol.errors import ErrorCode

CODES = {"cancel": ErrorCode.CANCELLED, "deadline": ErrorCode.COMMUNICATION_TIMEOUT}

DEADLINE_MS = int(1500 * SCALE)
"""Milliseconds that a call is given which has to have begun before its deadline."""


@pytest.fixture
async def slot_peer(slot_hub: RunningHub) -> AsyncIterator[Peer]:
    """A connection to it, after a slow call: the hub sends nothing ahead of what runs."""
    async with peer(slot_hub.url) as connection:
        await connection.result("debug.sleep", {"seconds": 0.1})
        yield connection


async def active(connection: Peer, wanted: int) -> dict[str, Any]:
    """Wait until the executor holds so many calls."""
    async with asyncio.timeout(PATIENCE):
        while True:
            (executor,) = (await connection.result("health.detailed"))["executors"]
            if executor["active_requests"] == wanted:
                return executor  # type: ignore[no-any-return]


async def order_of_replies(connection: Peer, number: int) -> list[Any]:
    """Ids of the next replies, in the order they come."""
    ids: list[Any] = []
    while len(ids) < number:
        message = await connection.receive()
        if "method" not in message:
            ids.append(message["id"])
    return ids


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_a_coroutine_gives_its_slot_back(slot_peer: Peer, how: str) -> None:
    metadata = {"timeout_ms": 300 if how == "deadline" else 60_000}
    call = await slot_peer.request("debug.sleep", {"seconds": 60}, metadata=metadata)
    waiting = await slot_peer.request("debug.echo", {"value": "next"})
    if how == "cancel":
        await active(slot_peer, 1)
        await slot_peer.cancel(call)
    require({"error": {"code": CODES[how], "data": {"maybe_executed": True}}}, await slot_peer.reply(call))
    assert (await slot_peer.reply(waiting))["result"] == "next"
    assert (await active(slot_peer, 0))["restarts"] == 0


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_a_stream_gives_its_slot_back(slot_peer: Peer, how: str) -> None:
    """Its first chunk shows that it runs; then it is silent until its end."""
    params = {"n": 2, "interval_ms": 60_000}
    metadata = {"timeout_ms": DEADLINE_MS if how == "deadline" else 60_000}
    call = await slot_peer.request("debug.count", params, metadata=metadata)
    require({"method": "stream_chunk", "params": {"index": 0}}, await slot_peer.receive())
    waiting = await slot_peer.request("debug.echo", {"value": "next"})
    if how == "cancel":
        await slot_peer.cancel(call)
    error = (await slot_peer.reply(call))["error"]
    require({"code": CODES[how], "data": {"maybe_executed": True, "chunks": 1}}, error)
    assert (await slot_peer.reply(waiting))["result"] == "next"
    assert (await active(slot_peer, 0))["restarts"] == 0
    assert not any(m.get("method") == "stream_chunk" for m in slot_peer.others), "nothing after the end"


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_native_code_is_answered_for_at_once_and_may_finish(slot_peer: Peer, tmp_path: Path, how: str) -> None:
    """Nothing can stop it: its caller does not wait for it, the next one does, and its process lives on."""
    pid = (await slot_peer.result("debug.pid"))["pid"]
    metadata = {"timeout_ms": DEADLINE_MS if how == "deadline" else 60_000}
    with native_hold(tmp_path) as hold:
        call = await slot_peer.request("lab.native", hold.params, metadata=metadata)
        await hold.runs()
        behind = await slot_peer.request("debug.spin", {"seconds": 0})
        if how == "cancel":
            await slot_peer.cancel(call)
        assert await order_of_replies(slot_peer, 1) == [call]
    assert await order_of_replies(slot_peer, 1) == [behind]
    executor = await active(slot_peer, 0)
    assert (executor["restarts"], executor["pid"]) == (0, pid)


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_a_native_call_that_waits_is_never_run(slot_peer: Peer, tmp_path: Path, how: str) -> None:
    second = tmp_path / "second"
    metadata = {"timeout_ms": 200 if how == "deadline" else 60_000}
    with native_hold(tmp_path) as hold:
        running = await slot_peer.request("lab.native", hold.params)
        await hold.runs()
        waiting = await slot_peer.request("lab.stuck", {"marker": str(second), "seconds": 0}, metadata=metadata)
        if how == "cancel":
            await slot_peer.cancel(waiting)
        # Answered while the first one holds the executor: it waits in the hub, or was sent ahead into the executor.
        assert await order_of_replies(slot_peer, 1) == [waiting]
    assert await order_of_replies(slot_peer, 1) == [running]
    await slot_peer.result("debug.spin", {"seconds": 0})
    assert not second.exists()


async def test_a_cancel_overtakes_what_waits(slot_peer: Peer) -> None:
    """Hundreds of calls are queued: the one that runs hears its cancel before any of them begins."""
    running = await slot_peer.request("debug.sleep", {"seconds": 60}, metadata={"timeout_ms": 120_000})
    waiting = [await slot_peer.request("debug.echo", {"value": n}) for n in range(500)]
    await slot_peer.cancel(waiting[400])
    await slot_peer.cancel(running)
    ids = await order_of_replies(slot_peer, 501)
    assert ids[:2] == [waiting[400], running]
    assert ids[2:] == [each for each in waiting if each != waiting[400]]


async def test_priorities_order_the_queue_and_starve_nobody(slot_peer: Peer) -> None:
    running = await slot_peer.request("debug.sleep", {"seconds": 60}, metadata={"timeout_ms": 120_000})
    names = [("low", 2), ("normal", 4), ("high", 32)]
    for name, number in names:
        for n in range(number):
            params = {"seconds": 0.01}  # so that nothing is sent ahead, where its turn would not be seen
            await slot_peer.request("debug.sleep", params, id=f"{name} {n}", metadata={"priority": name})
    await slot_peer.cancel(running)
    order = (await order_of_replies(slot_peer, 39))[1:]
    assert order[0] == "high 0"
    assert order.index("normal 0") < order.index("high 8")
    assert order.index("low 0") < order.index("high 8"), "of eight turns low has one"
    assert order.index("low 1") < order.index("high 16")
    for name, number in names:
        assert [each for each in order if each.startswith(name)] == [f"{name} {n}" for n in range(number)]


async def test_the_deadline_of_the_outer_call_ends_three_levels_below(slot_peer: Peer, tmp_path: Path) -> None:
    marker = tmp_path / "m"
    inner = {"method": "lab.cleanup", "params": {"marker": str(marker)}}
    params = {"method": "debug.call", "params": {"method": "debug.call", "params": inner}}
    call = await slot_peer.request("debug.call", params, metadata={"timeout_ms": DEADLINE_MS})
    await asyncio.to_thread(eventually, Path(f"{marker}.started").exists, "the innermost runs")
    message = await slot_peer.receive()
    assert is_reply(message, call)
    assert message["error"]["code"] == ErrorCode.COMMUNICATION_TIMEOUT
    await asyncio.to_thread(eventually, lambda: marker.exists() and marker.read_text(), "it was cancelled")
    await active(slot_peer, 0)
    assert await slot_peer.result("debug.echo", {"value": "free"}) == "free"
