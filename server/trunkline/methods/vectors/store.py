"""Collections on disk: one folder each, with one owner, and nothing acknowledged that is not there.

::

    <data>/collections/<name>/collection.json    what the collection is; replaced as a whole
    <data>/collections/<name>/log                its records; see vectors/log.py
    <data>/collections/<name>/lock               flock of the process that has it open, and that process's id

All of this blocks; call it from the executor's thread.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from trunkline.methods.vectors.index import VectorIndex
from trunkline.methods.vectors.log import (
    RecordError,
    Upsert,
    decode_upsert,
    encode_record,
    encode_upsert,
    is_torn_tail,
    read_records,
)
from trunkline_protocol.errors import ErrorCode, RpcError

FORMAT_VERSION: Final = 1
ABANDONED_AFTER: Final = 60.0
"""Seconds after which a folder that was never finished is taken for left behind."""

_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM, errno.EMFILE, errno.ENFILE}

logger = logging.getLogger("trunkline.vectors")


class Manifest(BaseModel):
    """``collection.json``.

    Attributes:
        model: what made the vectors of texts; None as long as all vectors came from callers.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    dimension: int
    model: str | None
    metadata: dict[str, Any]
    format_version: int = FORMAT_VERSION


class CollectionLocked(Exception):
    """Another process has the collection open."""


class CollectionStore:
    """The collections under one folder.

    Args:
        root: made if it is not there.

    Raises:
        RpcError: 5001 or 5002, where it cannot be.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        with _storage(f"the folder {root}"):
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
                manifest = self._read_manifest(folder)
                if manifest is not None:
                    yield manifest
            except RpcError as error:
                yield folder.name, error.message

    def _read_manifest(self, folder: Path) -> Manifest | None:
        path = folder / "collection.json"
        with _storage(str(path)):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                return None
        try:
            manifest = Manifest.model_validate_json(data)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]["msg"]
            raise RpcError(
                ErrorCode.PIPELINE_INITIALIZATION_FAILED, f"{path} is damaged ({problem}); restore it from a backup"
            ) from error
        if manifest.format_version != FORMAT_VERSION:
            raise RpcError(
                ErrorCode.INVALID_CONFIGURATION,
                f"collection {manifest.name!r} has format {manifest.format_version}; this version reads "
                f"{FORMAT_VERSION}: use the version of Trunkline that wrote it",
            )
        return manifest

    def create(self, manifest: Manifest) -> None:
        """Make an empty collection: it is there as a whole, or not at all.

        Raises:
            RpcError: 5001 or 5002; 4001 where the name is taken.
        """
        folder = self._root / f".new-{manifest.name}-{secrets.token_hex(4)}"
        with _storage(f"collection {manifest.name!r}"):
            try:
                folder.mkdir()
                (folder / "log").touch()
                _write_manifest(folder, manifest)
                try:
                    folder.rename(self._root / manifest.name)
                except OSError as error:
                    if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                        raise RpcError(
                            ErrorCode.INVALID_CONFIGURATION, f"collection {manifest.name!r} exists already"
                        ) from error
                    raise
                _sync_folder(self._root)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise

    def open(self, name: str) -> Collection | None:
        """Take a collection and read it. None: there is none.

        Raises:
            CollectionLocked: another process has it.
            RpcError: 4001, it has another format; 3002, it is damaged; 5001 or 5002, other trouble.
        """
        folder = self._root / name
        with _storage(f"collection {name!r}"), contextlib.ExitStack() as undo:
            lock = _lock(folder / "lock")
            if lock is None:
                return None
            undo.callback(os.close, lock)
            manifest = self._read_manifest(folder)
            # A file system that ignores case would open "A" as "a", and they have different owners.
            if manifest is None or manifest.name != name:
                return None
            log = os.open(folder / "log", os.O_RDWR | os.O_APPEND)
            undo.callback(os.close, log)
            collection = Collection(folder, manifest, log)
            collection.held = undo.pop_all()
            return collection

    def delete(self, collection: Collection) -> None:
        """Remove a collection with all it has. It is gone at once; a crash meanwhile leaves no half of it."""
        name = collection.manifest.name
        discarded = self._root / f".deleted-{name}-{secrets.token_hex(4)}"
        with _storage(f"collection {name!r}"):
            (self._root / name).rename(discarded)
            _sync_folder(self._root)
        collection.close()
        shutil.rmtree(discarded, ignore_errors=True)


class Collection:
    """An open collection: its owner's view of it, in memory and on disk.

    Made by :meth:`CollectionStore.open`, which gives it what it holds: the lock and the log's descriptor.

    Attributes:
        manifest: what it is.
        index: what is in it.
        log_bytes: how long the log is, in bytes.
        closed: deleted, or failed: it must not be used any more.
        held: what is given back when it is closed.

    Raises:
        RpcError: 3002, the log is damaged.
    """

    def __init__(self, folder: Path, manifest: Manifest, log: int) -> None:
        self.manifest = manifest
        self.closed = False
        self.held = contextlib.ExitStack()
        self._folder = folder
        self._log = log
        self.index, self.log_bytes = self._replay()

    def _replay(self) -> tuple[VectorIndex, int]:
        """What the log says, and how long it is; a torn tail is cut."""
        data = memoryview((self._folder / "log").read_bytes())
        end, history = self._read(data)
        if end < len(data):
            if not is_torn_tail(data, end):
                raise self._damaged(f"byte {end} begins no record, and there are good ones behind it")
            logger.warning(
                "collection %s: the last record was not finished when its executor died, and was never "
                "acknowledged: its %d bytes are cut from %s",
                self.manifest.name,
                len(data) - end,
                self._folder / "log",
            )
            os.ftruncate(self._log, end)
            _sync(self._log)
        return VectorIndex(self.manifest.dimension, history), end

    def _read(self, data: memoryview) -> tuple[int, list[Upsert]]:
        end = 0
        history = []
        for after, payload in read_records(data):
            try:
                history.append(decode_upsert(payload, self.manifest.dimension))
            except RecordError as error:
                raise self._damaged(f"at byte {end} there is {error}") from error
            end = after
        return end, history

    def _damaged(self, what: str) -> RpcError:
        return RpcError(
            ErrorCode.PIPELINE_INITIALIZATION_FAILED,
            f"collection {self.manifest.name!r} cannot be read: {self._folder / 'log'}: {what}. Nothing was changed: "
            "restore the file from a backup, or delete the folder and index again",
        )

    def upsert(self, upsert: Upsert, model: str | None) -> None:
        """Put items in. When this returns, they are on disk; when it raises, none of them is in.

        Args:
            model: what embedded texts among them; the first one becomes the collection's model.

        Raises:
            RpcError: 5002, disk full; 5001, other trouble of the disk, or closed meanwhile.
        """
        self.check_open()
        with _storage(f"collection {self.manifest.name!r}"):
            if model is not None and self.manifest.model is None:
                manifest = self.manifest.model_copy(update={"model": model})
                _write_manifest(self._folder, manifest)
                self.manifest = manifest
            self._append(encode_record(encode_upsert(upsert)))
        try:
            self.index.upsert(upsert)
        except BaseException:
            self.close()  # the next use reads the log, which is right
            raise

    def _append(self, record: bytes) -> None:
        try:
            rest = memoryview(record)
            while rest:
                rest = rest[os.write(self._log, rest) :]
            _sync(self._log)
        except BaseException:
            self._roll_back()
            raise
        self.log_bytes += len(record)

    def _roll_back(self) -> None:
        """Cut what a failed write left; where even that fails, the next use reads the log and cuts it."""
        try:
            os.ftruncate(self._log, self.log_bytes)
            _sync(self._log)
        except OSError:
            logger.warning("collection %s: a failed write could not be undone yet", self.manifest.name, exc_info=True)
            self.close()

    def check_open(self) -> None:
        """Call this first wherever a call may have waited.

        Raises:
            RpcError: 5001, it is closed.
        """
        if self.closed:
            raise RpcError(
                ErrorCode.DATABASE_CONNECTION_ERROR,
                f"collection {self.manifest.name!r} was deleted, or failed to write, while this call waited: try again",
                retry_after_ms=0,
            )

    def close(self) -> None:
        """Let go of it."""
        self.closed = True
        self.held.close()


def _lock(path: Path) -> int | None:
    """Take the lock: the descriptor holds it, and the kernel frees it when the process ends. None: no such folder."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
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
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        undo.pop_all()
    return descriptor


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace ``collection.json``: readers see the old one or the new one."""
    unfinished = folder / "collection.json.new"
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(manifest.model_dump(), file, indent=2)
        file.flush()
        _sync(file.fileno())
    unfinished.rename(folder / "collection.json")
    _sync_folder(folder)


def _sync(descriptor: int) -> None:
    """To the disk itself; on macOS, fsync stops at the drive's cache."""
    if hasattr(fcntl, "F_FULLFSYNC"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _storage(what: str) -> Iterator[None]:
    """Errors of the file system, as ours.

    Raises:
        RpcError: 5002, where something is used up; else 5001.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise RpcError(
                ErrorCode.INSUFFICIENT_RESOURCES,
                f"{what}: {error.strerror}: nothing was changed; free some of it and try again",
            ) from error
        raise RpcError(
            ErrorCode.DATABASE_CONNECTION_ERROR, f"{what} cannot be used: {error.strerror or error} ({error.filename})"
        ) from error
