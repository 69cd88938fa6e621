"""Collections on disk: one folder each, with one owner; what is acknowledged is on disk.

::

    <data>/collections/<name>/collection.sqlite    what the collection is, and what is in it (vectors/rows.py)
    <data>/collections/<name>/index-<token>        what was in it up to a commit (vectors/index_file.py)
    <data>/collections/<name>/lock                 flock of the process that has it open, and its id
    <data>/collections/<name>/collection.json      what keeps former versions from it (vectors/former)

All of this blocks; call it from the executor's thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from trunkline import ErrorCode, RpcError
from trunkline.methods.vectors import former, rows
from trunkline.methods.vectors.collection import Collection
from trunkline.methods.vectors.manifest import Manifest
from trunkline.methods.vectors.rows import CollectionFile
from trunkline.methods.vectors.touched import PREFIX
from trunkline.storage.database import InUse
from trunkline.storage.durable import sync_folder
from trunkline.storage.failures import told

__all__ = ["Collection", "CollectionStore", "InUse", "Manifest"]

ABANDONED_AFTER: Final = 60.0
"""Seconds after which a folder that was never finished is taken for left behind."""


class CollectionStore:
    """The collections under one folder.

    Args:
        root: made if it is not there.

    Raises:
        RpcError: 5001 or 5002, the root cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        with told(f"the folder {root}", root):
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sweep()

    def _sweep(self) -> None:
        """Remove what a crash left of deleting or creating."""
        for folder in self._root.glob(".deleted-*"):
            _remove(folder)
        for folder in self._root.glob(".new-*"):
            with contextlib.suppress(OSError):
                if time.time() - folder.stat().st_mtime > ABANDONED_AFTER:
                    shutil.rmtree(folder, ignore_errors=True)

    def manifests(self, wanted: Callable[[str], bool] = lambda _name: True) -> Iterator[Manifest | tuple[str, str]]:
        """All collections whose name is wanted, by name; for one that cannot be read, its name and why."""
        for folder in sorted(self._root.iterdir()):
            if folder.name.startswith(".") or not wanted(folder.name) or not folder.is_dir():
                continue
            try:
                with told(str(folder), folder):
                    is_there = (folder / rows.FILE).exists()
                    manifest = rows.read_manifest(folder) if is_there else former.read_manifest(folder)
                if manifest is not None and manifest.name != folder.name:
                    yield folder.name, _renamed(folder, manifest.name).message
                elif manifest is not None:
                    yield manifest
            except RpcError as error:
                yield folder.name, error.message

    def create(self, manifest: Manifest) -> None:
        """Create an empty collection: it is there as a whole, or not at all.

        Raises:
            RpcError: 5001 or 5002; 4001 where the name is taken.
        """
        folder = self._root / f".new-{manifest.name}-{secrets.token_hex(4)}"
        with told(f"collection {manifest.name!r}", folder):
            try:
                folder.mkdir(mode=0o700)
                rows.make(folder / rows.FILE, manifest, (0, 0), (), ())
                former.write_manifest(folder, manifest)
                self._name(folder, manifest.name)
                sync_folder(self._root)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise

    def _name(self, folder: Path, name: str) -> None:
        try:
            folder.rename(self._root / name)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise RpcError(ErrorCode.INVALID_CONFIGURATION, f"collection {name!r} exists already") from error
            raise

    def open(self, name: str) -> Collection | None:
        """Lock a collection and read it. None: there is no such collection.

        Raises:
            InUse: another process has it.
            RpcError: 4001, another format, on a network file system, or a folder of another name; 3002, damaged files;
                5001 or 5002, other trouble.
        """
        folder = self._root / name
        if not _is_collection(folder):
            return None
        file = CollectionFile(folder, name)
        with contextlib.ExitStack() as undo:
            try:
                file.open(lambda: former.convert(folder))
            except RpcError:
                if not _is_collection(folder):  # it was deleted meanwhile
                    return None
                raise
            undo.callback(file.close)
            if file.manifest.name != name:
                if file.manifest.name.casefold() == name.casefold():
                    return None  # a file system that ignores case would open "A" as "a"
                raise _renamed(folder, file.manifest.name)
            collection = Collection(file)
            former.remove(folder)
            undo.pop_all()
            return collection

    def delete(self, collection: Collection) -> None:
        """Delete a collection with all its items. It is gone at once; a crash meanwhile leaves no half of it.

        Raises:
            RpcError: 5001, the folder cannot be removed, or is not this process's.
        """
        name = collection.manifest.name
        collection.check_owner()
        discarded = self._root / f".deleted-{name}-{secrets.token_hex(4)}"
        with told(f"collection {name!r}", self._root / name):
            os.rename(self._root / name, discarded)
            sync_folder(self._root)
        collection.deleted = True
        collection.close()
        _remove(discarded)


def _remove(discarded: Path) -> None:
    """Remove a folder. Where it is a link to one, the collection's own files there, and that folder if it is empty."""
    if discarded.is_symlink():
        target = discarded.resolve()
        with contextlib.suppress(OSError):
            for file in [
                *target.glob(f"{rows.FILE}*"),
                *target.glob(f"{PREFIX}*"),
                target / former.DESCRIPTION,
                target / "lock",
            ]:
                file.unlink(missing_ok=True)
            discarded.unlink()
            target.rmdir()
    else:
        shutil.rmtree(discarded, ignore_errors=True)


def _renamed(folder: Path, name: str) -> RpcError:
    words = f"{folder} holds collection {name!r}: give the folder that name, or export the collection and import it"
    return RpcError(ErrorCode.INVALID_CONFIGURATION, f"{words} as {folder.name!r}")


def _is_collection(folder: Path) -> bool:
    return (folder / rows.FILE).exists() or (folder / former.DESCRIPTION).exists()
