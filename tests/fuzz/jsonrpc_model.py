"""What one text frame means, read a second time and independently: ``json.loads`` plus the rules of SPEC.md, section 2.

The codec reads envelopes with typed C decoders and leaves params as bytes; this model parses everything and judges
afterwards. It is exact, differences that are meant are rules here:

- Text with a lone surrogate is no JSON (I-JSON), though ``json`` takes it.
- Numbers beyond a double, and integers of more characters than CPython converts, are refused with -32600 where the
  envelope has to be searched for its fault; in the params of a good envelope they are the method's business.
- A response with such a number is refused under id null: its id is not one of the peer's own calls.
- Of members given twice the last counts, but every ``jsonrpc``, ``method`` and ``id`` must have its type.
- Members nobody knows may hold anything that is JSON.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final

from trunkline_protocol.errors import ErrorCode
from trunkline_protocol.messages import Batch, Malformed, Request, Response

ABSENT: Final = object()
"""Stands for a member that is not there; no JSON value equals it."""

UNREPRESENTABLE: Final = object()
"""Stands for a number that JSON allows and we cannot hold."""

MAX_INT_CHARS: Final = 4300
"""CPython's ``sys.int_info.default_max_str_digits``; msgspec counts the sign, too."""


@dataclass(frozen=True)
class Members:
    """A JSON object with its members in order, duplicates included."""

    pairs: tuple[tuple[str, Any], ...]

    def all(self, name: str) -> list[Any]:
        return [value for key, value in self.pairs if key == name]

    def last(self, name: str) -> Any:
        return (self.all(name) or [ABSENT])[-1]


@dataclass(frozen=True)
class Expected:
    """What the codec has to make of it. ``params`` is parsed; ``members`` are those of a batch."""

    kind: type
    id: Any = None
    code: int | None = None
    method: str | None = None
    params: Any = ABSENT
    metadata: Any = ABSENT
    members: tuple[Expected, ...] = ()


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _float(text: str) -> Any:
    value = float(text)
    return UNREPRESENTABLE if math.isinf(value) else value


def _int(text: str) -> Any:
    return UNREPRESENTABLE if len(text) > MAX_INT_CHARS else int(text)


_decoder: Final = json.JSONDecoder(
    object_pairs_hook=lambda pairs: Members(tuple(pairs)),
    parse_float=_float,
    parse_int=_int,
    parse_constant=_refuse,
)


def parse(text: str) -> Any:
    """I-JSON; objects as :class:`Members`.

    Raises:
        ValueError: it is none.
        RecursionError: it is nested deeper than this model goes, and says nothing about.
    """
    value = _decoder.decode(text)
    if contains(value, lambda part: isinstance(part, str) and any("\ud800" <= char <= "\udfff" for char in part)):
        raise ValueError("a lone surrogate")
    return value


def contains(value: Any, wanted: Any) -> bool:
    """Whether a part of a parsed value, names included, is wanted."""
    if isinstance(value, Members):
        return any(wanted(name) or contains(part, wanted) for name, part in value.pairs)
    if isinstance(value, list):
        return any(contains(part, wanted) for part in value)
    return bool(wanted(value))


def read(text: str, max_batch: int) -> Expected:
    """Judge one text frame. Raises RecursionError where the model does not go."""
    try:
        value = parse(text)
    except ValueError:
        return Expected(Malformed, code=ErrorCode.PARSE_ERROR)
    if not isinstance(value, list):
        return _member(value)
    if not 0 < len(value) <= max_batch:
        return Expected(Malformed, code=ErrorCode.INVALID_REQUEST)
    return Expected(Batch, members=tuple(_member(member) for member in value))


def _is_id(value: Any) -> bool:
    return value is None or type(value) in (int, str)


def _member(value: Any) -> Expected:
    if not isinstance(value, Members):
        return Expected(Malformed, code=ErrorCode.INVALID_REQUEST)
    versions, methods, ids = value.all("jsonrpc"), value.all("method"), value.all("id")
    if (
        versions and all(version == "2.0" for version in versions)
        and methods and all(isinstance(method, str) for method in methods)
        and all(_is_id(request_id) for request_id in ids)
    ):  # fmt: skip
        return _request(value)
    found = value.last("id")
    known = found if _is_id(found) else None
    if contains(value, lambda part: part is UNREPRESENTABLE):
        return Expected(Malformed, known if methods else None, ErrorCode.INVALID_REQUEST)
    answers = value.all("result") or value.all("error")
    if not methods and answers and value.last("jsonrpc") == "2.0":
        return Expected(Response, known)
    return Expected(Malformed, known, ErrorCode.INVALID_REQUEST)


def _request(value: Members) -> Expected:
    request_id, params = value.last("id"), value.last("params")
    if not isinstance(params, Members | list) and value.all("params"):
        return Expected(Malformed, None if request_id is ABSENT else request_id, ErrorCode.INVALID_REQUEST)
    return Expected(Request, request_id, method=value.last("method"), params=params, metadata=value.last("metadata"))


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_timeout(value: Any) -> bool:
    return value is None or type(value) in (int, float)


_METADATA: Final = {
    "priority": lambda value: value in ("low", "normal", "high"),
    "timeout_ms": _is_timeout,
    "progress_token": _is_id,
    "request_id": _is_text,
    "idempotency_key": _is_text,
    "traceparent": _is_text,
}


def metadata_is_valid(value: Any) -> bool:
    """Whether the hub can act on a parsed ``metadata`` (SPEC.md, metadata)."""
    if not isinstance(value, Members):
        return False
    if not all(fits(given) for name, fits in _METADATA.items() for given in value.all(name)):
        return False
    timeout = value.last("timeout_ms")
    return timeout in (None, ABSENT) or 0 < timeout <= 2**53
