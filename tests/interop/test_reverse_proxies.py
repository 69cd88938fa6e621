"""FAULTS 29: a hub behind nginx and haproxy, their idle timeouts, their restarts; and who may come in through them."""

from __future__ import annotations

import asyncio
import http.client
import json
from pathlib import Path

import pytest
import websockets

from tests.interop.reverse_proxies import BARE, FORWARDING, IDLE_SECONDS, reverse_proxy
from tests.support.hub import ready_hub
from tests.support.peer import peer
from tests.support.timing import PATIENCE, eventually
from trunkline.client import DisconnectedError, connect

PROXIES = ["nginx", "haproxy"]
FREQUENT_PINGS = {"TRUNKLINE_PING_INTERVAL": "0.5"}
RARE_PINGS = {"TRUNKLINE_PING_INTERVAL": "60"}


@pytest.mark.parametrize("name", PROXIES)
async def test_fault_29_heartbeats_hold_a_silent_connection(name: str) -> None:
    idle = 3 * IDLE_SECONDS  # pings may be late, if the hub stands still for a while
    with ready_hub(env=FREQUENT_PINGS) as hub, reverse_proxy(name, hub.port, idle=idle) as proxy:
        url = f"ws://127.0.0.1:{proxy.port}/ws"
        async with peer(url) as waiting, peer(url) as silent:
            slow = await waiting.request("debug.sleep", {"seconds": idle + 2})
            assert "result" in await waiting.reply(
                slow, 4 * PATIENCE
            )  # meanwhile the proxy is not to cut the other, either
            for connection in (waiting, silent):
                assert (await connection.result("rpc.ping"))["pong"] is True


@pytest.mark.parametrize("name", PROXIES)
async def test_fault_29_without_heartbeats_the_proxy_cuts_and_a_session_does_not_mind(name: str) -> None:
    with ready_hub(env=RARE_PINGS) as hub, reverse_proxy(name, hub.port) as proxy:
        async with peer(f"ws://127.0.0.1:{proxy.port}/ws") as silent:
            states: list[str] = []
            async with connect(f"ws://127.0.0.1:{proxy.port}/ws") as client:
                client.on_connection_state(lambda change: states.append(change.state))
                assert await client.call("debug.sleep", {"seconds": 3 * IDLE_SECONDS}) is not None
            assert states[:2] == ["reconnecting", "connected"], "the proxy did not cut it"
            async with asyncio.timeout(PATIENCE):
                await silent.socket.wait_closed()


@pytest.mark.parametrize("name", PROXIES)
async def test_fault_29_a_restart_of_the_proxy_loses_no_call_no_chunk_and_no_event(name: str) -> None:
    with ready_hub(env=FREQUENT_PINGS) as hub, reverse_proxy(name, hub.port) as proxy:
        async with connect(f"ws://127.0.0.1:{proxy.port}/ws") as client, peer(hub.url) as publisher:
            slow = asyncio.create_task(client.call("debug.sleep", {"seconds": 2}))
            async with client.subscribe("proxy.restart") as subscription:
                seen = []
                async for chunk in await client.stream("debug.count", {"n": 40, "interval_ms": 50}):
                    seen.append(chunk.data["index"])
                    if len(seen) == 5:
                        proxy.stop()
                        await publisher.result("publish", {"topic": "proxy.restart", "data": "meanwhile"})
                        proxy.start()
                assert seen == list(range(40))
                event = await asyncio.wait_for(anext(subscription), PATIENCE)
                assert event.data == "meanwhile"  # type: ignore[union-attr]
            await asyncio.wait_for(slow, PATIENCE)


@pytest.mark.parametrize("name", PROXIES)
async def test_fault_29_large_frames_cross_in_pieces(name: str) -> None:
    with ready_hub(env=FREQUENT_PINGS) as hub, reverse_proxy(name, hub.port) as proxy:
        async with connect(f"ws://127.0.0.1:{proxy.port}/ws") as client:
            text = "é" * 2_000_000
            assert await client.call("debug.echo", {"value": text}) == text


@pytest.mark.parametrize("name", PROXIES)
async def test_fault_29_without_a_session_a_cut_is_said(name: str) -> None:
    with ready_hub(env=RARE_PINGS) as hub, reverse_proxy(name, hub.port) as proxy:
        async with connect(f"ws://127.0.0.1:{proxy.port}/ws", session=False) as client:
            with pytest.raises(DisconnectedError) as caught:
                await client.call("debug.sleep", {"seconds": 30})
            assert caught.value.maybe_executed


def status(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("name", PROXIES)
async def test_an_open_hub_is_not_opened_to_the_world_by_a_proxy(name: str) -> None:
    with ready_hub() as hub, reverse_proxy(name, hub.port, FORWARDING) as proxy:
        with pytest.raises(websockets.InvalidStatus) as caught:
            async with peer(f"ws://127.0.0.1:{proxy.port}/ws"):
                pass
        assert b"TRUNKLINE_TOKEN" in (caught.value.response.body or b"")
        paths = ("/metrics", "/", "/openapi.json", "/health", "/ready")
        assert [status(proxy.port, path) for path in paths] == [403, 403, 403, 200, 200]
        assert status(hub.port, "/metrics") == 200, "this machine itself may"


def test_nor_by_one_that_says_nothing() -> None:
    with ready_hub() as hub, reverse_proxy("nginx", hub.port, BARE) as proxy:
        assert [status(proxy.port, path) for path in ("/metrics", "/", "/health")] == [403, 403, 200]


@pytest.mark.parametrize("name", PROXIES)
async def test_whom_a_trusted_proxy_forwards_for_is_in_the_audit_log(name: str, tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    env = {"TRUNKLINE_TOKEN": "t", "TRUNKLINE_TRUSTED_PROXIES": "127.0.0.1", "TRUNKLINE_AUDIT_FILE": str(audit)}
    with ready_hub(env=env) as hub, reverse_proxy(name, hub.port, FORWARDING) as proxy:
        forged = {"X-Forwarded-For": "203.0.113.7"}
        async with websockets.connect(
            f"ws://127.0.0.1:{proxy.port}/ws", additional_headers=forged | {"Authorization": "Bearer t"}
        ) as socket:
            await socket.send('{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}')
            await socket.recv()
        eventually(lambda: audit.exists() and '"event":"call"' in audit.read_text(), "the audit log has the call")
    peers = {json.loads(line)["peer"] for line in audit.read_text().splitlines()}
    # The proxy adds the address it saw, which is a trusted one, too, here: so the next one counts.
    assert peers == {"203.0.113.7:0"}
