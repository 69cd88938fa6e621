"""A collection that is open: its owner's view of it, in memory and on disk.

A change is committed to the file, then made in memory, then acknowledged. All of it runs on the executor's one thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from trunkline import ErrorCode, RpcError
from trunkline.collector import collector_paused
from trunkline.methods.vectors.changes import Change, Delete, Upsert
from trunkline.methods.vectors.derived_file import GivenUp
from trunkline.methods.vectors.index import Building, IndexSpec, VectorIndex
from trunkline.methods.vectors.kept_index import KeptIndex, Writing
from trunkline.methods.vectors.kept_structure import KeptStructure
from trunkline.methods.vectors.kept_words import KeptWords
from trunkline.methods.vectors.lexicon import Lexicon
from trunkline.methods.vectors.manifest import Manifest
from trunkline.methods.vectors.row_check import RowCheck
from trunkline.methods.vectors.rows import CollectionFile
from trunkline.methods.vectors.structures import Flat
from trunkline.methods.vectors.touched import Unusable
from trunkline.methods.vectors.versions import Versions


class Collection:
    """An open collection. Made by :meth:`trunkline.methods.vectors.store.CollectionStore.open`.

    Attributes:
        index: what is in it.
        lexicon: the words of its texts, once somebody has looked for words.
        kept: the file that it is read from, in the main.
        words: the file of what the lexicon has counted.
        versions: which version of a document may be put in.
        closed: deleted, failed, or another process's: it must not be used any more.
        deleted: it is closed because it was deleted.

    Args:
        file: which is open, and the collection's from now on.

    Raises:
        RpcError: 3002, the file is damaged; 5001, it cannot be read.
    """

    def __init__(self, file: CollectionFile) -> None:
        self.closed = self.deleted = False
        self.lexicon: Lexicon | None = None
        self.versions = Versions(file.generation)
        self._file = file
        self.kept = KeptIndex(file)
        self.words = KeptWords(file)
        self._structure = KeptStructure(file)
        with collector_paused():
            loaded = self.kept.load()
            self.index = self._read() if loaded is None else loaded
        file.claim()
        self.kept.sweep()
        self._structure.sweep()

    def _read(self) -> VectorIndex:
        spec = self.manifest.spec
        structure = Flat(spec, self._file.count)
        index = VectorIndex(spec, self._file.read(structure.memory), structure)
        self._file.require(len(index))
        return index

    # --- figures ---

    @property
    def manifest(self) -> Manifest:
        """What it is."""
        return self._file.manifest

    @property
    def position(self) -> int:
        """The number of commits ever made."""
        return self._file.position

    @property
    def disk_bytes(self) -> int:
        """The size of its file and of the log of that, and of its index file, in bytes."""
        return self._file.size + self.kept.size

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
            model: what embedded texts among them; the first one becomes the collection's model.

        Returns:
            For each, how many items it put in or removed.

        Raises:
            RpcError: 5002, disk full; 5001, other trouble of the disk, closed meanwhile, or another process's.
        """
        self.check_open()
        try:
            self._file.commit(changes, self._with_model(model), len(self.index) + self.growth(changes))
            self._file.check_owner()  # if it still is, whoever comes next reads what is on disk now
            applied = [self._apply(change) for change in changes]
            self.kept.bound()
            return applied
        except RpcError as error:
            if error.code != ErrorCode.INSUFFICIENT_RESOURCES:
                self.close()
            raise
        except BaseException:
            self.close()  # the next use reads the file, which is right
            raise

    def _with_model(self, model: str | None) -> Manifest:
        if model is None or self.manifest.model is not None:
            return self.manifest
        return self.manifest.model_copy(update={"model": model})

    def growth(self, changes: Sequence[Change]) -> int:
        """How many items there are more behind the changes than before."""
        there: dict[str, bool] = {}
        for change in changes:
            if isinstance(change, Delete):
                there.update(dict.fromkeys(change.ids, False))
            else:
                there.update((item.id, True) for item in change.items)
        return sum(there.values()) - (len(there) - len(self.index.missing(there)))

    def _apply(self, change: Change) -> int:
        if self.lexicon is not None:
            self.lexicon.changed(change)
        if isinstance(change, Delete):
            return self.index.delete(change.ids)
        self.index.upsert(change)
        return len(change.items)

    # --- the index file ---

    def write_index(self) -> None:
        """Write the index file anew, now: for those who can wait.

        Raises:
            RpcError: as :meth:`commit`.
        """
        self.check_open()
        writing = self.kept.begin(self.index)
        try:
            writing.write(writing.take)
            former = self.adopt(writing)
        except RpcError as error:
            self.kept.fail(writing, error)
            raise
        except (Unusable, OSError) as error:
            self.kept.fail(writing, error)
            return
        if former is not None:
            with contextlib.suppress(OSError):
                former.unlink()

    def begin_index(self) -> Writing | None:
        """Begin to write the index file; None where the collection is closed, or the file not due any more."""
        return self.kept.begin(self.index) if not self.closed and self.kept.due else None

    def adopt(self, writing: Writing) -> Path | None:
        """Use an index file that was written. Returns the former one, which can be removed.

        Raises:
            GivenUp: the collection was closed.
            RpcError: as :meth:`commit`; the former one is used as before.
        """
        if self.closed:
            raise GivenUp
        try:
            return self.kept.adopt(writing)
        except RpcError as error:
            if error.code != ErrorCode.INSUFFICIENT_RESOURCES:
                self.close()
            raise

    def row_check(self) -> RowCheck | None:
        """What has to look through the rows that opening has not read, once. None: there is nothing to look through."""
        if not self.kept.is_unchecked:
            return None
        self.kept.is_unchecked = False
        return RowCheck(self._file)

    def refuse(self) -> bool:
        """Close the collection, because rows are damaged: the next opening reads them all. False: it was closed."""
        if self.closed:
            return False
        self.kept.refuse()
        self.close()
        return True

    # --- building the index anew, beside ---

    @property
    def is_building_due(self) -> bool:
        """Whether the index should be built anew, or kept anew, beside."""
        return not self.closed and (self.index.due or self._structure.due(self.index))

    def begin_building(self) -> tuple[Building, Callable[[Building], None]]:
        """Begin to build the index. Returns the building, and what to call for its first step, on any other thread."""
        work = self._structure.begin(self.index)
        return self.index.begin_building(), work

    # --- rebuilding ---

    def rebuild(self, spec: IndexSpec | None = None) -> None:
        """Give back the room that deleted items have left, and have the index built anew, maybe of another kind.

        Raises:
            RpcError: as of its parts.
        """
        spec = self.check_index(spec or self.index.spec)
        while not self.shrink():
            pass
        self.set_index(spec)

    def shrink(self) -> bool:
        """Give some of the room that deleted items have left back to the file system. Returns whether that was all.

        Raises:
            RpcError: 5001, the collection is closed, another process's, or other trouble; 5002: nothing has changed.
        """
        self.check_open()
        return self._file.shrink()

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
        self.check_open()
        self.check_index(spec)
        self._file.describe(self.manifest.with_spec(spec))
        self.check_owner()
        self.index.outdate(spec)
        self._structure.sweep()

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
        self._file.check_owner()

    def close(self) -> None:
        """Close the collection."""
        if not self.closed:
            self.closed = True
            self._file.close()
