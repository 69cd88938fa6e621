"""Methods that take and give bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from trunkline import InputStream, method


@method("binary.reverse")
def reverse(data: bytes) -> bytes:
    """The bytes, last one first."""
    return data[::-1]


@method("binary.nested")
def nested(value: Any) -> Any:
    """What was given, and how Python sees the bytes in it."""
    return {"value": value, "types": sorted({type(item).__name__ for item in value})}


@method("binary.chunks")
async def chunks(sizes: list[int]) -> AsyncIterator[bytes]:
    """A chunk of so many zero bytes each."""
    for size in sizes:
        yield bytes(size)


@method("binary.joined")
async def joined(parts: InputStream[bytes]) -> bytes:
    """What was fed, in one piece."""
    return b"".join([part async for part in parts])
