"""Digests by which a call, or a job, that comes again under its idempotency key is known to ask for the same."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

BY_VALUE_BYTES: Final = 64 * 1024
"""Size of params up to which they are compared by value; larger ones byte for byte, for reading them takes long."""

MAX_EXACT: Final = 2.0**53
"""Up to here a whole number is the same whether it was written as an integer or with a fraction of zero."""

_encoder: Final = msgspec.json.Encoder(order="sorted")
_decoder: Final = msgspec.json.Decoder()


def params_digest(method: str, params: bytes) -> bytes:
    """The SHA-256 of a method and of the value of its params.

    The same for params whose members are in another order, that are spaced or escaped otherwise, or have ``1.0`` for
    ``1``: clients in other languages, or a later version of the same, write them so.

    Args:
        params: JSON.
    """
    return hashlib.sha256(method.encode() + b"\0" + _by_value(params)).digest()


def _by_value(params: bytes) -> bytes:
    if len(params) > BY_VALUE_BYTES:
        return params
    try:
        return _encoder.encode(_plain(_decoder.decode(params)))
    except (msgspec.MsgspecError, OverflowError, UnicodeError, RecursionError):
        return params  # no JSON, or not of a kind that can be written again: whoever executes it says so


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= MAX_EXACT else value
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
