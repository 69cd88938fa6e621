"""Which items each commit has touched since an index file was begun, and which file that is: two tables of rows.

Together with that file (``vectors/index_file.py``) they say what is in the collection: whoever has the file needs the
rows of these items only, and those of them that have no row are deleted. As they are written by the commits
themselves, they are in step with the items whatever happens. A file that no row names is never read: one that was left
behind, or belongs to another collection, or to what the collection became without the commits that followed a backup.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from trunkline.methods.vectors.changes import Change, Delete

TABLES: Final = """
CREATE TABLE touched (
    position INTEGER PRIMARY KEY,
    ids BLOB NOT NULL,
    crc INTEGER NOT NULL
);
CREATE TABLE index_file (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    token TEXT NOT NULL,
    position INTEGER NOT NULL,
    crc INTEGER NOT NULL
)
"""
"""``touched`` has a row a commit; the one row of ``index_file`` names the file that is used, where there is one."""

REFERENCE: Final = "SELECT token, position, crc FROM index_file"
COMMITS: Final = "SELECT position, ids, crc FROM touched WHERE position > ? ORDER BY position"
IS_ANY: Final = "SELECT 1 FROM touched LIMIT 1"
PREFIX: Final = "index-"

_ids: Final = msgspec.msgpack.Decoder(list[bytes])


class Unusable(Exception):
    """An index file cannot be used. The message says why."""


class Missing(Unusable):
    """An index file is not there: it may be removed at any time, and no backup has it."""


class Reference(NamedTuple):
    """Which index file is used.

    Attributes:
        token: random; in the file's name, and in it.
        position: of a commit: what it and those before it have made is in the file.
    """

    token: str
    position: int

    def path(self, folder: Path) -> Path:
        """The file, in its collection's folder."""
        return folder / f"{PREFIX}{self.token}"


def encoded(text: str) -> bytes:
    """A text as UTF-8, or what is no Unicode as Python's ``surrogatepass`` writes it."""
    return text.encode("utf-8", "surrogatepass")


def note(transaction: sqlite3.Connection, changes: Iterable[Change], position: int) -> None:
    """Note what a commit has touched."""
    names: list[str] = []
    for change in changes:
        names += change.ids if isinstance(change, Delete) else [item.id for item in change.items]
    ids = msgspec.msgpack.encode([encoded(each) for each in names])
    transaction.execute("INSERT INTO touched VALUES (?, ?, ?)", (position, ids, zlib.crc32(ids, position & 0xFFFFFFFF)))


def refer(transaction: sqlite3.Connection, reference: Reference) -> None:
    """Have another file used from now on."""
    transaction.execute("DELETE FROM index_file")
    transaction.execute("INSERT INTO index_file VALUES (1, ?, ?, ?)", (*reference, _reference_crc(*reference)))
    transaction.execute("DELETE FROM touched WHERE position <= ?", [reference.position])


def forget(transaction: sqlite3.Connection) -> None:
    """Have no file used."""
    transaction.execute("DELETE FROM index_file")
    transaction.execute("DELETE FROM touched")


def reference_in(rows: Sequence[Any]) -> Reference | None:
    """What the rows of :data:`REFERENCE` say.

    Raises:
        Unusable: they are not what was written.
    """
    if not rows:
        return None
    token, position, crc = rows[0]
    try:
        is_whole = _reference_crc(token, position) == crc
    except TypeError:
        is_whole = False
    if not is_whole:
        raise Unusable("the row that names it is not what was written")
    return Reference(token, position)


def ids_in(rows: Sequence[Any], since: int, until: int) -> list[bytes]:
    """The ids that the commits after one, up to another, have touched: what the rows of :data:`COMMITS` say.

    Raises:
        Unusable: a row is missing, or not what was written.
    """
    if since > until or [row[0] for row in rows] != [*range(since + 1, until + 1)]:
        raise Unusable(f"what the commits {since + 1} to {until} have touched is not all there")
    found: dict[bytes, None] = {}
    for position, ids, crc in rows:
        if not isinstance(ids, bytes) or zlib.crc32(ids, position & 0xFFFFFFFF) != crc:
            raise Unusable(f"what commit {position} has touched is not what was written")
        found.update(dict.fromkeys(_ids.decode(ids)))
    return [*found]


def _reference_crc(token: str, position: int) -> int:
    return zlib.crc32(f"{token}\0{position}".encode())
