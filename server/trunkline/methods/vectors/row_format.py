"""An item as a row of SQLite, and what shows that a row is what was written. Pure."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from trunkline.methods.vectors.changes import Item
from trunkline.methods.vectors.touched import encoded
from trunkline.storage.failures import damaged
from trunkline_protocol.principals import DEFAULT_TENANT

TENANT: Final = DEFAULT_TENANT.encode()
_encoder: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_decoder: Final = msgspec.json.Decoder(list[dict[str, Any]])


def require_rows(rows: Iterable[Any], dimension: int, path: Path) -> None:
    """Check that rows of items are what was written.

    Raises:
        RpcError: 3002, one is not.
    """
    for id, text, metadata, vector, change, crc in rows:
        try:
            is_whole = len(vector) == 4 * dimension and _crc(id, text, metadata, vector, change) == crc
        except TypeError:
            is_whole = False
        if not is_whole:
            raise damaged(path, f"item {id!r:.200} is not what was written")


def rows_of(items: Iterable[Item], vectors: Iterable[Any], change: int) -> Iterator[tuple[Any, ...]]:
    """Items and their vectors as rows."""
    for item, vector in zip(items, vectors, strict=True):
        id, text = encoded(item.id), None if item.text is None else encoded(item.text)
        metadata, data = encoded(_encoder.encode(item.metadata)), vector.astype("<f4", copy=False).tobytes()
        yield TENANT, id, text, metadata, data, change, _crc(id, text, metadata, data, change)


def _crc(id: bytes, text: bytes | None, metadata: bytes, vector: bytes, change: int) -> int:
    head = (TENANT, id, metadata) if text is None else (TENANT, id, metadata, text)
    return zlib.crc32(
        vector, zlib.crc32(b"\0".join(head), change & 0xFFFFFFFF)
    )  # it begins with another for each change


def items_of(rows: list[Any]) -> list[Item]:
    """Rows as items. What is no Unicode, or no JSON, Python's standard library reads as it wrote it."""
    ids, texts, metadata, *_ = zip(*rows, strict=True)
    try:
        decoded = _decoder.decode(b"[%b]" % b",".join(metadata))
        return [
            *map(Item, map(bytes.decode, ids), [None if text is None else text.decode() for text in texts], decoded)
        ]
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return [
            Item(as_text(id), None if text is None else as_text(text), json.loads(as_text(each)))
            for id, text, each in zip(ids, texts, metadata, strict=True)
        ]


def as_text(data: bytes) -> str:
    """What :func:`encoded` was given."""
    return data.decode("utf-8", "surrogatepass")
