"""Binary data inside JSON: ``{"$bytes": "<base64>"}``, an object with that one member (SPEC.md, Binary data).

Doors that carry bytes as they are (MessagePack, binary Phoenix frames) translate to and from this form, so that a
method is given the same bytes whatever its caller speaks.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

MEMBER: Final = "$bytes"
MARK: Final = b'"$bytes"'
"""What JSON without binary data does not contain, so that most messages need not be searched.

Look for it by ``find``: ``in`` tries bytes for a number first, and drops the error that this is, each time.
"""

BASE64: Final = {"type": "string", "contentEncoding": "base64"}
SCHEMA: Final = {"type": "object", "properties": {MEMBER: BASE64}, "required": [MEMBER], "additionalProperties": False}
"""JSON Schema of binary data."""

_STANDARD: Final = str.maketrans("-_", "+/")


def to_member(data: bytes | bytearray | memoryview) -> dict[str, str]:
    """The JSON form of binary data."""
    return {MEMBER: base64.b64encode(data).decode("ascii")}


def from_text(text: str) -> bytes:
    """The bytes of a bare base64 string, of either alphabet, padded or not: what takes binary data takes it, too.

    Raises:
        ValueError: it is not base64.
    """
    bare = text.translate(_STANDARD).rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError('give binary data as {"$bytes": "<base64>"}, or as base64 alone') from None


def from_member(value: dict[str, Any]) -> bytes | None:
    """The bytes of an object that is the JSON form of binary data; None for any other object."""
    if len(value) == 1 and isinstance(text := value.get(MEMBER), str):
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            return None
    return None


def unwrapped(value: Any) -> Any:
    """A copy of a value as JSON decoders give it, in which the JSON form of bytes became ``bytes``.

    What has the member but no valid base64 stays as it is: somebody's own object.
    """
    if isinstance(value, dict):
        data = from_member(value)
        return {key: unwrapped(member) for key, member in value.items()} if data is None else data
    if isinstance(value, list):
        return [unwrapped(item) if isinstance(item, (dict, list)) else item for item in value]
    return value
