"""Faults 1 to 6 and 8 on one connection after the other, while another connection keeps working.

What exactly is answered is in protocol/conformance; here: nobody else notices, and nothing is left behind.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import websockets

from tests.protocol.test_conformance import CASES, to_send
from tests.support.health import heard_health
from tests.support.hub import RunningHub
from tests.support.match import require
from tests.support.peer import Peer, peer


def dialogues(word: str) -> list[dict[str, Any]]:
    found = [case for case in CASES if word in case["why"]]
    assert found, f"no dialogue covers {word}"
    return found


async def inflict(word: str, hub: RunningHub) -> None:
    """Hold all dialogues of one fault while a bystander calls; then look for leftovers."""
    async with peer(hub.url) as bystander:
        running = await bystander.request("debug.sleep", {"seconds": 0.3})
        for case in dialogues(word):
            await hold(case, hub)
            assert await bystander.result("debug.echo", {"value": case["name"]}) == case["name"]
        require({"result": {"slept": 0.3}}, await bystander.reply(running))
        assert (await heard_health(bystander))["ready"], "whatever other tests made fail"


async def hold(case: dict[str, Any], hub: RunningHub) -> None:
    async with peer(hub.url) as connection:
        for item in case["send"]:
            data, as_text = to_send(item)
            await connection.socket.send(data, text=as_text)
        for _ in case["receive"]:
            await connection.receive()
        if "close" in case:
            with pytest.raises(websockets.ConnectionClosed):
                await connection.receive()
            assert connection.socket.close_code == case["close"]
        else:
            assert await connection.result("rpc.ping")


async def test_fault_01_bad_json(debug_hub: RunningHub) -> None:
    await inflict("fault 1:", debug_hub)


async def test_fault_02_bad_batches(debug_hub: RunningHub) -> None:
    await inflict("fault 2:", debug_hub)


async def test_fault_03_bad_envelopes(debug_hub: RunningHub) -> None:
    await inflict("fault 3", debug_hub)


async def test_fault_04_an_id_in_flight(debug_hub: RunningHub, debug_peer: Peer) -> None:
    async with peer(debug_hub.url) as callee:
        await callee.result("method.register", {"method": "in.flight"})
        slow = await debug_peer.request("in.flight", id=7)
        asked = await callee.receive()
        for _ in range(20):
            await debug_peer.request("debug.echo", {"value": "second"}, id=7)
        for _ in range(20):
            refused = await debug_peer.receive()
            require({"id": None, "error": {"code": -32600, "data": {"duplicate_id": 7}}}, refused)
        await callee.send({"jsonrpc": "2.0", "id": asked["id"], "result": "first"})
        require({"result": "first"}, await debug_peer.reply(slow))
    assert await debug_peer.result("debug.echo", {"value": "again"}, id=7) == "again"


async def test_fault_05_numbers_and_text_json_cannot_carry(debug_hub: RunningHub) -> None:
    await inflict("fault 5", debug_hub)


async def test_fault_06_nesting(debug_hub: RunningHub) -> None:
    await inflict("fault 6", debug_hub)


@pytest.mark.parametrize("depth", [200, 500, 900, 1000, 1100, 5000])
async def test_fault_06_nesting_near_every_limit(debug_peer: Peer, depth: int) -> None:
    """Whatever the depth: an answer of its own kind, never a dead executor."""
    await debug_peer.send(
        '{"jsonrpc":"2.0","id":1,"method":"debug.echo","params":{"value":' + "[" * depth + "]" * depth + "}}"
    )
    reply = await debug_peer.receive()
    if "result" in reply:
        assert json.dumps(reply["result"]).count("[") == depth
    else:
        assert reply["error"]["code"] in (-32700, -32602, 1003)
    health = await debug_peer.result("health.detailed")
    assert [executor["restarts"] for executor in health["executors"]] == [0, 0]


async def test_fault_08_invalid_utf8_and_binary(debug_hub: RunningHub) -> None:
    await inflict("fault 8", debug_hub)
