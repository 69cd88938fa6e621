"""A write-ahead log that a crash has left: whether transactions in it are lost. All of this blocks.

SQLite reads such a log up to the first frame that is not what was written, and takes the rest for a transaction that
was not finished. It is one only where no other transaction is behind it: each was synced before the next began. The
format is sqlite.org/fileformat2.html#walformat.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from trunkline.storage.failures import damaged

_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")
_CHECKED: Final = 8
"""Bytes of a frame's header that its checksum is of, before the page."""
_BIG_ENDIAN: Final = 1
_MASK: Final = 0xFFFFFFFF


def require_whole(log: Path) -> None:
    """Check that no transaction is lost that was synced. The very last one cannot be told from an unfinished one.

    Raises:
        RpcError: 3002, one is lost.
        OSError: the log cannot be read.
    """
    try:
        data = memoryview(log.read_bytes())
    except FileNotFoundError:
        return
    if len(data) <= _HEADER.size:
        return
    magic, _, page_bytes, _, *salts, first, second = _HEADER.unpack_from(data)
    order = ">" if magic & _BIG_ENDIAN else "<"
    sums = _checksum(data[: _HEADER.size - 8], order, (0, 0))
    if sums != (first, second):
        if any(data[_HEADER.size :]):  # it is synced before the first frame is written
            raise damaged(log, "its header is not what was written")
        return
    size = _FRAME.size + page_bytes
    bad, behind = 0, 0
    for number, at in enumerate(range(_HEADER.size, len(data) - size + 1, size), 1):
        _, is_commit, *frame_salts, first, second = _FRAME.unpack_from(data, at)
        if not bad:
            sums = _checksum(data[at : at + _CHECKED], order, sums)
            sums = _checksum(data[at + _FRAME.size : at + size], order, sums)
            if frame_salts != salts or sums != (first, second):
                bad = number
        if bad and is_commit and frame_salts == salts:
            behind += 1
    if behind > 1:
        raise damaged(log, f"frame {bad} is not what was written, and {behind} transactions are lost with it")


def _checksum(data: memoryview, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    first, second = sums
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for even, odd in zip(words, words, strict=True):
        first = (first + even + second) & _MASK
        second = (second + odd + first) & _MASK
    return first, second
