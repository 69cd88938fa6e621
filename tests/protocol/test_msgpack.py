"""MessagePack: the same messages, and nothing lost without a word."""

from __future__ import annotations

import datetime
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_protocol.binary import to_member
from trunkline_protocol.codecs.dialect import DialectViolation, Frame
from trunkline_protocol.codecs.msgpack import MessagePackDialect

SAFE = 2**53 - 1
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers(-SAFE, SAFE) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(
    SCALARS | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT.filter(lambda key: key != "$bytes"), inner),
    max_leaves=12,
)


def to_hub(value: Any) -> Any:
    received = MessagePackDialect().receive(Frame(msgspec.msgpack.encode(value), binary=True))
    assert not received.to_peer, received.to_peer
    (message,) = received.to_hub
    return json.loads(message)


def to_peer(message: Any) -> Any:
    (frame,) = MessagePackDialect().send(json.dumps(message).encode())
    assert frame.binary
    return msgspec.msgpack.decode(frame.payload)


def refusal(payload: bytes) -> Any:
    received = MessagePackDialect().receive(Frame(payload, binary=True))
    assert not received.to_hub
    (frame,) = received.to_peer
    return msgspec.msgpack.decode(frame.payload)


@given(VALUES)
def test_whatever_a_peer_sends_comes_back_the_same(value: Any) -> None:
    assert to_peer(to_hub(value)) == value


def test_binary_data_has_a_form_in_json() -> None:
    assert to_hub({"params": {"data": b"\x00\xff"}}) == {"params": {"data": {"$bytes": "AP8="}}}
    assert to_peer({"result": [to_member(b"ab"), {"deeper": to_member(b"")}]}) == {"result": [b"ab", {"deeper": b""}]}


@pytest.mark.parametrize("number", [2**64, 10**30, -(2**63) - 1])
def test_integers_beyond_64_bits_are_doubles_and_nothing_is_lost(number: int) -> None:
    sent = {"method": "event", "params": {"data": [number, {"deep": number}, 2**64 - 1, -(2**63), True]}}
    said = to_peer(sent)
    assert said == {
        "method": "event",
        "params": {"data": [float(number), {"deep": float(number)}, 2**64 - 1, -(2**63), True]},
    }
    assert isinstance(said["params"]["data"][0], float)


@pytest.mark.parametrize("own", [{"$bytes": "no base64!"}, {"$bytes": 7}, {"$bytes": "AP8=", "more": 1}])
def test_what_only_looks_like_binary_data_stays(own: Any) -> None:
    assert to_peer({"result": own}) == {"result": own}


@pytest.mark.parametrize(
    ("payload", "fault"),
    [
        (msgspec.msgpack.encode({1: 2}), "a key is of type int"),
        (msgspec.msgpack.encode({"deep": [{b"k": 1}]}), "a key is of type bytes"),
        (msgspec.msgpack.encode([1.5, float("nan")]), "not finite"),
        (msgspec.msgpack.encode({"value": float("inf"), "other": None}), "not finite"),
        (msgspec.msgpack.encode(msgspec.msgpack.Ext(5, b"x")), "extension type 5"),
        (msgspec.msgpack.encode([datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)]), "datetime has no JSON form"),
        (b"\x81\xa1a", "truncated"),
        (b"\x01\x02", "trailing"),
        (b"\xa1\xff", "utf-8"),
        (b"", "truncated"),
        (b"\xc1", "invalid"),
        (b"\x91" * 100_000 + b"\x01", "nested too deeply"),
    ],
)
def test_what_json_cannot_say_is_refused_and_nothing_breaks(payload: bytes, fault: str) -> None:
    error = refusal(payload)
    assert error["id"] is None
    assert error["error"]["code"] == -32700
    assert fault.lower() in error["error"]["message"].lower()


def test_a_null_that_was_sent_is_none_that_was_made() -> None:
    assert to_hub({"params": [None, 1.5]}) == {"params": [None, 1.5]}


def test_text_frames_end_the_connection() -> None:
    with pytest.raises(DialectViolation) as caught:
        MessagePackDialect().receive(Frame(b"{}"))
    assert caught.value.code == 1003
