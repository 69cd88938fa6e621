"""JSON that is nested deeper than the protocol allows: its sender is told, under the id, and nobody else notices."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.hub import RunningHub
from tests.support.match import require
from tests.support.peer import Peer, peer
from trunkline.client import Hub, ServedCall, connect
from trunkline_protocol.depth import MAX_DEPTH
from trunkline_protocol.errors import RpcError

DEPTHS = [MAX_DEPTH + 1, 500, 980, 990, 1000, 20_000]
REFUSED = {"data": {"maybe_executed": False}}


def nested(levels: int, kind: str = "[") -> str:
    return "[" * levels + "]" * levels if kind == "[" else '{"a":' * levels + "1" + "}" * levels


def echo(levels: int, kind: str = "[") -> str:
    """Params of so many levels."""
    return f'{{"value":{nested(levels - 1, kind)}}}'


async def opened(client: Peer) -> None:
    await client.result("session.open", {})


async def numbered(client: Peer, seq: int, message: str) -> None:
    await client.send(f'{{"seq":{seq},"jsonrpc":"2.0",{message}}}')


@pytest.mark.parametrize("kind", ["[", "{"])
async def test_the_limit_itself_is_fine_everywhere(debug_hub: RunningHub, kind: str) -> None:
    async with peer(debug_hub.url) as client, connect(debug_hub.url) as callee:
        await callee.register("depth.mine", mirror)
        params = echo(MAX_DEPTH, kind)
        for method in ("debug.echo", "depth.mine"):
            await client.send(f'{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{params}}}')
            assert json.dumps((await client.reply(7))["result"], separators=(",", ":")) == params[9:-1]


@pytest.mark.parametrize("levels", DEPTHS)
@pytest.mark.parametrize("kind", ["[", "{"])
async def test_a_call_is_refused_under_its_id_and_counted(debug_hub: RunningHub, levels: int, kind: str) -> None:
    async with peer(debug_hub.url) as client, connect(debug_hub.url) as callee:
        await callee.register("depth.other", mirror)
        await opened(client)
        for seq, method in enumerate(("debug.echo", "depth.other", "publish", "jobs.create"), 1):
            params = {
                "publish": f'{{"topic":"depth","data":{nested(levels)}}}',
                "jobs.create": f'{{"method":"debug.echo","params":{echo(levels)}}}',
            }.get(method, echo(levels, kind))
            await numbered(client, seq, f'"id":{seq},"method":"{method}","params":{params}')
            error = (await client.reply(seq))["error"]
            assert error["code"] in (-32602, -32700)
            require(REFUSED, error)
            assert str(MAX_DEPTH)[:2] in error["message"], error
        await numbered(client, 5, '"id":5,"method":"debug.echo","params":{"value":"goes on"}')
        require({"result": "goes on"}, await client.reply(5))
        assert await callee.call("debug.echo", {"value": 1}) == 1


@pytest.mark.parametrize("levels", DEPTHS)
async def test_in_a_batch_only_its_own_call_fails(debug_hub: RunningHub, levels: int) -> None:
    async with peer(debug_hub.url) as client:
        fine = '{"jsonrpc":"2.0","id":2,"method":"debug.echo","params":{"value":1}}'
        await client.send(f'[{{"jsonrpc":"2.0","id":1,"method":"debug.echo","params":{echo(levels)}}},{fine}]')
        first, second = sorted(await client.receive(), key=lambda reply: reply["id"])
        assert first["error"]["code"] in (-32602, -32700)
        assert second["result"] == 1


@pytest.mark.parametrize("levels", DEPTHS)
@pytest.mark.parametrize("member", ["metadata", "extra"])
async def test_metadata_and_what_nobody_reads(debug_hub: RunningHub, levels: int, member: str) -> None:
    async with peer(debug_hub.url) as client:
        await client.send(
            f'{{"jsonrpc":"2.0","{member}":{{"mine":{nested(levels)}}},"method":"debug.echo","params":{{"value":1}},"id":1}}'
        )
        reply = await client.reply(1)
        assert reply.get("result") == 1 if "error" not in reply else reply["error"]["code"] in (-32602, -32700)
        assert "error" in reply or member == "extra"


@pytest.mark.parametrize("levels", DEPTHS)
@pytest.mark.parametrize("what", ["result", "error", "chunk"])
async def test_what_a_raw_callee_sends_ends_its_call_and_nothing_else(
    debug_hub: RunningHub, levels: int, what: str
) -> None:
    async with peer(debug_hub.url) as callee, connect(debug_hub.url) as client:
        name = f"depth.raw.{what}.{levels}"
        await callee.result("method.register", {"method": name, "streaming": True})
        stream = await client.stream(name)
        asked = (await callee.receive())["id"]
        if what == "chunk":
            params = (
                f'{{"request_id":"{asked}","chunk_type":"data","data":{nested(levels)},"is_final":false,"index":0}}'
            )
            await callee.send(f'{{"jsonrpc":"2.0","method":"stream_chunk","params":{params}}}')
        else:
            outcome = nested(levels) if what == "result" else f'{{"code":1,"message":"x","data":{nested(levels)}}}'
            await callee.send(f'{{"jsonrpc":"2.0","id":"{asked}","{what}":{outcome}}}')
        with pytest.raises(RpcError):
            async for _ in stream:
                pass
        assert await client.call("debug.echo", {"value": 1}) == 1
        await callee.result("rpc.ping")


async def test_what_is_no_json_is_counted_too(debug_hub: RunningHub) -> None:
    async with peer(debug_hub.url) as client:
        await opened(client)
        await numbered(client, 1, '"id":1,"method":"debug.echo","params":{"value":NaN}')
        assert (await client.receive())["error"]["code"] == -32700
        await numbered(client, 2, '"id":2,"method":"debug.echo","params":{"value":"goes on"}')
        require({"result": "goes on"}, await client.reply(2))


async def mirror(params: dict[str, Any], _call: ServedCall) -> Any:
    return params["value"]


def tower(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


async def ask(client: Hub, way: str, levels: int) -> None:
    match way:
        case "call":
            await client.call("debug.echo", {"value": tower(levels - 1)})
        case "publish":
            await client.publish("depth", tower(levels - 1))
        case "stream":
            await client.stream("debug.echo", {"value": tower(levels - 1)})
        case "notify":
            await client.notify("debug.echo", [tower(levels - 1)])
        case "metadata":
            await client.call("debug.echo", {"value": 1}, metadata={"mine": tower(levels - 1)})


@pytest.mark.parametrize("way", ["call", "publish", "stream", "notify", "metadata"])
@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 300, 900])
async def test_the_client_refuses_it_itself(debug_hub: RunningHub, way: str, levels: int) -> None:
    async with connect(debug_hub.url) as client:
        with pytest.raises(ValueError, match=r"128 levels|ecursion"):
            await ask(client, way, levels)
        await ask(client, way, MAX_DEPTH)
