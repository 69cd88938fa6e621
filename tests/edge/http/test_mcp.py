"""``/mcp``, asked by the official client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.edge.conftest import TOKEN
from tests.hub.tenants import as_one_of, hub_of_tenants
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.libraries import skip_without
from tests.support.match import require
from tests.support.peer import peer
from tests.support.timing import PATIENCE, eventually

if TYPE_CHECKING:
    from mcp.client.session import ClientSession

skip_without("mcp")


def client(hub: RunningHub, token: str | None = None) -> AbstractAsyncContextManager[ClientSession]:
    return client_at(f"http://127.0.0.1:{hub.port}/mcp", token)


@asynccontextmanager
async def client_at(url: str, token: str | None) -> AsyncIterator[ClientSession]:
    from mcp.client.session import ClientSession
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared._httpx_utils import create_mcp_http_client

    headers = {"Authorization": f"Bearer {token}"} if token else None
    async with (
        create_mcp_http_client(headers=headers) as http,
        streamable_http_client(url, http_client=http) as streams,
        ClientSession(streams[0], streams[1]) as session,
    ):
        await session.initialize()
        yield session


@pytest.fixture(scope="module")
def tool_hub() -> Iterator[RunningHub]:
    with ready_hub(DEBUG_METHODS, "lab", "binary", cwd=MODULES) as hub:
        yield hub


async def test_every_method_is_a_tool_with_its_schema(tool_hub: RunningHub) -> None:
    async with client(tool_hub) as session:
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
    echo = tools["debug.echo"]
    assert echo.description
    assert echo.input_schema["type"] == "object"
    assert "value" in echo.input_schema["properties"]
    assert {"lab.typed", "health.check", "rpc.discover"} <= tools.keys()
    assert "binary.joined" not in tools, "its input is a stream, which no tool can be given"


async def test_a_call_gives_structure_and_text(tool_hub: RunningHub) -> None:
    async with client(tool_hub) as session:
        result = await session.call_tool("debug.echo", {"value": {"deep": [1, None]}})
        assert not result.is_error
        assert result.structured_content == {"deep": [1, None]}
        assert (await session.call_tool("debug.echo", {"value": 7})).structured_content == {"result": 7}
        text = (await session.call_tool("debug.echo", {"value": "plain"})).content[0]
        assert text.text == "plain"  # type: ignore[union-attr]


async def test_errors_of_tools_are_for_the_model_to_read(tool_hub: RunningHub) -> None:
    async with client(tool_hub) as session:
        for name, arguments, words in (
            ("debug.fail", {"message": "over the edge"}, "RuntimeError (id "),
            ("debug.echo", {"valeu": 1}, "INVALID_PARAMS -32602"),
            ("no.such", {}, "METHOD_NOT_FOUND -32601"),
            ("subscribe", {"topic": "x"}, "needs a persistent connection"),
        ):
            result = await session.call_tool(name, arguments)
            assert result.is_error
            assert words in result.content[0].text  # type: ignore[union-attr]


async def test_chunks_and_reports_are_progress(tool_hub: RunningHub) -> None:
    reports: list[tuple[float, float | None, str | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        reports.append((progress, total, message))

    async with client(tool_hub) as session:
        result = await session.call_tool("debug.count", {"n": 3}, progress_callback=on_progress)
    chunks = [{"type": "data", "data": {"index": index}} for index in range(3)]
    require({"chunks": chunks, "result": {"chunks": 3}}, result.structured_content)
    assert [report[0] for report in reports] == [1.0, 2.0, 3.0]


async def test_a_cancelled_tool_call_is_cancelled_in_the_executor(tool_hub: RunningHub, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    async with client(tool_hub) as session:
        calling = asyncio.create_task(session.call_tool("lab.cleanup", {"marker": str(marker)}))
        await asyncio.to_thread(eventually, Path(f"{marker}.started").exists, "it runs")
        calling.cancel()
        await asyncio.wait([calling])
        await asyncio.to_thread(eventually, marker.exists, "it was cancelled")
        assert marker.read_text() == "cancelled"


async def test_many_at_once_and_beside_others(tool_hub: RunningHub) -> None:
    async with client(tool_hub) as session, peer(tool_hub.url) as other:
        calls = [session.call_tool("debug.echo", {"value": {"n": n}}) for n in range(20)]
        results = await asyncio.wait_for(asyncio.gather(*calls), PATIENCE)
        assert [result.structured_content["n"] for result in results] == list(range(20))
        assert await other.result("debug.echo", {"value": 1}) == 1


async def test_what_clients_serve_is_a_tool(tool_hub: RunningHub) -> None:
    async with peer(tool_hub.url) as callee, client(tool_hub) as session:
        await callee.result("method.register", {"method": "node.lookup", "summary": "Look it up"})
        assert "node.lookup" in {tool.name for tool in (await session.list_tools()).tools}
        calling = asyncio.create_task(session.call_tool("node.lookup", {"key": "a"}))
        request = await callee.receive()
        require({"method": "node.lookup", "params": {"key": "a"}}, request)
        await callee.send({"jsonrpc": "2.0", "id": request["id"], "result": {"found": True}})
        assert (await calling).structured_content == {"found": True}


async def test_the_hubs_token_is_asked_for(token_hub: RunningHub) -> None:
    from mcp.shared.exceptions import MCPError

    async with client(token_hub, TOKEN) as session:
        assert (await session.call_tool("debug.echo", {"value": 1})).structured_content == {"result": 1}
    with pytest.raises((MCPError, ExceptionGroup)):
        async with client(token_hub, "wrong"):
            raise AssertionError("it let a wrong token in")


async def test_tools_are_those_of_the_tenant(tmp_path: Path) -> None:
    async with hub_of_tenants(tmp_path) as mock, as_one_of(mock, "acme") as acme, as_one_of(mock, "bolt") as bolt:
        await acme.result("method.register", {"method": "acme.secret"})
        await bolt.result("method.register", {"method": "bolt.own"})
        url, tools = mock.url.replace("ws://", "http://").removesuffix("/ws") + "/mcp", {}
        for token in ("acme", "bolt", "default"):
            async with client_at(url, token) as session:
                tools[token] = {tool.name for tool in (await session.list_tools()).tools}
                refused = await session.call_tool("acme.nothing" if token == "acme" else "acme.secret", {})
                assert refused.is_error
        assert "acme.secret" in tools["acme"]
        assert "bolt.own" in tools["bolt"]
        assert tools["acme"] - {"acme.secret"} == tools["bolt"] - {"bolt.own"} == tools["default"]
