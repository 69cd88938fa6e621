"""A write-ahead log that a crash has left: whether it is the file's, and what of it is lost. All of this blocks.

SQLite reads such a log up to the first frame that is not what was written, and takes the rest for a transaction that
was not finished. It is one only where no other transaction is behind it: each was synced before the next began. The
format is sqlite.org/fileformat2.html#walformat.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from trunkline.storage.failures import damaged
from trunkline.storage.locking import opening_in

_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")
_CHECKED: Final = 8
"""Bytes of a frame's header that its checksum is of, before the page."""
_BIG_ENDIAN: Final = 1
_MASK: Final = 0xFFFFFFFF
_APPLICATION_ID: Final = 68
"""Its offset in the file (sqlite.org/fileformat2.html#application_id)."""


def require_whole(path: Path, lock_file: int | None) -> None:
    """Check that a file's log is its own, and that no transaction is lost that was synced.

    The very last one cannot be told from an unfinished one.

    Args:
        lock_file: the descriptor of the lock, which notes what has not ended; None, there is none.

    Raises:
        RpcError: 3002, it is not, or one is lost.
        OSError: file or log cannot be read.
    """
    log = path.with_name(path.name + "-wal")
    if lock_file is not None and (opening := opening_in(lock_file)):
        _require_of(opening, path, log, path.with_name("lock"))
    _require_frames(log)


def _require_frames(log: Path) -> None:
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


def _opening_of(path: Path) -> int:
    """The number that a file was given when it was opened (its ``application_id``); 0: none."""
    with path.open("rb") as file:
        file.seek(_APPLICATION_ID)
        return int.from_bytes(file.read(4))


def _require_of(opening: int, path: Path, log: Path, lock: Path) -> None:
    """Check that the log of an opening that did not end is there, and that file and log belong together."""
    size = log.stat().st_size if log.exists() else 0
    if _opening_of(path) == opening:
        if size <= _HEADER.size:
            words = "it is empty or gone, and with it what was written last before the crash"
            raise damaged(log, f"{words}; if it was written back by hand, or can be done without, remove {lock}")
    elif size > _HEADER.size:
        words = f"{path.name} is another file than the one it was written for"
        raise damaged(log, f"{words}; if that one was restored, move the log away")


def _checksum(data: memoryview, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    first, second = sums
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for even, odd in zip(words, words, strict=True):
        first = (first + even + second) & _MASK
        second = (second + odd + first) & _MASK
    return first, second
