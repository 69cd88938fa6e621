"""Idempotency keys over the wire, with real executors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub import MODULES, RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import eventually
from trunkline_protocol.errors import ErrorCode


def keyed(path: Path, **more: object) -> dict[str, object]:
    """Metadata with a key of this test's own."""
    return {"idempotency_key": str(path), **more}


@pytest.fixture
def mortal_hub() -> Iterator[RunningHub]:
    """One whose executor may be killed."""
    with ready_hub("lab", cwd=MODULES) as hub:
        yield hub


async def test_work_with_a_key_runs_once(mortal_hub: RunningHub, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    async with peer(mortal_hub.url) as first, peer(mortal_hub.url) as second:
        for connection in (first, second, second):
            error = await connection.error("lab.once", {"marker": str(marker)}, metadata=keyed(tmp_path))
            # The executor was killed by the first run; a second run would have succeeded.
            require({"code": ErrorCode.WORKER_CRASHED, "data": {"maybe_executed": True}}, error)


async def test_a_second_call_joins_and_cancels_alone(lab_hub: RunningHub, tmp_path: Path) -> None:
    params = {"folder": str(tmp_path), "method": "debug.echo"}
    async with peer(lab_hub.url) as first, peer(lab_hub.url) as second:
        one = await first.request("lab.calls_later", params, metadata=keyed(tmp_path))
        await first.result("rpc.ping")
        other = await second.request("lab.calls_later", params, metadata=keyed(tmp_path))
        await second.result("rpc.ping")
        await first.cancel(one)
        require({"error": {"code": ErrorCode.CANCELLED}}, await first.reply(one))
        (tmp_path / "go").touch()
        assert "result" in await second.reply(other)
        # Whoever cancelled may still have the outcome.
        assert "result" in await first.call("lab.calls_later", params, metadata=keyed(tmp_path))


async def test_the_last_cancel_reaches_the_executor(lab_hub: RunningHub, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    params = {"marker": str(marker)}
    async with peer(lab_hub.url) as first, peer(lab_hub.url) as second:
        one = await first.request("lab.cleanup", params, metadata=keyed(tmp_path))
        await asyncio.to_thread(eventually, Path(f"{marker}.started").exists, "it runs")
        short = await second.error("lab.cleanup", params, metadata=keyed(tmp_path, timeout_ms=100))
        require({"code": ErrorCode.COMMUNICATION_TIMEOUT, "data": {"maybe_executed": True}}, short)
        assert not marker.exists()
        await first.cancel(one)
        await first.reply(one)
        await asyncio.to_thread(eventually, marker.exists, "it was cancelled")


async def test_the_same_key_for_other_params(lab_peer: Peer, tmp_path: Path) -> None:
    assert await lab_peer.result("debug.echo", {"value": 1}, metadata=keyed(tmp_path)) == 1
    error = await lab_peer.error("debug.echo", {"value": 2}, metadata=keyed(tmp_path))
    assert error["code"] == ErrorCode.INVALID_PARAMS
    assert await lab_peer.result("debug.echo", {"value": 1}, metadata=keyed(tmp_path)) == 1


async def test_refusals_release_the_key(lab_peer: Peer, tmp_path: Path) -> None:
    error = await lab_peer.error("debug.sleep", {"seconds": "x"}, metadata=keyed(tmp_path))
    assert error["code"] == ErrorCode.INVALID_PARAMS
    assert await lab_peer.result("debug.sleep", {"seconds": 0}, metadata=keyed(tmp_path))


async def test_a_stream_with_a_key(lab_peer: Peer, tmp_path: Path) -> None:
    window = {"window": {"items": 1}}
    slow = await lab_peer.request("debug.count", {"n": 3}, metadata=keyed(tmp_path, **window))
    error = await lab_peer.error("debug.count", {"n": 3}, metadata=keyed(tmp_path, **window))
    require({"code": ErrorCode.INVALID_REQUEST, "data": {"idempotency": "in_use", "maybe_executed": True}}, error)
    indexes = []
    while "result" not in (message := lab_peer.others.pop(0) if lab_peer.others else await lab_peer.receive()):
        indexes.append(message["params"]["index"])
        await lab_peer.notify("stream.credit", {"request_id": slow, "consumed": len(indexes)})
    assert (message["id"], message["result"], indexes) == (slow, {"chunks": 3}, [0, 1, 2, 3])
    error = await lab_peer.error("debug.count", {"n": 3}, metadata=keyed(tmp_path, **window))
    require({"code": ErrorCode.INVALID_REQUEST, "data": {"idempotency": "executed", "maybe_executed": True}}, error)


async def test_a_nested_call_does_not_use_its_callers_key(lab_peer: Peer, tmp_path: Path) -> None:
    """It carries the caller's metadata where it has some of its own."""
    params = {"timeout_ms": 100}
    assert await lab_peer.result("lab.nested_timeout", params, metadata=keyed(tmp_path)) == {
        "code": ErrorCode.COMMUNICATION_TIMEOUT
    }


@pytest.mark.parametrize("key", ["", "x" * 257, 7])
async def test_unusable_keys(lab_peer: Peer, key: object) -> None:
    error = await lab_peer.error("debug.echo", {"value": 1}, metadata={"idempotency_key": key})
    assert error["code"] == ErrorCode.INVALID_PARAMS


async def test_notifications_and_batches_share_keys(lab_peer: Peer, tmp_path: Path) -> None:
    sleep = {"jsonrpc": "2.0", "method": "debug.sleep", "params": {"seconds": 0.05}, "metadata": keyed(tmp_path)}
    await lab_peer.send([sleep, {**sleep, "id": 1}, {**sleep, "id": 2}])
    replies = await lab_peer.receive()
    assert [reply["id"] for reply in replies] == [1, 2]
    assert replies[0]["result"] == replies[1]["result"]
