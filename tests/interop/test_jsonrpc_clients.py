"""JSON-RPC clients of others, from npm and PyPI, unchanged, against ``/rpc`` and ``/ws`` of a real hub."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.interop.node import node, require_packages
from tests.interop.packages import library
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.match import require
from tests.support.timing import PATIENCE
from trunkline_protocol.errors import ErrorCode

CLIENTS: Final = Path(__file__).with_name("jsonrpc") / "clients.mjs"
UNKNOWN: Final = {"code": ErrorCode.METHOD_NOT_FOUND, "data": {"type": "METHOD_NOT_FOUND", "retryable": False}}


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES) as running:
        yield running


# --- npm ---


async def said_by(client: str, hub: RunningHub) -> list[dict[str, Any]]:
    require_packages("json-rpc-2.0", "rpc-websockets", "vscode-jsonrpc", "vscode-ws-jsonrpc", "@open-rpc/client-js")
    async with node(CLIENTS, client, f"127.0.0.1:{hub.port}") as script:
        await script.says("done", 3 * PATIENCE)
    return script.said


def one(said: list[dict[str, Any]], what: str) -> dict[str, Any]:
    (found,) = (line for line in said if line["what"] == what)
    return found


@pytest.mark.timeout(400)  # the first use of npm installs packages
async def test_json_rpc_2_0_over_http(hub: RunningHub) -> None:
    said = await said_by("json-rpc-2.0 over HTTP", hub)
    assert one(said, "result")["value"] == ["ä", 1, None]
    require(UNKNOWN, one(said, "error"))
    assert one(said, "batch")["values"] == [1, 2]
    assert one(said, "statuses")["statuses"] == [200, 200, 200, 204]


async def test_json_rpc_2_0_over_websocket(hub: RunningHub) -> None:
    said = await said_by("json-rpc-2.0 over WebSocket", hub)
    assert one(said, "result")["value"] == "x"
    require({"code": ErrorCode.INVALID_PARAMS, "data": {"errors": [{"field": "seconds"}]}}, one(said, "error"))
    require({"topic": "interop.json-rpc", "data": {"n": 1}, "offset": 1}, one(said, "event")["event"])
    assert one(said, "served")["value"] == 42


async def test_rpc_websockets(hub: RunningHub) -> None:
    said = await said_by("rpc-websockets", hub)
    assert one(said, "result")["value"] == one(said, "positional")["value"] == "x"
    require(UNKNOWN, one(said, "error"))
    assert one(said, "many")["values"] == list(range(50))


async def test_vscode_jsonrpc(hub: RunningHub) -> None:
    said = await said_by("vscode-jsonrpc", hub)
    assert one(said, "result")["value"] == "x"
    require(UNKNOWN, one(said, "error"))
    assert one(said, "cancelled")["code"] == ErrorCode.CANCELLED
    require({"value": 3, "reports": [1, 2, 3, "done"]}, one(said, "progress"))
    require({"value": {"chunks": 3}, "indexes": [0, 1, 2, 3]}, one(said, "stream"))
    assert one(said, "served")["value"] == 42


async def test_open_rpc_client(hub: RunningHub) -> None:
    said = await said_by("@open-rpc/client-js", hub)
    for kind in ("HTTPTransport", "WebSocketTransport"):
        of_kind = [line for line in said if line.get("kind") == kind]
        assert one(of_kind, "result")["value"] == "x"
        require(UNKNOWN, one(of_kind, "error"))
        assert one(of_kind, "batch")["values"] == [1, 2]


# --- PyPI ---


async def test_jsonrpc_websocket(hub: RunningHub) -> None:
    server = library("jsonrpc_websocket").Server(hub.url)
    errors = library("jsonrpc_base")
    await server.ws_connect()
    try:
        assert await server.debug.echo("x") == "x"
        assert await server.debug.echo(value={"a": 1}) == {"a": 1}
        with pytest.raises(errors.ProtocolError) as refused:
            await server.nobody.serves.this()
        assert refused.value.args[0] == ErrorCode.METHOD_NOT_FOUND
        arrived: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def event(**params: Any) -> None:
            arrived.set_result(params)

        server.event = event
        await server.subscribe(topic="interop.jsonrpc-websocket")
        await server.publish(topic="interop.jsonrpc-websocket", data=[1])
        require({"data": [1], "offset": 1}, await asyncio.wait_for(arrived, PATIENCE))
        server.interop_python = lambda n: 2 * n
        await server.method.register(method="interop_python")
        assert await server.debug.call(method="interop_python", params={"n": 21}) == 42
    finally:
        await server.close()


def test_jsonrpcclient(hub: RunningHub) -> None:
    rpc = library("jsonrpcclient")

    def ask(message: Any) -> Any:
        asked = urllib.request.Request(
            f"http://127.0.0.1:{hub.port}/rpc", json.dumps(message).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
            return rpc.parse_json(answer.read().decode())

    assert ask(rpc.request("debug.echo", params={"value": 1})).result == 1
    unknown = ask(rpc.request("nobody.serves.this"))
    assert (unknown.code, unknown.data["type"]) == (ErrorCode.METHOD_NOT_FOUND, "METHOD_NOT_FOUND")
    replies = ask([rpc.request("debug.echo", params=[1]), rpc.notification("debug.echo"), rpc.request("rpc.ping")])
    assert len(list(replies)) == 2


def test_websocket_client(hub: RunningHub) -> None:
    socket = library("websocket").create_connection(hub.url, timeout=PATIENCE)
    try:
        for number in range(100):
            socket.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": "debug.echo", "params": [number]}))
        replies = [json.loads(socket.recv()) for _ in range(100)]
        assert sorted(reply["result"] for reply in replies) == list(range(100))
        socket.ping()
        socket.send(b'{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}')
        assert json.loads(socket.recv())["result"]["pong"] is True
    finally:
        socket.close()


async def test_aiohttp(hub: RunningHub) -> None:
    aiohttp = library("aiohttp")
    base = f"http://127.0.0.1:{hub.port}"
    message = {"jsonrpc": "2.0", "id": 1, "method": "debug.echo", "params": {"value": "ä"}}
    async with aiohttp.ClientSession() as session:
        replies = await asyncio.gather(*(_posted(session, f"{base}/rpc", message) for _ in range(50)))
        assert replies == [{"jsonrpc": "2.0", "id": 1, "result": "ä"}] * 50
        async with session.post(f"{base}/api/v1/debug/fail", json={}) as failed:
            require({"status": 500, "error": {"code": ErrorCode.INTERNAL_ERROR}}, await failed.json())
        async with session.post(
            f"{base}/api/v1/debug/count", json={"n": 3}, headers={"Accept": "text/event-stream"}
        ) as stream:
            names = [line[7:].strip() async for line in stream.content if line.startswith(b"event: ")]
        assert names == [b"chunk", b"chunk", b"chunk", b"result"]
        async with session.ws_connect(f"{base}/ws") as socket:
            await socket.send_json(message)
            assert (await socket.receive_json())["result"] == "ä"


async def _posted(session: Any, url: str, message: Any) -> Any:
    async with session.post(url, json=message) as answer:
        return await answer.json()


# --- curl ---


def curl(*arguments: str) -> str:
    program = shutil.which("curl")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("curl is missing")
        pytest.skip("curl is missing: install curl")
    done = subprocess.run(
        [program, "-sS", "--max-time", str(3 * PATIENCE), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_curl(hub: RunningHub, tmp_path: Path) -> None:
    base = f"http://127.0.0.1:{hub.port}"
    as_json = ("-H", "Content-Type: application/json")
    message = '{"jsonrpc":"2.0","id":1,"method":"debug.echo","params":["x"]}'
    assert json.loads(curl(f"{base}/rpc", *as_json, "-d", message))["result"] == "x"
    assert json.loads(curl("--json", '{"value":[1]}', f"{base}/api/v1/debug/echo")) == [1]
    events = curl("-N", f"{base}/api/v1/debug/count", *as_json, "-H", "Accept: text/event-stream", "-d", '{"n":2}')
    assert [line for line in events.splitlines() if line.startswith("event:")] == [
        "event: chunk",
        "event: chunk",
        "event: result",
    ]
    assert curl("-o", os.devnull, "-w", "%{http_code}", "-d", message, f"{base}/rpc") == "415"
    large = tmp_path / "large.json"
    large.write_bytes(b"x" * (17 * 2**20))
    status = ("-o", os.devnull, "-w", "%{http_code}")
    assert curl(*status, *as_json, "--data-binary", f"@{large}", f"{base}/rpc") == "413", "curl waits for 100 Continue"
    assert curl(*status, *as_json, "-H", "Expect:", "--data-binary", f"@{large}", f"{base}/rpc") == "413"
