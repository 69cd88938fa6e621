"""Making files survive a loss of power, and telling a full disk from other trouble. All of this blocks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

USED_UP: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""Error numbers of a resource that has run out: space, quota, memory, descriptors."""


def sync(descriptor: int) -> None:
    """Flush a file to the disk itself; on macOS, fsync stops at the drive's cache."""
    if hasattr(fcntl, "F_FULLFSYNC"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def sync_data(descriptor: int) -> None:
    """Bring what was written to a file to the disk, so that no later sync, of whatever file, meets much of it."""
    getattr(os, "fdatasync", os.fsync)(descriptor)


def sync_folder(folder: Path) -> None:
    """Make durable what was created, renamed or removed in a folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_at(descriptor: int, path: Path) -> bool:
    """Whether a path leads to the file of a descriptor."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return False


@contextlib.contextmanager
def whole_file(path: Path, *, replace: bool = True) -> Iterator[IO[bytes]]:
    """A file to write to, for its owner alone, which gets its name behind the block: whole, synced, or not at all.

    Until then it is ``<name>.part``, which one process at a time has. A link leads to where it is written.

    Args:
        replace: whether a file that has the name is replaced, also one that came meanwhile.

    Raises:
        BlockingIOError: another process writes it.
        FileExistsError: the name is taken, or is that of a device, a pipe or a folder.
        OSError: it cannot be written; what there is of it is removed.
    """
    path = path.resolve()
    _require_free(path, replace)
    unfinished = path.with_name(path.name + ".part")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as output:
        try:
            _take(descriptor, unfinished)
            os.fchmod(descriptor, 0o600)  # one that was left behind may have other permissions
            os.ftruncate(descriptor, 0)
            yield output
            output.flush()
            sync(descriptor)
            _require_free(path, replace)
            unfinished.rename(path)
        except BaseException:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if is_at(descriptor, unfinished):  # another's is left alone
                    unfinished.unlink()
            raise
    sync_folder(path.parent)


def _take(descriptor: int, unfinished: Path) -> None:
    taken = BlockingIOError(errno.EWOULDBLOCK, f"another process writes {unfinished}")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise taken from None
    if not is_at(descriptor, unfinished):  # whoever had it has finished just now
        raise taken


def _require_free(path: Path, replace: bool) -> None:
    """Whoever writes the name by this module has the lock of its unfinished file, so that nobody comes in between."""
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "it is there, and no ordinary file")
    if path.exists() and not replace:
        raise FileExistsError(errno.EEXIST, "there is such a file now")


def replace_file(path: Path, data: bytes) -> None:
    """Write a small file as a whole: readers, and a start after a crash, find the old one or the new one.

    Raises:
        OSError: the old file is still there, or the new one is, but maybe not durably.
    """
    unfinished = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            sync(descriptor)
        finally:
            os.close(descriptor)
        unfinished.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
