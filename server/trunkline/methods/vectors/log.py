"""The log of a collection: its records as bytes. Pure; :mod:`trunkline.methods.vectors.store` does the IO.

A log is records, one behind the other, and nothing else. Integers and floats are little-endian::

    record  = "TLR1" | u32 length | u32 crc | payload      length: of the payload, in bytes
                                                           crc: CRC-32 of the length field and the payload
    payload = u8 kind | u32 size | head | body             size: of the head, in bytes
    kind 1, upsert:
      head  = JSON, UTF-8: [{"id": str, "text": str or absent, "metadata": object}, ...]
      body  = one float32 vector of length 1 an item, in the order of the head

A record is written and synced before the next one is begun, so only the last one can be incomplete. Bytes that are
no record are therefore a torn tail where no record follows them, and damage where one does: that is what the
mark "TLR1" is for. Damage done later to the very last record cannot be told from a torn tail.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARK: Final = b"TLR1"
UPSERT: Final = 1

_HEADER: Final = struct.Struct("<4sII")
_LENGTH: Final = struct.Struct("<I")
_PAYLOAD: Final = struct.Struct("<BI")


class RecordError(Exception):
    """A record that is whole and means nothing to this version; the message says why."""


@dataclass(frozen=True, slots=True)
class Item:
    """What a collection keeps beside a vector."""

    id: str
    text: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Upsert:
    """Items and their vectors, a row an item. Their ids differ."""

    items: Sequence[Item]
    vectors: NDArray[np.float32]


def encode_record(payload: bytes) -> bytes:
    """A payload as a record."""
    return _HEADER.pack(MARK, len(payload), _checksum(payload)) + payload


def read_records(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The records from the start up to the first bytes that are none: where each ends, and its payload."""
    start = 0
    while (payload := _record_at(data, start)) is not None:
        start += _HEADER.size + len(payload)
        yield start, payload


def is_torn_tail(data: memoryview, end: int) -> bool:
    """Whether what follows the last good record, which ends at ``end``, is all there is: no record is behind it."""
    rest = bytes(data[end:])
    at = rest.find(MARK, 1)
    while at >= 0:
        if _record_at(data, end + at) is not None:
            return False
        at = rest.find(MARK, at + 1)
    return True


def encode_upsert(upsert: Upsert) -> bytes:
    """An upsert as a payload."""
    described = [
        {"id": item.id, "metadata": item.metadata} | ({} if item.text is None else {"text": item.text})
        for item in upsert.items
    ]
    head = json.dumps(described, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return _PAYLOAD.pack(UPSERT, len(head)) + head + upsert.vectors.astype("<f4").tobytes()


def decode_upsert(payload: memoryview, dimension: int) -> Upsert:
    """A payload as an upsert.

    Raises:
        RecordError: of another kind, or not what this collection could have written.
    """
    try:
        kind, size = _PAYLOAD.unpack_from(payload)
        if kind != UPSERT:
            raise RecordError(f"a record of kind {kind}, which a newer version wrote")
        head = bytes(payload[_PAYLOAD.size : _PAYLOAD.size + size]).decode("utf-8", "surrogatepass")
        items = [Item(each["id"], each.get("text"), each["metadata"]) for each in json.loads(head)]
        body = np.frombuffer(payload[_PAYLOAD.size + size :], dtype="<f4")
        return Upsert(items, body.reshape(len(items), dimension))
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"a record that is no upsert: {type(error).__name__}: {error}") from error


def _checksum(payload: bytes | memoryview) -> int:
    return zlib.crc32(payload, zlib.crc32(_LENGTH.pack(len(payload))))


def _record_at(data: memoryview, start: int) -> memoryview | None:
    """The payload of the record that begins at ``start``, if a whole one does."""
    if len(data) - start < _HEADER.size:
        return None
    mark, length, crc = _HEADER.unpack_from(data, start)
    body = start + _HEADER.size
    if mark != MARK or length > len(data) - body:
        return None
    payload = data[body : body + length]
    return payload if _checksum(payload) == crc else None
