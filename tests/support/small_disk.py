"""A real file system that is soon full."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(folder: Path, options: str = "size=1m") -> Iterator[Path]:
    """A mounted file system, below a folder, of 1 MiB. Skips, saying why, where mounting is not allowed.

    Args:
        options: of a tmpfs, as ``mount -o`` takes them.
    """
    disk = folder / "disk"
    disk.mkdir()
    if (missing := _mount(disk, options)) is not None:
        pytest.skip(missing)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def _mount(disk: Path, options: str) -> str | None:
    if sys.platform != "linux" or os.geteuid() != 0:
        return "mounting a small file system wants Linux and root"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], capture_output=True, text=True)
    return f"mount -t tmpfs is not allowed here: {done.stderr.strip()}" if done.returncode else None


def fill(file: Path) -> None:
    """Take all the room there is."""
    with file.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(b"x" * 4096)
