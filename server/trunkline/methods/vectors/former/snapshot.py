"""Snapshots as former versions wrote them: all live items and vectors, and how much of the log they include.

A snapshot is one file. Integers and floats are little-endian::

    body    = header | vectors | items
      header  = "TLSNAP02" | u64 position | u64 generation | u64 count | u64 dimension | zeros up to 64 bytes
                position: of the last record that it includes; generation: of the owner that wrote it
      vectors = count x dimension float32, row by row
      items   = pages, in the order of the rows: u32 length | JSON, as in the log (records.py)
    trailer = u32 CRC-32 of each block of the body | u64 length of the body | u32 length of a block
              | u32 CRC-32 of the trailer up to here | "TLSE"
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from trunkline.methods.vectors.changes import Item
from trunkline.methods.vectors.former.records import decode_items

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARK: Final = b"TLSNAP02"
END_MARK: Final = b"TLSE"
HEADER_BYTES: Final = 64

_HEADER: Final = struct.Struct("<8sQQQQ")
_CRC: Final = struct.Struct("<I")
_LENGTH: Final = struct.Struct("<I")
_TRAILER: Final = struct.Struct("<QI")


class Damaged(Exception):
    """A file that is not what was written.

    Attributes:
        path: the file.
        byte: where in it, from its start.
        what: what is there.
    """

    def __init__(self, path: Path, byte: int, what: str) -> None:
        super().__init__(f"{path}: byte {byte} {what}")
        self.path, self.byte, self.what = path, byte, what


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Live items and their vectors, a row an item; ids differ."""

    position: int
    generation: int
    items: Sequence[Item]
    vectors: NDArray[np.float32]


def read_snapshot(path: Path, dimension: int) -> Snapshot:
    """Read a snapshot; every byte of it is checked.

    Raises:
        OSError: the file cannot be read.
        Damaged: the file is not what was written, or not of this dimension.
    """
    with path.open("rb", buffering=0) as file:
        body = _Body(path, file)
        header = body.read(HEADER_BYTES)
        mark, position, generation, count, width = _HEADER.unpack_from(header)
        if mark != MARK or width != dimension or HEADER_BYTES + count * width * 4 > body.size:
            raise Damaged(path, 0, f"begins no snapshot of a collection of dimension {dimension}")
        vectors = np.empty((count, dimension), dtype="<f4")
        if count:
            body.read_into(vectors.data.cast("B"))
        items: list[Item] = []
        while len(items) < count:
            items += body.page()
        if body.at != body.size or len(items) != count:
            raise Damaged(path, body.at, f"is behind {len(items)} items, and there should be {count}")
    return Snapshot(position, generation, items, vectors)


class _Body:
    """Reads a body from its start; each block is checked before any of it is handed out.

    Attributes:
        size: of the body, in bytes.
        at: the next byte.
    """

    def __init__(self, path: Path, file: FileIO) -> None:
        self._path, self._file = path, file
        self.at = 0
        self.size, self._block_size, self._crcs = self._read_trailer()
        self._file.seek(0)
        self._checked: bytes | memoryview = b""

    def _read_trailer(self) -> tuple[int, int, tuple[int, ...]]:
        total = self._file.seek(0, os.SEEK_END)
        tail = _TRAILER.size + _CRC.size + len(END_MARK)
        if total < HEADER_BYTES + tail:
            raise Damaged(self._path, total, "is the end of the file, which is too early")
        self._file.seek(total - tail)
        last = self._file.read(tail)
        size, block_size = _TRAILER.unpack_from(last)
        blocks = -(-size // block_size) if block_size else 0
        if last[-len(END_MARK) :] != END_MARK or size + blocks * _CRC.size + tail != total:
            raise Damaged(
                self._path, total - tail, "begins no end of a snapshot: the file was cut, or something was added"
            )
        self._file.seek(size)
        crcs = self._file.read(blocks * _CRC.size)
        (crc,) = _CRC.unpack_from(last, _TRAILER.size)
        if zlib.crc32(last[: _TRAILER.size], zlib.crc32(crcs)) != crc:
            raise Damaged(self._path, size, "begins a list of checksums that is damaged itself")
        return size, block_size, struct.unpack(f"<{blocks}I", crcs)

    def read(self, size: int) -> bytes:
        data = bytearray(size)
        self.read_into(memoryview(data))
        return bytes(data)

    def read_into(self, target: memoryview) -> None:
        while target:
            if self.at == self.size:
                raise Damaged(self._path, self.at, "is the end of the file, which is too early")
            inside = self.at % self._block_size
            if inside == 0:
                length = min(self._block_size, self.size - self.at)
                if len(target) >= length:  # straight to where it belongs
                    self._read_block(target[:length])
                    self._checked = b""
                    self.at += length
                    target = target[length:]
                    continue
                block = memoryview(bytearray(length))
                self._read_block(block)
                self._checked = block
            piece = self._checked[inside : inside + len(target)]
            target[: len(piece)] = piece
            self.at += len(piece)
            target = target[len(piece) :]

    def _read_block(self, target: memoryview) -> None:
        """The whole block that begins at ``at``."""
        done = 0
        while done < len(target):
            count = self._file.readinto(target[done:])
            if not count:
                raise Damaged(self._path, self.at + done, "is the end of the file, which is too early")
            done += count
        if zlib.crc32(target) != self._crcs[self.at // self._block_size]:
            raise Damaged(
                self._path,
                self.at,
                f"begins a block whose checksum is wrong; it goes up to byte {self.at + len(target)}",
            )

    def page(self) -> list[Item]:
        start = self.at
        (length,) = _LENGTH.unpack(self.read(_LENGTH.size))
        if length > self.size - self.at:
            raise Damaged(self._path, start, "begins a page of items that is longer than the file")
        try:
            return decode_items(self.read(length))
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(self._path, start, f"begins a page of items that means nothing: {error}") from error
