"""The disk of the data folder: how much is free, and why nothing can be stored on it, before somebody tries."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final, NamedTuple

MIN_FREE_BYTES: Final = 32 * 2**20
"""Bytes free on the disk below which storing is sure to fail soon."""


class Disk(NamedTuple):
    """The disk of a folder: its size, how much is free, and why nothing can be stored in the folder; None if it can."""

    size: int = 0
    free: int = 0
    trouble: str | None = None


def look(folder: Path) -> Disk:
    """Look at the disk of a folder which, or whose parents, may not exist yet. Writes nothing."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        usage = shutil.disk_usage(there)
    except OSError as error:
        return Disk(trouble=f"{there} cannot be read: {error.strerror or error}")
    trouble = None
    if not there.is_dir():
        trouble = f"{there} is no folder: set another (TRUNKLINE_DATA)"
    elif not os.access(there, os.W_OK | os.X_OK):
        trouble = f"{there} is not writable: make it writable for the hub, or set another (TRUNKLINE_DATA)"
    elif usage.free < MIN_FREE_BYTES:
        trouble = f"the disk of {there} has {usage.free >> 20} MiB free: make room"
    return Disk(usage.total, usage.free, trouble)
