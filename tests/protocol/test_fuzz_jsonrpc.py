"""The codec against an independent reading of JSON-RPC (tests/fuzz/jsonrpc_model.py), on JSON written in every way."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import json_text
from tests.fuzz import jsonrpc as target
from tests.fuzz import jsonrpc_model as model
from tests.fuzz.profile import fuzzing
from tests.support.nesting import decodable_levels
from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.errors import ERROR_TABLE, ErrorCode, RpcError
from trunkline_protocol.messages import Batch, Malformed, Request, Response

ids = st.none() | st.integers() | st.text()
any_text = st.text(st.characters())  # lone surrogates, too
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def strict(data: bytes) -> Any:
    """Parse I-JSON, and nothing but."""
    text = data.decode()
    model.parse(text)
    return json.loads(text)


@pytest.mark.parametrize("seed", target.SEEDS, ids=range(len(target.SEEDS)))
def test_what_failed_once_or_is_easily_read_wrongly(seed: bytes) -> None:
    target.check(seed)


@fuzzing(200)
@given(json_text.messages)
def test_messages_mean_what_the_model_says(message: str) -> None:
    target.check(message.encode())


@fuzzing(150)
@given(json_text.mutated(target.TOKENS))
def test_spoilt_messages_mean_what_the_model_says(data: bytes) -> None:
    target.check(data)


@fuzzing(100)
@given(st.binary())
def test_any_bytes(data: bytes) -> None:
    target.check(data)


def test_the_model_sees_all_kinds() -> None:
    """Else the tests above compare nothing with nothing."""
    kinds = [
        model.read(seed.decode(errors="replace"), target.MAX_BATCH).kind for seed in target.SEEDS if len(seed) < 900
    ]
    assert set(kinds) == {Request, Response, Malformed, Batch}


DEEP = {
    "params": b'{"jsonrpc":"2.0","id":1,"method":"m","params":%b}',
    "metadata": b'{"jsonrpc":"2.0","id":1,"method":"m","params":{},"metadata":{"mine":%b}}',
    "unknown member": b'{"jsonrpc":"2.0","id":1,"method":"m","mine":%b}',
    "result": b'{"jsonrpc":"2.0","id":1,"result":%b}',
    "error": b'{"jsonrpc":"2.0","id":1,"error":%b}',
    "malformed": b'{"id":1,"x":%b}',
    "batch": b'[{"jsonrpc":"2.0","id":1,"error":%b},%b]',
}


def at_depth(frames: int, call: Any) -> Any:
    """Call with so many more Python frames on the stack."""
    return at_depth(frames - 1, call) if frames else call()


def requires_typed_refusal(metadata: bytes) -> None:
    """The router reads metadata with a few more frames on the stack than the envelope was read with."""
    with suppress(RpcError):
        jsonrpc.decode_metadata(metadata)


@pytest.mark.parametrize("template", DEEP.values(), ids=DEEP)
@pytest.mark.parametrize("pair", [(b"[", b"]"), (b'{"a":', b"}")], ids=["arrays", "objects"])
def test_no_depth_makes_it_raise(template: bytes, pair: tuple[bytes, bytes]) -> None:
    """Around the depth where the stack ends each step of reading may be the one that has no room."""
    outcomes = set()
    limit = decodable_levels()
    for depth in [*range(1, 60, 20), *range(limit - 40, limit + 10)]:
        data = template.replace(b"%b", pair[0] * depth + (b"1" if pair[0] != b"[" else b"") + pair[1] * depth)
        message = jsonrpc.decode(data, 10)
        outcomes.add(message.code if isinstance(message, Malformed) else None)
        if isinstance(message, Request):
            at_depth(20, partial(requires_typed_refusal, jsonrpc.metadata_of(message)))
    assert ErrorCode.PARSE_ERROR in outcomes, "never too deep: this test looks at the wrong depths"
    assert len(outcomes) > 1, "always too deep"


@fuzzing(150)
@given(ids, st.text(), st.lists(json_values, max_size=4) | st.dictionaries(st.text(), json_values, max_size=4))
def test_requests_round_trip(request_id: Any, method: str, params: Any) -> None:
    raw = json.dumps(params, ensure_ascii=False).encode()
    head = json.dumps({"jsonrpc": "2.0", "id": request_id, "method": method}).encode()
    request = jsonrpc.decode(head[:-1] + b',"params": ' + raw + b" }", 1)
    assert isinstance(request, Request)
    assert type(request.id) is type(request_id)
    assert (request.id, request.method, jsonrpc.params_of(request)) == (request_id, method, raw)


@fuzzing(150)
@given(ids, json_values, any_text, st.integers(0, 2**53))
def test_replies_chunks_and_batches_hold_what_they_were_given(
    request_id: Any, value: Any, text: str, index: int
) -> None:
    at, data = jsonrpc.encode_id(request_id), json.dumps(value).encode()
    kind = json.dumps(text.encode("utf-8", "replace").decode()).encode()
    result, chunk = jsonrpc.encode_result(at, data), jsonrpc.encode_chunk(at, kind, data, index)
    final = jsonrpc.encode_final_chunk(at, kind, index)
    wire = strict(jsonrpc.encode_batch([result, chunk, final, jsonrpc.encode_error(at, data)]))
    common = {"request_id": request_id, "chunk_type": strict(kind), "index": index}
    assert wire == [
        {"jsonrpc": "2.0", "id": request_id, "result": value},
        {"jsonrpc": "2.0", "method": "stream_chunk", "params": common | {"data": value, "is_final": False}},
        {"jsonrpc": "2.0", "method": "stream_chunk", "params": common | {"data": None, "is_final": True}},
        {"jsonrpc": "2.0", "id": request_id, "error": value},
    ]
    assert isinstance(jsonrpc.decode(result, 1), Response), "a peer of ours reads it as a response"


@fuzzing(100)
@given(st.integers() | st.text(), json_values)
def test_progress_holds_what_it_was_given(token: int | str, value: Any) -> None:
    wire = strict(jsonrpc.encode_progress(token, json.dumps(value).encode()))
    assert wire == {"jsonrpc": "2.0", "method": "$/progress", "params": {"token": token, "value": value}}


positions = st.integers(0, 2**53)


@fuzzing(100)
@given(st.text(), json_values, st.text(), positions, positions, st.none() | positions)
def test_events_and_gaps_hold_what_they_were_given(
    topic: str, value: Any, epoch: str, offset: int, other: int, count: int | None
) -> None:
    common = {"topic": topic, "epoch": epoch}
    assert strict(jsonrpc.encode_event(topic, json.dumps(value).encode(), epoch, offset, other)) == {
        "jsonrpc": "2.0",
        "method": "event",
        "params": common | {"data": value, "offset": offset, "published_at": other},
    }
    wanted = {"from": offset, "to": other, "reason": epoch} | ({} if count is None else {"count": count})
    gap = strict(jsonrpc.encode_gap(topic, epoch, offset, other, count, epoch))
    assert gap == {"jsonrpc": "2.0", "method": "event.gap", "params": common | wanted}


uncarriable = st.sampled_from([object(), 10**5000, {"\udcff": 1}, {"deep": "\ud800"}])


@fuzzing(200)
@given(
    code=st.sampled_from(sorted(ERROR_TABLE)) | st.integers(-(2**31), 2**31),
    message=any_text,
    maybe_executed=st.booleans(),
    retry_after_ms=st.none() | st.integers(0, 10**9),
    data=st.dictionaries(any_text, json_values | any_text | uncarriable, max_size=3),
)
def test_any_error_goes_out(code: int, message: str, data: dict[str, Any], **hints: Any) -> None:
    error = RpcError(code, message, data=data, **hints)
    wire = strict(jsonrpc.encode_error_object(error))
    assert wire["code"] == code
    assert wire["message"] == message.encode("utf-8", "backslashreplace").decode()
    try:
        carriable = strict(json.dumps(error.to_wire()).encode())
    except (TypeError, ValueError):
        carriable = RpcError(code, wire["message"], **hints).to_wire()
    assert wire == carriable


def test_an_error_whose_data_contains_itself_goes_out() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    error = RpcError(ErrorCode.WORKER_OVERLOADED, "full", retry_after_ms=7, data={"cycle": cycle})
    assert strict(jsonrpc.encode_error_object(error))["data"]["retry_after_ms"] == 7
