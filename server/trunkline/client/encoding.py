"""Outgoing JSON: exactly what was given, or a clear error."""

from __future__ import annotations

import dataclasses
from typing import Any

import orjson

from trunkline_protocol.binary import to_member
from trunkline_protocol.depth import MAX_DEPTH, is_too_deep


def encode_exactly(value: Any, what: str, levels: int = MAX_DEPTH) -> bytes:
    """JSON without silent losses, or a clear error; bytes in the form of :mod:`trunkline_protocol.binary`.

    Args:
        what: what it is, for the error.
        levels: how deep it may be nested.

    Raises:
        ValueError: something JSON has no form for, NaN, an infinity, an integer beyond 2**53, which JavaScript
            peers could not read, or more levels than the protocol has.
    """
    try:
        data = orjson.dumps(value, default=_as_json, option=orjson.OPT_STRICT_INTEGER)
    except TypeError as error:
        raise ValueError(f"{what} cannot be sent: {error}") from error
    if is_too_deep(data, levels):
        raise ValueError(f"{what} cannot be sent: nested deeper than {min(levels, MAX_DEPTH)} levels")
    if b"null" in data and not _is_finite(value):
        raise ValueError(f"{what} cannot be sent: a float is not finite")
    return data


def encode_body(method: str, params: Any) -> bytes:
    """The members ``method`` and, unless it is None, ``params`` of a message, without braces.

    Raises:
        ValueError: the params cannot be sent.
    """
    body = {"method": method} if params is None else {"method": method, "params": params}
    return encode_exactly(body, f"params of {method}", MAX_DEPTH + 1)[1:-1]


def _as_json(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return to_member(value)
    raise TypeError(f"type {type(value).__module__}.{type(value).__qualname__}")


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return value - value == 0.0
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_finite, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return all(_is_finite(getattr(value, field.name)) for field in dataclasses.fields(value))
    return True
