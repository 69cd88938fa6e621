"""Target: the JSON-RPC codec against :mod:`tests.fuzz.jsonrpc_model`."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, Final

import msgspec

from tests.fuzz import jsonrpc_model as model
from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import Batch, Malformed, Metadata, Request, Response

MAX_BATCH: Final = 4

TOKENS: Final = (
    b'"jsonrpc"', b'"2.0"', b'"jsonrpc":"2.0"', b'"method":"m"', b'"id":1', b'"id":null', b'"params":[]',
    b'"result":1', b'"error":null', b'"metadata":{}', b'"timeout_ms":', b'"priority":"low"', b'"progress_token":"t"',
    b"true", b"false", b"null", b"1e400", b"-0", b"0.5", b"NaN", b'"\\ud800"', b'"\\ud83d\\ude00"', b"\\u00",
    b"[", b"]", b"{", b"}", b",", b":", b"\xc3\xbc", b"\xef\xbb\xbf",
)  # fmt: skip
"""What a mutation may put in."""

_HEAD: Final = b'{"jsonrpc":"2.0","method":"m"'
SEEDS: Final = (
    _HEAD + b',"id":1,"params":{"a" :1.50},"metadata":{"timeout_ms":5,"priority":"high"}}',
    _HEAD + b',"id":"\\ud83d\\ude00","params":["\xc3\xbc"]}',
    b"[" + _HEAD + b'},{"jsonrpc":"2.0","id":null,"method":"n"},5]',
    b'{"jsonrpc":"2.0","id":"h:1","result":{"a":1}}',
    b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}',
    b"",
    b" [ ] ",
    b'{"id":5,"jsonrpc":"1.0","x":1e400}',
    b'{"id":5,"x":1e400 nonsense',
    b'{"id":5,"x":1e400,"y":"\\ud800"}',
    b'{"id":5,"method":"m","x":1e400}',
    b'{"id":5,"jsonrpc":"2.0","result":1e400}',
    _HEAD + b',"id":1e400}',
    _HEAD + b',"params":[1e400]}',
    _HEAD + b',"id":%b}' % (b"9" * 4300),
    _HEAD + b',"id":-%b}' % (b"9" * 4300),
    _HEAD + b',"id":[],"id":1}',
    b'{"jsonrpc":1,"jsonrpc":"2.0","method":"m"}',
    _HEAD + b',"params":1,"params":[]}',
    _HEAD + b',"params":["\\ud800"]}',
    _HEAD + b',"params":["\xff"]}',
    b"\xef\xbb\xbf" + _HEAD + b"}",
    b'{"jsonrpc":"2.0","id":1.0,"result":"\\u0000"}',
    b'{"jsonrpc":"2.0","id":1,"error":%b1%b}' % (b"[" * 980, b"]" * 980),
    _HEAD + b',"metadata":{"a":%b}}' % (b"[" * 990 + b"]" * 990),
    b"[" * 1000,
)


def check(data: bytes) -> None:
    """Decode one frame; compare with the model where the bytes are text, as the door guarantees."""
    message = jsonrpc.decode(data, MAX_BATCH)
    assert isinstance(message, Request | Response | Malformed | Batch)
    _check_replies(message)
    with suppress(UnicodeDecodeError, RecursionError):
        expected = model.read(data.decode(), MAX_BATCH)
        _compare(message, expected, data)


def _check_replies(message: Any) -> None:
    """Whatever the message is, what the hub says about it is JSON."""
    for member in message.members if isinstance(message, Batch) else [message]:
        if isinstance(member, Malformed):
            assert member.code in (ErrorCode.PARSE_ERROR, ErrorCode.INVALID_REQUEST)
            assert member.message
            error = jsonrpc.encode_error_object(RpcError(member.code, member.message))
            reply = json.loads(jsonrpc.encode_error(jsonrpc.encode_id(member.id), error))
            assert (reply["id"], reply["error"]["code"]) == (member.id, member.code)
        elif isinstance(member, Request) and member.id is not msgspec.UNSET:
            reply = json.loads(jsonrpc.encode_result(jsonrpc.encode_id(member.id), b"[]"))
            assert type(reply["id"]) is type(member.id)
            assert reply["id"] == member.id


def _compare(message: Any, expected: model.Expected, data: bytes) -> None:
    assert type(message) is expected.kind, (message, expected)
    if isinstance(message, Batch):
        assert len(message.members) == len(expected.members)
        for member, wanted in zip(message.members, expected.members, strict=True):
            _compare(member, wanted, data)
        return
    assert isinstance(message, Request | Response | Malformed)
    request_id = model.ABSENT if message.id is msgspec.UNSET else message.id
    assert type(request_id) is type(expected.id), (message, expected)
    assert request_id == expected.id
    if isinstance(message, Malformed):
        assert message.code == expected.code, (message, expected)
    elif isinstance(message, Request):
        _compare_request(message, expected, data)


def _compare_request(message: Request, expected: model.Expected, data: bytes) -> None:
    assert message.method == expected.method
    params = jsonrpc.params_of(message)
    if expected.params is model.ABSENT:
        assert params == b"{}"
    else:
        assert params in data, "params are not the very bytes that came"
        assert model.parse(params.decode()) == expected.params
    metadata = jsonrpc.metadata_of(message)
    if expected.metadata is model.ABSENT:
        assert metadata == b""
    else:
        assert model.parse(metadata.decode()) == expected.metadata
    _check_metadata(metadata, expected.metadata)


def _check_metadata(raw: bytes, expected: Any) -> None:
    """The members the hub acts on arrive, or -32602 says what is wrong."""
    try:
        metadata = jsonrpc.decode_metadata(raw)
    except RpcError as refusal:
        metadata, error = None, refusal
    if expected is model.ABSENT:
        assert metadata == Metadata()
        return
    assert model.metadata_is_valid(expected) == (metadata is not None), expected
    if metadata is None:
        wire = json.loads(jsonrpc.encode_error_object(error))
        assert wire["code"] == ErrorCode.INVALID_PARAMS
        assert wire["message"]
        return
    for name in Metadata.__struct_fields__:
        if (given := expected.last(name)) is not model.ABSENT:
            assert getattr(metadata, name) == given
    if metadata.progress_token is not None:
        progress = json.loads(jsonrpc.encode_progress(metadata.progress_token, b"[1]"))["params"]
        assert progress == {"token": metadata.progress_token, "value": [1]}
