"""The file of a collection: what it is and what is in it, as rows of SQLite. All of this blocks.

Every row has a CRC-32 of what is in it, and the collection's row says how many items there are: what SQLite itself does
not notice (``quick_check``), reading does. Texts are UTF-8; such as are no Unicode are kept as Python's
``surrogatepass`` writes them.

``generation`` grows with each opening, and ``position`` with each commit. A commit begins by moving the collection's
row from the generation and position that its owner has last seen to the next ones: where another process has opened it
or written meanwhile, however it got past the lock, nothing is moved, and nothing of the commit is stored.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from pydantic import ValidationError

from trunkline import ErrorCode, RpcError
from trunkline.collector import collector_paused
from trunkline.methods.vectors import touched
from trunkline.methods.vectors.changes import Change, Delete, Item, Upsert
from trunkline.methods.vectors.manifest import Manifest
from trunkline.methods.vectors.row_format import TENANT, as_text, items_of, require_rows, rows_of
from trunkline.methods.vectors.touched import Reference, encoded
from trunkline.storage.collection_counts import COLLECTION_FILE
from trunkline.storage.database import Database, making, read_beside
from trunkline.storage.failures import damaged
from trunkline.storage.snapshot import copy_of
from trunkline_protocol.principals import DEFAULT_TENANT

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE: Final = COLLECTION_FILE
PAGE_BYTES: Final = 8192
"""Four items with vectors of 384 numbers, and little that is empty."""
AT_ONCE: Final = 64
"""Rows that are read at a time: with vectors of 384 numbers, what a core's own cache holds."""
SHRUNK_AT_ONCE: Final = 1024
"""Pages that are given back at a time."""

TABLES: Final = """
CREATE TABLE collection (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    description TEXT NOT NULL,
    generation INTEGER NOT NULL,
    position INTEGER NOT NULL,
    count INTEGER NOT NULL,
    crc INTEGER NOT NULL
);
CREATE TABLE items (
    number INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    text TEXT,
    metadata TEXT NOT NULL,
    vector BLOB NOT NULL,
    change INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    UNIQUE (tenant, id)
)
"""

VERSIONS: Final = (TABLES, touched.TABLES)

_STATE: Final = "SELECT description, generation, position, count, crc FROM collection"
_MOVE: Final = """
UPDATE collection SET description = ?, generation = ?, position = ?, count = ?, crc = ?
WHERE generation = ? AND position = ?
"""
_ITEMS: Final = """
SELECT CAST(id AS BLOB), CAST(text AS BLOB), CAST(metadata AS BLOB), vector, change, crc FROM items
WHERE +tenant = ? -- not by the index, whose order is another
"""
_SOME: Final = """
SELECT CAST(id AS BLOB), CAST(text AS BLOB), CAST(metadata AS BLOB), vector, change, crc FROM items
WHERE tenant = ? AND id IN (%s)
"""
_PUT: Final = """
INSERT INTO items (tenant, id, text, metadata, vector, change, crc)
VALUES (CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, ?)
ON CONFLICT (tenant, id) DO UPDATE
SET text = excluded.text, metadata = excluded.metadata, vector = excluded.vector, change = excluded.change,
    crc = excluded.crc
"""
_REMOVE: Final = "DELETE FROM items WHERE tenant = CAST(? AS TEXT) AND id = CAST(? AS TEXT)"

logger = logging.getLogger("trunkline.vectors")


class CollectionFile:
    """The file of a collection.

    Attributes:
        manifest: what the collection is.
        generation: of this opening: greater than that of any before.
        position: of the last commit, which is the number of commits ever made.
        count: of the items.
        reference: the index file that holds what is in it up to a commit; None: there is none.
        is_noting: whether commits note which items they touch: as long as there is such a file, or one is written.
        changed: ids that commits have touched since the index file's, or since the opening.

    Args:
        folder: the collection's.
        name: the collection's, for messages.
    """

    manifest: Manifest

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self._what = f"collection {name!r}"
        self._database = Database(folder / FILE, self._what, VERSIONS, shared=True, page_bytes=PAGE_BYTES)
        self.generation = self.position = self.count = self._stored_generation = 0
        self.reference: Reference | None = None
        self.is_noting = self._is_forgetting = False
        self.changed = 0

    def open(self, prepare: Callable[[], None]) -> None:
        """Lock and open the file. Then come :meth:`read`, which changes nothing in one that is damaged, :meth:`claim`.

        Args:
            prepare: called with the lock, before the file is looked at.

        Raises:
            RpcError: as :meth:`Database.open`; 3002 also where the collection's row is not what was written.
        """
        self._database.open(existing=True, prepare=prepare, checked=False)
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            rows = self._database.read(self._what, _STATE)
            self.manifest, self._stored_generation, self.position, self.count = _state(rows, self._database.path)
            self.generation = self._stored_generation + 1
            undo.pop_all()

    def close(self) -> None:
        """Release the file."""
        self._database.close()

    @property
    def size(self) -> int:
        """What it takes of the disk, in bytes, without an index file."""
        return self._database.size

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._database.path

    @property
    def is_shared(self) -> bool:
        """Whether it can be read beside its owner."""
        return self._database.is_shared

    # --- reading ---

    def read(self, vectors: NDArray[np.float32]) -> list[Item]:
        """Read all items, and have SQLite look through all pages meanwhile. Then comes :meth:`require`.

        Args:
            vectors: where their vectors are put, a row an item; it has :attr:`count` rows.

        Raises:
            RpcError: 3002, a row is not what was written, or missing, or a page is damaged.
        """
        items: list[Item] = []
        with self._database.checking(), collector_paused():
            some = self._database.read_some(self._what, _ITEMS, [DEFAULT_TENANT], AT_ONCE)
            for rows in _whole(some, self.manifest.dimension, self.count, self._database.path):
                data = b"".join([row[3] for row in rows])
                vectors[len(items) : len(items) + len(rows)] = np.frombuffer(data, dtype="<f4").reshape(len(rows), -1)
                items += items_of(rows)
        return items

    def read_reference(self) -> Reference | None:
        """Which index file is used; its commits are noted from now on, unless :meth:`forget_index` is called.

        Raises:
            Unusable: what the file's tables say of it is not what was written.
            RpcError: as :meth:`read`.
        """
        self.reference = touched.reference_in(self._database.read(self._what, touched.REFERENCE))
        self.is_noting = self.reference is not None
        if self.reference is None and self._database.read(self._what, touched.IS_ANY):
            self._is_forgetting = True  # one was being written when the process was killed
        return self.reference

    def read_touched(self) -> list[bytes]:
        """The ids that commits have touched which are not in the index file, as :meth:`read_items` takes them.

        Raises:
            Unusable: what the commits have noted is not all there.
            RpcError: as :meth:`read`.
        """
        assert self.reference is not None
        since = self.reference.position
        ids = touched.ids_in(self._database.read(self._what, touched.COMMITS, [since]), since, self.position)
        self.changed = len(ids)
        return ids

    def read_items(self, ids: Sequence[bytes]) -> tuple[list[str], Upsert]:
        """Some of the items. Returns the ids that are not there, and those that are.

        Raises:
            RpcError: 3002, a row is not what was written; and as :meth:`read`.
        """
        items: list[Item] = []
        data: list[bytes] = []
        gone = dict.fromkeys(ids)
        for first in range(0, len(ids), AT_ONCE):
            some = ids[first : first + AT_ONCE]
            query = _SOME % ", ".join(["CAST(? AS TEXT)"] * len(some))
            if rows := self._database.read(self._what, query, [DEFAULT_TENANT, *some]):
                require_rows(rows, self.manifest.dimension, self._database.path)
                items += items_of(rows)
                for row in rows:
                    data.append(row[3])
                    del gone[row[0]]
        vectors = np.frombuffer(b"".join(data), dtype="<f4").reshape(len(items), self.manifest.dimension)
        return [as_text(each) for each in gone], Upsert(items, vectors)

    def require(self, count: int) -> None:
        """Check how many of the items that were read differ.

        Raises:
            RpcError: 3002, not as many as there should be.
        """
        require_count(count, self.count, self._database.path)

    # --- writing ---

    def claim(self) -> None:
        """Record this opening, as long as nobody has changed the file since it was opened.

        Raises:
            RpcError: as :meth:`commit`, but not 5002: a full disk can be read, and the first change records it.
        """
        try:
            self._move(self.manifest, self.position, self.count, ())
            self._database.note_opening()
        except RpcError as error:
            if error.code != ErrorCode.INSUFFICIENT_RESOURCES:
                raise
            logger.warning("%s is opened to be read; its first change wants room on the disk: %s", self._what, error)

    def commit(self, changes: Sequence[Change], manifest: Manifest, count: int) -> None:
        """Make changes, in their order, with one sync for all. When this raises, none of them is there.

        Args:
            manifest: what the collection is from now on.
            count: of the items, behind the changes.

        Raises:
            RpcError: 5002, disk full; 5001, other trouble, or another process has written to it.
        """
        self._move(manifest, self.position + 1, count, changes)

    def describe(self, manifest: Manifest) -> None:
        """Change what the collection is.

        Raises:
            RpcError: as :meth:`commit`.
        """
        self._move(manifest, self.position, self.count, ())

    def begin_noting(self) -> int:
        """Have each commit from now on note what it touches. Returns the position that they follow."""
        self.is_noting = True
        return self.position

    def refer(self, reference: Reference) -> None:
        """Use another index file from now on: one that is whole, and synced. Its position is :meth:`begin_noting`'s.

        Raises:
            RpcError: as :meth:`commit`.
        """
        self._move(self.manifest, self.position, self.count, (), reference)
        self.reference = reference

    def forget_index(self) -> None:
        """Use no index file from now on: the next change, of whatever kind, records it, and notes nothing."""
        self.reference, self.is_noting, self._is_forgetting = None, False, True

    def _move(
        self,
        manifest: Manifest,
        position: int,
        count: int,
        changes: Sequence[Change],
        reference: Reference | None = None,
    ) -> None:
        self.check_owner()
        state = (_described(manifest), self.generation, position, count)
        with self._database.writing(self._what) as transaction:
            seen = (self._stored_generation, self.position)
            if transaction.execute(_MOVE, (*state, _state_crc(*state), *seen)).rowcount != 1:
                raise self._not_ours()
            if self._is_forgetting:
                touched.forget(transaction)
            for change in changes:
                _write(transaction, change, position)
            if self.is_noting and position > self.position:
                touched.note(transaction, changes, position)
            if reference is not None:
                touched.refer(transaction, reference)
        self._stored_generation = self.generation
        self.manifest, self.position, self.count = manifest, position, count
        self._is_forgetting = False
        self.changed += sum(len(each.ids if isinstance(each, Delete) else each.items) for each in changes)

    def check_owner(self) -> None:
        """Check that the file is still at its place, and this process's.

        Raises:
            RpcError: 5001, it is not.
        """
        if not self._database.is_ours:
            raise self._not_ours()

    def _not_ours(self) -> RpcError:
        return RpcError(
            ErrorCode.DATABASE_CONNECTION_ERROR,
            f"{self.folder} is not this process's any more: another one has it, or it was moved. Nothing was "
            "acknowledged: try again, and if two hubs share this data folder (TRUNKLINE_DATA), stop one",
            retry_after_ms=1000,
        )

    def shrink(self) -> bool:
        """Give some of the room that deleted items have left back to the file system. Returns whether that was all.

        Raises:
            RpcError: as :meth:`commit`.
        """
        self.check_owner()
        is_all = self._database.shrink(SHRUNK_AT_ONCE)
        if is_all:
            self._database.write_back()
        return is_all


def make(path: Path, manifest: Manifest, state: tuple[int, int], items: Sequence[Item], vectors: Any) -> None:
    """Make the file of a collection: it is whole and synced when this returns; its name is not synced.

    Args:
        state: generation and position.

    Raises:
        OSError, sqlite3.Error: it cannot be written.
    """
    generation, position = state
    described = (_described(manifest), generation, position, len(items))
    with making(path, VERSIONS, PAGE_BYTES) as transaction:
        transaction.execute("INSERT INTO collection VALUES (1, ?, ?, ?, ?, ?)", (*described, _state_crc(*described)))
        transaction.executemany(_PUT, rows_of(items, vectors, position))


def read_manifest(folder: Path) -> Manifest:
    """What a collection is, whoever has it open.

    Raises:
        RpcError: 3002, the file is damaged; 5001, it cannot be read.
    """
    path = folder / FILE
    return _state(read_beside(path, f"collection {folder.name!r}", _STATE), path)[0]


class Copied(NamedTuple):
    """What a copy of a collection's file holds, all of it as it was written."""

    manifest: Manifest
    position: int
    items: int


def check_copy(path: Path, original: Path) -> Copied:
    """Read a copy of a collection's file that nobody writes to. Returns what is in it.

    Args:
        original: what it is a copy of, for messages.

    Raises:
        RpcError: as :func:`~trunkline.storage.snapshot.copy_of`; 3002 also where a row is not what was written.
    """
    with copy_of(path, original, VERSIONS) as copy:
        manifest, _, position, count = _state(copy.execute(_STATE).fetchall(), original)
        cursor = copy.execute(_ITEMS, [DEFAULT_TENANT])
        some = iter(lambda: cursor.fetchmany(AT_ONCE), [])
        ids = {row[0] for rows in _whole(some, manifest.dimension, count, original) for row in rows}
        require_count(len(ids), count, original)
    return Copied(manifest, position, count)


def _whole(some: Iterable[list[Any]], dimension: int, count: int, path: Path) -> Iterator[list[Any]]:
    """The rows of items, as long as each is what was written; behind the last one they have to be as many as said.

    Raises:
        RpcError: 3002, they are not.
    """
    read = 0
    for rows in some:
        require_rows(rows, dimension, path)
        read += len(rows)
        if read > count:
            raise damaged(path, f"it has more items than {count}")
        yield rows
    require_count(read, count, path)


def require_count(found: int, count: int, path: Path) -> None:
    """Check how many items there are.

    Raises:
        RpcError: 3002, not as many as there should be.
    """
    if found != count:
        raise damaged(path, f"it has {found} items, and should have {count} that differ")


def _state(rows: list[Any], path: Path) -> tuple[Manifest, int, int, int]:
    try:
        ((described, generation, position, count, crc),) = rows
        if _state_crc(described, generation, position, count) != crc:
            raise ValueError
        return Manifest.model_validate_json(described), generation, position, count
    except (ValueError, TypeError, ValidationError) as error:
        raise damaged(path, "the description of the collection is not what was written") from error


def _state_crc(described: str, generation: int, position: int, count: int) -> int:
    return zlib.crc32(f"{described}\0{generation}\0{position}\0{count}".encode())


def _described(manifest: Manifest) -> str:
    return json.dumps(manifest.model_dump())


def _write(transaction: sqlite3.Connection, change: Change, position: int) -> None:
    if isinstance(change, Delete):
        transaction.executemany(_REMOVE, [(TENANT, encoded(each)) for each in change.ids])
    else:
        transaction.executemany(_PUT, rows_of(change.items, change.vectors, position))
