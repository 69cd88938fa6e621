"""The Python client against a real hub."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.support.hub import RunningHub, ready_hub
from tests.support.timing import PATIENCE, eventually
from trunkline.client import ConnectError, DisconnectedError, Hub, connect, pending
from trunkline_protocol.errors import ErrorCode, RpcError


@pytest.fixture
async def client(lab_hub: RunningHub) -> AsyncIterator[Hub]:
    async with connect(lab_hub.url) as hub:
        yield hub


async def active(client: Hub) -> int:
    return int((await client.call("health.check"))["active_requests"])


async def all_over(client: Hub, before: int) -> None:
    """Wait until no more is in flight than there was: other tests share the hub, and sessions keep their calls."""
    async with asyncio.timeout(PATIENCE):
        while await active(client) > before:
            await asyncio.sleep(0.01)


async def test_call(client: Hub) -> None:
    assert await client.call("debug.echo", {"value": {"a": [1, "ü", None]}}) == {"a": [1, "ü", None]}
    assert await client.call("debug.echo", ["by position"]) == "by position"
    assert await client.call("debug.echo") is None


async def test_many_at_once(client: Hub) -> None:
    values = await asyncio.gather(*(client.call("debug.echo", {"value": n}) for n in range(500)))
    assert values == list(range(500))


async def test_a_typed_error(client: Hub) -> None:
    with pytest.raises(RpcError) as caught:
        await client.call("lab.typed_error")
    error = caught.value
    assert (error.code, error.name, error.retryable) == (4001, "INVALID_CONFIGURATION", False)
    assert error.maybe_executed
    assert error.data["expected"] == 384


async def test_timeout(client: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "LOCAL_GRACE", 60.0)  # it is the hub that ends the call
    with pytest.raises(RpcError) as caught:
        await asyncio.wait_for(client.call("debug.sleep", {"seconds": 60}, timeout_ms=200), PATIENCE)
    assert caught.value.code == ErrorCode.COMMUNICATION_TIMEOUT


async def test_cancelling_the_awaiting_task_cancels_at_the_hub(client: Hub, tmp_path: Path) -> None:
    marker, before = tmp_path / "m", await active(client)
    task = asyncio.create_task(client.call("lab.cleanup", {"marker": str(marker)}))
    await asyncio.to_thread(eventually, Path(f"{marker}.started").exists, "it runs")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(eventually, marker.exists, "the method was cancelled")
    await all_over(client, before)


async def test_stream(client: Hub) -> None:
    stream = await client.stream("lab.typed")
    chunks = [(chunk.type, chunk.index) async for chunk in stream]
    assert chunks == [("metadata", 0), ("document", 1), ("partial_answer", 2)]
    assert stream.result == {"answer": "hello"}


async def test_a_long_stream(client: Hub) -> None:
    stream = await client.stream("debug.count", {"n": 5000})
    assert [chunk.data["index"] async for chunk in stream] == list(range(5000))


async def test_a_stream_that_fails(client: Hub) -> None:
    chunks = aiter(await client.stream("debug.count", {"n": 5, "fail_at": 2}))
    assert [(await anext(chunks)).index, (await anext(chunks)).index] == [0, 1]
    with pytest.raises(RpcError) as caught:
        await anext(chunks)
    assert caught.value.data["chunks"] == 2


async def test_leaving_a_stream_early_cancels_it(client: Hub, tmp_path: Path) -> None:
    marker, before = tmp_path / "m", await active(client)
    async for _chunk in await client.stream("lab.flood", {"n": 10**7, "marker": str(marker)}):
        break
    await asyncio.to_thread(eventually, Path(f"{marker}.closed").exists, "the generator was closed")
    await all_over(client, before)


@pytest.mark.parametrize("value", [math.nan, math.inf, [1, {"a": -math.inf}], 2**60, -(2**53) - 1, {1, 2}])
async def test_what_json_cannot_carry_is_refused_before_it_is_sent(client: Hub, value: Any) -> None:
    with pytest.raises(ValueError, match=r"debug\.echo"):
        await client.call("debug.echo", {"value": value})
    with pytest.raises(ValueError, match=r"debug\.count"):
        await client.stream("debug.count", {"n": value})
    assert await client.call("debug.echo", {"value": 1}) == 1


async def test_progress(client: Hub) -> None:
    seen: list[Any] = []
    assert await client.call("lab.progress", {"steps": 5}, on_progress=seen.append) == 5
    assert seen == [{"step": n + 1} for n in range(5)] + [{"step": "done"}], "the last report came ahead of the result"


async def test_progress_of_a_plain_function(client: Hub) -> None:
    seen: list[Any] = []
    assert await client.call("lab.thread_progress", {"steps": 5}, on_progress=seen.append) == 5
    assert seen == [{"step": n + 1} for n in range(5)]


async def test_no_progress_unless_asked_for(client: Hub) -> None:
    assert await client.call("lab.progress", {"steps": 5}) == 5


async def test_a_callback_that_raises_harms_no_other_call(client: Hub) -> None:
    def fail(_value: Any) -> None:
        raise LookupError("a bug in the caller's own callback")

    other = asyncio.create_task(client.call("debug.sleep", {"seconds": 0.3}))
    with suppress(LookupError):
        await client.call("lab.progress", {"steps": 2}, on_progress=fail)
    assert (await asyncio.wait_for(other, PATIENCE))["slept"] == 0.3
    assert await asyncio.wait_for(client.call("debug.echo", {"value": 1}), PATIENCE) == 1


async def test_priority_and_metadata_are_sent(client: Hub) -> None:
    where = await client.call("lab.where", priority="high", timeout_ms=5000)
    assert where["metadata"] == {"priority": "high", "timeout_ms": 5000}


async def test_when_the_hub_dies_every_open_call_ends() -> None:
    with ready_hub() as hub:
        async with connect(hub.url, reconnect=False) as client:
            calls = [asyncio.create_task(client.call("debug.sleep", {"seconds": 60})) for _ in range(3)]
            stream = await client.stream("debug.count", {"n": 3, "interval_ms": 60_000})
            chunks = aiter(stream)
            assert (await anext(chunks)).index == 0
            hub.process.kill()
            for call in calls:
                with pytest.raises(DisconnectedError) as caught:
                    await asyncio.wait_for(call, PATIENCE)
                assert caught.value.maybe_executed
            with pytest.raises(DisconnectedError):
                await asyncio.wait_for(anext(chunks), PATIENCE)
            with pytest.raises(DisconnectedError) as caught:
                await client.call("debug.echo")
            assert not caught.value.maybe_executed, "it was never sent"
        await asyncio.to_thread(hub.wait_ended, -9)


async def test_when_the_hub_stops_open_calls_end(lab_hub: RunningHub) -> None:
    with ready_hub(env={"TRUNKLINE_DRAIN_SECONDS": "0.2"}) as hub:
        async with connect(hub.url) as client:
            call = asyncio.create_task(client.call("debug.sleep", {"seconds": 60}))
            await client.call("rpc.ping")
            await asyncio.to_thread(hub.stop)
            with pytest.raises((RpcError, DisconnectedError)) as caught:
                await asyncio.wait_for(call, PATIENCE)
            assert isinstance(caught.value, RpcError | DisconnectedError)
            assert caught.value.maybe_executed


async def test_closing_ends_what_is_open(lab_hub: RunningHub) -> None:
    async with connect(lab_hub.url) as client:
        call = asyncio.create_task(client.call("debug.sleep", {"seconds": 60}))
        await client.call("rpc.ping")
    with pytest.raises(DisconnectedError):
        await asyncio.wait_for(call, PATIENCE)


async def test_nobody_listens() -> None:
    with pytest.raises(OSError):
        await connect("ws://127.0.0.1:9/ws", open_timeout=2).__aenter__()


async def test_the_token_is_sent() -> None:
    with ready_hub(env={"TRUNKLINE_TOKEN": "t0k"}) as hub:
        async with connect(hub.url, token="t0k") as client:
            assert await client.call("rpc.ping")
        with pytest.raises(ConnectError) as caught:
            async with connect(hub.url, token="wrong"):
                pass
        error = caught.value
        assert (error.status, error.error and error.error.code) == (403, ErrorCode.UNAUTHENTICATED)
        assert str(error) == f"cannot connect to {hub.url}: HTTP 403: the token is not valid"
        assert isinstance(error.__cause__, websockets.InvalidStatus)
