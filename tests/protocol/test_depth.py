"""The depth of JSON, looked at without decoding it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.timing import SCALE
from trunkline_protocol.depth import FAR_TOO_DEEP, MAX_DEPTH, clipped, is_too_deep


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


def wrapped(value: Any, levels: str) -> Any:
    for kind in levels:
        value = [value] if kind == "a" else {'ke"y[\\': value, "s": '}]"\\'}
    return value


texts = st.text('[]{}"\\a,:', max_size=6)
values = st.recursive(
    texts | st.integers(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)


@given(values, st.text("ao", min_size=110, max_size=140), st.booleans())
def test_it_is_the_depth_of_what_a_decoder_makes_of_it(value: Any, levels: str, spaced: bool) -> None:
    nested = [wrapped(value, levels), value]
    data = json.dumps(nested, separators=None if spaced else (",", ":")).encode()
    assert is_too_deep(data) == (depth_of(nested) > MAX_DEPTH)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'["]",', b'["\\"]",'])
def test_the_limit_is_exact(opening: bytes) -> None:
    closing = b"]" if opening[:1] == b"[" else b"}"
    for levels in (MAX_DEPTH, MAX_DEPTH + 1):
        assert is_too_deep(opening * levels + b"1" + closing * levels) == (levels > MAX_DEPTH)


def test_much_that_is_flat_is_not_deep() -> None:
    assert not is_too_deep(json.dumps([{"id": str(n), "tags": ["a", "b"]} for n in range(1000)]).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"[" + b"[],[]," * 1_000_000 + b"1]",
        b"[" + (b"[" * 100 + b"]" * 100 + b",") * 30_000 + b"1]",
        b"[" + b'{"a":[1,{"b":"]"}]},' * 300_000 + b"1]",
        b"[" * 6_000_000,
    ],
)
def test_what_is_made_to_take_long_does_not(data: bytes) -> None:
    started = time.thread_time()
    is_too_deep(data)
    clipped(data)
    assert time.thread_time() - started < 1.5 * SCALE


@given(values, st.integers(0, 400))
def test_clipping_keeps_what_is_not_far_too_deep(value: Any, levels: int) -> None:
    message = {"id": 7, "params": wrapped(value, "ao" * (levels // 2)), "s": "[[{", "after": value}
    data = clipped(json.dumps(message).encode())
    assert data is not None
    kept = json.loads(data)
    assert depth_of(kept) == min(depth_of(message), FAR_TOO_DEEP)
    assert (kept["id"], kept["after"]) == (7, value)
    if depth_of(message) <= FAR_TOO_DEEP:
        assert kept == message


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 1000])
def test_what_does_not_end_is_given_up(data: bytes) -> None:
    assert clipped(data) is None
