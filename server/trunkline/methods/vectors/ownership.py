"""Who may write a collection: one process at a time, and it notices when it no longer is the one.

Two files in the collection's folder::

    lock     flock of the owner, which the kernel frees when the process ends; and that process's id
    owner    JSON {"generation": int, "owner": str}: the generation grows with each opening, durably

The lock keeps others out. The generation is for what a lock cannot do: folders on file systems that do not honour it,
a lock file that somebody removed, a folder that was moved away. An owner looks at both before it writes, and again
when what it wrote is on disk, before it acknowledges: if it still is the owner then, whoever comes next reads it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from pathlib import Path
from typing import Final

from trunkline import ErrorCode, RpcError
from trunkline.methods.vectors.files import Files
from trunkline.methods.vectors.recovery import list_contents

LOCK: Final = "lock"
OWNER: Final = "owner"
_RECORD_BYTES: Final = 128


class CollectionLocked(Exception):
    """Another process has the collection open."""


class Ownership:
    """The ownership of a folder, with its lock. See :func:`take`.

    Attributes:
        generation: greater than that of any owner before.
    """

    def __init__(self, folder: Path, lock: int, generation: int, record: bytes) -> None:
        self.generation = generation
        self._folder = folder
        self._lock = lock
        self._record = record

    def check(self) -> None:
        """Check that this process is still the owner.

        Raises:
            RpcError: 5001, it is not.
        """
        try:
            is_owner = _is_at(self._lock, self._folder / LOCK) and (self._folder / OWNER).read_bytes() == self._record
        except FileNotFoundError:
            is_owner = False
        if not is_owner:
            raise RpcError(
                ErrorCode.DATABASE_CONNECTION_ERROR,
                f"{self._folder} is not this process's any more: another one has it, or it was moved. Nothing was "
                "acknowledged: try again, and if two hubs share this data folder (TRUNKLINE_DATA), stop one",
                retry_after_ms=1000,
            )

    def release(self) -> None:
        """Release the lock, so that another process can become the owner."""
        os.close(self._lock)


def take(folder: Path, files: Files) -> Ownership | None:
    """Become the owner of a folder; its generation grows durably. None: there is no such folder.

    Raises:
        CollectionLocked: another process is the owner.
        OSError: the files cannot be used.
    """
    lock = lock_file(folder / LOCK)
    if lock is None:
        return None
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, lock)
        # The names tell it too, in case the file that keeps it is lost or damaged.
        generation = max(_generation(folder / OWNER), list_contents(folder).generation) + 1
        record = json.dumps({"generation": generation, "owner": secrets.token_hex(8)}).ljust(_RECORD_BYTES).encode()
        files.overwrite(folder / OWNER, record)
        undo.pop_all()
    return Ownership(folder, lock, generation, record)


def lock_file(path: Path) -> int | None:
    """Take a lock, held by the returned descriptor. None: no such folder.

    Raises:
        CollectionLocked: another process has the lock.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            raise CollectionLocked(f"process {owner or 'unknown'} has it open") from None
        if not _is_at(descriptor, path):  # a deleted collection's lock does not lock the one that has its name now
            raise CollectionLocked("it was deleted just now")
        with contextlib.suppress(OSError):  # a full disk: only the message to others lacks the process's id
            os.pwrite(descriptor, b"%-11d\n" % os.getpid(), 0)
        undo.pop_all()
    return descriptor


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _generation(path: Path) -> int:
    """The generation of the latest owner, as far as the file tells; else 0."""
    try:
        return int(json.loads(path.read_bytes())["generation"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return 0
