"""Frames of Phoenix Channels V2: text and binary, good and bad."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.profile import fuzzing
from tests.protocol.phoenix import binary_push, binary_reply
from tests.support.nesting import decodable_levels
from trunkline_protocol.codecs.dialect import Frame
from trunkline_protocol.codecs.phoenix_frames import (
    MAX_CHANNEL_CHARS,
    MAX_REF_CHARS,
    BadFrame,
    PhoenixMessage,
    decode,
    encode_broadcast,
    encode_end,
    encode_error,
    encode_push,
    encode_reply,
    encode_result,
)
from trunkline_protocol.codecs.phoenix_names import CONTROL
from trunkline_protocol.errors import ErrorCode, RpcError


def text(*message: Any) -> Frame:
    return Frame(json.dumps(message).encode())


def bad(frame: Frame) -> BadFrame:
    with pytest.raises(BadFrame) as caught:
        decode(frame)
    return caught.value


@pytest.mark.parametrize("ref", ["1", "", "é☃", 7, 2**53, None])
def test_refs_keep_their_type(ref: Any) -> None:
    assert decode(text(ref, ref, "rpc:a", "m", {})) == PhoenixMessage(ref, ref, "rpc:a", "m", b"{}")


def test_payload_stays_the_bytes_it_was() -> None:
    data = b' [ "1" , "2","rpc:a","m" , {"a" : 1.50, "b":[ ]} ] '
    assert decode(Frame(data)).payload == b'{"a" : 1.50, "b":[ ]}'


def test_more_members_than_five_are_ignored() -> None:
    assert decode(text("1", "2", "rpc:a", "m", {}, "more")).event == "m"


@pytest.mark.parametrize("data", [b"", b"nonsense", b'["1","2","t","e",{}', b'["1","2","t","e",{}] x', b"\x00", b"[1,"])
def test_no_json(data: bytes) -> None:
    found = bad(Frame(data))
    assert (found.error.code, found.ref, found.topic) == (ErrorCode.PARSE_ERROR, None, CONTROL)


@pytest.mark.parametrize(
    "data",
    [b"{}", b"1", b"null", b'"text"', b"[]", b'["1","2","t"]', b'["1","2","t","e"]', b'[true,"2","t","e",{}]'],
)
def test_no_message(data: bytes) -> None:
    assert bad(Frame(data)).error.code == ErrorCode.INVALID_REQUEST


def test_whom_to_answer_is_recovered() -> None:
    found = bad(text("1", "2", "rpc:a", 5, {}))
    assert (found.join_ref, found.ref, found.topic) == ("1", "2", "rpc:a")
    found = bad(text("1", 2.5, "rpc:a", "m", {}))
    assert (found.join_ref, found.ref, found.topic) == (None, None, CONTROL)


@pytest.mark.parametrize(
    "message",
    [
        ["x" * (MAX_REF_CHARS + 1), "2", "t", "e", {}],
        ["1", "x" * (MAX_REF_CHARS + 1), "t", "e", {}],
        ["1", "2", "t" * (MAX_CHANNEL_CHARS + 1), "e", {}],
    ],
)
def test_what_is_remembered_is_bounded(message: list[Any]) -> None:
    assert bad(text(*message)).error.code == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("brackets", [(b"[", b"]"), (b'{"a":', b"}")])
def test_deep_nesting_is_an_error(brackets: tuple[bytes, bytes]) -> None:
    def nested(depth: int) -> Frame:
        return Frame(b'["1","2","rpc:a","m",%b1%b]' % (brackets[0] * depth, brackets[1] * depth))

    limit = decodable_levels() + 1
    assert decode(nested(400)).event == "m"
    assert {bad(nested(depth)).error.code for depth in (limit, 2 * limit, 100 * limit)} == {ErrorCode.PARSE_ERROR}


def test_what_the_hub_could_not_read_further_up_the_stack_is_refused_under_its_ref() -> None:
    """The deepest payload that is let through can be read with more on the stack than there is here."""
    limit = decodable_levels()
    found = [(depth, outcome(b"[" * depth + b"]" * depth)) for depth in range(limit - 350, limit + 1)]
    deepest = max(depth for depth, message in found if isinstance(message, PhoenixMessage))
    msgspec.json.decode(b"[" * (deepest + 40) + b"]" * (deepest + 40), type=msgspec.Raw)
    first = next(message for depth, message in found if depth == deepest + 1)
    assert isinstance(first, BadFrame)
    assert (first.ref, first.topic) == ("2", "rpc:a")


def outcome(payload: bytes) -> PhoenixMessage | BadFrame:
    try:
        return decode(Frame(b'["1","2","rpc:a","m",%b]' % payload))
    except BadFrame as found:
        return found


def test_wide_is_not_deep() -> None:
    payload = json.dumps([[index] for index in range(5_000)]).encode()
    assert decode(Frame(b'["1","2","rpc:a","m",%b]' % payload)).payload == payload


@pytest.mark.parametrize(("text_in", "code"), [('"\\ud800"', ErrorCode.PARSE_ERROR), ("1e400", None), ("NaN", -32700)])
def test_numbers_and_surrogates(text_in: str, code: int | None) -> None:
    """A lone surrogate cannot be an event; what a payload holds is for whoever reads it."""
    if code is None:
        assert decode(Frame(f'["1","2","rpc:a","m",{text_in}]'.encode())).payload == text_in.encode()
    elif text_in == "NaN":
        assert bad(Frame(b'["1","2","rpc:a","m",NaN]')).error.code == code
    else:
        assert bad(Frame(f'["1","2","rpc:a",{text_in},{{}}]'.encode())).error.code == code


def test_binary_push() -> None:
    data = bytes(range(256))
    found = decode(Frame(binary_push("3", "4", "rpc:é", "m", data), binary=True))
    assert (found.join_ref, found.ref, found.topic, found.event) == ("3", "4", "rpc:é", "m")
    assert found.is_binary
    assert base64.b64decode(json.loads(found.payload)["$bytes"]) == data


def test_binary_push_without_refs_and_data() -> None:
    assert decode(Frame(binary_push("", "", "t", "e", b""), binary=True)) == PhoenixMessage(
        None, None, "t", "e", b'{"$bytes":""}', is_binary=True
    )


WHOLE = binary_push("1", "2", "rpc:a", "m", b"")


@pytest.mark.parametrize("size", range(len(WHOLE)))
def test_binary_header_that_is_cut_off(size: int) -> None:
    assert bad(Frame(WHOLE[:size], binary=True)).error.code == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    "data", [b"\x01" + WHOLE[1:], b"\x02\x00\x00\x00\x00", b"\xff" * 300, b"\x00\x01\x00\x00\x00\xff"]
)
def test_binary_that_is_no_push(data: bytes) -> None:
    assert bad(Frame(data, binary=True)).error.code == ErrorCode.INVALID_REQUEST


def test_what_goes_out() -> None:
    error = RpcError(ErrorCode.CANCELLED, "stopped")
    assert json.loads(encode_reply("1", "2", "t", "ok", b'{"a":1}').payload) == [
        "1", "2", "t", "phx_reply", {"status": "ok", "response": {"a": 1}},
    ]  # fmt: skip
    assert json.loads(encode_error(None, 2, "t", error).payload) == [
        None, 2, "t", "phx_reply", {"status": "error", "response": error.to_wire()},
    ]  # fmt: skip
    assert json.loads(encode_push("1", "t", "e", b"[1]").payload) == ["1", None, "t", "e", [1]]
    assert json.loads(encode_broadcast('t"', "e", b"[1]").payload) == [None, None, 't"', "e", [1]]
    assert json.loads(encode_end("1", "t", "phx_close").payload) == ["1", "1", "t", "phx_close", {}]
    assert json.loads(encode_end("1", "t", "phx_error", "why").payload) == [
        "1",
        "1",
        "t",
        "phx_error",
        {"reason": "why"},
    ]


def test_bytes_go_out_in_a_binary_reply() -> None:
    result = b'{"$bytes":"%b"}' % base64.b64encode(b"\x00\xff")
    assert encode_result("1", "22", "rpc:é", result) == Frame(
        binary_reply("1", "22", "rpc:é", "ok", b"\x00\xff"), binary=True
    )


@pytest.mark.parametrize(
    "result",
    [
        b'{"$bytes":"AA==","more":1}',
        b'{"$bytes":1}',
        b'{"$bytes":"!"}',
        b'[{"$bytes":"AA=="}]',
        b'{"a":1}',
        b"1",
        b'"text"',
    ],
)
def test_other_results_stay_json(result: bytes) -> None:
    assert json.loads(encode_result("1", "2", "rpc:a", result).payload)[4]["response"] == json.loads(result)


@pytest.mark.parametrize(("join_ref", "ref", "topic"), [(1, "2", "t"), ("1", None, "t"), ("1", "2", "é" * 200)])
def test_what_fits_in_no_binary_header_stays_json(join_ref: Any, ref: Any, topic: str) -> None:
    frame = encode_result(join_ref, ref, topic, b'{"$bytes":"AA=="}')
    assert json.loads(frame.payload) == [
        join_ref, ref, topic, "phx_reply", {"status": "ok", "response": {"$bytes": "AA=="}},
    ]  # fmt: skip


@given(st.binary(max_size=200), st.booleans())
@fuzzing(300)
def test_any_frame_is_a_message_or_a_bad_frame(data: bytes, binary: bool) -> None:
    try:
        payload = decode(Frame(data, binary)).payload
    except BadFrame:
        return
    json.loads(payload)


def user_push(payload: bytes, *, is_json: bool = True, event: bytes = b"shout") -> Frame:
    """As realtime-js sends a broadcast."""
    fields = [b"1", b"2", b"realtime:a", event, b'{"x":1}']
    return Frame(bytes([3, *map(len, fields), int(is_json)]) + b"".join(fields) + payload, binary=True)


def test_a_broadcast_of_realtime_js_is_its_text_form() -> None:
    message = decode(user_push(b'{"a": 1}'))
    assert (message.join_ref, message.ref, message.topic, message.event) == ("1", "2", "realtime:a", "broadcast")
    assert json.loads(message.payload) == {"type": "broadcast", "event": "shout", "payload": {"a": 1}}
    message = decode(user_push(b"\xff", is_json=False))
    assert json.loads(message.payload)["payload"] == {"$bytes": "/w=="}


@pytest.mark.parametrize(
    "frame",
    [user_push(b""), user_push(b"1,2"), user_push(b'{"a":1},"topic":{}'), user_push(b"\xff"), user_push(b"[" * 100_000),
     user_push(b"[" * 100_000 + b"]" * 100_000), user_push(b"1", event=b"\xff"),
     Frame(bytes([3, 9, 9, 9, 9, 9, 1]), binary=True)],
)  # fmt: skip
def test_a_broadcast_that_is_no_json_is_refused(frame: Frame) -> None:
    assert bad(frame).error.code in (ErrorCode.PARSE_ERROR, ErrorCode.INVALID_REQUEST)
