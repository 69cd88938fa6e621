"""The file system, as far as collections change it: one small class, so that tests can make any of its steps fail.

What is changed here survives a loss of power only when it was synced: bytes by :meth:`Files.sync`, and names (made,
renamed, removed) by :meth:`Files.sync_folder` of the folder they are in.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from trunkline import ErrorCode, RpcError
from trunkline.storage.durable import USED_UP, sync, sync_folder

UNFINISHED: Final = ".new"
"""What ends the name of a file until it is whole and synced."""


class Files:
    """The real file system. Every method blocks, and all but :meth:`close` raise :class:`OSError`."""

    def open(self, path: Path) -> int:
        """Open a file for appending; make it if it is not there."""
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def close(self, descriptor: int) -> None:
        """Close what :meth:`open` gave. Never fails: an error would say nothing of what was synced."""
        with contextlib.suppress(OSError):
            os.close(descriptor)

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        """Append all of it. If this raises, some of it may be there."""
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    def overwrite(self, path: Path, data: bytes) -> None:
        """Durably replace the beginning of a small file in place, which wants no room on the disk.

        It is one sector at most, so that a loss of power leaves the old bytes or the new ones.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.pwrite(descriptor, data, 0)
            sync(descriptor)
        finally:
            os.close(descriptor)

    def sync(self, descriptor: int) -> None:
        """Make what was written durable."""
        sync(descriptor)

    def sync_folder(self, folder: Path) -> None:
        """Make the names in a folder durable: created, renamed and removed ones."""
        sync_folder(folder)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut a file to ``size`` bytes."""
        os.ftruncate(descriptor, size)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file or folder another name; a file that has it is replaced."""
        os.rename(old, new)

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        os.unlink(path)

    def make_folder(self, path: Path) -> None:
        """Make a folder."""
        os.mkdir(path)


def replace(files: Files, path: Path, data: bytes) -> None:
    """Write a whole file: readers, and a start after a crash, find the old one or the new one.

    Raises:
        OSError: the old file is still there, or the new one is, but maybe not durably.
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    discard(files, unfinished)
    try:
        with opened(files, unfinished) as descriptor:
            files.write(descriptor, data)
            files.sync(descriptor)
        files.rename(unfinished, path)
    except OSError:
        discard(files, unfinished)
        raise
    files.sync_folder(path.parent)


@contextlib.contextmanager
def opened(files: Files, path: Path) -> Iterator[int]:
    """A file that is closed behind the block."""
    descriptor = files.open(path)
    try:
        yield descriptor
    finally:
        files.close(descriptor)


def discard(files: Files, path: Path) -> None:
    """Remove a file that nobody needs; one that stays is swept later."""
    with contextlib.suppress(OSError):
        files.unlink(path)


@contextlib.contextmanager
def storage(what: str) -> Iterator[None]:
    """Raise errors of the file system as RpcErrors.

    Raises:
        RpcError: 5002, where a resource has run out; else 5001.
    """
    try:
        yield
    except OSError as error:
        if error.errno in USED_UP:
            raise RpcError(
                ErrorCode.INSUFFICIENT_RESOURCES,
                f"{what}: {error.strerror}: nothing was changed; free some of it and try again",
            ) from error
        raise RpcError(
            ErrorCode.DATABASE_CONNECTION_ERROR, f"{what} cannot be used: {error.strerror or error} ({error.filename})"
        ) from error
