"""Messages that are larger than the hub takes: each fails its own call, and nothing else, whoever sends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.support.framed import relay
from tests.support.hub import RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import peer
from tests.support.proxy import Proxy
from tests.support.timing import PATIENCE
from trunkline.client import Hub, Reconnect, ServedCall, connect
from trunkline_protocol.depth import MAX_DEPTH
from trunkline_protocol.errors import ErrorCode, RpcError

LIMIT = 20_000
LARGE = "x" * 3 * LIMIT
SOON = Reconnect(0.001, 0.05)


@pytest.fixture(scope="module")
def narrow_hub() -> Iterator[RunningHub]:
    with ready_hub(env={"TRUNKLINE_MAX_MESSAGE_BYTES": str(LIMIT)}) as hub:
        yield hub


async def items(*given: Any) -> AsyncIterator[Any]:
    for item in given:
        yield item


async def send_large(client: Hub, way: str) -> None:
    match way:
        case "call":
            await client.call("debug.echo", {"value": LARGE}, idempotent=True)
        case "metadata":
            await client.call("debug.echo", {"value": 1}, metadata={"mine": LARGE})
        case "publish":
            await client.publish("large", LARGE)
        case "notify":
            await client.notify("debug.echo", {"value": LARGE})
        case "stream":
            async for _ in await client.stream("debug.count", {"n": 1, "large": LARGE}):
                pass
        case "input":
            await client.call("debug.sleep", {"seconds": 5}, input=items(1, LARGE))
        case "subscribe":
            async with client.subscribe(LARGE):
                pass


WAYS = ["call", "metadata", "publish", "notify", "stream", "subscribe"]


@pytest.mark.parametrize("session", [True, False])
async def test_the_hub_tells_what_it_takes_and_what_it_is(narrow_hub: RunningHub, session: bool) -> None:
    async with peer(narrow_hub.url) as client:
        told = {"max_message_bytes": LIMIT, "max_depth": MAX_DEPTH, "max_batch": 100}
        asked = await client.result("session.open", {}) if session else await client.result("rpc.ping")
        require({"limits": told, "hub": {"name": "trunkline", "version": {"$type": "string"}}}, asked)


@pytest.mark.parametrize("way", [*WAYS, "input"])
async def test_the_client_refuses_it_and_nobody_notices(narrow_hub: RunningHub, way: str) -> None:
    async with connect(narrow_hub.url) as client, asyncio.timeout(2 * PATIENCE):
        states: list[Any] = []
        client.on_connection_state(states.append)
        other = asyncio.create_task(client.call("debug.sleep", {"seconds": 0.3}))
        with pytest.raises(RpcError, match=f"6\\d{{4}} bytes.*{LIMIT}") as caught:
            await send_large(client, way)
        assert (caught.value.code, caught.value.maybe_executed) == (ErrorCode.INVALID_REQUEST, False)
        assert caught.value.data["max_message_bytes"] == LIMIT
        assert (await other)["slept"] == 0.3
        assert states == []


async def test_what_just_fits_is_sent(narrow_hub: RunningHub) -> None:
    async with connect(narrow_hub.url) as client:
        for size in range(LIMIT - 300, LIMIT - 130, 10):
            assert len(await client.call("debug.echo", {"value": "x" * size})) == size
        with pytest.raises(RpcError, match="at most"):
            await client.call("debug.echo", {"value": "x" * (LIMIT - 50)})


async def returns(_params: Any, _call: ServedCall) -> str:
    return LARGE


async def raises(_params: Any, _call: ServedCall) -> None:
    raise RpcError(1, "mine", data={"large": LARGE})


async def yields(_params: Any, _call: ServedCall) -> AsyncIterator[str]:
    yield "small"
    yield LARGE
    yield "never"


async def read(client: Hub, method: str, chunks: list[Any]) -> None:
    async for chunk in await client.stream(method):
        chunks.append(chunk.data)  # noqa: PERF401  # those before the failure count


async def reports(_params: Any, call: ServedCall) -> None:
    call.progress(LARGE)


@pytest.mark.parametrize("handler", [returns, raises, yields, reports])
async def test_what_a_callee_answers_is_an_error_for_its_caller(narrow_hub: RunningHub, handler: Any) -> None:
    async with (
        connect(narrow_hub.url) as callee,
        connect(narrow_hub.url) as client,
        asyncio.timeout(2 * PATIENCE),
    ):
        states: list[Any] = []
        callee.on_connection_state(states.append)
        name = f"large.{handler.__name__}"
        await callee.register(name, handler)
        chunks: list[Any] = []
        with pytest.raises(RpcError, match="bytes") as caught:
            await (read(client, name, chunks) if handler is yields else client.call(name, on_progress=print))
        assert caught.value.code == ErrorCode.SERIALIZATION_ERROR
        assert chunks == (["small"] if handler is yields else [])
        assert await callee.call("debug.echo", {"value": 1}) == 1
        assert states == []


# --- hubs that do not tell, and what stands in between ---


@asynccontextmanager
async def old_hub(hub: RunningHub) -> AsyncIterator[str]:
    """A hub whose clients are not told what it takes."""
    import websockets

    async def carry(near: ServerConnection) -> None:
        assert near.request is not None
        async with websockets.connect(
            hub.url,
            subprotocols=[Subprotocol(name) for name in near.request.headers["Sec-WebSocket-Protocol"].split(",")],
            compression=None,
            max_size=None,
        ) as far:
            up = asyncio.create_task(pump(near, far))
            await pump(far, near)
            up.cancel()

    async def pump(source: Any, target: Any) -> None:
        try:
            async for text in source:
                await target.send(text.replace('"limits":', '"mine":'))
        except websockets.ConnectionClosed:
            pass
        await target.close(source.close_code or 1000, "")

    options: dict[str, Any] = {"subprotocols": ["trunkline.v1+json"], "compression": None, "max_size": None}
    async with serve(carry, "127.0.0.1", 0, **options) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/ws"


@pytest.mark.parametrize("way", WAYS)
async def test_what_an_old_hub_closed_1009_for_is_never_sent_again(narrow_hub: RunningHub, way: str) -> None:
    async with old_hub(narrow_hub) as url, connect(url, reconnect=SOON) as client, asyncio.timeout(4 * PATIENCE):
        states: list[Any] = []
        client.on_connection_state(states.append)
        before = asyncio.create_task(client.call("debug.sleep", {"seconds": 0.5}))
        await client.call("rpc.ping")
        large = asyncio.create_task(send_large(client, way))
        await asyncio.sleep(0)
        behind = asyncio.create_task(client.call("debug.echo", {"value": "behind"}))
        if way != "notify":
            with pytest.raises(RpcError, match=r"1009|at most") as caught:
                await large
            assert (caught.value.code, caught.value.maybe_executed) == (ErrorCode.INVALID_REQUEST, False)
        else:
            await large
        assert await behind == "behind"
        assert (await before)["slept"] == 0.5
        assert [state.state for state in states] == ["reconnecting", "connected"]
        assert states[1].resumed
        with pytest.raises(RpcError, match="at most"):
            await client.call("debug.echo", {"value": LARGE + LARGE})
        assert len(states) == 2, "what it does not take is known now"


async def test_several_that_are_too_large_fail_one_by_one(narrow_hub: RunningHub) -> None:
    async with old_hub(narrow_hub) as url, connect(url, reconnect=SOON) as client, asyncio.timeout(4 * PATIENCE):
        calls = [client.call("debug.echo", {"value": "x" * LIMIT * n}) for n in (3, 1, 2)]
        small = [client.call("debug.echo", {"value": n}) for n in range(20)]
        outcomes = await asyncio.gather(*calls, *small, return_exceptions=True)
        assert [outcome.code for outcome in outcomes[:3] if isinstance(outcome, RpcError)] == [-32600] * 3
        assert outcomes[3:] == list(range(20))


@pytest.mark.parametrize("handler", [returns, yields])
async def test_a_callee_of_an_old_hub_serves_on(narrow_hub: RunningHub, handler: Any) -> None:
    async with (
        old_hub(narrow_hub) as url,
        connect(url, reconnect=SOON) as callee,
        connect(narrow_hub.url) as client,
        asyncio.timeout(4 * PATIENCE),
    ):
        name = f"old.{handler.__name__}"
        await callee.register(name, handler)
        for _ in range(2):
            with pytest.raises(RpcError, match="bytes") as caught:
                async for _chunk in await client.stream(name):
                    pass
            assert caught.value.code == ErrorCode.SERIALIZATION_ERROR


async def test_without_a_session_it_fails_typed_and_is_not_made_again(narrow_hub: RunningHub) -> None:
    async with connect(narrow_hub.url, session=False, reconnect=SOON) as client, asyncio.timeout(2 * PATIENCE):
        with pytest.raises(RpcError, match="1009") as caught:
            await client.call("debug.echo", {"value": LARGE}, idempotent=True)
        assert (caught.value.code, caught.value.maybe_executed) == (ErrorCode.INVALID_REQUEST, False)
        assert await client.call("debug.echo", {"value": 1}) == 1


async def test_what_waited_for_another_hub_is_measured_again(narrow_hub: RunningHub, debug_hub: RunningHub) -> None:
    async with Proxy(debug_hub.port) as proxy, connect(proxy.url, reconnect=SOON) as client:
        lost = asyncio.Event()
        client.on_connection_state(lambda _change: lost.set())
        proxy.refuse()
        proxy.cut()
        await asyncio.wait_for(lost.wait(), PATIENCE)
        waiting = asyncio.create_task(client.call("debug.echo", {"value": LARGE}))
        await asyncio.sleep(0)
        proxy.target_port = narrow_hub.port
        proxy.refuse(False)
        with pytest.raises(RpcError, match="at most"):
            await asyncio.wait_for(waiting, 2 * PATIENCE)
        assert await client.call("debug.echo", {"value": 1}) == 1


async def test_behind_a_relay_only_its_own_call_fails(narrow_hub: RunningHub) -> None:
    async with relay(narrow_hub.url) as program, connect(narrow_hub.url) as client, asyncio.timeout(4 * PATIENCE):
        await program.until_ready()
        other = await program.request("debug.sleep", {"seconds": 0.3})
        error = await program.error("debug.echo", {"value": LARGE})
        require({"code": -32600, "data": {"max_message_bytes": LIMIT, "maybe_executed": False}}, error)
        await program.result("method.register", {"method": "large.relayed", "streaming": True})
        for answer in ("result", "chunk"):
            stream = await client.stream("large.relayed")
            asked = await program.receive()
            while "method" not in asked or asked["method"] != "large.relayed":
                asked = await program.receive()
            if answer == "result":
                await program.send({"jsonrpc": "2.0", "id": asked["id"], "result": LARGE})
            else:
                params = {"request_id": asked["id"], "chunk_type": "data", "data": LARGE, "index": 0}
                await program.notify("stream_chunk", params)
            with pytest.raises(RpcError, match="bytes") as caught:
                async for _ in stream:
                    pass
            assert caught.value.code == ErrorCode.SERIALIZATION_ERROR
        require({"value": 1}, {"value": await program.result("debug.echo", {"value": 1})})
        assert other
