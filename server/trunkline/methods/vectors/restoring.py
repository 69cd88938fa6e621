"""Building the structure of an index from one that was saved: what has changed since is put right. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from trunkline.methods.vectors.changes import Upsert
from trunkline.methods.vectors.index import OUTGROWN, TOMBSTONE_SHARE, Building, VectorIndex
from trunkline.methods.vectors.structures import SLICE, Graph, Lists

if TYPE_CHECKING:
    from numpy.typing import NDArray


def restore(building: Building, structure: Graph | Lists, ids: Sequence[str | None], built_with: int) -> int | None:
    """Begin a building with a structure that was saved, in the place of its first :meth:`Building.work`.

    A row stays if its item is there and has that very vector; all other items are put in as new ones. So whatever was
    saved, and whenever: what is found is what is there.

    Args:
        ids, built_with: as :meth:`VectorIndex.saved` said.

    Returns:
        The number of rows that were deleted and of items that were put in. None: they are so many, or the lists were
        made for so few, that it is to be built anew.
    """
    assert building.pending is not None
    _, items, vectors = building.pending
    kept = _kept(structure, ids, {item.id: at for at, item in enumerate(items)}, vectors)
    gone = kept.count(None)
    is_outgrown = building.spec.kind == "ivf" and len(items) > OUTGROWN * built_with
    if gone > TOMBSTONE_SHARE * len(ids) or is_outgrown:
        return None
    index = VectorIndex(building.spec, [None if at is None else items[at] for at in kept], structure, built_with)
    is_new = np.ones(len(items), dtype=np.bool_)
    is_new[[at for at in kept if at is not None]] = False
    new = np.flatnonzero(is_new)
    for first in range(0, len(new), SLICE):
        if building.abandoned:
            break
        some = new[first : first + SLICE]
        index.upsert(Upsert([items[at] for at in some.tolist()], vectors[some]))
    building.begun_with(index)
    return gone + len(new)


def _kept(
    structure: Graph | Lists, ids: Sequence[str | None], places: dict[str, int], vectors: NDArray[np.float32]
) -> list[int | None]:
    """For each row the place of its item, if that has the row's vector; an item has one row at most."""
    kept: list[int | None] = []
    for first in range(0, len(ids), SLICE):
        found = [None if each is None else places.pop(each, None) for each in ids[first : first + SLICE]]
        there = [row for row, at in enumerate(found) if at is not None]
        if there:
            saved = structure.vectors([first + row for row in there])
            same = (saved == vectors[[at for at in found if at is not None]]).all(axis=1)
            for row in np.array(there)[~same].tolist():
                found[row] = None
        kept += found
    return kept
