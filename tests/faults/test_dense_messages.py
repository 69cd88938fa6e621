"""Messages of many small values: fifteen megabytes that would be 1.3 GB, and eleven seconds for everybody, if unpacked.

Through each door, to a real hub: each is refused, typed, or passed on unread; the hub grows by no more than
some copies of the message; and whoever else is there goes on.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import msgspec
import pytest
from typing_extensions import override
from websockets.typing import Subprotocol

from tests.edge.http.http_client import send
from tests.support.hub import DEBUG_METHODS, RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import Peer, peer
from trunkline_protocol.codecs.msgpack import SUBPROTOCOL
from trunkline_protocol.errors import ErrorCode

SIZE = 15_000_000
GROWTH = 250 * 2**20
TOO_MUCH = {"data": {"limit": "message_values"}}
DENSE_JSON = b"[" + b"[]," * (SIZE // 3) + b"0]"
DENSE_PACKED = b"\xdd" + struct.pack(">I", SIZE) + b"\x90" * SIZE


class PackedPeer(Peer):
    @override
    def encode(self, message: Any) -> bytes:
        return msgspec.msgpack.encode(message)

    @override
    def decode(self, message: str | bytes) -> Any:
        assert isinstance(message, bytes)
        return msgspec.msgpack.decode(message)


def packed(hub: RunningHub) -> Any:
    return peer(hub.url, kind=PackedPeer, subprotocols=[Subprotocol(SUBPROTOCOL)])


def memory(hub: RunningHub) -> int:
    """The most that the hub's process ever had, in bytes."""
    with open(f"/proc/{hub.process.pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    with ready_hub(DEBUG_METHODS, env={"TRUNKLINE_OUTBOX_BYTES": str(64 * 2**20)}) as running:
        yield running


@pytest.fixture
def grown(hub: RunningHub) -> Iterator[None]:
    before = memory(hub)
    yield
    assert memory(hub) - before < GROWTH


def message(members: bytes, **head: Any) -> bytes:
    """A JSON message whose last members are given."""
    return msgspec.json.encode({"jsonrpc": "2.0", **head})[:-1] + b"," + members + b"}"


def packed_message(member: str, value: bytes, **head: Any) -> bytes:
    members = {"jsonrpc": "2.0", **head}
    packed_members = b"".join(msgspec.msgpack.encode(each) for pair in members.items() for each in pair)
    return bytes([0x81 + len(members)]) + packed_members + msgspec.msgpack.encode(member) + value


async def reply_of(connection: Peer, raw: bytes) -> Any:
    await connection.socket.send(raw if isinstance(connection, PackedPeer) else raw.decode())
    while (reply := await connection.receive()).get("method") == "session.ack":
        pass
    return reply


@pytest.mark.parametrize(
    ("method", "code"),
    [("no.such", ErrorCode.METHOD_NOT_FOUND), ("debug.echo", ErrorCode.INVALID_PARAMS)],
)
async def test_packed_params(hub: RunningHub, grown: None, method: str, code: ErrorCode) -> None:
    async with packed(hub) as sender, peer(hub.url) as other:
        await other.result("rpc.ping")
        asked = asyncio.create_task(reply_of(sender, packed_message("params", DENSE_PACKED, id=7, method=method)))
        while not asked.done():
            await other.result("rpc.ping")
        reply = await asked
        require({"id": 7, "error": {"code": code}}, reply)
        if code == ErrorCode.INVALID_PARAMS:
            require(TOO_MUCH, reply["error"])
        assert await sender.result("debug.echo", {"value": 1}) == 1


async def test_a_refused_call_of_a_session_is_counted(hub: RunningHub, grown: None) -> None:
    async with packed(hub) as sender:
        opened = await sender.result("session.open", {})
        raw = packed_message("params", DENSE_PACKED, id=7, method="debug.echo", seq=1)
        require({"id": 7, "seq": 1, "error": TOO_MUCH}, await reply_of(sender, raw))
        raw = packed_message("params", DENSE_PACKED, id=7, method="no.such", seq=2)
        require({"id": 7, "seq": 2, "error": {"code": ErrorCode.METHOD_NOT_FOUND}}, await reply_of(sender, raw))
        again = msgspec.msgpack.encode(
            {"jsonrpc": "2.0", "id": 8, "method": "debug.echo", "params": {"value": 5}, "seq": 3}
        )
        require({"id": 8, "seq": 3, "result": 5}, await reply_of(sender, again))
        assert opened["session"]


@pytest.mark.parametrize("member", ["params", "metadata"])
async def test_a_packed_notification_runs_nothing(hub: RunningHub, grown: None, member: str) -> None:
    async with packed(hub) as sender:
        await sender.socket.send(packed_message(member, DENSE_PACKED, method="debug.echo"))
        assert await sender.result("rpc.ping") is not None
        assert all("error" in other for other in sender.others)


async def test_a_packed_batch(hub: RunningHub, grown: None) -> None:
    async with packed(hub) as sender:
        require(
            {"id": None, "error": {"code": ErrorCode.INVALID_REQUEST} | TOO_MUCH}, await reply_of(sender, DENSE_PACKED)
        )


async def test_params_in_json_are_not_read_by_the_hub(hub: RunningHub, grown: None) -> None:
    async with peer(hub.url) as sender:
        raw = message(b'"params":{"value":%b}' % DENSE_JSON, id=7, method="no.such")
        require({"id": 7, "error": {"code": ErrorCode.METHOD_NOT_FOUND}}, await reply_of(sender, raw))


async def test_data_of_a_publication(hub: RunningHub, grown: None) -> None:
    async with peer(hub.url) as sender, peer(hub.url) as listener:
        await listener.result("subscribe", {"topic": "dense"})
        raw = message(b'"params":{"topic":"dense","data":%b}' % DENSE_JSON, id=7, method="publish")
        require({"id": 7, "error": {"code": ErrorCode.INVALID_PARAMS} | TOO_MUCH}, await reply_of(sender, raw))
        await listener.result("rpc.ping")
        assert listener.others == []


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (DENSE_JSON, {"code": ErrorCode.INVALID_REQUEST}),
        (b"[" + b"0," * (SIZE // 2) + b"0]", {"code": ErrorCode.INVALID_REQUEST}),
        (message(b'"method":5,"params":%b' % DENSE_JSON), {"code": ErrorCode.INVALID_REQUEST}),
        (message(b'"x":%b' % DENSE_JSON), {"code": ErrorCode.INVALID_REQUEST}),
        (message(b'"metadata":{"x":%b}' % DENSE_JSON, method="debug.echo"), {"code": ErrorCode.INVALID_PARAMS}),
    ],
    ids=["arrays", "numbers", "no request", "no message", "metadata"],
)
async def test_what_is_no_request(hub: RunningHub, grown: None, raw: bytes, expected: Any) -> None:
    async with peer(hub.url) as sender:
        require({"id": None, "error": expected}, await reply_of(sender, raw))
        assert await sender.result("debug.echo", {"value": 1}) == 1


async def test_a_batch_of_too_many_in_a_session(hub: RunningHub, grown: None) -> None:
    async with peer(hub.url) as sender:
        await sender.result("session.open", {})
        batch = b"[" + b'{"seq":1},' * (SIZE // 11) + b'{"seq":1}]'
        require({"id": None, "seq": 1, "error": {"code": ErrorCode.INVALID_REQUEST}}, await reply_of(sender, batch))


@pytest.mark.parametrize("method", ["$/cancelRequest", "notifications/cancelled"])
async def test_what_cancels(hub: RunningHub, grown: None, method: str) -> None:
    async with peer(hub.url) as sender:
        running = await sender.request("debug.sleep", {"seconds": 60})
        member = "id" if method == "$/cancelRequest" else "requestId"
        raw = message(b'"params":{"%b":%d,"x":%b}' % (member.encode(), running, DENSE_JSON), method=method)
        await sender.socket.send(raw.decode())
        if member == "id":
            require({"code": ErrorCode.CANCELLED}, (await sender.reply(running))["error"])
        await sender.result("rpc.ping")


@pytest.mark.parametrize("member", ["result", "error"])
async def test_what_a_client_answers(hub: RunningHub, grown: None, member: str) -> None:
    """The caller is told; nothing hangs."""
    async with peer(hub.url) as callee, peer(hub.url) as caller:
        await callee.result("method.register", {"method": "dense.serve"})
        asked = await caller.request("dense.serve", {})
        request = await callee.receive()
        value = DENSE_JSON if member == "result" else b'{"code":5,"message":"x","data":%b}' % DENSE_JSON
        raw = b'{"jsonrpc":"2.0","id":"%b","%b":%b}' % (request["id"].encode(), member.encode(), value)
        await callee.socket.send(raw.decode())
        reply = await caller.reply(asked)
        require({"error": {"code": ErrorCode.SERIALIZATION_ERROR} | TOO_MUCH}, reply)


async def test_a_packed_answer(hub: RunningHub, grown: None) -> None:
    async with packed(hub) as callee, peer(hub.url) as caller:
        await callee.result("method.register", {"method": "dense.packed"})
        asked = await caller.request("dense.packed", {})
        request = await callee.receive()
        await callee.socket.send(packed_message("result", DENSE_PACKED, id=request["id"]))
        require({"error": {"code": ErrorCode.SERIALIZATION_ERROR} | TOO_MUCH}, await caller.reply(asked))


@pytest.mark.skipif(find_spec("mcp") is None, reason="the extra [mcp] is not installed")
def test_a_body_for_mcp(hub: RunningHub, grown: None) -> None:
    """There the official package unpacks it."""
    raw = message(b'"params":{"name":"debug.echo","arguments":{"value":%b}}' % DENSE_JSON, id=7, method="tools/call")
    answer = send(
        hub, "/mcp", raw, {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    )
    assert answer.status == 413
    require({"error": {"code": ErrorCode.INVALID_REQUEST} | TOO_MUCH}, answer.json())


async def test_what_a_peer_may_pass_on_is_packed_once(hub: RunningHub, grown: None) -> None:
    """An event near the limit, to many who read MessagePack."""
    data: list[list[int]] = [[]] * 100_000
    listeners = [packed(hub) for _ in range(8)]
    entered = [await each.__aenter__() for each in listeners]
    try:
        for each in entered:
            await each.result("subscribe", {"topic": "near"})
        async with peer(hub.url) as sender:
            await sender.result("publish", {"topic": "near", "data": data})
        for each in entered:
            assert len((await each.receive())["params"]["data"]) == 100_000
    finally:
        for listener in listeners:
            await listener.__aexit__(None, None, None)
