"""The HNSW or IVF structure of a collection, kept in the file ``index-structure``, so that it need not be built anew.

The file holds the structure with its vectors, a row an item, as it was when it was built beside; a row whose item has
another vector now, or is gone, is found by comparing all of them (restoring.py).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec

from trunkline.methods.vectors import structures
from trunkline.methods.vectors.derived_file import GivenUp, reading_derived, write_derived
from trunkline.methods.vectors.index import Building, VectorIndex
from trunkline.methods.vectors.restoring import restore
from trunkline.methods.vectors.row_format import as_text
from trunkline.methods.vectors.rows import CollectionFile
from trunkline.methods.vectors.touched import Unusable, encoded

NAME: Final = "index-structure"
LEAST: Final = 20_000
"""Items of a collection whose structure is kept; that of fewer is built in seconds."""
GROWN: Final = 0.5
"""Of the rows that were kept: with so many more, the structure is kept anew."""
CHANGED: Final = 0.05
"""Of the items: where so many had to be put right, the structure is kept anew."""
BYTES_A_ROW: Final = 1024
"""What a row may take of the file beside its vector: id, neighbours."""

logger = logging.getLogger("trunkline.vectors")

_Rows = tuple[int, list[bytes | None]]
"""The number of vectors the structure was trained with, and the ids of its rows; None: a deleted one."""
_rows: Final = msgspec.msgpack.Decoder(_Rows)


class KeptStructure:
    """What is known of the kept structure of a collection.

    Args:
        file: the collection's, which is open.
    """

    def __init__(self, file: CollectionFile) -> None:
        self._file = file
        self.path = file.folder / NAME
        self._kept_rows = 0

    def sweep(self) -> None:
        """Remove the file of a collection that has no structure to be kept."""
        if self._file.manifest.spec.kind == "flat" or self._file.count < LEAST:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def due(self, index: VectorIndex) -> bool:
        """Whether so much came since the structure was kept that it should be kept anew. On the collection's thread."""
        if index.is_exact or index.is_building or len(index) < LEAST or not self._file.is_shared:
            return False
        return index.rows > (1 + GROWN) * self._kept_rows

    def begin(self, index: VectorIndex) -> Callable[[Building], None]:
        """What to call for a building that begins now, in the place of its first :meth:`Building.work`.

        That is called on any other thread, and takes long: the structure is read, or built, and kept.
        """
        is_kept = index.spec.kind != "flat" and len(index) >= LEAST and self._file.is_shared
        if not is_kept:
            return Building.work
        self._kept_rows = len(index)  # where it cannot be kept, that is tried again when it has grown
        return partial(self._work, self._file.position)

    def _work(self, position: int, building: Building) -> None:
        changed = self._restored(building) if building.may_restore else None
        if changed is None:
            building.work()
        index = building.index
        if index is None or building.abandoned or index.is_exact:
            return
        if changed is None or changed > CHANGED * len(index):
            self._keep(index, position, lambda: not building.abandoned)

    def _restored(self, building: Building) -> int | None:
        try:
            with reading_derived(self.path, structures.built_with(building.spec)) as file:
                trained_with, ids = _decoded(file.part(0))
                try:
                    structure = structures.load(building.spec, file.reader(1))
                except ValueError as error:
                    raise Unusable(f"faiss cannot read it: {error}") from error
            if len(structure) != len(ids):
                raise Unusable(f"it has {len(structure)} rows, and {len(ids)} ids")
            changed = restore(building, structure, ids, trained_with)
            if changed is None:
                raise Unusable(f"too much has changed since commit {file.position}")
            return changed
        except FileNotFoundError:
            return None
        except (Unusable, OSError) as error:
            logger.warning("%s: the structure that was kept is not used, it is built anew: %s", self.path, error)
            return None

    def _keep(self, index: VectorIndex, position: int, go_on: Callable[[], bool]) -> None:
        structure, ids, trained_with = index.saved()
        rows = msgspec.msgpack.encode((trained_with, [None if each is None else encoded(each) for each in ids]))
        try:
            write_derived(
                self.path,
                structures.built_with(index.spec),
                position,
                (rows, lambda write: structures.save(structure, write)),
                len(ids) * (4 * index.spec.dimension + BYTES_A_ROW),
                go_on,
            )
        except GivenUp:
            return
        except (Unusable, OSError) as error:
            words = "%s: the structure is not kept until much has changed; it is built anew at the next opening: %s"
            logger.warning(words, self.path, error)


def _decoded(data: bytes) -> tuple[int, Sequence[str | None]]:
    try:
        trained_with, ids = _rows.decode(data)
    except msgspec.MsgspecError as error:
        raise Unusable(f"its rows are not what this version of Trunkline writes: {error}") from error
    return trained_with, [None if each is None else as_text(each) for each in ids]
