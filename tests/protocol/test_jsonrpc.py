from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import Batch, Malformed, Metadata, Request, Response

MAX_BATCH = 3
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | finite | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)
ids = st.none() | st.integers() | st.text()


def decode(message: Any) -> Any:
    return jsonrpc.decode(message if isinstance(message, bytes) else json.dumps(message).encode(), MAX_BATCH)


@given(st.binary())
@example(b"")
@example(b"[")
@example(b"{")
@example(b'"\xff"')
@example(b'{"jsonrpc":"2.0","id":1e999}')
@example(b'{"jsonrpc":"2.0","method":"\\ud800"}')
@example(b"[" * 100_000)
def test_no_bytes_make_it_raise(data: bytes) -> None:
    assert isinstance(decode(data), Request | Response | Malformed | Batch)


@given(json_values)
def test_no_json_makes_it_raise(value: Any) -> None:
    assert isinstance(decode(value), Request | Response | Malformed | Batch)


members = dict.fromkeys(("jsonrpc", "id", "method", "params", "metadata", "result", "error"), json_values)


@given(st.fixed_dictionaries({}, optional={**members, "jsonrpc": st.just("2.0") | json_values}))
def test_what_almost_is_a_message_never_raises(message: dict[str, Any]) -> None:
    decoded = decode(message)
    if isinstance(decoded, Malformed):
        assert decoded.code == ErrorCode.INVALID_REQUEST
        assert decoded.message
        expected = message.get("id")
        assert decoded.id == (expected if type(expected) in (int, str) else None)


@given(value=st.dictionaries(st.text(), json_values) | st.lists(json_values), request_id=ids)
def test_params_and_ids_round_trip_untouched(value: Any, request_id: Any) -> None:
    request = decode({"jsonrpc": "2.0", "id": request_id, "method": "m", "params": value})
    assert type(request.id) is type(request_id)
    assert request.id == request_id
    reply = jsonrpc.encode_result(jsonrpc.encode_id(request.id), jsonrpc.params_of(request))
    assert json.loads(reply) == {"jsonrpc": "2.0", "id": request_id, "result": json.loads(json.dumps(value))}


def test_params_are_the_very_bytes_that_came() -> None:
    request = decode(b'{"jsonrpc":"2.0","id":1,"method":"m","params": {"a" :1.50} }')
    assert jsonrpc.params_of(request) == b'{"a" :1.50}'


def test_absent_params_are_an_empty_object() -> None:
    assert jsonrpc.params_of(decode({"jsonrpc": "2.0", "id": 1, "method": "m"})) == b"{}"


def test_a_request_without_id_is_a_notification() -> None:
    assert decode({"jsonrpc": "2.0", "method": "m"}).id is msgspec.UNSET
    assert decode({"jsonrpc": "2.0", "method": "m", "id": None}).id is None


@pytest.mark.parametrize("request_id", [{}, [], 1.5, True, False])
def test_other_ids_are_refused_under_null(request_id: Any) -> None:
    refused = decode({"jsonrpc": "2.0", "method": "m", "id": request_id})
    assert (refused.id, refused.code) == (None, ErrorCode.INVALID_REQUEST)
    assert "id" in refused.message


@pytest.mark.parametrize("params", [None, 1, "x", True])
def test_scalar_params_are_refused_under_the_id(params: Any) -> None:
    refused = decode({"jsonrpc": "2.0", "method": "m", "id": "i", "params": params})
    assert (refused.id, refused.code) == ("i", ErrorCode.INVALID_REQUEST)


def test_scalar_params_of_a_notification_are_refused_under_null() -> None:
    assert decode({"jsonrpc": "2.0", "method": "m", "params": 1}).id is None


@pytest.mark.parametrize(
    "data", [b"", b"{", b"nul", b"[1,", b'{"a":NaN}', b'"\\ud800"', b"[" * 10**5, b'{"a":' * 10**5]
)
def test_what_is_not_json_is_a_parse_error(data: bytes) -> None:
    refused = decode(data)
    assert (refused.id, refused.code) == (None, ErrorCode.PARSE_ERROR)


def test_batch_keeps_order_and_kinds() -> None:
    batch = decode([{"jsonrpc": "2.0", "id": 1, "method": "a"}, 5, {"jsonrpc": "2.0", "method": "b"}])
    assert [type(member) for member in batch.members] == [Request, Malformed, Request]


def test_empty_batch_is_one_refusal() -> None:
    assert decode([]).code == ErrorCode.INVALID_REQUEST


def test_batch_cap() -> None:
    member = {"jsonrpc": "2.0", "method": "m"}
    assert len(decode([member] * MAX_BATCH).members) == MAX_BATCH
    refused = decode([member] * (MAX_BATCH + 1))
    assert refused.code == ErrorCode.INVALID_REQUEST
    assert str(MAX_BATCH) in refused.message


@pytest.mark.parametrize("space", [b" ", b"\t", b"\r\n", b"\n \n"])
def test_white_space_around_a_batch(space: bytes) -> None:
    assert isinstance(decode(space + b'[{"jsonrpc":"2.0","method":"m"}]' + space), Batch)


def test_responses() -> None:
    assert decode({"jsonrpc": "2.0", "id": "h:1", "result": {"a": 1}}) == Response("h:1", msgspec.Raw(b'{"a":1}'))
    error = {"code": 1, "message": "m"}
    assert decode({"jsonrpc": "2.0", "id": 3, "error": error}) == Response(3, error=error)


def test_metadata() -> None:
    raw = b'{"priority":"low","timeout_ms":12.5,"progress_token":3,"mine":{"x":1}}'
    assert jsonrpc.decode_metadata(raw) == Metadata("low", 12.5, 3)
    assert jsonrpc.decode_metadata(b"") == Metadata()


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (b'{"priority":"urgent"}', "priority"),
        (b'{"timeout_ms":"1"}', "timeout_ms"),
        (b'{"timeout_ms":0}', "timeout_ms"),
        (b'{"timeout_ms":-1}', "timeout_ms"),
        (b'{"timeout_ms":1e300}', "timeout_ms"),
        (b'{"progress_token":[]}', "progress_token"),
        (b"5", "metadata"),
        (b"null", "metadata"),
    ],
)
def test_wrong_metadata_names_the_member(raw: bytes, named: str) -> None:
    with pytest.raises(RpcError, match=named) as caught:
        jsonrpc.decode_metadata(raw)
    assert caught.value.code == ErrorCode.INVALID_PARAMS


@given(json_values, st.text(), ids)
def test_stream_frames_are_valid_json(data: Any, chunk_type: str, request_id: Any) -> None:
    encoded = json.dumps(data).encode()
    chunk = jsonrpc.encode_chunk(jsonrpc.encode_id(request_id), json.dumps(chunk_type).encode(), encoded, 3)
    assert json.loads(chunk) == {
        "jsonrpc": "2.0",
        "method": "stream_chunk",
        "params": {
            "request_id": request_id,
            "chunk_type": chunk_type,
            "data": json.loads(encoded),
            "is_final": False,
            "index": 3,
        },
    }


def test_final_chunk() -> None:
    final = json.loads(jsonrpc.encode_final_chunk(b'"s"', b'"document"', 2))["params"]
    assert final == {"request_id": "s", "chunk_type": "document", "data": None, "is_final": True, "index": 2}


def test_progress_and_batches() -> None:
    assert json.loads(jsonrpc.encode_progress("t\n", b"[1]")) == {
        "jsonrpc": "2.0",
        "method": "$/progress",
        "params": {"token": "t\n", "value": [1]},
    }
    assert json.loads(jsonrpc.encode_batch([b"1", b"{}"])) == [1, {}]


def test_an_error_with_broken_text_still_goes_out() -> None:
    error = RpcError(ErrorCode.INTERNAL_ERROR, "name \udcff", maybe_executed=True, data={"bad": object()})
    wire = json.loads(jsonrpc.encode_error_object(error))
    assert wire["code"] == ErrorCode.INTERNAL_ERROR
    assert "\\udcff" in wire["message"]
    assert wire["data"]["maybe_executed"] is True
