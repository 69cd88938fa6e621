"""The index file of an open collection: read when it is opened, and written anew, beside, when much has changed."""

from __future__ import annotations

import contextlib
import logging
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trunkline.methods.vectors import kept_structure, kept_words
from trunkline.methods.vectors.changes import Item
from trunkline.methods.vectors.derived_file import GivenUp
from trunkline.methods.vectors.index import VectorIndex
from trunkline.methods.vectors.index_file import IndexFileWriter, read_index_file
from trunkline.methods.vectors.rows import CollectionFile
from trunkline.methods.vectors.touched import PREFIX, Missing, Reference, Unusable
from trunkline.storage.durable import sync_data, whole_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEAST: Final = 20_000
"""Items of a collection that has an index file; reading the rows of fewer takes less than half a second."""
SHARE: Final = 0.2
"""Of the items: when so many ids were touched since a file was begun, the next one is."""
AT_ONCE: Final = 1024
"""Items that are taken at a time, while searches and changes wait: a millisecond or two."""
SYNCED_BYTES: Final = 32 * 2**20
"""What is written without a sync, which the sync of a commit might have to wait for."""
ROOM: Final = 2
"""Times what the file may take has to be free on the disk."""

DERIVED: Final = frozenset({kept_structure.NAME, kept_words.NAME})
"""Files beside it that are used without being named by the collection's own."""

Taken = tuple[Sequence[Item], "NDArray[np.float32]"]
"""Items, and their vectors, a row an item."""

logger = logging.getLogger("trunkline.vectors")


class KeptIndex:
    """What is known of a collection's index file.

    All of it is called on the thread of the collection.

    Attributes:
        is_unchecked: the index was read from it, and nobody has begun to look through the collection's own rows.

    Args:
        file: the collection's, which is open.
    """

    def __init__(self, file: CollectionFile) -> None:
        self._file = file
        self.is_unchecked = False
        self._writing: Writing | None = None
        self._begun_at = self._noted_from = 0
        self._is_first = True
        self._has_told = False

    # --- reading ---

    def load(self) -> VectorIndex | None:
        """The index, from its file and the rows that were touched since. None: all rows are to be read.

        Raises:
            RpcError: 3002, a row is not what was written; 5001, the rows cannot be read.
        """
        file = self._file
        reference = None
        try:
            reference = file.read_reference()
            if reference is None:
                return None
            index = self._load(reference)
        except (Unusable, OSError) as error:
            where = file.folder if reference is None else reference.path(file.folder)
            level = logging.INFO if isinstance(error, Missing) else logging.WARNING
            logger.log(level, "%s: the index file is not used, all rows are read: %s", where, error)
            file.forget_index()
            return None
        self.is_unchecked, self._is_first = True, False
        return index

    def _load(self, reference: Reference) -> VectorIndex:
        file = self._file
        if not file.is_shared:
            raise Unusable("without room on the disk the rows cannot be looked through beside")
        ids = file.read_touched()
        spec = file.manifest.spec
        items, structure = read_index_file(reference.path(file.folder), reference, spec, len(ids))
        index = VectorIndex(spec, items, structure)
        if len(index) != len(items):
            raise Unusable("an item is in it twice")
        for first in range(0, len(ids), AT_ONCE):
            gone, there = file.read_items(ids[first : first + AT_ONCE])
            index.delete(gone)
            if there.items:
                index.upsert(there)
        if len(index) != file.count:
            raise Unusable(f"there are {len(index)} items with it, not {file.count}")
        return index

    def sweep(self) -> None:
        """Remove files that are not used. Only the collection's owner may do that, once it has recorded its opening."""
        for path in self._file.folder.glob(f"{PREFIX}*"):
            if path != self._path and path.name not in DERIVED:
                with contextlib.suppress(OSError):
                    if path.is_dir() and not path.is_symlink():
                        shutil.rmtree(path)
                    else:
                        path.unlink()

    def refuse(self) -> None:
        """Have the next opening read all rows: some are damaged, and the file would hide it. It is moved away."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.rename(self._path.with_name(self._path.name + ".refused"))

    @property
    def size(self) -> int:
        """What it takes of the disk, with those that are derived, in bytes; 0: there is none."""
        size = 0
        for path in (self._path, *(self._file.folder / each for each in DERIVED)):
            if path is not None:
                with contextlib.suppress(OSError):
                    size += path.stat().st_size
        return size

    # --- writing ---

    @property
    def due(self) -> bool:
        """Whether the file should be written (anew), beside."""
        file = self._file
        if self._writing is not None or file.count < LEAST or not file.is_shared:
            return False
        return self._is_first or file.changed - self._begun_at > SHARE * file.count

    def begin(self, index: VectorIndex) -> Writing:
        """Begin to write the file; one at a time. See :class:`Writing`."""
        self._is_first, self._begun_at = False, self._file.changed
        reference = Reference(secrets.token_hex(16), self._file.begin_noting())
        self._writing = Writing(self._file, reference, index)
        return self._writing

    def adopt(self, writing: Writing) -> Path | None:
        """Use the file that was written. Returns the former one, which can be removed.

        Raises:
            RpcError: as :meth:`CollectionFile.commit`; the former one is used as before.
        """
        former = self._path
        self._file.refer(writing.reference)
        self._writing, self._noted_from, self._has_told = None, self._begun_at, False
        return former

    def fail(self, writing: Writing, error: Exception) -> None:
        """Give up the file that is being written, or was: the former one is used as before, or none."""
        self._writing = None
        with contextlib.suppress(OSError):
            writing.path.unlink(missing_ok=True)
        if self._file.reference is None:
            self._file.forget_index()
        if not self._has_told and not isinstance(error, GivenUp):
            self._has_told = True
            words = "%s: no new index file is written until much has changed; opening takes longer meanwhile: %s"
            logger.warning(words, self._file.folder, error)

    def bound(self) -> None:
        """Use no file any more, where so much was noted since it was written that reading all rows is quicker."""
        file = self._file
        is_long = file.changed - self._noted_from > max(LEAST, file.count)
        if is_long and file.reference is not None and self._writing is None:
            former = self._path
            file.forget_index()
            if former is not None:
                with contextlib.suppress(OSError):
                    former.unlink()

    @property
    def _path(self) -> Path | None:
        return None if self._file.reference is None else self._file.reference.path(self._file.folder)


class Writing:
    """An index file that is written beside its collection, which can be searched and changed meanwhile.

    What :meth:`take` finds has changed since :attr:`reference` was made, perhaps; but then a commit has noted it, and
    whoever reads the file looks at it again. So nothing has to be copied at one moment, and nobody waits for long.

    Its owner calls, on the thread of the collection, :meth:`KeptIndex.begin`; then, on any other, :meth:`write`; then
    on the collection's :meth:`KeptIndex.adopt`, or :meth:`KeptIndex.fail`.

    Attributes:
        reference: names the file once it is written.
        abandoned: it was given up: set this to end it soon.
    """

    def __init__(self, file: CollectionFile, reference: Reference, index: VectorIndex) -> None:
        self.reference = reference
        self.abandoned = False
        self.path = reference.path(file.folder)
        self._bytes = file.size
        self._spec = file.manifest.spec
        self._index = index
        self._ids = index.ids()
        self._taken = 0

    def take(self) -> Taken | None:
        """Some of the items that are there; None: these were all. On the thread of the collection.

        Raises:
            GivenUp: it was abandoned.
        """
        if self.abandoned:
            raise GivenUp
        while self._taken < len(self._ids):
            ids = self._ids[self._taken : self._taken + AT_ONCE]
            self._taken += AT_ONCE
            if (taken := self._index.some(ids))[0]:
                return taken
        return None

    def write(self, take: Callable[[], Taken | None]) -> None:
        """Write the file: it is there as a whole, and synced, or not at all. Takes long.

        Args:
            take: has :meth:`take` called on the thread of the collection.

        Raises:
            GivenUp: it was abandoned.
            Unusable: there is no room for it.
            OSError: it cannot be written.
        """
        free = shutil.disk_usage(self.path.parent).free
        if free < ROOM * self._bytes:
            raise Unusable(f"it may take {self._bytes:,} bytes, and {free:,} are free")
        with whole_file(self.path) as output:
            writer = IndexFileWriter(output.fileno(), self.reference, self._spec)
            synced = 0
            while (taken := take()) is not None:
                writer.add(*taken)
                if writer.size - synced > SYNCED_BYTES:
                    sync_data(output.fileno())
                    synced = writer.size
            writer.end()
