"""Hypothesis strategies for JSON as text: what is right, what nearly is, and the same thing written in many ways."""

from __future__ import annotations

import json
from typing import Final

from hypothesis import strategies as st

_BLANKS: Final = st.sampled_from(["", "", "", " ", "\n", "\t\r "])
_ODD_NUMBERS: Final = [
    "-0", "1e2", "1.0", "1e400", "-1E+400", "1e-400", "5e-324", "9" * 20, "-" + "9" * 30, "1" * 4300, "-" + "1" * 4300,
]  # fmt: skip
_NO_JSON: Final = [
    "NaN", "-Infinity", "01", "1.", ".5", "-", "+1", "0x1", "tru", '"\\x"', '"\\u12"', '"\n"', '"', "{", "]", "\x00",
    "\ufeff1",
]  # fmt: skip
_ODD_TEXTS: Final = ['"\\ud83d\\ude00"', '"\\u0000"', '"\\/"', '"\x7f"', '"\\ud800"', '"\\udc00\\ud800"', '""']


def _escaped(text: str) -> str:
    """Every character as an escape, outside of the BMP as a pair."""
    units = text.encode("utf-16-be")
    return '"' + "".join(f"\\u{units[at]:02X}{units[at + 1]:02x}" for at in range(0, len(units), 2)) + '"'


_plain_text = st.text(max_size=6)
texts = (
    _plain_text.map(json.dumps)
    | _plain_text.map(lambda text: json.dumps(text, ensure_ascii=False))
    | _plain_text.map(_escaped)
    | st.sampled_from(_ODD_TEXTS)
)
numbers = (
    st.integers().map(str)
    | st.floats(allow_nan=False, allow_infinity=False).map(json.dumps)
    | st.sampled_from(_ODD_NUMBERS)
)
scalars = st.sampled_from(["null", "true", "false"]) | numbers | texts
"""JSON, if not all of it I-JSON."""


def _array(parts: list[str], blank: str) -> str:
    return f"[{blank}" + f"{blank},".join(parts) + f"{blank}]"


def _object(parts: list[tuple[str, str]], blank: str) -> str:
    return f"{{{blank}" + f",{blank}".join(f"{name}{blank}:{value}" for name, value in parts) + "}"


def arrays(parts: st.SearchStrategy[str], max_size: int = 4) -> st.SearchStrategy[str]:
    return st.builds(_array, st.lists(parts, max_size=max_size), _BLANKS)


def objects(members: st.SearchStrategy[list[tuple[str, str]]]) -> st.SearchStrategy[str]:
    return st.builds(_object, members, _BLANKS)


def nested(leaves: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.recursive(
        leaves,
        lambda inner: arrays(inner) | objects(st.lists(st.tuples(texts, inner), max_size=4)),
        max_leaves=8,
    )


values = nested(scalars)
"""Any JSON value."""

broken = nested(scalars | st.sampled_from(_NO_JSON))
"""JSON, or nearly."""

_good = {
    "jsonrpc": st.just('"2.0"'),
    "method": texts,
    "id": st.just("null") | st.integers().map(str) | texts,
    "params": arrays(values) | objects(st.lists(st.tuples(texts, values), max_size=3)),
    "metadata": objects(
        st.lists(
            st.tuples(st.just('"timeout_ms"'), numbers)
            | st.tuples(st.just('"priority"'), st.sampled_from(['"low"', '"high"', '"urgent"', "1"]))
            | st.tuples(st.just('"progress_token"'), scalars)
            | st.tuples(st.sampled_from(['"request_id"', '"traceparent"', '"mine"']), values),
            max_size=3,
        )
    ),
    "result": values,
    "error": values,
}


_good_members = {
    name: st.tuples(st.sampled_from([f'"{name}"', f'"{name}"', _escaped(name)]), value) for name, value in _good.items()
}


@st.composite
def envelopes(draw: st.DrawFn, strange: st.SearchStrategy[str] = values) -> str:
    """An object that is a message, or could be mistaken for one: in any order, with duplicates, with strangers."""
    names = draw(st.sampled_from([
        ("jsonrpc", "method", "id", "params"),
        ("jsonrpc", "method", "params", "metadata"),
        ("jsonrpc", "method", "id"),
        ("jsonrpc", "id", "result"),
        ("jsonrpc", "id", "error"),
        ("method", "id"),
        ("jsonrpc", "id"),
    ]))  # fmt: skip
    members = [draw(_good_members[name]) for name in names]
    spoilt = st.tuples(st.sampled_from([f'"{name}"' for name in _good]) | texts, strange)
    members += draw(st.lists(spoilt, max_size=2))
    return draw(objects(st.permutations(members)))


messages = envelopes() | envelopes(broken) | arrays(envelopes() | envelopes(broken) | broken, max_size=6) | broken
"""What a client may send as one text frame, well or badly."""


@st.composite
def mutated(draw: st.DrawFn, tokens: tuple[bytes, ...]) -> bytes:
    """A message with a few bytes lost, replaced or put in."""
    data = bytearray(draw(messages).encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3) | st.sampled_from(tokens))
    return bytes(data)
