"""The items of one collection in memory, and finding the nearest. Pure: no file, no clock, no thread of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from trunkline.methods.vectors.changes import Item, Upsert
from trunkline.methods.vectors.structures import (
    POINTS_PER_LIST,
    Abandoned,
    Flat,
    Found,
    Graph,
    IndexSpec,
    Kind,
    Lists,
    Metric,
    Structure,
    build,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Building", "IndexSpec", "Kind", "Match", "Metric", "VectorIndex"]

TOMBSTONE_SHARE: Final = 0.2
"""Of the rows of a graph or of lists: with more of them deleted it is built anew."""
OUTGROWN: Final = 4
"""Lists are trained anew when there are so many times the vectors they were trained with."""
FEW: Final = 2000
"""So few matching rows are compared one by one rather than by the structure."""
EXACT_BELOW: Final = 0.1
"""Share of the rows a search may find below which comparing all of these is faster than looking so much wider."""
PROBE: Final = 4
"""Times ``top_k``: so many of the nearest are tried against a filter first."""
MOST_PROBED: Final = 1024
"""So many are tried then; then all items."""
REMEMBERED: Final = 8
"""Filters whose matching rows are kept, until something changes."""
SMALL_CHANGE: Final = 1000
"""Items changed since a building began, below which they are put in while searches wait."""


@dataclass(frozen=True, slots=True)
class Match:
    """An item and how near it is; higher is nearer.

    ``score`` is the cosine of the angle, -1 to 1; the inner product; or minus the Euclidean distance, 0 at most.
    """

    item: Item
    score: float


class VectorIndex:
    """Items by id, and the nearest of them.

    Whatever its kind, it begins as :class:`Flat`, which is exact; where another structure is :attr:`due`, its owner
    has it built beside (:class:`Building`) while this one answers.

    Args:
        items: to begin with; their ids differ. None: a row that is deleted, which only :class:`Flat` cannot have.
        structure: has just their vectors, a row an item; of length 1 where the metric is cosine.
        built_with: so many vectors the structure was trained with; by default all.
    """

    def __init__(
        self,
        spec: IndexSpec,
        items: Sequence[Item | None] = (),
        structure: Structure | None = None,
        built_with: int | None = None,
    ) -> None:
        self.spec = spec
        self._structure = Flat(spec) if structure is None else structure
        self._items: list[Item | None] = list(items)
        self._rows = {item.id: row for row, item in enumerate(items) if item is not None}
        self._live = np.ones(max(16, len(items)), dtype=np.bool_)
        if len(self._rows) < len(items):
            self._live[: len(items)] = [item is not None for item in items]
        self._built_with = len(items) if built_with is None else built_with
        self._matched: dict[Callable[[Item], bool], NDArray[np.int32]] = {}
        self._building: Building | None = None
        self._cannot_be_built = False
        self._outdated = False

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def tombstones(self) -> int:
        """Rows that are deleted or replaced, and still in the structure."""
        return len(self._items) - len(self._rows)

    @property
    def is_exact(self) -> bool:
        """Whether every vector is compared: the kind is flat, or too few are there, or it is not built yet."""
        return isinstance(self._structure, Flat)

    @property
    def due(self) -> bool:
        """Whether the structure should be built (anew), beside this one."""
        if self._building is not None or self._cannot_be_built:
            return False
        if self._outdated:
            return True
        if self.spec.kind == "flat":
            return False
        if self.is_exact:
            return len(self) >= self.spec.flat_below
        if self.tombstones > TOMBSTONE_SHARE * len(self._items):
            return True
        return self.spec.kind == "ivf" and len(self) > OUTGROWN * max(self._built_with, POINTS_PER_LIST)

    @property
    def rows(self) -> int:
        """Rows of the structure, :attr:`tombstones` included."""
        return len(self._items)

    @property
    def is_building(self) -> bool:
        """Whether the structure is being built anew, beside."""
        return self._building is not None

    # --- changes ---

    def upsert(self, upsert: Upsert) -> None:
        """Add items; those whose id is known replace what is there.

        If this raises (memory), the index is no longer whole and must not be used.
        """
        self._note(item.id for item in upsert.items)
        new = [*range(len(upsert.items))]
        if isinstance(self._structure, Flat):
            known = [row for row in new if upsert.items[row].id in self._rows]
            if known:
                self._replace(self._structure, known, upsert)
                new = [row for row in new if upsert.items[row].id not in self._rows]
        if new:
            vectors = upsert.vectors if len(new) == len(upsert.items) else upsert.vectors[new]
            self._append([upsert.items[row] for row in new], vectors)

    def _replace(self, structure: Flat, known: list[int], upsert: Upsert) -> None:
        rows = [self._rows[upsert.items[each].id] for each in known]
        structure.replace(rows, upsert.vectors[known])
        for row, each in zip(rows, known, strict=True):
            self._items[row] = upsert.items[each]

    def _append(self, items: Sequence[Item], vectors: NDArray[np.float32]) -> None:
        self._structure.add(vectors)
        first = len(self._items)
        self._reserve(first + len(items))
        for row, item in enumerate(items, first):
            before = self._rows.get(item.id)
            if before is not None:
                self._bury(before)
            self._rows[item.id] = row
        self._items.extend(items)

    def _reserve(self, rows: int) -> None:
        if rows > len(self._live):
            more = np.ones(max(rows, 2 * len(self._live)), dtype=np.bool_)
            more[: len(self._live)] = self._live
            self._live = more

    def _bury(self, row: int) -> None:
        self._items[row] = None
        self._live[row] = False

    def delete(self, ids: Iterable[str]) -> int:
        """Remove items. Returns the number of items that were there."""
        there = [each for each in dict.fromkeys(ids) if each in self._rows]
        self._note(there)
        rows = [self._rows.pop(each) for each in there]
        if isinstance(self._structure, Flat):
            self._cut(self._structure, rows)
        else:
            for row in rows:
                self._bury(row)
        return len(rows)

    def _cut(self, structure: Flat, rows: list[int]) -> None:
        for source, target in structure.remove(rows):
            item = self._items[target] = self._item(source)
            self._rows[item.id] = target
        del self._items[len(self._items) - len(rows) :]

    # --- what is there ---

    def item(self, id: str) -> Item | None:
        """The item with an id; None where it is not there."""
        row = self._rows.get(id)
        return None if row is None else self._item(row)

    def items(self) -> list[Item]:
        """All items."""
        return [item for item in self._items if item is not None]

    def missing(self, ids: Iterable[str]) -> list[str]:
        """The ids that are not there, in the order given."""
        return [each for each in ids if each not in self._rows]

    def get(self, ids: Iterable[str]) -> list[tuple[Item, NDArray[np.float32]] | None]:
        """Items and their vectors, in the order given; None for what is not there."""
        rows = [self._rows.get(each) for each in ids]
        there = [row for row in rows if row is not None]
        vectors = iter(self._structure.vectors(there)) if there else iter(())
        return [None if row is None else (self._item(row), next(vectors)) for row in rows]

    def some(self, ids: Iterable[str]) -> tuple[list[Item], NDArray[np.float32]]:
        """Those of some items that are there, and a copy of their vectors, a row an item."""
        rows = [row for row in map(self._rows.get, ids) if row is not None]
        return [self._item(row) for row in rows], self._structure.vectors(rows) if rows else self._no_vectors()

    def contents(self) -> tuple[list[Item], NDArray[np.float32]]:
        """All items, and a copy of their vectors, a row an item."""
        rows = [row for row, item in enumerate(self._items) if item is not None]
        vectors = self._structure.vectors(rows if self.tombstones else None) if rows else self._no_vectors()
        return [self._item(row) for row in rows], vectors

    def ids(self) -> list[str]:
        """The ids of all items."""
        return list(self._rows)

    def matching(self, matches: Callable[[Item], bool]) -> list[str]:
        """The ids of the items for which ``matches`` is true."""
        return [self._item(row).id for row in self._matching(matches).tolist()]

    def _item(self, row: int) -> Item:
        item = self._items[row]
        assert item is not None
        return item

    def _no_vectors(self) -> NDArray[np.float32]:
        return np.empty((0, self.spec.dimension), dtype=np.float32)

    # --- search ---

    def search(
        self,
        vector: NDArray[np.float32],
        top_k: int,
        min_score: float | None = None,
        matches: Callable[[Item], bool] | None = None,
    ) -> list[Match]:
        """The nearest items, best first.

        Args:
            vector: of length 1 where the metric is cosine.
            min_score: leave out what scores less.
            matches: leave out items for which this is false.
        """
        if not self._rows:
            return []
        if matches is None:
            found = self._nearest(vector, min(top_k, len(self)))
        else:
            found = self._nearest_matching(vector, top_k, min_score, matches)
        scores, rows = found
        return [
            Match(self._item(row), score)
            for score, row in zip(scores.tolist(), rows.tolist(), strict=True)
            if min_score is None or score >= min_score
        ]

    def scores(self, vector: NDArray[np.float32], ids: Sequence[str]) -> list[float]:
        """The scores of items for a vector, in the order of their ids, which have to be there."""
        if not ids:
            return []
        vectors = self._structure.vectors([self._rows[each] for each in ids])
        scores: list[float] = self._scores(self._distances(vector, vectors)).tolist()
        return scores

    def _nearest(self, vector: NDArray[np.float32], k: int) -> Found:
        """The nearest of all live rows."""
        allowed = self._live[: len(self._items)] if self.tombstones else None
        return self._ask(vector, k, allowed, len(self))

    def _nearest_matching(
        self,
        vector: NDArray[np.float32],
        top_k: int,
        min_score: float | None,
        matches: Callable[[Item], bool],
    ) -> Found:
        """Where the filter leaves much, the matches are among the nearest; else all items are tried."""
        few = min(len(self), PROBE * top_k)
        for width in (few, min(len(self), max(few, MOST_PROBED))):
            scores, rows = self._nearest(vector, width)
            kept = [at for at, row in enumerate(rows.tolist()) if matches(self._item(row))][:top_k]
            is_all = width == len(self) or (min_score is not None and float(scores[-1]) < min_score)
            if len(kept) == top_k or is_all:
                return scores[kept], rows[kept]
        matching = self._matching(matches)
        if len(matching) <= max(FEW, top_k):
            return self._compare(vector, top_k, matching)
        allowed = np.zeros(len(self._items), dtype=np.bool_)
        allowed[matching] = True
        return self._ask(vector, top_k, allowed, len(matching))

    def _matching(self, matches: Callable[[Item], bool]) -> NDArray[np.int32]:
        """The rows for which it is true. Trying all items takes long, so the last answers are kept until a change."""
        rows = self._matched.pop(matches, None)
        if rows is None:
            found = (row for row, item in enumerate(self._items) if item is not None and matches(item))
            rows = np.fromiter(found, dtype=np.int32)
            while len(self._matched) >= REMEMBERED:
                del self._matched[next(iter(self._matched))]
        self._matched[matches] = rows
        return rows

    def _ask(self, vector: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None, count: int) -> Found:
        """The structure; where it finds fewer than there are, all its vectors are compared.

        Args:
            count: of the allowed rows, at least ``k``.
        """
        share = count / len(self._items)
        if share >= EXACT_BELOW:
            distances, rows = self._structure.search(vector, k, allowed, share)
        if share < EXACT_BELOW or len(rows) < k:
            distances, rows = self._structure.search_all(vector, k, allowed, share)
        return self._scores(distances), rows

    def _scores(self, distances: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.spec.metric == "euclidean":
            return np.subtract(0, np.sqrt(np.maximum(distances, 0)), dtype=np.float32)  # never -0.0
        if self.spec.metric == "cosine":
            return np.clip(distances, -1, 1)
        return distances

    def _distances(self, vector: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The distances as a structure's search gives them: squares of distances, or inner products."""
        if self.spec.metric == "euclidean":
            squares: NDArray[np.float32] = ((vectors - vector) ** 2).sum(axis=1)
            return squares
        products: NDArray[np.float32] = vectors @ vector
        return products

    def _compare(self, vector: NDArray[np.float32], k: int, rows: NDArray[np.int32]) -> Found:
        """The nearest of a few rows."""
        if not len(rows):
            return np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int64)
        scores = self._scores(self._distances(vector, self._structure.vectors(rows.tolist())))
        best = np.argsort(-scores, kind="stable")[:k]
        return scores[best], rows[best].astype(np.int64)

    # --- building anew, beside ---

    def outdate(self, spec: IndexSpec) -> None:
        """Have another structure, or the same kind built anew: it is :attr:`due` then; until then this one answers.

        Args:
            spec: of the same dimension and metric.
        """
        assert (spec.dimension, spec.metric) == (self.spec.dimension, self.spec.metric)
        self.spec = spec
        self._building, self._cannot_be_built = None, False
        self._outdated = not (self.is_exact and spec.kind == "flat")

    def begin_building(self) -> Building:
        """Begin to build the structure anew; one at a time. See :class:`Building`."""
        may_restore = not self._outdated and (self.is_exact or not self.due)
        items, vectors = self.contents()
        self._building = Building(self.spec, items, vectors, may_restore=may_restore)
        return self._building

    def finish_building(self, building: Building) -> bool:
        """Take over what was built, and what has changed since. False: that is much; call :meth:`Building.work` again.

        A building that was abandoned, or is not the last one that was begun, changes nothing.
        """
        if building is not self._building:
            return True
        if building.abandoned:
            self._building = None
            return True
        changed, building.changed = building.changed, set()
        there = [each for each in changed if each in self._rows]
        found = [each for each in self.get(there) if each is not None]
        vectors = np.stack([vector for _, vector in found]) if found else self._no_vectors()
        building.pending = (changed, [item for item, _ in found], vectors)
        if len(changed) > SMALL_CHANGE and building.rounds < 5:
            return False
        building.work()
        assert building.index is not None
        self._adopt(building.index)
        return True

    def fail_building(self) -> None:
        """Give up a building that failed (memory): the index stays as it is, and not due before :meth:`outdate`."""
        self._building, self._cannot_be_built = None, True

    def _adopt(self, built: VectorIndex) -> None:
        self._structure, self._items, self._rows = built._structure, built._items, built._rows
        self._live, self._built_with = built._live, built._built_with
        self._matched.clear()
        self._building, self._outdated = None, False

    def saved(self) -> tuple[Graph | Lists, list[str | None], int]:
        """The structure, the ids of its rows (None: a deleted one), and the number of vectors it was trained with."""
        assert not isinstance(self._structure, Flat)
        return self._structure, [None if each is None else each.id for each in self._items], self._built_with

    def _note(self, ids: Iterable[str]) -> None:
        """Note changed ids for a building under way, and forget filters' results. Called before any change."""
        self._matched.clear()
        if self._building is not None:
            self._building.changed.update(ids)

    def build(self) -> None:
        """Build the structure anew, now: for those who can wait."""
        building = self.begin_building()
        building.work()
        self.finish_building(building)


class Building:
    """A structure that is built beside the one in use, which can be searched and changed meanwhile.

    Its owner calls, on the thread of the index, :meth:`VectorIndex.begin_building`; then, on any thread,
    :meth:`work`, which takes long; then :meth:`VectorIndex.finish_building`; and the latter two again until it is done.

    Attributes:
        may_restore: a structure that was saved before may be what it begins with (restoring.py).
        changed: ids that were put in or deleted since ``pending`` was taken.
        pending: what the next :meth:`work` does: ids to be deleted, and items to be put in, with their vectors.
        index: what was built so far.
        abandoned: it was given up: set this to end it soon.
    """

    def __init__(
        self, spec: IndexSpec, items: list[Item], vectors: NDArray[np.float32], *, may_restore: bool = False
    ) -> None:
        self.spec = spec
        self.may_restore = may_restore
        self.changed: set[str] = set()
        self.pending: tuple[set[str], list[Item], NDArray[np.float32]] | None = (set(), items, vectors)
        self.index: VectorIndex | None = None
        self.abandoned = False
        self.rounds = 0

    def work(self) -> None:
        """Build the structure, or apply the pending changes to what was built."""
        assert self.pending is not None
        gone, items, vectors = self.pending
        self.pending = None
        self.rounds += 1
        if self.index is None:
            self._build(items, vectors)
        else:
            self.index.delete(gone)
            if items:
                self.index.upsert(Upsert(items, vectors))

    def _build(self, items: list[Item], vectors: NDArray[np.float32]) -> None:
        with contextlib.suppress(Abandoned):
            self.index = VectorIndex(self.spec, items, build(self.spec, vectors, lambda: not self.abandoned))

    def begun_with(self, index: VectorIndex) -> None:
        """What the first :meth:`work` would build is there already."""
        self.index, self.pending, self.rounds = index, None, self.rounds + 1
