"""What callees answer that is no answer: its call ends at once, and nothing else does. Through a real hub."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import pytest
from websockets.typing import Subprotocol

from tests.edge.websocket.test_msgpack_door import PackedPeer
from tests.hub.test_registrations_hub import answer, asked, callee
from tests.hub.test_sessions_hub import session_peer
from tests.support.framed import relay
from tests.support.hub import RunningHub
from tests.support.match import require
from tests.support.peer import Peer, peer
from trunkline_protocol.codecs.msgpack import SUBPROTOCOL
from trunkline_protocol.errors import ErrorCode

UNREADABLE: Final = {"code": ErrorCode.SERIALIZATION_ERROR, "data": {"maybe_executed": True}}
NEVER: Final = {"timeout_ms": 60_000}
DEEP: Final = "[" * 100_000 + "]" * 100_000

ANSWERS: Final = {
    "neither": '{"jsonrpc":"2.0","id":"%s"}',
    "an error that is null": '{"jsonrpc":"2.0","id":"%s","error":null}',
    "both": '{"jsonrpc":"2.0","id":"%s","result":1,"error":{"code":1,"message":"x"}}',
    "no version": '{"id":"%s","result":1}',
    "beyond a double": '{"jsonrpc":"2.0","id":"%s","result":[1e400]}',
    "beyond a double, in an error": '{"jsonrpc":"2.0","id":"%s","error":{"code":1,"message":"x","data":-1e999}}',
    "5,000 digits": '{"jsonrpc":"2.0","id":"%s","result":' + "9" * 5000 + "}",
    "NaN": '{"jsonrpc": "2.0", "id": "%s", "result": {"a": NaN}}',
    "Infinity, and the id last": '{"jsonrpc": "2.0", "result": Infinity, "id": "%s"}',
    "undefined": '{"id":"%s","jsonrpc":"2.0","result":undefined}',
    "half a surrogate": '{"jsonrpc":"2.0","id":"%s","result":"\\ud800"}',
    "cut short": '{"jsonrpc":"2.0","id":"%s","result":[1,2',
    "nested too deeply": '{"jsonrpc":"2.0","id":"%s","result":' + DEEP + "}",
    "method null": '{"jsonrpc":"2.0","id":"%s","method":null,"result":1}',
}
_CHUNK: Final = '{"jsonrpc":"2.0","method":"stream_chunk","params":{"request_id":"%s",'
CHUNKS: Final = {
    "no index": _CHUNK + '"data":1}}',
    "an index of text": _CHUNK + '"index":"0","data":1}}',
    "a type of no text": _CHUNK + '"index":0,"data":1,"chunk_type":7}}',
    "beyond a double": _CHUNK + '"index":0,"data":{"a":1e400}}}',
    "NaN": _CHUNK + '"index":0,"data":NaN}}',
    "half a surrogate": _CHUNK + '"index":0,"data":"\\ud800"}}',
    "nested too deeply": _CHUNK + '"index":0,"data":' + DEEP + "}}",
}


async def ends(caller: Peer, call: Any) -> None:
    require({"error": UNREADABLE}, await caller.reply(call))


@pytest.mark.parametrize("kind", ANSWERS)
async def test_answers(lab_hub: RunningHub, lab_peer: Peer, kind: str) -> None:
    async with callee(lab_hub, "broken.answer", max_concurrency=1) as node:
        await node.result("method.register", {"method": "broken.other"})
        call = await lab_peer.request("broken.answer", metadata=NEVER)
        other = await lab_peer.request("broken.other", metadata=NEVER)
        requests = {request["method"]: request for request in [await asked(node), await asked(node)]}
        await node.send(ANSWERS[kind].replace("%s", requests["broken.answer"]["id"]))
        await ends(lab_peer, call)
        again = await lab_peer.request("broken.answer")
        await answer(node, await asked(node), "its slot is free")
        assert (await lab_peer.reply(again))["result"] == "its slot is free"
        await answer(node, requests["broken.other"], "unharmed")
        assert (await lab_peer.reply(other))["result"] == "unharmed"


@pytest.mark.parametrize("kind", CHUNKS)
async def test_chunks(lab_hub: RunningHub, lab_peer: Peer, kind: str) -> None:
    async with callee(lab_hub, "broken.chunks", streaming=True, max_concurrency=1) as node:
        call = await lab_peer.request("broken.chunks", metadata=NEVER)
        request = await asked(node)
        await node.send(CHUNKS[kind].replace("%s", request["id"]))
        await ends(lab_peer, call)
        while (message := await node.receive()).get("method") != "$/cancelRequest":
            pass  # what it is told of its message
        assert message["params"] == {"id": request["id"]}
        again = await lab_peer.request("broken.chunks")
        await answer(node, await asked(node), "its slot is free")
        assert (await lab_peer.reply(again))["result"] == "its slot is free"


async def test_members_of_a_batch(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "broken.batch") as node:
        calls = [await lab_peer.request("broken.batch", metadata=NEVER) for _ in range(3)]
        ids = [(await asked(node))["id"] for _ in calls]
        members = [json.dumps({"jsonrpc": "2.0", "id": ids[0], "result": 1}), f'{{"jsonrpc":"2.0","id":"{ids[1]}"}}']
        await node.send(f'[{",".join(members)},{{"jsonrpc":"2.0","id":"{ids[2]}","result":1e400}}]')
        assert (await lab_peer.reply(calls[0]))["result"] == 1
        for call in calls[1:]:
            await ends(lab_peer, call)


async def test_nobody_ends_the_calls_of_another(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "broken.mine") as node, peer(lab_hub.url) as stranger:
        call = await lab_peer.request("broken.mine", metadata=NEVER)
        request = await asked(node)
        for text in (ANSWERS["neither"], ANSWERS["NaN"], CHUNKS["no index"]):
            await stranger.send(text.replace("%s", request["id"]))
        await stranger.result("rpc.ping")
        assert [message["id"] for message in stranger.others] == [request["id"], None], "it is told of its mistakes"
        await answer(node, request, "true")
        assert (await lab_peer.reply(call))["result"] == "true"


async def test_a_session_goes_on(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with session_peer(lab_hub) as node:
        await node.reply(await node.request("method.register", {"method": "broken.session"}))
        for body in ('"result":1e400', '"error":null'):
            call = await lab_peer.request("broken.session", metadata=NEVER)
            while not {"id", "method"} <= (request := await node.next()).keys():
                pass
            node.sent += 1
            await node.connection.send(f'{{"jsonrpc":"2.0","id":"{request["id"]}",{body},"seq":{node.sent}}}')
            await ends(lab_peer, call)
        assert (await node.reply(await node.request("debug.echo", {"value": 1})))["result"] == 1


@pytest.mark.parametrize("result", [float("nan"), {1: 2}, {"a": [float("inf")]}])
async def test_messagepack(lab_hub: RunningHub, lab_peer: Peer, result: Any) -> None:
    async with peer(lab_hub.url, kind=PackedPeer, subprotocols=[Subprotocol(SUBPROTOCOL)]) as node:
        await node.result("method.register", {"method": "broken.packed"})
        await node.result("method.register", {"method": "broken.pieces", "streaming": True})
        call = await lab_peer.request("broken.packed", metadata=NEVER)
        await answer(node, await asked(node), result)
        await ends(lab_peer, call)
        call = await lab_peer.request("broken.pieces", metadata=NEVER)
        params = {"request_id": (await asked(node))["id"], "index": 0, "data": result}
        await node.notify("stream_chunk", params)
        await ends(lab_peer, call)


@pytest.mark.parametrize("text", [ANSWERS["neither"], ANSWERS["NaN"], CHUNKS["NaN"]])
async def test_through_a_relay(lab_hub: RunningHub, lab_peer: Peer, text: str) -> None:
    async with relay(lab_hub.url) as program:
        await program.result("method.register", {"method": "broken.relayed", "streaming": True})
        call = await lab_peer.request("broken.relayed", metadata=NEVER)
        await program.send(text.replace("%s", (await asked(program))["id"]))
        await ends(lab_peer, call)
        await program.result("rpc.ping")


async def test_what_callers_send_must_be_readable_for_callees(lab_hub: RunningHub, lab_peer: Peer) -> None:
    """A number that nobody can hold would end the connection of a callee that reads it."""
    async with callee(lab_hub, "broken.params", max_concurrency=1) as node:
        head = '{"jsonrpc":"2.0","method":"broken.params",'
        bodies = ('"params":{"x":1e400}', '"params":{},"metadata":{"x":-1E400}', '"params":[' + "9" * 400 + "]")
        for n, body in enumerate(bodies):
            await lab_peer.send(f'{head}"id":"bad{n}",{body}}}')
            error = (await lab_peer.reply(f"bad{n}"))["error"]
            require({"code": ErrorCode.INVALID_PARAMS, "data": {"maybe_executed": False}}, error)
        call = await lab_peer.request("broken.params", {"x": 1e308, "text": "1e400", "hash": "9e400f"})
        request = await asked(node)
        assert request["params"] == {"x": 1e308, "text": "1e400", "hash": "9e400f"}
        await answer(node, request, None)
        assert (await lab_peer.reply(call))["result"] is None


async def test_progress_that_nobody_can_read_is_not_passed_on(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "broken.progress") as node:
        call = await lab_peer.request("broken.progress", metadata={"progress_token": 1, **NEVER})
        request = await asked(node)
        token = request["metadata"]["progress_token"]
        await node.send(f'{{"jsonrpc":"2.0","method":"$/progress","params":{{"token":"{token}","value":1e400}}}}')
        await node.notify("$/progress", {"token": token, "value": 2})
        await answer(node, request, "done")
        assert (await lab_peer.reply(call))["result"] == "done"
        assert [message["params"]["value"] for message in lab_peer.others] == [2]


async def test_a_hundred_broken_answers_leave_no_call_behind(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "broken.many") as node:
        calls = [await lab_peer.request("broken.many", metadata=NEVER) for _ in range(100)]
        for _ in calls:
            await node.send(ANSWERS["neither"].replace("%s", (await asked(node))["id"]))
        await asyncio.gather(*(ends(lab_peer, call) for call in calls[:1]))
        for call in calls[1:]:
            await ends(lab_peer, call)
