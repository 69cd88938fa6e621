"""Subprotocol ``trunkline.v1+msgpack`` on ``/ws``: everything the hub does, with bytes as bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest
from typing_extensions import override
from websockets.typing import Subprotocol

from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import Peer, peer
from trunkline_protocol.codecs.msgpack import SUBPROTOCOL
from trunkline_protocol.errors import ErrorCode

BLOB = bytes(range(256)) * 300


class PackedPeer(Peer):
    """Speaks MessagePack."""

    @override
    def encode(self, message: Any) -> bytes:
        return msgspec.msgpack.encode(message)

    @override
    def decode(self, message: str | bytes) -> Any:
        assert isinstance(message, bytes), "a text frame came"
        return msgspec.msgpack.decode(message)


def packed(hub: RunningHub) -> Any:
    return peer(hub.url, kind=PackedPeer, subprotocols=[Subprotocol(SUBPROTOCOL)])


@pytest.fixture(scope="module")
def binary_hub() -> Iterator[RunningHub]:
    with ready_hub(DEBUG_METHODS, "binary", cwd=MODULES) as hub:
        yield hub


@pytest.fixture
async def packed_peer(binary_hub: RunningHub) -> AsyncIterator[Peer]:
    async with packed(binary_hub) as connected:
        assert connected.socket.subprotocol == SUBPROTOCOL
        yield connected


async def test_calls_carry_bytes_as_bytes(packed_peer: Peer) -> None:
    assert await packed_peer.result("binary.reverse", {"data": BLOB}) == BLOB[::-1]
    nested = {"value": [b"\x00", "text", 1, {"more": b"\xff"}]}
    assert await packed_peer.result("binary.nested", nested) == nested | {"types": ["bytes", "dict", "int", "str"]}


async def test_json_peers_get_the_same_bytes_in_their_form(binary_hub: RunningHub) -> None:
    async with peer(binary_hub.url) as plain:
        assert await plain.result("binary.reverse", {"data": {"$bytes": "AQID"}}) == {"$bytes": "AwIB"}


async def test_errors_batches_and_notifications(packed_peer: Peer) -> None:
    error = await packed_peer.error("binary.reverse", {"data": 1})
    require({"code": ErrorCode.INVALID_PARAMS, "message": {"$contains": "data"}}, error)
    one = {"jsonrpc": "2.0", "id": "a", "method": "binary.reverse", "params": {"data": b"ab"}}
    await packed_peer.send([one, {"jsonrpc": "2.0", "method": "rpc.ping"}])
    assert await packed_peer.receive() == [{"jsonrpc": "2.0", "id": "a", "result": b"ba"}]
    await packed_peer.send([])
    require({"id": None, "error": {"code": ErrorCode.INVALID_REQUEST}}, await packed_peer.receive())


async def test_streams_both_ways(packed_peer: Peer) -> None:
    assert await packed_peer.result("binary.chunks", {"sizes": [3, 0]}) == {"chunks": 2}
    data = [message["params"]["data"] for message in packed_peer.others]
    assert data == [bytes(3), b"", None]
    call = await packed_peer.request("binary.joined")
    for index, part in enumerate((b"ab", b"\xff")):
        await packed_peer.notify("stream.push", {"request_id": call, "index": index, "data": part})
    await packed_peer.notify("stream.push", {"request_id": call, "index": 2, "is_final": True})
    assert (await packed_peer.reply(call))["result"] == b"ab\xff"


async def test_events_cross_from_one_form_to_the_other(binary_hub: RunningHub, packed_peer: Peer) -> None:
    async with peer(binary_hub.url) as plain:
        for subscriber in (plain, packed_peer):
            await subscriber.result("subscribe", {"topic": "frames.camera"})
        await packed_peer.result("publish", {"topic": "frames.camera", "data": {"jpeg": b"\xff\xd8"}})
        expected = {plain: {"jpeg": {"$bytes": "/9g="}}, packed_peer: {"jpeg": b"\xff\xd8"}}
        for subscriber, data in expected.items():
            event = next((other for other in subscriber.others if other.get("method") == "event"), None)
            assert (event or await subscriber.receive())["params"]["data"] == data


async def test_an_event_with_an_integer_beyond_64_bits_arrives(binary_hub: RunningHub, packed_peer: Peer) -> None:
    await packed_peer.result("subscribe", {"topic": "numbers.large"})
    async with peer(binary_hub.url) as plain:
        await plain.result("publish", {"topic": "numbers.large", "data": 10**30})
        await plain.socket.send(
            '{"jsonrpc":"2.0","id":"x","method":"publish","params":{"topic":"numbers.large","data":1%s}}' % ("0" * 400)
        )
        require({"id": "x", "error": {"code": ErrorCode.INVALID_PARAMS}}, await plain.receive())
    event = next((other for other in packed_peer.others if other.get("method") == "event"), None)
    assert (event or await packed_peer.receive())["params"]["data"] == 1e30


async def test_a_session_survives_a_cut(binary_hub: RunningHub) -> None:
    async with packed(binary_hub) as first:
        opened = await first.result("session.open")
        call = {"jsonrpc": "2.0", "id": 7, "method": "debug.sleep", "params": {"seconds": 0.3}, "seq": 1}
        await first.send(call)
        await first.result("rpc.ping")
        first.socket.transport.abort()
    async with packed(binary_hub) as second:
        resume = {"resume": {"session": opened["session"], "received": 0}}
        require({"resumed": True, "received": 1}, await second.result("session.open", resume))
        reply = await second.reply(7)
        assert reply["seq"] == 1
        assert "result" in reply


async def test_malformed_messages_are_answered_and_the_connection_lives(packed_peer: Peer) -> None:
    for payload in (b"\xc1", b"\x81\xa1a", msgspec.msgpack.encode({1: 2}), msgspec.msgpack.encode(float("nan"))):
        await packed_peer.socket.send(payload)
        require({"id": None, "error": {"code": ErrorCode.PARSE_ERROR}}, await packed_peer.receive())
    assert (await packed_peer.result("rpc.ping"))["pong"] is True


async def test_text_closes(packed_peer: Peer) -> None:
    await packed_peer.socket.send("{}")
    assert await packed_peer.close_code() == 1003


async def test_the_first_subprotocol_both_know_is_taken(binary_hub: RunningHub) -> None:
    offers = [Subprotocol(name) for name in ("trunkline.v9+json", "trunkline.v1+json", SUBPROTOCOL)]
    async with peer(binary_hub.url, subprotocols=offers) as plain:
        assert plain.socket.subprotocol == "trunkline.v1+json"
        assert (await plain.result("rpc.ping"))["pong"] is True
