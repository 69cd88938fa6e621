"""Outgoing JSON: exactly what was given, or a clear error."""

from __future__ import annotations

from typing import Any

import orjson


def encode_exactly(message: dict[str, Any]) -> bytes:
    """JSON without silent losses, or a clear error.

    Raises:
        ValueError: NaN, an infinity or an integer beyond 2**53, which JavaScript peers could not read.
    """
    try:
        data = orjson.dumps(message, option=orjson.OPT_STRICT_INTEGER)
    except TypeError as error:
        raise ValueError(f"params of {message['method']} cannot be sent: {error}") from error
    if b"null" in data and not _is_finite(message):
        raise ValueError(f"params of {message['method']} cannot be sent: a float is not finite")
    return data


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return value - value == 0.0
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return all(map(_is_finite, value)) if isinstance(value, (list, tuple)) else True
