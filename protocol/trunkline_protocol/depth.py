"""How deep JSON may be nested: one limit for every peer, so that no decoder on the way fails where another does not.

What is too deep for a decoder is its own business (997 levels, less what the stack holds, in msgspec under Python 3.11,
9,998 under 3.13; 254 in orjson's encoder; 200 in pydantic's): the limit is below all of them.
"""

from __future__ import annotations

import re
from typing import Any, Final

from trunkline_protocol.errors import ErrorCode, RpcError

MAX_DEPTH: Final = 128
"""Levels of objects and arrays in params, metadata or a result. What params carry for others has one level less."""

CARRIED_DEPTH: Final = MAX_DEPTH - 1
"""Levels of a chunk, of an item of an input, of progress, and of an event's data."""

ANSWER_TOO_DEEP: Final[dict[str, Any]] = RpcError(
    ErrorCode.SERIALIZATION_ERROR,
    f"the response of the client that serves the method is nested deeper than {MAX_DEPTH} levels",
    maybe_executed=True,
    data={"max_depth": MAX_DEPTH},
).to_wire()
"""What the caller gets where a client that serves a method answers with more levels."""

FAR_TOO_DEEP: Final = MAX_DEPTH + 16
"""Where a message is cut off that no decoder takes. Envelopes have a few levels: what is in them is still too deep."""

MAX_TOKENS: Final = 200_000
"""Brackets and strings that are looked at one by one; beyond them a message that nothing can decode is given up."""

_PASSES: Final = 16
_OTHERS: Final = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_STRING: Final = re.compile(rb'"[^"]*"')
_RUNS: Final = re.compile(rb"\[+|\]+")
_TOKENS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{]+|[\]}]+', re.DOTALL)


def is_too_deep(data: bytes, levels: int = MAX_DEPTH) -> bool:
    """Whether JSON has more than so many levels.

    Takes well below a microsecond for short or flat JSON, and milliseconds for a megabyte of small objects.
    """
    return len(data) > 2 * levels and _has_openers(data, levels + 1) and _levels_exceed(_structure(data), levels)


def require_depth(
    data: bytes, what: str, *, levels: int = MAX_DEPTH, code: ErrorCode = ErrorCode.INVALID_PARAMS
) -> None:
    """Check that JSON is not too deep.

    Raises:
        RpcError: ``code``; the message names ``what`` and the limit.
    """
    if is_too_deep(data, levels):
        raise too_deep(what, levels=levels, code=code)


def too_deep(what: str, *, levels: int = MAX_DEPTH, code: ErrorCode = ErrorCode.INVALID_PARAMS) -> RpcError:
    """The error for JSON that :func:`is_too_deep`; its message names ``what`` and the limit."""
    return RpcError(code, f"{what}: nested deeper than {levels} levels", data={"max_depth": MAX_DEPTH})


def clipped(data: bytes) -> bytes | None:
    """JSON with null for whatever is nested deeper than :data:`FAR_TOO_DEEP`; None if it is too much to look at."""
    pieces: list[bytes] = []
    depth = start = 0
    for number, token in enumerate(_TOKENS.finditer(data)):
        if number == MAX_TOKENS:
            return None
        first = token[0][0]
        length = len(token[0])
        if first in b"[{":
            if depth <= FAR_TOO_DEEP < depth + length:
                pieces.append(data[start : token.start() + FAR_TOO_DEEP - depth])
            depth += length
        elif first in b"]}":
            if depth - length <= FAR_TOO_DEEP < depth:
                pieces.append(b"null")
                start = token.start() + depth - FAR_TOO_DEEP
            depth -= length
    if depth > FAR_TOO_DEEP:
        return None
    return b"".join([*pieces, data[start:]])


def _has_openers(data: bytes, number: int) -> bool:
    """Whether there are so many brackets that open. Searching is a lot quicker than counting where there are few."""
    for bracket in (b"[", b"{"):
        at = data.find(bracket)
        while at >= 0:
            number -= 1
            if not number:
                return True
            at = data.find(bracket, at + 1)
    return False


def _structure(data: bytes) -> bytes:
    """The brackets that are in no string, all of one kind."""
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    kept = data.translate(_ONE_KIND, _OTHERS).replace(b'""', b"")
    return _STRING.sub(b"", kept) if b'"' in kept else kept


def _levels_exceed(structure: bytes, limit: int) -> bool:
    """Whether brackets are nested deeper than ``limit``: the innermost are taken away, the rest is counted."""
    for _ in range(_PASSES):
        outer = structure.replace(b"[]", b"")
        if len(outer) == len(structure):
            break
        structure = outer
        limit -= 1
    depth = 0
    for run in _RUNS.finditer(structure):
        length = run.end() - run.start()
        depth += length if structure[run.start()] == ord("[") else -length
        if depth > limit:
            return True
    return False
