"""The authenticate hook as a coroutine function, by contract, at every door: nobody is let in before it has answered.

The hubs run in the test's own loop, and the hook waits for what the test says.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.asked import REFUSED, AskingHub, asking_hub
from tests.support.framed import packet
from tests.support.frames import TEXT, RawSocket, frame, raw_tcp
from tests.support.timing import PATIENCE, START, until
from trunkline.edge.websocket.upgrade import MAX_HELD_BYTES
from trunkline_protocol.errors import ErrorCode

PING: Final = {"jsonrpc": "2.0", "id": 1, "method": "rpc.ping", "params": {}}
INITIALIZE: Final = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}  # fmt: skip

Come = Callable[[AskingHub, str], Awaitable[int]]
"""Comes to a door with a token: returns 0 where it is let in, else the error's code."""


def code_in(body: bytes) -> int:
    said = json.loads(body)
    return int(said["error"]["code"]) if "error" in said else 0


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def by_upgrade(hub: AskingHub, token: str, path: str = "/ws") -> int:
    async with raw_tcp(hub.port) as socket:
        answer = await socket.upgrade(path, bearer(token))
        return 0 if answer.status == 101 else code_in(answer.body)


async def by_phoenix(hub: AskingHub, token: str) -> int:
    return await by_upgrade(hub, token, "/socket/websocket?vsn=2.0.0")


def asked_at(path: str, body: Any = None, accept: str = "application/json") -> Come:
    async def come(hub: AskingHub, token: str) -> int:
        async with raw_tcp(hub.port) as socket:
            sent = b"" if body is None else json.dumps(body).encode()
            await socket.write(http_request(hub, path, token, sent, accept, "GET" if body is None else "POST"))
            answer = await socket.http_answer()
            return 0 if answer.status == 200 else code_in(answer.body)

    return come


def http_request(hub: AskingHub, path: str, token: str, body: bytes, accept: str, method: str) -> bytes:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{hub.port}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nAccept: {accept}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def by_poll(hub: AskingHub, token: str) -> int:
    async with raw_tcp(hub.port) as socket:
        await socket.write(http_request(hub, "/socket/longpoll?vsn=2.0.0", token, b"", "application/json", "GET"))
        return code_in((await socket.http_answer()).body)


def auth(token: str, number: int = 1) -> bytes:
    call = {"jsonrpc": "2.0", "id": number, "method": "auth", "params": {"token": token}}
    return json.dumps(call).encode()


async def by_first_call(hub: AskingHub, token: str) -> int:
    async with raw_tcp(hub.port) as socket:
        assert (await socket.upgrade()).status == 101
        await socket.write(frame(TEXT, auth(token)))
        return code_in((await socket.frame()).payload)


@asynccontextmanager
async def framed(hub: AskingHub) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(hub.uds)
    try:
        yield reader, writer
    finally:
        writer.close()


async def packet_from(reader: asyncio.StreamReader) -> bytes:
    size = int.from_bytes(await reader.readexactly(4), "big")
    return await reader.readexactly(size)


async def by_frame(hub: AskingHub, token: str) -> int:
    async with framed(hub) as (reader, writer):
        writer.write(packet(auth(token)))
        return code_in(await packet_from(reader))


DOORS: Final[dict[str, Come]] = {
    "websocket": by_upgrade,
    "phoenix": by_phoenix,
    "long polling": by_poll,
    "rpc": asked_at("/rpc", PING),
    "task": asked_at("/api/v1/rpc/ping", {}),
    "events": asked_at("/events?topic=orders.new", accept="text/event-stream"),
    "page": asked_at("/metrics"),
    "document": asked_at("/openrpc.json"),
    "auth call": by_first_call,
    "framed": by_frame,
}

if importlib.util.find_spec("mcp") is not None:
    DOORS["mcp"] = asked_at("/mcp", INITIALIZE, "application/json, text/event-stream")

at_every_door = pytest.mark.parametrize("come", DOORS.values(), ids=DOORS)


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[AskingHub]:
    async with asking_hub(tmp_path) as running:
        yield running


async def coming(come: Come, hub: AskingHub, token: str) -> int:
    async with asyncio.timeout(START):
        return await come(hub, token)


@at_every_door
async def test_who_is_let_in_is_what_the_hook_says(hub: AskingHub, come: Come) -> None:
    assert await coming(come, hub, "good") == 0
    assert await coming(come, hub, "refused") == ErrorCode.UNAUTHENTICATED
    assert await coming(come, hub, "raises") == ErrorCode.WORKER_UNAVAILABLE, "what the hook needs may be back soon"
    assert await coming(come, hub, "good") == 0
    assert len(hub.directory.asked) == 4


@at_every_door
async def test_a_hook_that_hangs_lets_nobody_in(tmp_path: Path, come: Come) -> None:
    async with asking_hub(tmp_path, auth_seconds=0.05) as hub:
        assert await coming(come, hub, "hangs") == ErrorCode.WORKER_UNAVAILABLE
        await until(lambda: hub.directory.ended == ["hangs"], "the hook's run was ended")


@at_every_door
async def test_a_peer_that_leaves_meanwhile_ends_the_run(hub: AskingHub, come: Come) -> None:
    leaving = asyncio.ensure_future(come(hub, "slow"))
    await until(lambda: hub.directory.asked, "the hook is asked")
    leaving.cancel()
    await until(lambda: hub.directory.ended == ["slow"], "the hook's run was ended")
    assert not hub.hub.parts.context.listeners or come in (by_first_call, by_frame)
    await until(lambda: not hub.hub.parts.context.listeners, "nobody is there")
    assert await coming(come, hub, "good") == 0


@at_every_door
async def test_many_with_one_token_ask_once(tmp_path: Path, come: Come) -> None:
    async with asking_hub(tmp_path, auth_cache_seconds=600) as hub:
        many = [asyncio.ensure_future(coming(come, hub, "slow")) for _ in range(40)]
        hook = hub.hub.parts.credentials.async_hook
        assert hook is not None
        await until(lambda: len(hook._waiting) == 40, "all of them wait")
        hub.directory.gate.set()
        assert await asyncio.gather(*many) == [0] * 40
        assert await coming(come, hub, "slow") == 0
        (asked,) = hub.directory.asked
        assert (asked.path, asked.peer, asked.headers, asked.params) == ("", "", {}, {}), "nothing but the token"
        hub.hub.parts.credentials.reload()
        assert await coming(come, hub, "slow") == 0
        assert len(hub.directory.asked) == 2, "after a reload it is asked again"


@at_every_door
async def test_a_hub_that_stops_keeps_nobody_waiting(tmp_path: Path, come: Come) -> None:
    async with asking_hub(tmp_path) as hub:
        waiting = asyncio.ensure_future(coming(come, hub, "slow"))
        await until(lambda: hub.directory.asked, "the hook is asked")
        hub.hub.stop()
        assert await waiting == ErrorCode.WORKER_UNAVAILABLE
        assert hub.directory.ended == ["slow"]


@pytest.mark.parametrize("come", [DOORS[name] for name in DOORS if name != "framed"])  # which has no address
async def test_wrong_tokens_are_counted(tmp_path: Path, come: Come) -> None:
    async with asking_hub(tmp_path, failed_logins=2) as hub:
        wrong = [await coming(come, hub, f"refused {number}") for number in range(3)]
        assert wrong == [ErrorCode.UNAUTHENTICATED, ErrorCode.UNAUTHENTICATED, ErrorCode.RATE_LIMITED]
        assert len(hub.directory.asked) == 2, "the third was not looked at"


# --- the order of what comes behind ---


async def answers(socket: RawSocket, count: int) -> list[Any]:
    return [json.loads((await socket.frame(START)).payload) for _ in range(count)]


def echoes(count: int) -> list[bytes]:
    call = {"jsonrpc": "2.0", "method": "rpc.ping", "params": {}}
    return [json.dumps(call | {"id": number}).encode() for number in range(100, 100 + count)]


async def test_frames_behind_an_upgrade_that_waits_are_kept_in_order(hub: AskingHub) -> None:
    async with raw_tcp(hub.port) as socket:
        upgrading = asyncio.ensure_future(socket.upgrade(headers=bearer("slow")))
        await until(lambda: hub.directory.asked, "the hook is asked")
        large = frame(TEXT, b"x" * (4 * MAX_HELD_BYTES))
        await socket.write(b"".join(frame(TEXT, message) for message in echoes(20)) + large[:-100])
        hub.directory.gate.set()
        assert (await upgrading).status == 101
        assert [answer["id"] for answer in await answers(socket, 20)] == list(range(100, 120))
        await socket.write(large[-100:] + frame(TEXT, echoes(1)[0]))
        no_json, pong = await answers(socket, 2)
        assert (no_json["error"]["code"], pong["id"]) == (ErrorCode.PARSE_ERROR, 100)


async def test_frames_behind_an_auth_call_that_waits_are_kept_in_order(hub: AskingHub) -> None:
    async with raw_tcp(hub.port) as socket:
        assert (await socket.upgrade()).status == 101
        await socket.write(b"".join(frame(TEXT, message) for message in [auth("slow"), *echoes(20)]))
        await until(lambda: hub.directory.asked, "the hook is asked")
        hub.directory.gate.set()
        first, *others = await answers(socket, 21)
        assert first["result"]["principal"] == "ann"
        assert [answer["id"] for answer in others] == list(range(100, 120))
        assert all("result" in answer for answer in others)


async def test_frames_behind_an_auth_call_of_a_framed_peer_are_kept_in_order(hub: AskingHub) -> None:
    async with framed(hub) as (reader, writer):
        writer.write(b"".join(packet(message) for message in [auth("slow"), *echoes(20)]))
        writer.write_eof()
        await until(lambda: hub.directory.asked, "the hook is asked")
        hub.directory.gate.set()
        async with asyncio.timeout(START):
            said = [json.loads(await packet_from(reader)) for _ in range(21)]
            assert await reader.read() == b"", "all is answered, and the stream ends"
    assert [answer["id"] for answer in said] == [1, *range(100, 120)]
    assert all("result" in answer for answer in said)


async def test_what_is_behind_an_auth_call_that_is_refused_is_refused(hub: AskingHub) -> None:
    async with raw_tcp(hub.port) as socket:
        assert (await socket.upgrade()).status == 101
        await socket.write(b"".join(frame(TEXT, message) for message in [auth("slow refused"), *echoes(2)]))
        await until(lambda: hub.directory.asked, "the hook is asked")
        hub.directory.gate.set()
        said = await answers(socket, 3)
        assert [answer["error"]["code"] for answer in said] == [ErrorCode.UNAUTHENTICATED] * 3
        assert REFUSED in said[0]["error"]["message"]
        assert (await socket.frame()).close_code == 4501


async def test_a_failure_of_the_hook_leaves_a_first_call_another_try(hub: AskingHub) -> None:
    async with raw_tcp(hub.port) as socket:
        assert (await socket.upgrade()).status == 101
        await socket.write(frame(TEXT, auth("raises")) + frame(TEXT, auth("good", 2)))
        said = await answers(socket, 2)
        assert said[0]["error"]["code"] == ErrorCode.WORKER_UNAVAILABLE
        assert said[1]["result"]["principal"] == "ann"


async def test_a_renewal_waits_for_nobody_else_and_only_one_waits_at_a_time(hub: AskingHub) -> None:
    async with raw_tcp(hub.port) as socket:
        assert (await socket.upgrade(headers=bearer("good"))).status == 101
        await socket.write(frame(TEXT, auth("slow")))
        await until(lambda: len(hub.directory.asked) == 2, "the hook is asked")
        await socket.write(frame(TEXT, echoes(1)[0]) + frame(TEXT, auth("good", 2)))
        pong, second = await answers(socket, 2)
        assert (pong["id"], second["error"]["code"]) == (100, ErrorCode.RESOURCE_EXHAUSTED)
        hub.directory.gate.set()
        (first,) = await answers(socket, 1)
        assert first["result"]["principal"] == "ann"


async def test_a_foreign_page_or_host_is_refused_without_asking(hub: AskingHub) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        async with raw_tcp(hub.port) as socket:
            answer = await socket.upgrade(headers=headers | bearer("good"))
            assert (answer.status, code_in(answer.body)) == (403, ErrorCode.FORBIDDEN)
    assert hub.directory.asked == []


async def test_without_a_cache_the_hook_sees_the_whole_handshake(hub: AskingHub) -> None:
    assert await coming(by_upgrade, hub, "good") == 0
    assert await coming(by_upgrade, hub, "good") == 0
    first, second = hub.directory.asked
    assert (first.path, first.headers["upgrade"], first.token) == ("/ws", "websocket", "good")
    assert first.peer != second.peer


@pytest.mark.parametrize("seconds", [PATIENCE])
async def test_credentials_last_no_longer_than_the_hub_lets_them(tmp_path: Path, seconds: float) -> None:
    async with asking_hub(tmp_path, auth_max_seconds=seconds / 20) as hub, raw_tcp(hub.port) as socket:
        assert (await socket.upgrade(headers=bearer("good"))).status == 101
        assert (await socket.frame(START)).close_code == 4001
