"""What counts as the same params under one idempotency key."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_protocol.params_digest import BY_VALUE_BYTES, params_digest

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    "other",
    [
        b'{"b":[1,{"d":null,"c":"\\u00e9"}],"a":2}',
        b' {"a" : 2, "b" : [ 1 , {"c":"\xc3\xa9", "d":null}]}\n',
        b'{"a":2.0,"b":[1.0,{"c":"\\u00E9","d":null}]}',
        b'{"a":2e0,"b":[10e-1,{"c":"\xc3\xa9","d":null}]}',
    ],
)
def test_the_same_value_written_otherwise(other: bytes) -> None:
    assert params_digest("m", other) == params_digest("m", b'{"a":2,"b":[1,{"c":"\xc3\xa9","d":null}]}')


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a":1}', b'{"a":"1"}'),
        (b'{"a":1}', b'{"a":true}'),
        (b'{"a":0}', b'{"a":false}'),
        (b'{"a":null}', b"{}"),
        (b'{"a":[1,2]}', b'{"a":[2,1]}'),
        (b'{"a":1}', b'{"a":1.5}'),
        (b'{"a":9007199254740993}', b'{"a":9007199254740992.0}'),
        (b'{"a":18446744073709551617}', b'{"a":18446744073709551616}'),
        (b'{"a":""}', b'{"a":" "}'),
        (b"[]", b"{}"),
        (b'{"a":1e400}', b'{"a":null}'),
    ],
)
def test_other_values(one: bytes, other: bytes) -> None:
    assert params_digest("m", one) != params_digest("m", other)


def test_another_method_is_another_call() -> None:
    assert params_digest("m", b"{}") != params_digest("n", b"{}")


def test_large_params_are_compared_byte_for_byte() -> None:
    large = b'{"a":"%s","b":1}' % (b"x" * BY_VALUE_BYTES)
    assert params_digest("m", large) == params_digest("m", bytes(large))
    assert params_digest("m", large) != params_digest("m", large.replace(b'"b":1', b'"b":1.0'))


def shuffled(value: Any) -> Any:
    if isinstance(value, dict):
        items = [(name, shuffled(item)) for name, item in value.items()]
        return dict(random.sample(items, len(items)))
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(VALUES)
def test_the_order_of_members_and_spaces_are_of_no_account(value: Any) -> None:
    one = json.dumps({"params": value}).encode()
    assert params_digest("m", one) == params_digest("m", json.dumps(shuffled({"params": value}), indent=1).encode())
