"""Collections on disk: one folder each, with one owner; what is acknowledged is on disk.

::

    <data>/collections/<name>/collection.json    what the collection is; replaced as a whole (vectors/manifest.py)
    <data>/collections/<name>/lock, owner        who has it open (vectors/ownership.py)
    <data>/collections/<name>/log-*, snapshot-*  what is in it (vectors/recovery.py)

All of this blocks; call it from the executor's thread.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from trunkline import ErrorCode, RpcError
from trunkline.methods.vectors.collection import SEGMENT_BYTES, Collection
from trunkline.methods.vectors.files import UNFINISHED, Files, discard, opened, storage
from trunkline.methods.vectors.manifest import Manifest, read_manifest, write_manifest
from trunkline.methods.vectors.ownership import CollectionLocked, take
from trunkline.methods.vectors.recovery import segment_path

__all__ = ["Collection", "CollectionLocked", "CollectionStore", "Manifest"]

ABANDONED_AFTER: Final = 60.0
"""Seconds after which a folder that was never finished is taken for left behind."""


class CollectionStore:
    """The collections under one folder.

    Args:
        root: made if it is not there.
        files: the file system.
        segment_bytes: see :class:`Collection`.

    Raises:
        RpcError: 5001 or 5002, the root cannot be made.
    """

    def __init__(self, root: Path, files: Files | None = None, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._root = root
        self._files = files or Files()
        self._segment_bytes = segment_bytes
        with storage(f"the folder {root}"):
            root.mkdir(parents=True, exist_ok=True)
        self._sweep()

    def _sweep(self) -> None:
        """Remove what a crash left of deleting or creating."""
        for folder in self._root.glob(".deleted-*"):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in self._root.glob(".new-*"):
            with contextlib.suppress(OSError):
                if time.time() - folder.stat().st_mtime > ABANDONED_AFTER:
                    shutil.rmtree(folder, ignore_errors=True)

    def manifests(self) -> Iterator[Manifest | tuple[str, str]]:
        """All collections, by name; for one that cannot be read, its name and why."""
        for folder in sorted(self._root.iterdir()):
            if folder.name.startswith(".") or not folder.is_dir():
                continue
            try:
                manifest = read_manifest(folder)
                if manifest is not None:
                    yield manifest
            except RpcError as error:
                yield folder.name, error.message

    def create(self, manifest: Manifest) -> None:
        """Create an empty collection: it is there as a whole, or not at all.

        Raises:
            RpcError: 5001 or 5002; 4001 where the name is taken.
        """
        folder = self._root / f".new-{manifest.name}-{secrets.token_hex(4)}"
        with storage(f"collection {manifest.name!r}"):
            try:
                self._files.make_folder(folder)
                with opened(self._files, segment_path(folder, first=1, generation=0)):
                    pass
                write_manifest(self._files, folder, manifest)
                self._name(folder, manifest.name)
                self._files.sync_folder(self._root)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise

    def _name(self, folder: Path, name: str) -> None:
        try:
            self._files.rename(folder, self._root / name)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise RpcError(ErrorCode.INVALID_CONFIGURATION, f"collection {name!r} exists already") from error
            raise

    def open(self, name: str) -> Collection | None:
        """Lock a collection and read it. None: there is no such collection.

        Raises:
            CollectionLocked: another process has it.
            RpcError: 4001, another format; 3002, damaged files; 5001 or 5002, other trouble.
        """
        folder = self._root / name
        with storage(f"collection {name!r}"), contextlib.ExitStack() as undo:
            if not self._is_here(folder, name):
                return None
            ownership = take(folder, self._files)
            if ownership is None:
                return None
            undo.callback(ownership.release)
            manifest = read_manifest(folder)
            if manifest is None:
                return None
            for path in folder.glob(f"*{UNFINISHED}"):
                discard(self._files, path)
            collection = Collection(folder, manifest, ownership, self._files, self._segment_bytes)
            undo.pop_all()
            return collection

    def _is_here(self, folder: Path, name: str) -> bool:
        """Whether a folder has the collection of this name: a file system that ignores case would open "A" as "a"."""
        manifest = read_manifest(folder)
        return manifest is not None and manifest.name == name

    def delete(self, collection: Collection) -> None:
        """Delete a collection with all its items. It is gone at once; a crash meanwhile leaves no half of it.

        Raises:
            RpcError: 5001, the folder cannot be removed, or is not this process's.
        """
        name = collection.manifest.name
        collection.check_owner()
        discarded = self._root / f".deleted-{name}-{secrets.token_hex(4)}"
        with storage(f"collection {name!r}"):
            self._files.rename(self._root / name, discarded)
            self._files.sync_folder(self._root)
        collection.deleted = True
        collection.close()
        shutil.rmtree(discarded, ignore_errors=True)
