"""The log of one collection: every acknowledged item, in order, with a checksum. Survives a kill at any byte.

File format, version 1: records of ``u32 length | u32 crc32 | payload``, little endian; the checksum is that of the
payload. Payload: ``u32 n`` + JSON ``{id, text?, metadata}`` (n bytes) + the vector as float32, little endian.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

_HEAD: Final = struct.Struct("<II")
_U32: Final = struct.Struct("<I")
MAX_RECORD: Final = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Item:
    """One stored item; ``vector`` is float32, little endian, of length 1."""

    id: str
    vector: bytes
    text: str | None
    metadata: dict[str, Any]


class CorruptLogError(Exception):
    """A record in the middle of the log is damaged; the file is kept as it is."""


def encode_record(item: Item) -> bytes:
    """One record."""
    described: dict[str, Any] = {"id": item.id, "metadata": item.metadata}
    if item.text is not None:
        described["text"] = item.text
    head = msgspec.json.encode(described)
    payload = _U32.pack(len(head)) + head + item.vector
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def decode_payload(payload: bytes) -> Item:
    """The item of one record."""
    end = 4 + _U32.unpack_from(payload)[0]
    described = msgspec.json.decode(payload[4:end])
    return Item(described["id"], payload[end:], described.get("text"), described["metadata"])


def scan(data: bytes) -> Iterator[tuple[int, Item]]:
    """Read records: ``(end position, item)`` each. Stops at a torn tail: a record the file ends inside of.

    Raises:
        CorruptLogError: a record that is whole, or is followed by others, does not match its checksum.
    """
    at = 0
    while len(data) - at >= _HEAD.size:
        size, checksum = _HEAD.unpack_from(data, at)
        start, end = at + _HEAD.size, at + _HEAD.size + size
        if end > len(data):
            if size > MAX_RECORD:
                raise CorruptLogError(f"the record at byte {at} has an impossible length")
            return
        payload = data[start:end]
        if zlib.crc32(payload) != checksum:
            if end == len(data):
                return  # the last record: its pages did not all reach the disk
            raise CorruptLogError(f"the record at byte {at} does not match its checksum")
        yield end, decode_payload(payload)
        at = end


class ItemLog:
    """The open log file of one collection; one owner at a time.

    Args:
        path: created if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self.size = 0

    def replay(self) -> tuple[list[Item], int]:
        """Read everything, cut a torn tail off.

        Returns:
            The items in order, and how many bytes were cut.

        Raises:
            CorruptLogError: damage that is no torn tail.
        """
        data = self._path.read_bytes()
        items: list[Item] = []
        for end, item in scan(data):
            items.append(item)
            self.size = end
        cut = len(data) - self.size
        if cut:
            os.ftruncate(self._file, self.size)
            os.fsync(self._file)
        return items, cut

    def append(self, items: Sequence[Item]) -> None:
        """Write items and wait until they are on disk. After a failure the log is as it was.

        Raises:
            OSError: the disk is full, or gone.
        """
        data = memoryview(b"".join(map(encode_record, items)))
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self.size)
            raise
        self.size = os.fstat(self._file).st_size

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
