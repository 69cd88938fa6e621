"""Channels for calls: pushes, replies, chunks, progress, and what concerns another push."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.hub.pubsub import PubSub
from tests.protocol.phoenix import PhoenixPeer, binary_push, binary_reply, reply
from trunkline_protocol.codecs.dialect import Frame
from trunkline_protocol.codecs.jsonrpc import encode_id, encode_result
from trunkline_protocol.errors import ErrorCode, RpcError


@pytest.fixture
def hub() -> PubSub:
    return PubSub()


@pytest.fixture
def client(hub: PubSub) -> PhoenixPeer:
    return PhoenixPeer(hub)


def in_rpc(client: PhoenixPeer) -> PhoenixPeer:
    assert client.join("rpc:a") == {}
    return client


async def test_a_push_is_a_call(client: PhoenixPeer) -> None:
    in_rpc(client).send("1", "2", "rpc:a", "work.do", {"x": [1, 2]})
    (call,) = client.backend.calls
    assert (call.method, json.loads(call.params), call.metadata) == ("work.do", {"x": [1, 2]}, b"")
    call.settle_result(b'{"y":3}')
    assert client.one() == reply("1", "2", "rpc:a", {"y": 3})


@pytest.mark.parametrize("result", [b"null", b"1", b'"text"', b"[1,2]", b"{}"])
async def test_any_json_may_be_a_response(client: PhoenixPeer, result: bytes) -> None:
    in_rpc(client).send("1", "2", "rpc:a", "work.do", {})
    client.backend.calls[0].settle_result(result)
    assert client.one() == reply("1", "2", "rpc:a", json.loads(result))


async def test_an_error_is_the_error_object(client: PhoenixPeer) -> None:
    in_rpc(client).send("1", "2", "rpc:a", "work.do", {})
    error = RpcError(ErrorCode.WORKER_CRASHED, "gone", maybe_executed=True)
    client.backend.calls[0].settle_error(error)
    assert client.one() == reply("1", "2", "rpc:a", error.to_wire(), "error")
    client.refused("1", "3", "rpc:a", "no.such", {}, code=ErrorCode.METHOD_NOT_FOUND)
    client.refused("1", "4", "rpc:a", "work.do", "text", code=ErrorCode.INVALID_REQUEST)


async def test_a_push_without_a_ref_is_not_answered(client: PhoenixPeer) -> None:
    in_rpc(client).send("1", None, "rpc:a", "work.do", {})
    client.backend.calls[0].settle_result(b"{}")
    assert client.news() == []


async def test_calls_in_any_order_on_several_channels(client: PhoenixPeer) -> None:
    client.join("rpc:a", "1")
    client.join("rpc:b", "2")
    client.send("1", "3", "rpc:a", "work.do", {})
    client.send("2", "3", "rpc:b", "work.do", {})
    for number in (1, 0):
        client.backend.calls[number].settle_result(b"%d" % number)
    assert client.news() == [reply("2", "3", "rpc:b", 1), reply("1", "3", "rpc:a", 0)]


async def test_a_ref_in_flight_is_refused_and_the_first_unharmed(client: PhoenixPeer) -> None:
    in_rpc(client).send("1", "2", "rpc:a", "work.do", {})
    client.send("1", "2", "rpc:a", "work.do", {})
    join_ref, ref, topic, event, payload = client.one()
    assert (join_ref, ref, topic, event) == ("1", None, "rpc:a", "phx_reply")
    assert payload["response"]["data"]["duplicate_ref"] == "2"
    client.send("1", "2", "rpc:a", 17, {})
    assert client.one()[1] is None
    client.backend.calls[0].settle_result(b"{}")
    assert client.one() == reply("1", "2", "rpc:a", {})
    assert len(client.backend.calls) == 1
    client.send("1", "2", "rpc:a", "work.do", {})
    assert len(client.backend.calls) == 2


async def test_metadata_is_a_member_of_the_payload(client: PhoenixPeer) -> None:
    in_rpc(client).send("1", "2", "rpc:a", "work.do", {"x": 1, "$metadata": {"timeout_ms": 5000, "mine": 1}})
    (call,) = client.backend.calls
    assert (json.loads(call.params), json.loads(call.metadata)) == ({"x": 1}, {"timeout_ms": 5000, "mine": 1})
    client.refused("1", "3", "rpc:a", "work.do", {"$metadata": 1}, code=ErrorCode.INVALID_PARAMS)
    client.refused("1", "4", "rpc:a", "work.do", {"$metadata": {"timeout_ms": -1}}, code=ErrorCode.INVALID_PARAMS)
    client.refused("1", "5", "rpc:a", "work.do", {"$metadata": {"progress_token": 1.5}}, code=ErrorCode.INVALID_PARAMS)
    client.send("1", "6", "rpc:a", "work.do", {"note": '"$metadata"'})
    client.send("1", "7", "rpc:a", "work.do", ["$metadata"])
    assert [json.loads(call.params) for call in client.backend.calls[1:]] == [{"note": '"$metadata"'}, ["$metadata"]]


@pytest.mark.parametrize("token", ["t", 7])
async def test_progress_has_the_token_of_the_push(client: PhoenixPeer, token: Any) -> None:
    in_rpc(client)
    for ref in ("2", "3"):  # the same token twice: on the hub's side they are different
        client.send("1", ref, "rpc:a", "work.do", {"$metadata": {"progress_token": token, "mine": 1}})
    first, second = client.backend.calls
    assert first.progress_token != second.progress_token
    assert json.loads(first.metadata)["mine"] == 1
    first.progress(b'{"percent":50}')
    assert client.one() == ["1", None, "rpc:a", "$/progress", {"token": token, "value": {"percent": 50}}]


async def test_chunks_carry_the_ref_of_the_push(client: PhoenixPeer) -> None:
    in_rpc(client).send("1", "2", "rpc:a", "work.stream", {})
    (call,) = client.backend.calls
    call.stream(b'"data"', b'{"n":0}')
    call.settle_result(b"{}")
    common = {"request_id": "2", "chunk_type": "data"}
    assert client.news() == [
        ["1", None, "rpc:a", "stream_chunk", common | {"data": {"n": 0}, "is_final": False, "index": 0}],
        ["1", None, "rpc:a", "stream_chunk", common | {"data": None, "is_final": True, "index": 1}],
        reply("1", "2", "rpc:a", {}),
    ]


async def test_cancel_by_ref(client: PhoenixPeer) -> None:
    in_rpc(client).send("1", "2", "rpc:a", "work.do", {})
    client.send("1", "3", "rpc:a", "$/cancelRequest", {"id": "2"})
    done, cancelled = client.news()
    assert done == reply("1", "3", "rpc:a", {})
    assert (cancelled[1], cancelled[4]["response"]["code"]) == ("2", ErrorCode.CANCELLED)
    assert client.backend.cancelled == client.backend.calls
    assert client.ask("1", "4", "rpc:a", "$/cancelRequest", {"id": "2"}) == ("ok", {})
    payloads: list[Any] = [{}, {"id": None}, {"id": 1.5}, [], "2"]
    for payload in payloads:
        client.refused("1", "5", "rpc:a", "$/cancelRequest", payload, code=ErrorCode.INVALID_PARAMS)
    client.send("1", None, "rpc:a", "$/cancelRequest", {"id": "2"})
    assert client.news() == []


async def test_input_and_credit_go_by_ref(client: PhoenixPeer) -> None:
    in_rpc(client).send("1", "2", "rpc:a", "work.stream", {"$metadata": {"window": {"items": 4}}})
    (call,) = client.backend.calls
    assert client.ask("1", "3", "rpc:a", "stream.push", {"request_id": "2", "index": 0, "data": [1]}) == ("ok", {})
    assert client.backend.pushed == [(0, b"[1]", False)]
    call.input_consumed(1)
    assert client.one() == ["1", None, "rpc:a", "stream.credit", {"request_id": "2", "consumed": 1}]
    for _ in range(3):
        call.stream(b'"data"', b"1")
    client.news()
    client.send("1", None, "rpc:a", "stream.credit", {"request_id": "2", "consumed": 3})
    assert client.backend.grants == [3]


async def test_leaving_cancels_what_runs(client: PhoenixPeer) -> None:
    in_rpc(client).send("1", "2", "rpc:a", "work.stream", {})
    (call,) = client.backend.calls
    call.stream(b'"data"', b"1")
    client.send("1", "3", "rpc:a", "phx_leave", {})
    cancelled, left, close = client.news()
    assert (cancelled[1], cancelled[4]["status"]) == ("2", "error")
    assert cancelled[4]["response"]["code"] == ErrorCode.CANCELLED
    assert cancelled[4]["response"]["data"]["maybe_executed"] is True
    assert [left[1], close[3]] == ["3", "phx_close"]
    assert client.backend.cancelled == [call]
    assert client.connection.calls == {}


async def test_a_second_join_cancels_what_ran_on_the_first_and_nothing_else(client: PhoenixPeer) -> None:
    client.join("rpc:a", "1")
    client.join("rpc:b", "2")
    client.send("1", "3", "rpc:a", "work.do", {})
    client.send("2", "4", "rpc:b", "work.do", {})
    client.send("5", "5", "rpc:a", "phx_join", {})
    assert [(message[0], message[1], message[3]) for message in client.news()] == [
        ("1", "3", "phx_reply"),
        ("1", "1", "phx_close"),
        ("5", "5", "phx_reply"),
    ]
    assert client.backend.cancelled == client.backend.calls[:1]


async def test_bytes_in_and_out(client: PhoenixPeer) -> None:
    in_rpc(client).send_raw(binary_push("1", "2", "rpc:a", "work.do", b"\x00\xff"), binary=True)
    (call,) = client.backend.calls
    encoded = base64.b64encode(b"\x00\xff").decode()
    assert json.loads(call.params) == {"data": {"$bytes": encoded}}
    call.settle_result(b'{"$bytes":"%b"}' % encoded.encode())
    assert client.one() == binary_reply("1", "2", "rpc:a", "ok", b"\x00\xff")


@pytest.mark.parametrize(
    "method",
    [
        "subscribe",
        "unsubscribe",
        "session.open",
        "session.close",
        "method.register",
        "method.unregister",
        "stream_chunk",
        "session.ack",
        "event",
        "notifications/cancelled",
    ],
)
def test_what_channels_do_not_offer(hub: PubSub, client: PhoenixPeer, method: str) -> None:
    in_rpc(client)
    client.refused("1", "2", "rpc:a", method, {"topic": "jobs"}, code=ErrorCode.METHOD_NOT_FOUND)
    assert hub.finished == []


def test_a_publication_with_a_key_is_a_call(hub: PubSub, client: PhoenixPeer) -> None:
    in_rpc(client)
    params = {"topic": "jobs", "data": 1, "idempotency_key": "k"}
    assert client.ask("1", "2", "rpc:a", "publish", params) == client.ask("1", "3", "rpc:a", "publish", params)


@pytest.mark.parametrize("result", [{"a": [1]}, None, 0, "}", []])
def test_a_result_is_the_same_whatever_its_message_looks_like(client: PhoenixPeer, result: Any) -> None:
    """As the hub writes it, which is cut short without a look, and in any other way."""
    in_rpc(client)
    frames = []
    encoders: list[Callable[[int], bytes]] = [
        lambda number: encode_result(encode_id(number), json.dumps(result).encode()),
        lambda number: json.dumps({"result": result, "id": number, "jsonrpc": "2.0"}).encode(),
    ]
    for encode in encoders:
        client.dialect.receive(Frame(b'["1","2","rpc:a","m",{}]'))
        frames += client.dialect.send(encode(client.dialect._last_id))
    assert frames[0] == frames[1]
    assert json.loads(frames[0].payload) == reply("1", "2", "rpc:a", result)


def test_what_the_hub_could_not_read_is_told_to_the_socket(client: PhoenixPeer) -> None:
    (frame,) = client.dialect.send(b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no"}}')
    assert json.loads(frame.payload) == reply(None, None, "phoenix", {"code": -32700, "message": "no"}, "error")


def test_requests_of_the_hub_have_no_form_here(client: PhoenixPeer) -> None:
    assert client.dialect.send(b'{"jsonrpc":"2.0","id":"h:1","method":"mine","params":{},"metadata":{}}') == []
