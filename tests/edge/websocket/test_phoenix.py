"""Phoenix channels at the door of a real hub: who comes in, what is refused, bad input, the end."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from tests.edge.conftest import TOKEN
from tests.protocol.phoenix import binary_push, binary_reply, reply
from tests.support.frames import BINARY, TEXT, RawSocket, frame, raw_tcp
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import peer
from tests.support.timing import PATIENCE, until
from trunkline.edge.phoenix.endpoint import BEARER, PATH, PhoenixEndpoint
from trunkline.hub.principal import ANONYMOUS
from trunkline_protocol.errors import ErrorCode, RpcError

URL = PATH + "?vsn=2.0.0"

HOOK = """
from trunkline.hub.principal import Principal
from trunkline_protocol.errors import ErrorCode, RpcError

def authenticate(handshake):
    if handshake.path == "/ws" or handshake.params.get("user[name]") == "ada" or handshake.token == "letmein":
        return Principal("ada")
    raise RpcError(ErrorCode.UNAUTHENTICATED, "nobody knows you")
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    env = {"TRUNKLINE_MAX_CHANNELS": "3", "TRUNKLINE_MAX_MESSAGE_BYTES": "65536"}
    with ready_hub(DEBUG_METHODS, "binary", cwd=MODULES, env=env) as running:
        yield running


class Client:
    """A socket; messages as lists."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, *message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def receive(self) -> Any:
        message = await asyncio.wait_for(self.socket.recv(), PATIENCE)
        return message if isinstance(message, bytes) else json.loads(message)

    async def ask(self, *message: Any) -> Any:
        await self.send(*message)
        return await self.receive()

    async def join(self, topic: str, ref: str = "1", payload: Any = None) -> Any:
        answer = await self.ask(ref, ref, topic, "phx_join", payload or {})
        assert answer[4]["status"] == "ok", answer
        return answer[4]["response"]


@asynccontextmanager
async def connect(hub: RunningHub, path: str = URL, **options: Any) -> AsyncIterator[Client]:
    url = f"ws://127.0.0.1:{hub.port}{path}"
    async with websockets.connect(
        url, compression=None, proxy=None, ping_interval=None, close_timeout=1, **options
    ) as socket:
        yield Client(socket)


@asynccontextmanager
async def raw(hub: RunningHub) -> AsyncIterator[RawSocket]:
    async with raw_tcp(hub.port) as socket:
        assert (await socket.upgrade(URL)).status == 101
        yield socket


def auth_token(token: str) -> str:
    """As phoenix.js does it."""
    return BEARER + base64.b64encode(token.encode()).decode().replace("=", "")


# --- who comes in ---


@pytest.mark.parametrize("query", ["", "?vsn=1.0.0", "?vsn=", "?vsn=3.0.0", "?vsn=2.1.0", "?vsn=2.0.0x", "?token=a"])
async def test_no_version_or_another_one_is_refused_before_the_upgrade(hub: RunningHub, query: str) -> None:
    async with raw_tcp(hub.port) as socket:
        answer = await socket.upgrade(PATH + query)
        assert answer.status == 400
        assert answer.headers["content-type"] == "application/json"
        require(
            {"jsonrpc": "2.0", "error": {"code": ErrorCode.INVALID_REQUEST, "message": {"$contains": "vsn=2.0.0"}}},
            json.loads(answer.body),
        )


async def test_version_2_is_let_in_without_a_subprotocol(hub: RunningHub) -> None:
    async with raw_tcp(hub.port) as socket:
        answer = await socket.upgrade(PATH + "?a[b]=c&vsn=2.0.0")
        assert answer.status == 101
        assert "sec-websocket-protocol" not in answer.headers


async def test_the_subprotocol_is_answered_exactly(token_hub: RunningHub) -> None:
    async with raw_tcp(token_hub.port) as socket:
        answer = await socket.upgrade(URL, {"Sec-WebSocket-Protocol": f"phoenix, {auth_token(TOKEN)}"})
        assert (answer.status, answer.headers["sec-websocket-protocol"]) == (101, "phoenix")


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (URL, {"Sec-WebSocket-Protocol": f"phoenix, {auth_token(TOKEN)}"}),
        (URL, {"Sec-WebSocket-Protocol": f"phoenix, {auth_token(TOKEN).replace('+', '-').replace('/', '_')}"}),
        (URL, {"Authorization": f"Bearer {TOKEN}"}),
        (URL + "&token=s3cret%2Ftoken%2B%3F%3E", {}),
    ],
)
async def test_a_token_opens_the_door(token_hub: RunningHub, path: str, headers: Mapping[str, str]) -> None:
    async with raw_tcp(token_hub.port) as socket:
        assert (await socket.upgrade(path, headers)).status == 101


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (URL, {}),
        (URL, {"Sec-WebSocket-Protocol": "phoenix"}),
        (URL, {"Sec-WebSocket-Protocol": f"phoenix, {auth_token('wrong')}"}),
        (URL, {"Sec-WebSocket-Protocol": f"phoenix, {BEARER}!"}),
        (URL, {"Sec-WebSocket-Protocol": f"phoenix, {BEARER}/w"}),
        (URL + "&token=wrong", {}),
        (URL + "&token=", {}),
        (URL, {"Origin": "https://evil.example", "Authorization": f"Bearer {TOKEN}"}),
    ],
)
async def test_others_are_403_before_the_upgrade(token_hub: RunningHub, path: str, headers: Mapping[str, str]) -> None:
    async with raw_tcp(token_hub.port) as socket:
        answer = await socket.upgrade(path, headers)
        assert answer.status == 403
        assert json.loads(answer.body)["error"]["code"] in (ErrorCode.UNAUTHENTICATED, ErrorCode.FORBIDDEN)


async def test_params_and_token_reach_the_hook(tmp_path: Path) -> None:
    (tmp_path / "doorman.py").write_text(HOOK)
    env = {"TRUNKLINE_AUTHENTICATE": "doorman:authenticate", "PYTHONPATH": str(tmp_path)}
    with ready_hub(cwd=tmp_path, env=env) as hub:
        statuses = []
        for path, headers in (
            (PATH + "?user[name]=ada&vsn=2.0.0", {}),
            (PATH + "?user%5Bname%5D=ada&vsn=2.0.0", {}),
            (PATH + "?user[name]=eve&vsn=2.0.0", {}),
            (URL, {"Sec-WebSocket-Protocol": f"phoenix, {auth_token('letmein')}"}),
        ):
            async with raw_tcp(hub.port) as socket:
                statuses.append((await socket.upgrade(path, headers)).status)
        assert statuses == [101, 101, 403, 101]


async def test_who_may_authenticate_by_a_call_does_so_in_a_channel_and_a_stop_is_1012_and_never_phx_close() -> None:
    with ready_hub(env={"TRUNKLINE_TOKEN": TOKEN, "TRUNKLINE_AUTH_CALL": "true"}) as hub:
        async with connect(hub) as client:
            await client.join("rpc:a")
            refused = await client.ask("1", "2", "rpc:a", "debug.echo", {"value": 1})
            assert refused[4]["response"]["code"] == ErrorCode.UNAUTHENTICATED
            assert (await client.ask("1", "3", "rpc:a", "auth", {"token": TOKEN}))[4]["status"] == "ok"
            assert (await client.ask("1", "4", "rpc:a", "debug.echo", {"value": 1}))[4]["response"] == 1
            await client.join("topic:jobs", "2")
            hub.process.send_signal(signal.SIGTERM)
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await client.receive()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        hub.wait_ended(0)


# --- what is said ---


async def test_calls(hub: RunningHub) -> None:
    async with connect(hub) as client:
        await client.join("rpc:a")
        assert await client.ask("1", "2", "rpc:a", "debug.echo", {"value": [1, "é"]}) == reply(
            "1", "2", "rpc:a", [1, "é"]
        )
        require(["1", "3", "rpc:a", "phx_reply", {"status": "error", "response": {"code": -32601}}],
                await client.ask("1", "3", "rpc:a", "no.such", {}))  # fmt: skip
        assert await client.ask(None, "4", "phoenix", "heartbeat", {}) == reply(None, "4", "phoenix", {})


async def test_a_stream_and_its_end(hub: RunningHub) -> None:
    async with connect(hub) as client:
        await client.join("rpc:a")
        await client.send("1", "2", "rpc:a", "debug.count", {"n": 3})
        chunks = [await client.receive() for _ in range(4)]
        assert [(chunk[3], chunk[4]["request_id"], chunk[4]["index"]) for chunk in chunks] == [
            ("stream_chunk", "2", index) for index in range(4)
        ]
        assert [chunk[4]["is_final"] for chunk in chunks] == [False, False, False, True]
        assert (await client.receive())[:4] == ["1", "2", "rpc:a", "phx_reply"]


async def test_events_between_a_channel_and_json_rpc(hub: RunningHub) -> None:
    async with connect(hub) as client, peer(hub.url) as other:
        await client.join("topic:news.a")
        await other.result("subscribe", {"topic": "news.*"})
        await other.result("publish", {"topic": "news.a", "data": {"from": "json-rpc"}})
        assert (await client.receive())[2:4] == ["topic:news.a", "event"]
        await client.send("1", "2", "topic:news.a", "publish", {"from": "phoenix"})
        assert {(await client.receive())[3], (await client.receive())[3]} == {"phx_reply", "event"}
        events = other.others
        while len(events) < 2:
            events.append(await other.receive())
        assert [event["params"]["data"]["from"] for event in events] == ["json-rpc", "phoenix"]


async def test_bytes_go_to_a_method_and_back(hub: RunningHub) -> None:
    async with connect(hub) as client:
        await client.join("rpc:a")
        await client.socket.send(binary_push("1", "2", "rpc:a", "binary.reverse", b"\x00\x01\xff"))
        assert await client.receive() == binary_reply("1", "2", "rpc:a", "ok", b"\xff\x01\x00")


async def test_the_limit_of_channels_is_a_setting(hub: RunningHub) -> None:
    async with connect(hub) as client:
        for number in range(3):
            await client.join(f"topic:t.{number}", str(number))
        require(
            {"code": ErrorCode.RESOURCE_EXHAUSTED, "data": {"limit": "TRUNKLINE_MAX_CHANNELS"}},
            (await client.ask("9", "9", "rpc:a", "phx_join", {}))[4]["response"],
        )


# --- bad input ---


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"nonsense", ErrorCode.PARSE_ERROR),
        (b"{}", ErrorCode.INVALID_REQUEST),
        (b'["1","1"]', ErrorCode.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}', ErrorCode.INVALID_REQUEST),
        (b'["1","2","rpc:a","m",' + b"[" * 30_000 + b"]" * 30_000 + b"]", ErrorCode.PARSE_ERROR),
        (b'["1","2","rpc:a","m",' + b"[" * 30_000, ErrorCode.PARSE_ERROR),
        (b'["1","2","rpc:a","\\ud800",{}]', ErrorCode.PARSE_ERROR),
    ],
)
async def test_bad_text_is_answered_and_the_socket_lives(hub: RunningHub, payload: bytes, code: int) -> None:
    async with raw(hub) as socket:
        await socket.write(frame(TEXT, payload))
        answer = json.loads((await socket.frame()).payload)
        require([None, None, "phoenix", "phx_reply", {"status": "error", "response": {"code": code}}], answer)
        await socket.write(frame(TEXT, b'[null,"1","phoenix","heartbeat",{}]'))
        assert json.loads((await socket.frame()).payload) == reply(None, "1", "phoenix", {})


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\x01\x00\x00\x00\x00", b"\x00\xff\xff\xff\xff", b"\xff" * 4096])
async def test_bad_binary_is_answered_and_the_socket_lives(hub: RunningHub, payload: bytes) -> None:
    async with raw(hub) as socket:
        await socket.write(frame(BINARY, payload))
        assert json.loads((await socket.frame()).payload)[4]["response"]["code"] == ErrorCode.INVALID_REQUEST
        await socket.write(frame(TEXT, b'[null,"1","phoenix","heartbeat",{}]'))
        assert json.loads((await socket.frame()).payload)[1] == "1"


async def test_any_depth_of_nesting_has_an_answer(hub: RunningHub) -> None:
    """Never silence: what a channel could read and the hub could not would have no ref to be answered under."""
    async with connect(hub) as client:
        await client.join("rpc:a")
        answers = []
        for depth in (100, 200, *range(800, 1_000)):
            nested = "[" * depth + "]" * depth
            await client.socket.send(f'["1","{depth}","rpc:a","debug.echo",{{"value":{nested}}}]')
            _, ref, _, event, payload = await client.receive()
            answers.append((ref if ref is None else int(ref) - depth, event, payload["status"]))
        assert set(answers) == {(0, "phx_reply", "ok"), (0, "phx_reply", "error"), (None, "phx_reply", "error")}


@pytest.mark.parametrize(("opcode", "payload", "code"), [(TEXT, b'["\xff"]', 1007), (TEXT, b"[" * 70_000, 1009)])
async def test_what_cannot_be_a_message_closes(hub: RunningHub, opcode: int, payload: bytes, code: int) -> None:
    async with raw(hub) as socket:
        await socket.write(frame(opcode, payload))
        assert (await socket.frame()).close_code == code


async def test_numbers_pass_as_they_are_or_are_refused(hub: RunningHub) -> None:
    async with connect(hub) as client:
        await client.join("rpc:a")
        for text, status in (("9007199254740991", "ok"), ("9007199254740993", "error"), ("1e400", "error")):
            await client.socket.send(f'["1","2","rpc:a","debug.echo",{{"value":{text}}}]')
            assert (await client.receive())[4]["status"] == status, text


# --- the end ---


async def test_a_client_that_vanishes_takes_its_calls_along(hub: RunningHub) -> None:
    async with connect(hub) as client, peer(hub.url) as other:
        await client.join("rpc:a")
        await client.send("1", "2", "rpc:a", "debug.count", {"n": 10**6, "interval_ms": 5})
        await client.receive()  # it runs
        client.socket.transport.abort()

        async def are_idle() -> bool:
            health = await other.result("health.detailed")
            return not any(found["active_requests"] for found in health["executors"])

        await until(are_idle, "the executors are idle")


# --- the endpoint ---


def test_the_endpoint_says_what_it_wants() -> None:
    endpoint = PhoenixEndpoint(8)
    with pytest.raises(RpcError, match=r"1\.0\.0"):
        endpoint.negotiate({}, {}, ANONYMOUS)
    one, other = (endpoint.negotiate({}, {"vsn": "2.0.0"}, ANONYMOUS) for _ in range(2))
    assert one.subprotocol is None
    assert one.dialect is not other.dialect
    assert endpoint.token({"authorization": "Bearer a"}, {"token": "b"}) == "a"
    assert endpoint.token({}, {"token": ""}) is None
