"""The records of a log as former versions wrote them, as bytes. Pure.

A log is segments: files of records, one behind the other, and nothing else. Integers and floats are little-endian::

    record  = "TLR2" | u64 position | u64 generation | u32 length | u32 crc | u32 header crc | payload
              position:    1 for a collection's first record, and one more for each that follows
              generation:  of the owner that wrote it; it grew with each opening
              length, crc: of the payload, in bytes; CRC-32
              header crc:  CRC-32 of the header up to here
    payload = u8 kind | u32 size | head | body             size: of the head, in bytes
    kind 1, upsert:
      head  = JSON, UTF-8: [{"id": str, "text": str or absent, "metadata": object}, ...]
      body  = one float32 vector an item, in the order of the head
    kind 2, delete:
      head  = JSON, UTF-8: ["id", ...]
    kind 3, several changes that were committed together:
      head  = u32 length of each
      body  = their payloads

    record of format 1 = "TLR1" | u32 length | u32 crc | payload     crc: of the length field and the payload

A record was written and synced before the next one was begun, so only the last one can be incomplete. What is left of
it is a beginning of a record, in which sectors that never reached the disk may read as zeros. Anything else that is
no record is damage, and so is anything at all that has a record behind it: that is what the mark is for. (Format 1
has no header crc: there, damage done later to the very last record cannot be told from an incomplete one.)
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from trunkline.methods.vectors.changes import Change, Delete, Item, Upsert

MARK: Final = b"TLR2"
OLD_MARK: Final = b"TLR1"
UPSERT: Final = 1
DELETE: Final = 2
GROUP: Final = 3
SECTOR: Final = 512
"""Bytes that reach a disk together or not at all."""

_HEADER: Final = struct.Struct("<4sQQIII")
_OLD_HEADER: Final = struct.Struct("<4sII")
_CRC: Final = struct.Struct("<I")
_PAYLOAD: Final = struct.Struct("<BI")


class RecordError(Exception):
    """A record that is whole and means nothing to this version; the message says why."""


@dataclass(frozen=True, slots=True)
class Record:
    """A whole record.

    Attributes:
        position: None in format 1, where records are counted.
        generation: of the owner that wrote it; 0 in format 1.
        end: where it ends, in bytes from the start of its segment.
    """

    position: int | None
    generation: int
    payload: memoryview
    end: int


# --- records ---


def read_records(data: memoryview) -> Iterator[Record]:
    """The records from the start up to the first bytes that are none."""
    start = 0
    while (record := _record_at(data, start)) is not None:
        start = record.end
        yield record


def tail_damage(data: memoryview, end: int) -> str | None:
    """The damage behind the last good record, which ends at ``end``; None if a write was just not finished."""
    if _has_record(data, end + 1):
        return "begins no record, and there are good ones behind it"
    if bytes(data[: len(OLD_MARK)]) == OLD_MARK or _is_unfinished(data, end):
        return None
    return "begins no record, nor the beginning of one"


def _record_at(data: memoryview, start: int) -> Record | None:
    mark = bytes(data[start : start + len(MARK)])
    if mark == MARK:
        return _new_record_at(data, start)
    return _old_record_at(data, start) if mark == OLD_MARK else None


def _new_record_at(data: memoryview, start: int) -> Record | None:
    header = data[start : start + _HEADER.size]
    if len(header) < _HEADER.size or not _is_header(header):
        return None
    _, position, generation, length, crc, _ = _HEADER.unpack(header)
    end = start + _HEADER.size + length
    payload = data[start + _HEADER.size : end]
    if len(payload) < length or zlib.crc32(payload) != crc:
        return None
    return Record(position, generation, payload, end)


def _old_record_at(data: memoryview, start: int) -> Record | None:
    if len(data) - start < _OLD_HEADER.size:
        return None
    _, length, crc = _OLD_HEADER.unpack_from(data, start)
    end = start + _OLD_HEADER.size + length
    payload = data[start + _OLD_HEADER.size : end]
    if len(payload) < length or zlib.crc32(payload, zlib.crc32(_CRC.pack(length))) != crc:
        return None
    return Record(None, 0, payload, end)


def _is_header(header: memoryview) -> bool:
    (crc,) = _CRC.unpack(header[-_CRC.size :])
    return zlib.crc32(header[: -_CRC.size]) == int(crc)


def _has_record(data: memoryview, start: int) -> bool:
    """Whether a good record begins anywhere from ``start`` on."""
    rest = bytes(data[start:])
    for mark in (MARK, OLD_MARK):
        at = rest.find(mark)
        while at >= 0:
            if _record_at(data, start + at) is not None:
                return True
            at = rest.find(mark, at + 1)
    return False


def _is_unfinished(data: memoryview, start: int) -> bool:
    """Whether it can be what a loss of power leaves of a record: a beginning, with zeros where a sector is missing."""
    header = data[start : start + _HEADER.size]
    if len(header) < _HEADER.size:
        return not any(header) or header[: len(MARK)] == MARK[: len(header)]
    if not _is_header(header):
        return _lacks_sector(data[: start + _HEADER.size], start)
    length = _HEADER.unpack(header)[3]
    return len(data) - start < _HEADER.size + length or _lacks_sector(data, start)


def _lacks_sector(data: memoryview, start: int) -> bool:
    """Whether from ``start`` on there are only zeros where a sector should be, or what of it is there."""
    first = start - start % SECTOR
    return any(not any(data[max(at, start) : at + SECTOR]) for at in range(first, len(data), SECTOR))


# --- payloads ---


def decode_changes(payload: memoryview, dimension: int) -> list[Change]:
    """The changes that a payload holds, in their order.

    Raises:
        RecordError: of another kind, or not what this collection could have written.
    """
    try:
        kind, size = _PAYLOAD.unpack_from(payload)
        head, body = payload[_PAYLOAD.size : _PAYLOAD.size + size], payload[_PAYLOAD.size + size :]
        if kind == GROUP:
            return [change for part in _parts(head, body) for change in decode_changes(part, dimension)]
        if kind == DELETE:
            return [Delete(_decode(head, list[str]))]
        if kind != UPSERT:
            raise RecordError(f"a record of kind {kind}, which a newer version wrote")
        items = decode_items(head)
        return [Upsert(items, np.frombuffer(body, dtype="<f4").reshape(len(items), dimension))]
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"a record that means nothing: {type(error).__name__}: {error}") from error


def decode_items(data: memoryview | bytes) -> list[Item]:
    """JSON as items.

    Raises:
        ValueError, KeyError, TypeError: it is none.
    """
    items: list[Item] = _decode(data, list[Item])
    return items


def _parts(head: memoryview, body: memoryview) -> Iterator[memoryview]:
    start = 0
    for (length,) in struct.iter_unpack("<I", head):
        if length > len(body) - start:
            raise ValueError("a part is longer than the whole")
        yield body[start : start + length]
        start += length


def _decode(data: memoryview | bytes, type: Any) -> Any:
    try:
        return msgspec.json.decode(data, type=type)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # Strings that are no Unicode, and numbers that are no JSON: the standard library reads what it wrote.
        return msgspec.convert(json.loads(bytes(data).decode("utf-8", "surrogatepass")), type)
