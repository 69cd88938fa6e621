"""The disks of the data folder: what is free, what runs out soon, and why nothing can be stored, before somebody tries.

Jobs and collections may be on disks of their own, where their folders are links or mounts. The files of executors are
among the latter, so what the hub sees is what they have. Quotas of a user are not seen: the kernel tells them only to
who writes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

MIN_FREE_BYTES: Final = 32 * 2**20
"""Bytes free on the disk below which storing is sure to fail soon."""

MAX_WARNING_BYTES: Final = 2 * 2**30
PARTS: Final = ("jobs", "conversations", "collections", "tenants")
"""The folders of what grows."""

SHARE: Final = 20
"""A disk runs out from a twentieth on, but for huge ones and tiny ones."""

MAX_WARNING_FILES: Final = 10_000
WELL_AGAIN: Final = 1.1
"""So many times the limit has to be free until a disk is well again: else each file that goes and comes is a change."""

_UNITS: Final = ("KiB", "MiB", "GiB", "TiB")

Resource = Literal["bytes", "files", "file size"]
Key = tuple[int, Resource]
"""A disk, by its device number, and what of it runs out."""

logger = logging.getLogger("trunkline")


class Low(NamedTuple):
    """Something that runs out: what, the folder or file, and both in words, with what to do."""

    key: Key
    path: Path
    text: str


class Disk(NamedTuple):
    """The disk of a folder: its size and what is free, in bytes; why nothing can be stored in it; what runs out soon.

    ``trouble`` is None where something can be stored, ``low`` is empty where nothing runs out.
    """

    size: int = 0
    free: int = 0
    trouble: str | None = None
    low: tuple[Low, ...] = ()


def warning_limit(size: int, wanted: int | None = None) -> int:
    """The free bytes below which a disk of a size runs out.

    Args:
        wanted: the limit that was set; None for 5 %, 64 MiB at least and 2 GiB at most.
    """
    if wanted is not None:
        return wanted
    return min(max(size // SHARE, 2 * MIN_FREE_BYTES), MAX_WARNING_BYTES)


def look(folder: Path, warn_below: int | None = None, before: Collection[Key] = ()) -> Disk:
    """Look at the disks of a data folder which, or whose parents, may not exist yet. Writes nothing.

    Args:
        warn_below: the free bytes below which a disk runs out; 0 = none does, None = by its size.
        before: what ran out at the look before, which has to get well above the limit.
    """
    there = _existing(folder)
    try:
        seen = os.statvfs(there)
        low = () if warn_below == 0 else tuple(_low(folder, warn_below, before))
    except OSError as error:
        return Disk(trouble=f"{there} cannot be read: {error.strerror or error}")
    trouble = _trouble(there) or _trouble(_existing(folder / "jobs"))
    return Disk(seen.f_blocks * seen.f_frsize, seen.f_bavail * seen.f_frsize, trouble, low)


class DataFolder:
    """Looks at a data folder, and logs once when something runs out, and when there is room again.

    Attributes:
        warn_below: as of :func:`look`; may change.
    """

    def __init__(self, folder: Path, warn_below: int | None = None) -> None:
        self._folder = folder
        self.warn_below = warn_below
        self._low: dict[Key, Low] = {}

    def look(self) -> Disk:
        """The disk of the folder now."""
        disk = look(self._folder, self.warn_below, self._low)
        low = {each.key: each for each in disk.low}
        for key in low.keys() - self._low.keys():
            logger.warning("room for data runs out", extra=_said(low[key]) | {"reason": low[key].text})
        for key in self._low.keys() - low.keys():
            logger.warning("there is room for data again", extra=_said(self._low[key]))
        self._low = low
        return disk


def _said(low: Low) -> dict[str, str]:
    return {"path": str(low.path), "resource": low.key[1]}


def _existing(folder: Path) -> Path:
    return next(each for each in (folder, *folder.parents) if each.exists())


def _trouble(there: Path) -> str | None:
    """Why nothing can be stored in a folder that exists, or made in it."""
    seen = os.statvfs(there)
    free = seen.f_bavail * seen.f_frsize
    if not there.is_dir():
        return f"{there} is no folder: set another (TRUNKLINE_DATA)"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"{there} is not writable: make it writable for the hub, or set another (TRUNKLINE_DATA)"
    return f"the disk of {there} has {free >> 20} MiB free: make room" if free < MIN_FREE_BYTES else None


def _low(folder: Path, warn_below: int | None, before: Collection[Key]) -> Iterator[Low]:
    disks = {each.stat().st_dev: each for each in map(_existing, (*(folder / part for part in PARTS), folder))}
    for device, there in disks.items():
        seen = os.statvfs(there)
        size, free = seen.f_blocks * seen.f_frsize, seen.f_bavail * seen.f_frsize
        if _runs_out(free, warning_limit(size, warn_below), (device, "bytes") in before):
            words = f"{in_words(free)} free of {in_words(size)}"
            yield Low((device, "bytes"), there, f"the disk of {there} has {words}: make room before writes fail")
        limit = min(seen.f_files // SHARE, MAX_WARNING_FILES)
        if seen.f_files and _runs_out(seen.f_favail, limit, (device, "files") in before):
            words = f"room for {seen.f_favail:,} more files (inodes): remove some before collections cannot be made"
            yield Low((device, "files"), there, f"the disk of {there} has {words}")
    yield from _low_file_size(folder, before)


def _low_file_size(folder: Path, before: Collection[Key]) -> Iterator[Low]:
    """Files are looked at only where their size is limited."""
    limit, _hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit == resource.RLIM_INFINITY:
        return
    size, largest = max(_sizes(folder), default=(0, folder))
    key: Key = (0, "file size")
    if _runs_out(limit - size, warning_limit(limit), key in before):
        words = f"has {in_words(size)}, and files may have {in_words(limit)} (ulimit -f)"
        yield Low(key, largest, f"{largest} {words}: raise the limit before writes fail")


def _sizes(folder: Path) -> Iterator[tuple[int, Path]]:
    for part in PARTS:
        for each in (folder / part).rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                yield each.stat().st_size, each


def _runs_out(free: int, limit: int, ran_out: bool) -> bool:
    return free < (limit * WELL_AGAIN if ran_out else limit)


def in_words(size: int) -> str:
    """A number of bytes as text, in two digits or more: it does not change with every page that is written."""
    amount = size / 1024
    for unit in _UNITS[:-1]:
        if amount < 1000:
            return f"{amount:.1f} {unit}" if 0 < amount < 10 else f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} {_UNITS[-1]}"
