"""Large JSON in pieces: what is decoded in one go lets nothing else of the process run meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

LARGE: Final = 256 * 1024
"""Bytes of params from which on they are read beside the loop: below it takes a millisecond or two."""

PIECE: Final = 128 * 1024


def large_members(data: bytes) -> dict[str, msgspec.Raw]:
    """The members of a JSON object, each as it stands.

    Raises:
        msgspec.DecodeError: it is no object.
    """
    return msgspec.json.decode(data, type=dict[str, msgspec.Raw])


def without(members: dict[str, msgspec.Raw], names: Any) -> bytes:
    """The object with empty arrays for these members."""
    return msgspec.json.encode(members | dict.fromkeys(names, msgspec.Raw(b"[]")))


def pieces_of(array: bytes) -> Iterator[bytes]:
    """A JSON array as several, which together have its items, in order."""
    inside = array.strip()[1:-1]
    if any(inside.find(sign) >= 0 for sign in (b"[", b"{", b'"')):
        yield from _pieces_of_items(array)
        return
    at = 0
    while at < len(inside):
        cut = inside.find(b",", at + PIECE)
        end = len(inside) if cut < 0 else cut
        yield b"[%b]" % inside[at:end]
        at = end + 1


def _pieces_of_items(array: bytes) -> Iterator[bytes]:
    items = msgspec.json.decode(array, type=list[msgspec.Raw])
    count = max(1, len(items) * PIECE // len(array))
    for at in range(0, len(items), count):
        yield b"[%b]" % b",".join(map(bytes, items[at : at + count]))
