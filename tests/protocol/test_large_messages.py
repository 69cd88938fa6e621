"""Messages that hold more than may be unpacked, in both codecs: whoever waits for an answer gets one that says so."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from trunkline_protocol.codecs.dialect import Deferred, Frame
from trunkline_protocol.codecs.frame_numbers import seq_of
from trunkline_protocol.codecs.jsonrpc import MAX_METADATA_BYTES, decode
from trunkline_protocol.codecs.msgpack import MessagePackDialect
from trunkline_protocol.depth import MAX_DEPTH
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import Batch, Malformed, Request, Response
from trunkline_protocol.session import ProtocolViolation
from trunkline_protocol.values import LIMIT, MAX_VALUES, SMALL

DENSE: list[Any] = [0] * (MAX_VALUES + 1)
LONG = "x" * (SMALL + 1)


def packed(message: object) -> Frame:
    return Frame(msgspec.msgpack.encode(message), binary=True)


def deferred(message: object) -> Deferred:
    received = MessagePackDialect().receive(packed(message))
    assert (received.to_hub, received.to_peer) == ((), ())
    assert received.deferred is not None
    return received.deferred


def to_hub(frame: Frame) -> Any:
    received = MessagePackDialect().receive(frame)
    (message,) = received.to_hub
    return json.loads(message)


def refused(frame: Frame) -> Any:
    received = MessagePackDialect().receive(frame)
    assert received.to_hub == ()
    (answer,) = received.to_peer
    return msgspec.msgpack.decode(answer.payload)


def test_a_large_request_is_translated_later_and_known_before() -> None:
    message = {"jsonrpc": "2.0", "id": 7, "seq": 3, "method": "m", "params": [LONG], "metadata": {"priority": "low"}}
    later = deferred(message)
    assert later.method == "m"
    assert json.loads(later.envelope) == {
        name: message[name] for name in ("jsonrpc", "id", "seq", "method", "metadata")
    }
    assert json.loads(later.translate()) == message


@pytest.mark.parametrize(
    ("params", "code", "words"),
    [
        (DENSE, ErrorCode.INVALID_PARAMS, "m: params holds too much to be unpacked"),
        ([LONG, {1: 2}], ErrorCode.PARSE_ERROR, "not valid: a key is of type int, not text"),
        ([LONG, float("inf")], ErrorCode.PARSE_ERROR, "not valid: a float is not finite"),
    ],
    ids=["dense", "key", "infinite"],
)
def test_a_large_request_that_cannot_be_translated_is_an_error_of_that_request(
    params: Any, code: ErrorCode, words: str
) -> None:
    later = deferred({"jsonrpc": "2.0", "id": 7, "method": "m", "params": params})
    with pytest.raises(RpcError, match=words) as caught:
        later.translate()
    assert caught.value.code == code


def test_a_large_answer_and_a_large_batch_are_translated_at_once() -> None:
    answer = {"jsonrpc": "2.0", "id": "h:1", "result": LONG}
    assert to_hub(packed(answer)) == answer
    batch = [{"jsonrpc": "2.0", "method": "m", "params": [LONG]}]
    assert to_hub(packed(batch)) == batch


def test_an_answer_that_holds_too_much_ends_the_call_that_it_answers() -> None:
    told = to_hub(packed({"jsonrpc": "2.0", "id": "h:1", "seq": 4, "result": DENSE}))
    assert (told["id"], told["seq"], "result" in told) == ("h:1", 4, False)
    assert (told["error"]["code"], told["error"]["data"]["limit"]) == (ErrorCode.SERIALIZATION_ERROR, LIMIT)


@pytest.mark.parametrize("what", [[{"method": "m", "params": DENSE}], {"method": "stream_chunk", "params": DENSE}])
def test_what_cannot_be_answered_to_anybody_is_answered_to_nobody(what: Any) -> None:
    error = refused(packed(what))
    assert error["id"] is None
    assert "the message holds too much to be unpacked" in error["error"]["message"]


@pytest.mark.parametrize(
    "message",
    [
        {"id": "h:1", "result": {1: 2}},
        {"id": "h:1", "seq": 9, "result": msgspec.msgpack.Ext(5, b"")},
        {"method": "stream_chunk", "params": {"request_id": "h:1", "data": {1: 2}}},
    ],
)
def test_an_answer_or_a_chunk_with_what_json_cannot_say_ends_the_call(message: dict[str, Any]) -> None:
    told = to_hub(packed({"jsonrpc": "2.0", **message}))
    assert (told["id"], told.get("seq")) == ("h:1", message.get("seq"))
    assert (told["error"]["code"], told["error"]["data"]["maybe_executed"]) == (ErrorCode.SERIALIZATION_ERROR, True)


def test_an_answer_under_an_id_of_the_peers_own_ends_none_of_the_hubs_calls() -> None:
    assert refused(packed({"jsonrpc": "2.0", "id": 7, "result": {1: 2}}))["id"] is None


def test_a_result_that_is_too_much_for_messagepack_is_an_error_under_its_id() -> None:
    whole = json.dumps({"jsonrpc": "2.0", "id": 7, "result": [[]] * (MAX_VALUES // 4)}).encode()
    (frame,) = MessagePackDialect().send(whole)
    told = msgspec.msgpack.decode(frame.payload)
    assert (told["id"], told["error"]["code"], "result" in told) == (7, ErrorCode.SERIALIZATION_ERROR, False)
    assert told["error"]["data"]["maybe_executed"] is True


def test_an_event_for_many_is_translated_once() -> None:
    event = json.dumps({"jsonrpc": "2.0", "method": "event", "params": {"topic": "t", "data": LONG}})
    message = event.replace(": ", ":").replace(", ", ",").encode()
    first = MessagePackDialect().send(message)
    assert MessagePackDialect().send(message) is first
    assert msgspec.msgpack.decode(first[0].payload) == json.loads(event)


# --- JSON ---


def read(message: Any) -> Any:
    return decode(json.dumps(message).encode(), max_batch=3)


def test_metadata_that_is_too_long_is_refused_under_the_id() -> None:
    found = read({"jsonrpc": "2.0", "id": 7, "method": "m", "metadata": {"x": "y" * MAX_METADATA_BYTES}})
    assert isinstance(found, Malformed)
    assert (found.id, found.code) == (7, ErrorCode.INVALID_PARAMS)
    assert f"metadata may have {MAX_METADATA_BYTES} bytes" in found.message


def test_a_large_batch_of_too_many_is_refused_before_its_members_are_read() -> None:
    found = read([{"jsonrpc": "2.0", "id": 1, "method": "m", "params": [LONG]}] * 4)
    assert isinstance(found, Malformed)
    assert found.message == "a batch may have 3 members, this one has more"
    assert isinstance(read([{"jsonrpc": "2.0", "id": 1, "method": "m", "params": [LONG]}] * 3), Batch)


@pytest.mark.parametrize("outcome", [{"result": DENSE}, {"error": {"code": 1, "message": "", "data": DENSE}}])
def test_a_response_that_holds_too_much_ends_the_call_that_it_answers(outcome: dict[str, Any]) -> None:
    found = read({"jsonrpc": "2.0", "id": "h:1", **outcome})
    assert isinstance(found, Response)
    assert (found.id, found.fault) == ("h:1", None)
    assert found.error is not None
    assert (found.error["code"], found.error["data"]["limit"]) == (ErrorCode.SERIALIZATION_ERROR, LIMIT)


@pytest.mark.parametrize(
    ("message", "request_id"),
    [({"id": 7, "method": 3, "params": DENSE}, 7), ({"id": [1], "params": DENSE}, None)],
)
def test_what_is_no_message_and_too_much_is_not_read(message: Any, request_id: int | None) -> None:
    found = read(message)
    assert isinstance(found, Malformed)
    assert (found.id, found.code) == (request_id, ErrorCode.INVALID_REQUEST)
    assert "the message holds too much" in found.message


def deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def test_members_of_a_batch_that_are_too_deep_do_not_harm_the_others() -> None:
    batch = b'[{"jsonrpc":"2.0","id":1,"method":"m","params":%b},{"jsonrpc":"2.0","id":2,"method":"m"}]'
    found = decode(batch % deep(100_000), max_batch=3)
    assert isinstance(found, Batch)
    bad, good = found.members
    assert isinstance(bad, Malformed)
    assert isinstance(good, Request)
    assert (bad.id, good.id) == (1, 2)
    answers = decode(b'[{"jsonrpc":"2.0","id":"h:1","result":%b}]' % deep(100_000), max_batch=3)
    assert isinstance(answers, Malformed)


def test_a_deep_answer_ends_its_call() -> None:
    found = decode(b'{"jsonrpc":"2.0","id":"h:1","result":%b}' % deep(100_000), max_batch=3)
    assert isinstance(found, Response)
    assert found.fault is not None
    assert found.fault.message == f"nested deeper than {MAX_DEPTH} levels"


@pytest.mark.parametrize(
    ("frame", "seq"),
    [
        (b'{"seq":5,"jsonrpc":"2.0","method":"m","params":%b}' % deep(100_000), 5),
        (b'{"jsonrpc":"2.0","method":"m","params":%b,"seq":6}' % deep(100_000), 6),
        (b'{"seq":7,"jsonrpc":"2.0","method":', 7),
        (b'[{"seq":8,"method":"m"},{"seq":8,"method":"m"}]', 8),
        (b'[{"seq":9,"params":"%b"},{"seq":9}]' % LONG.encode(), 9),
        (b'["no message"', None),
        (b"3", None),
    ],
)
def test_frames_that_are_no_messages_are_counted_where_their_number_can_be_found(frame: bytes, seq: int | None) -> None:
    assert seq_of(frame) == seq


@pytest.mark.parametrize("frame", [b'{"seq":"5"}', b'{"seq":5.5}', b'[{"seq":1},{"seq":2}]'])
def test_numbers_that_are_none_are_a_violation(frame: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        seq_of(frame)
