"""A collection that is open: its owner's view of it, in memory and on disk.

A change is written to the log and synced, then made in memory, then acknowledged. When the log has grown, a snapshot
of what is in memory is written by a thread beside, while changes go on into a new segment of the log; when it is
whole and verified, the segments and snapshots before it are removed. All but that thread runs on the executor's one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from trunkline import ErrorCode, RpcError
from trunkline.methods.vectors.files import Files, storage
from trunkline.methods.vectors.index import IndexSpec, VectorIndex
from trunkline.methods.vectors.lexicon import Lexicon
from trunkline.methods.vectors.log import Change, Delete, Upsert, encode_changes
from trunkline.methods.vectors.manifest import FORMAT_VERSION, Manifest, write_manifest
from trunkline.methods.vectors.ownership import Ownership
from trunkline.methods.vectors.recovery import Recovered, list_contents, recover, snapshot_path
from trunkline.methods.vectors.snapshot import Damaged, Snapshot, write_snapshot
from trunkline.methods.vectors.versions import Versions
from trunkline.methods.vectors.writer import LogWriter

SEGMENT_BYTES: Final = 64 << 20
"""A log shorter than this is not worth a snapshot; nor does a segment of it get much longer."""

logger = logging.getLogger("trunkline.vectors")


class Collection:
    """An open collection. Made by :meth:`trunkline.methods.vectors.store.CollectionStore.open`.

    Attributes:
        manifest: what it is.
        index: what is in it.
        lexicon: the words of its texts, once somebody has looked for words.
        versions: which version of a document may be put in.
        closed: deleted, failed, or another process's: it must not be used any more.
        deleted: it is closed because it was deleted.

    Raises:
        RpcError: 3002, the files are damaged.
        OSError: the files cannot be read.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, ownership: Ownership, files: Files, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self.manifest = manifest
        self.closed = self.deleted = False
        self._folder = folder
        self._files = files
        self._ownership = ownership
        self._segment_bytes = segment_bytes
        self._compaction: Compaction | None = None
        self.lexicon: Lexicon | None = None
        self.versions = Versions(ownership.generation)
        recovered = self._recover()
        self.index = VectorIndex(manifest.spec, *recovered.table.live())
        if recovered.fallback:
            self._begin_compaction()

    def _recover(self) -> Recovered:
        contents = list_contents(self._folder)
        try:
            recovered = recover(contents, self._folder, self.manifest.dimension)
        except Damaged as error:
            raise RpcError(
                ErrorCode.PIPELINE_INITIALIZATION_FAILED,
                f"collection {self.manifest.name!r} cannot be read: {error}. Nothing was changed: restore the file "
                "from a backup, or delete the folder and index again",
            ) from error
        log_bytes = sum(each.path.stat().st_size for each in contents.segments)
        self._log = LogWriter(
            self._files, self._folder, self._ownership.generation, recovered.position, log_bytes, self._segment_bytes
        )
        self._snapshot_bytes = recovered.snapshot.path.stat().st_size if recovered.snapshot else 0
        self._snapshot_above = max(self._segment_bytes, self._snapshot_bytes)
        return recovered

    # --- figures ---

    @property
    def position(self) -> int:
        """The position of the last record of the log, which is the number of commits ever made."""
        return self._log.position

    @property
    def log_bytes(self) -> int:
        """The length of the log, in bytes, without what snapshots have replaced."""
        self._collect()
        return self._log.bytes

    @property
    def disk_bytes(self) -> int:
        """The size of log and snapshot on disk."""
        return self.log_bytes + self._snapshot_bytes

    # --- changes ---

    def upsert(self, upsert: Upsert, model: str | None = None) -> None:
        """Insert or replace items. See :meth:`commit`."""
        self.commit([upsert], model)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete items. See :meth:`commit`.

        Returns:
            The number of items that were there.
        """
        self.check_open()
        missing = set(self.index.missing(ids))
        known = [each for each in dict.fromkeys(ids) if each not in missing]
        return self.commit([Delete(known)])[0] if known else 0

    def commit(self, changes: Sequence[Change], model: str | None = None) -> list[int]:
        """Make changes, in their order, with one sync for all. When this returns, they are on disk; when it raises,
        none of them was acknowledged, and all of them are in, or none (which is what 5002 says).

        Args:
            changes: together below 4 GiB.
            model: what embedded texts among them; the first one becomes the collection's model.

        Returns:
            For each, how many items it put in or removed.

        Raises:
            RpcError: 5002, disk full; 5001, other trouble of the disk, closed meanwhile, or another process's.
        """
        self.check_open()
        try:
            with storage(f"collection {self.manifest.name!r}"):
                self._ownership.check()
                self._describe(model)
                self._log.append(encode_changes(changes))
                self._ownership.check()
            counts = [self._apply(change) for change in changes]
        except RpcError as error:
            if self._log.broken or error.code != ErrorCode.INSUFFICIENT_RESOURCES:
                self.close()
            raise
        except BaseException:
            self.close()  # the next use reads the log, which is right
            raise
        self._compact_if_due()
        return counts

    def _describe(self, model: str | None) -> None:
        """Bring ``collection.json`` up to date, before the first record that wants it."""
        manifest = self.manifest.model_copy(update={"format_version": FORMAT_VERSION})
        if model is not None and self.manifest.model is None:
            manifest = manifest.model_copy(update={"model": model})
        self._set_manifest(manifest)

    def _set_manifest(self, manifest: Manifest) -> None:
        if manifest != self.manifest:
            write_manifest(self._files, self._folder, manifest)
            self.manifest = manifest

    def _apply(self, change: Change) -> int:
        if self.lexicon is not None:
            self.lexicon.changed(change)
        if isinstance(change, Delete):
            return self.index.delete(change.ids)
        self.index.upsert(change)
        return len(change.items)

    # --- snapshots ---

    def rebuild(self, spec: IndexSpec | None = None) -> None:
        """Replace the log by a snapshot, and have the index built anew, maybe of another kind. Takes as long as it
        takes; the parts of it do not: :meth:`begin_compaction`, :meth:`end_compaction`, :meth:`set_index`.

        Raises:
            RpcError: as of its parts.
        """
        spec = self.check_index(spec or self.index.spec)
        compaction = self.begin_compaction()
        compaction.ended.wait()
        self.end_compaction(compaction)
        self.set_index(spec)

    def check_index(self, spec: IndexSpec) -> IndexSpec:
        """Check that the collection can have such an index. Returns its spec.

        Raises:
            RpcError: 4001, another dimension or metric, which would want other vectors.
        """
        if (spec.dimension, spec.metric) != (self.manifest.dimension, self.manifest.metric):
            raise RpcError(
                ErrorCode.INVALID_CONFIGURATION,
                f"collection {self.manifest.name!r} has dimension {self.manifest.dimension} and metric "
                f"{self.manifest.metric}, and keeps them: create another one and index again",
            )
        return spec

    def set_index(self, spec: IndexSpec) -> None:
        """Have the index built anew, maybe of another kind: it is :attr:`VectorIndex.due` then, up to the caller.

        Raises:
            RpcError: as :meth:`check_index`; 5001, 5002: nothing has changed.
        """
        self.check_owner()
        self.check_index(spec)
        with storage(f"collection {self.manifest.name!r}"):
            self._describe(None)
            self._set_manifest(self.manifest.with_spec(spec))
        self.index.outdate(spec)

    def begin_compaction(self) -> Compaction:
        """Begin to replace the log by a snapshot, on a thread of its own, or return the compaction under way.

        Raises:
            RpcError: 5001, 5002: nothing has changed.
        """
        self.check_open()
        self._collect()
        if self._compaction is None:
            with storage(f"collection {self.manifest.name!r}"):
                compaction = self._new_compaction()
                threading.Thread(target=compaction.run, name="snapshot", daemon=True).start()
            self._compaction = compaction
        return self._compaction

    def end_compaction(self, compaction: Compaction) -> None:
        """Take over the outcome of a compaction that has ended.

        Raises:
            RpcError: 5001, 5002, there is no snapshot: nothing has changed.
        """
        self.check_open()
        self._collect()
        with storage(f"collection {self.manifest.name!r}"):
            compaction.raise_error()

    def _compact_if_due(self) -> None:
        self._collect()
        if self._compaction is None and self._log.bytes > self._snapshot_above:
            self._begin_compaction()

    def _begin_compaction(self) -> None:
        try:
            self.begin_compaction()
        except (RpcError, MemoryError, RuntimeError):
            logger.warning("collection %s: no snapshot can be begun", self.manifest.name, exc_info=True)
            self._put_off()

    def _new_compaction(self) -> Compaction:
        self._log.rotate()
        items, vectors = self.index.contents()
        snapshot = Snapshot(self.position, self._ownership.generation, items, vectors)
        return Compaction(self._files, self._folder, self._ownership, snapshot, self._log.bytes)

    def _put_off(self) -> None:
        """After a snapshot that failed: the next try is when there is more to win by it."""
        self._snapshot_above = self._log.bytes + self._segment_bytes

    def _collect(self) -> None:
        """Take note of a compaction that has come to its end."""
        compaction = self._compaction
        if compaction is None or not compaction.ended.is_set():
            return
        self._compaction = None
        if compaction.size is None:
            logger.warning(
                "collection %s: the log goes on growing, for a snapshot could not be written",
                self.manifest.name, exc_info=compaction.error,
            )  # fmt: skip
            self._put_off()
            return
        if compaction.error is not None:
            logger.warning(
                "collection %s: what a snapshot replaces is still there", self.manifest.name, exc_info=compaction.error
            )
        self._snapshot_bytes = compaction.size
        self._log.bytes -= compaction.log_bytes
        self._snapshot_above = max(self._segment_bytes, self._snapshot_bytes)

    def _stop_compaction(self) -> None:
        if self._compaction is not None:
            self._compaction.cancelled = True
            self._compaction.ended.wait()
            self._compaction = None

    # --- the end ---

    def check_open(self) -> None:
        """Check that the collection is open. To be called first wherever a call may have waited.

        Raises:
            RpcError: 5001, the collection is closed; 4001, it was deleted.
        """
        if self.deleted:
            raise RpcError(
                ErrorCode.INVALID_CONFIGURATION, f"collection {self.manifest.name!r} was deleted while this call waited"
            )
        if self.closed:
            raise RpcError(
                ErrorCode.DATABASE_CONNECTION_ERROR,
                f"collection {self.manifest.name!r} was handed over, or failed to write, while this call waited: "
                "try again",
                retry_after_ms=0,
            )

    def check_owner(self) -> None:
        """Check that this process may write the collection.

        Raises:
            RpcError: 5001, the collection is closed, or another process's.
        """
        self.check_open()
        self._ownership.check()

    def close(self) -> None:
        """Close the collection. A snapshot that is being written is given up; the log has everything."""
        if not self.closed:
            self.closed = True
            self._stop_compaction()
            self._log.rotate()
            self._ownership.release()


class _GivenUp(Exception):
    """The collection is being closed."""


class Compaction:
    """Writes a snapshot, verifies it, and removes what it replaces.

    Attributes:
        log_bytes: how much of the log it replaces.
        cancelled: set this to have it give up soon.
        ended: set when it has come to its end.
        size: of the snapshot, in bytes; None if there is none.
        error: why there is none.
    """

    def __init__(self, files: Files, folder: Path, ownership: Ownership, snapshot: Snapshot, log_bytes: int) -> None:
        self.log_bytes = log_bytes
        self.cancelled = False
        self.ended = threading.Event()
        self.size: int | None = None
        self.error: Exception | None = None
        self._files = files
        self._folder = folder
        self._ownership = ownership
        self._snapshot: Snapshot | None = snapshot
        self._path = snapshot_path(folder, snapshot.position, snapshot.generation)
        contents = list_contents(folder)
        snapshots = [each.path for each in contents.snapshots if each.path != self._path]
        self._replaced = snapshots + [each.path for each in contents.segments if each.first <= snapshot.position]

    def run(self) -> None:
        """Write the snapshot and remove what it replaces. Errors are kept in :attr:`error`, not raised."""
        try:
            self._write()
        except (OSError, Damaged, RpcError, MemoryError, _GivenUp) as error:
            self.error = error
        finally:
            self._snapshot = None
            self.ended.set()

    def _write(self) -> None:
        assert self._snapshot is not None
        size = write_snapshot(self._files, self._path, self._snapshot, self._step)
        self._files.sync_folder(self._folder)
        self.size = size
        for path in self._replaced:
            self._step()
            self._files.unlink(path)

    def _step(self) -> None:
        if self.cancelled:
            raise _GivenUp
        self._ownership.check()

    def raise_error(self) -> None:
        """Raise the error of the compaction, if there is no snapshot."""
        if isinstance(self.error, Damaged):
            raise RpcError(
                ErrorCode.DATABASE_CONNECTION_ERROR,
                f"{self.error}, though it was written just now: check this machine's disk and memory. Nothing changed",
            ) from self.error
        if self.size is None and self.error is not None:
            raise self.error
