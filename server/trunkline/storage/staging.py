"""Putting folders in the place of others: each is filled beside it, then is there as a whole. All of this blocks.

::

    <parent>/.restored-<name>-<random>    one that is being filled, or that had the place before; its ``lock`` is held
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import secrets
import shutil
from pathlib import Path
from typing import Final

from trunkline.storage.durable import sync_folder
from trunkline.storage.locking import lock

PREFIX: Final = ".restored-"
_HERE: Final = -100  # AT_FDCWD
_EXCHANGE: Final = 2  # RENAME_EXCHANGE


class StagedFolder:
    """A folder beside its place, with a lock of its own, and that of the folder which has the place, both held.

    With the lock of the new one nobody opens it before all is done; without anything of the former one, above all a
    log, which SQLite would apply to whatever file it lies beside.

    Attributes:
        path: where to fill it; where the former one is once it was put in its place.

    Args:
        place: where it belongs; a link to a folder is replaced where it leads.

    Raises:
        BlockingIOError: a process has what is at the place.
        OSError: it cannot be made.
    """

    def __init__(self, place: Path) -> None:
        self._place = place.resolve()
        self._parent = self._place.parent
        self.path = self._parent / f"{PREFIX}{place.name}-{secrets.token_hex(4)}"
        self._is_put, self._is_spare = False, True
        with contextlib.ExitStack() as undo:
            self._replaces = self._place.exists()
            if self._replaces:
                undo.callback(os.close, lock(self._place / "lock"))
                belong_to_owner_of(self._place, self._place / "lock")
            self.path.mkdir(mode=0o700)
            undo.callback(self._remove)
            undo.callback(os.close, lock(self.path / "lock"))
            self._locks = undo.pop_all()

    def put(self) -> None:
        """Put the folder in its place, durably; the former one is at :attr:`path` then.

        Raises:
            OSError: something is there now, or (EINVAL, ENOSYS) the file system cannot exchange folders.
        """
        belong_to_owner_of(self._parent, self.path, *self.path.iterdir())
        sync_folder(self.path)
        self._move()
        self._is_put = True
        sync_folder(self._parent)

    def take_back(self) -> None:
        """What was before :meth:`put`, where it was called.

        Raises:
            OSError: it stays as it is, and the former one stays at :attr:`path`.
        """
        if self._is_put:
            self._is_put = self._is_spare = False
            if self._replaces:
                self._move()
            else:
                self._place.rename(self.path)
            self._is_spare = True
            sync_folder(self._parent)

    def _move(self) -> None:
        if self._replaces:
            exchange(self.path, self._place)
        else:
            self.path.rename(self._place)

    def release(self) -> None:
        """Let others have what is at the place, and remove what is beside it. To be called at the end, in any case."""
        self._locks.close()

    def _remove(self) -> None:
        if self._is_spare:
            shutil.rmtree(self.path, ignore_errors=True)


def exchange(one: Path, other: Path) -> None:
    """Exchange the names of two folders of one file system, in one step.

    Raises:
        OSError: ENOSYS or EINVAL where system or file system cannot; nothing has changed.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one), None, str(other))


def remove_abandoned(parent: Path) -> None:
    """Remove what processes that were killed have left beside the folders in one: nobody has its lock."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:
            with contextlib.suppress(FileNotFoundError):  # it was killed while it removed it
                fcntl.flock(held.enter_context((folder / "lock").open("rb")), fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


def make_folders(folder: Path, failed: contextlib.ExitStack) -> None:
    """Make a folder, and those above it, as far as they are not there.

    Args:
        failed: removes them again, as far as nothing is in them.
    """
    for each in (*reversed(folder.parents), folder):
        if not each.is_dir():
            each.mkdir(mode=0o700)
            failed.callback(_remove_if_empty, each)
            belong_to_owner_of(each.parent, each)
            sync_folder(each.parent)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def belong_to_owner_of(folder: Path, *paths: Path) -> None:
    """Root may make files for the hub's user, who has to read them."""
    if os.geteuid() == 0:
        owner = folder.stat()
        for path in paths:
            os.chown(path, owner.st_uid, owner.st_gid)
