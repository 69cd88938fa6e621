"""How much there is in a folder of collections, whoever has them open: items, and bytes on the disk. It blocks."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final, NamedTuple

from trunkline.storage.database import read_beside
from trunkline.storage.failures import told

COLLECTION_FILE: Final = "collection.sqlite"
"""In the folder of a collection. Its table ``collection`` has one row, with the ``count`` of items."""


class Stored(NamedTuple):
    """What collections hold: of those in the format of a former version, which nobody has opened since, no items."""

    collections: int = 0
    items: int = 0
    bytes: int = 0


class CollectionCounts:
    """Counts what is in folders of collections. What has not changed is not read again."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, ...], int]] = {}

    def of(self, folder: Path) -> Stored:
        """What the collections in a folder hold; nothing where it is not there.

        Raises:
            RpcError: 3002 or 5001, one of them cannot be read.
        """
        with told(f"the folder {folder} cannot be read", folder):
            if not folder.is_dir():
                return Stored()
            there = [each for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")]
        size = 0
        for file in (file for each in there for file in each.glob("*")):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                size += file.stat().st_size
        return Stored(len(there), sum(map(self._items, there)), size)

    def _items(self, folder: Path) -> int:
        path = folder / COLLECTION_FILE
        state = _state(path)
        if not state:
            self._known.pop(path, None)
            return 0
        known = self._known.get(path)
        if known is None or known[0] != state:
            try:
                ((count,),) = read_beside(path, f"collection {folder.name!r}", "SELECT count FROM collection")
            except BaseException:
                if not path.exists():  # it was deleted meanwhile
                    return 0
                raise
            known = self._known[path] = state, count
        return known[1]


def _state(path: Path) -> tuple[int, ...]:
    """What changes with each commit; empty where there is no file."""
    found: list[int] = []
    for file in (path, path.with_name(f"{path.name}-wal")):
        with contextlib.suppress(FileNotFoundError):
            stat = file.stat()
            found += (stat.st_ino, stat.st_mtime_ns, stat.st_size)
    return tuple(found)
