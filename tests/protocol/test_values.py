"""How much there is to unpack: the count against what decoders find, and nothing that is small is refused."""

from __future__ import annotations

import json
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.profile import fuzzing
from trunkline_protocol import values
from trunkline_protocol.values import CONTAINER, has_too_many_members, json_is_too_much, msgpack_is_too_much

MANY = 15_000_000


def array(item: bytes, number: int) -> bytes:
    return b"\xdd" + struct.pack(">I", number) + item * number


@pytest.mark.parametrize(
    "message",
    [
        array(b"\x90", MANY),
        array(b"\x80", MANY),
        array(b"\xc0", MANY),
        array(b"\x01", MANY),
        array(b"\xa0", MANY),
        array(b"\xd9\x00", MANY // 2),
        array(b"\xc4\x00", MANY // 2),
        array(b"\xd4\x05\x00", MANY // 3),
        array(b"\x91\x90", MANY // 2),
        array(b"\x81\xa1a\x90", MANY // 4),
        array(b"\xdc\x00\x00", MANY // 3),
        array(b"\xca\x00\x00\x00\x00", MANY // 5),
        b"\xdf" + struct.pack(">I", MANY // 2) + b"\xa0\xc0" * (MANY // 2),
        array(array(b"\x90", 1000), MANY // 1005),
    ],
)
def test_millions_of_values_are_too_much(message: bytes) -> None:
    assert msgpack_is_too_much(message)


@pytest.mark.parametrize(
    "value",
    [
        [0.5] * 1_000_000,
        list(range(1_000_000)),
        [[0.5] * 384] * 1000,
        "a,b:[{" * 2_500_000,
        b"\x90" * MANY,
        {"texts": ["a passage of some length, with commas, too: [1] {2} " * 4] * 20_000, "ids": list(range(20_000))},
        [{"id": "x-1", "score": 0.5, "text": None}] * 50_000,
        msgspec.msgpack.Ext(5, b"\x90" * MANY),
    ],
    ids=["floats", "integers", "vectors", "text", "bytes", "passages", "records", "extension"],
)
def test_what_programs_send_is_not(value: Any) -> None:
    assert not msgpack_is_too_much(msgspec.msgpack.encode({"params": value}))
    if not isinstance(value, (bytes, msgspec.msgpack.Ext)):
        assert not json_is_too_much(json.dumps({"params": value}).encode())


@pytest.mark.parametrize(
    "text",
    [
        b"[" + b"[]," * 5_000_000 + b"0]",
        b"[" + b"{}," * 5_000_000 + b"0]",
        b"[" + b"0," * 7_500_000 + b"0]",
        b'["' + b'","' * 3_000_000 + b'"]',
        b"{" + b'"a":0,' * 2_500_000 + b'"b":0}',
        b"[" * MANY,
        b'["\\\\","\\"",' + b"[]," * 5_000_000 + b"0]",
    ],
)
def test_json_that_is_too_much(text: bytes) -> None:
    assert json_is_too_much(text)


@pytest.mark.parametrize("text", ["[1,2]," * 500_000, '\\"[1,2]:,"' * 400_000, "\\" * 1_000_000 + ',"[' * 900_000])
def test_prose_is_one_value(text: str) -> None:
    assert not json_is_too_much(json.dumps([text]).encode())
    assert not has_too_many_members(json.dumps([text.replace(",", ":")]).encode())


def test_members_are_counted_however_deep() -> None:
    assert has_too_many_members(b"{" + b'"a":0,' * 1_000_000 + b'"b":0}')
    assert not has_too_many_members(b"{" + b'"a":0,' * 500_000 + b'"b":0}')


def counted(value: Any) -> int:
    """As the count is defined."""
    if isinstance(value, dict):
        return CONTAINER + sum(counted(key) + counted(member) for key, member in value.items())
    if isinstance(value, list):
        return CONTAINER + sum(map(counted, value))
    long = isinstance(value, bytes | msgspec.msgpack.Ext) or (isinstance(value, str) and len(value.encode()) > 31)
    return 8 if long else 1


numbers = st.integers(-(2**63), 2**64 - 1) | st.floats() | st.none() | st.booleans()
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
anything = st.recursive(
    numbers | texts | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(texts, inner, max_size=17) | st.lists(numbers),
    max_leaves=60,
)


@fuzzing(300)
@given(value=anything, data=st.data())
def test_the_count_is_exact(value: Any, data: st.DataObject) -> None:
    message = msgspec.msgpack.encode(value)
    number = counted(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(values, "SMALL", 0)
        patch.setattr(values, "MAX_VALUES", number)
        assert not msgpack_is_too_much(message)
        patch.setattr(values, "MAX_VALUES", number - 1)
        assert msgpack_is_too_much(message)


@fuzzing(200)
@given(st.binary(max_size=300))
def test_any_bytes_are_counted_to_an_end(message: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(values, "SMALL", 0)
        msgpack_is_too_much(message)
        json_is_too_much(message)
        has_too_many_members(message)
