"""The items of one collection in memory, and finding the nearest. Pure: no file, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import faiss
import numpy as np

from trunkline.methods.vectors.log import Item, Upsert
from trunkline_protocol.errors import ErrorCode, RpcError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Match:
    """An item and the cosine of its angle to what was asked, -1 to 1."""

    item: Item
    score: float


class VectorIndex:
    """Items by id, with exact search (every vector is compared).

    Args:
        dimension: of the vectors.
        history: upserts to begin with, oldest first.
    """

    def __init__(self, dimension: int, history: Iterable[Upsert] = ()) -> None:
        self._vectors = faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))
        self._keys: dict[str, int] = {}
        self._items: list[Item] = []
        self._add_latest(history)

    def __len__(self) -> int:
        return len(self._items)

    def _add_latest(self, history: Iterable[Upsert]) -> None:
        """Only the last upsert of an id counts; faiss would take long to replace the others one by one."""
        latest: dict[str, tuple[Upsert, int]] = {}
        for upsert in history:
            latest.update((item.id, (upsert, row)) for row, item in enumerate(upsert.items))
        if latest:
            self._add(
                Upsert(
                    [u.items[row] for u, row in latest.values()],
                    np.stack([u.vectors[row] for u, row in latest.values()]),
                )
            )

    def upsert(self, upsert: Upsert) -> None:
        """Add items; those whose id is known replace what is there.

        If this raises (memory), the index is no longer whole and must not be used.
        """
        known = [self._keys[item.id] for item in upsert.items if item.id in self._keys]
        if known:
            self._vectors.remove_ids(np.array(known, dtype=np.int64))  # type: ignore[arg-type]  # or ids
        self._add(upsert)

    def _add(self, upsert: Upsert) -> None:
        keys = [self._keys.get(item.id, -1) for item in upsert.items]
        for row, item in enumerate(upsert.items):
            if keys[row] < 0:
                keys[row] = self._keys[item.id] = len(self._items)
                self._items.append(item)
            else:
                self._items[keys[row]] = item
        self._vectors.add_with_ids(np.ascontiguousarray(upsert.vectors), np.array(keys, dtype=np.int64))

    def missing(self, ids: Iterable[str]) -> list[str]:
        """The ids that are not there, in the order given."""
        return [each for each in ids if each not in self._keys]

    def search(self, vector: NDArray[np.float32], top_k: int) -> list[Match]:
        """The nearest items, best first.

        Args:
            vector: of length 1.
        """
        if not self._items:
            return []
        scores, keys = self._vectors.search(vector.reshape(1, -1), min(top_k, len(self._items)))
        return [
            Match(self._items[key], min(1.0, max(-1.0, float(score))))
            for score, key in zip(scores[0], keys[0], strict=True)
            if key >= 0
        ]


def unit_vectors(rows: Sequence[Sequence[float]], dimension: int, where: Sequence[str]) -> NDArray[np.float32]:
    """Numbers as vectors of length 1.

    Args:
        where: for each row, what to call it in an error.

    Raises:
        RpcError: -32602, another dimension, a number that is not finite as float32, or a vector without direction.
    """
    for row, place in zip(rows, where, strict=True):
        if len(row) != dimension:
            raise RpcError(
                ErrorCode.INVALID_PARAMS, f"{place} has {len(row)} numbers; the collection's dimension is {dimension}"
            )
    vectors = np.array(rows, dtype=np.float64).reshape(len(rows), dimension)
    largest = np.abs(vectors).max(axis=1)
    for place, value in zip(where, largest.tolist(), strict=True):
        if not value <= float(np.finfo(np.float32).max):
            raise RpcError(ErrorCode.INVALID_PARAMS, f"{place} has a number that is not finite as float32")
        if value == 0:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"{place} is all zeros, which has no direction")
    vectors /= largest[:, None]  # squares of the very large and the very small would be lost
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    return vectors.astype(np.float32)
