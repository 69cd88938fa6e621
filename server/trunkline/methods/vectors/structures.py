"""The index structures of a collection, by faiss: row numbers in, row numbers out. Pure: no file, no clock.

Three structures, with one interface. :class:`Flat` compares every vector; :class:`Graph` (HNSW) and :class:`Lists`
(IVF) look at a part of them, and neither gives a row back: what is deleted stays in them and is left out of answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import faiss as _faiss
import numpy as np

from trunkline import ErrorCode, RpcError

if TYPE_CHECKING:
    from numpy.typing import NDArray

faiss: Any = _faiss  # its type stubs do not know what its Python layer adds

Metric = Literal["cosine", "dot", "euclidean"]
Kind = Literal["flat", "hnsw", "ivf"]

PARAMS: Final[Mapping[str, Mapping[str, tuple[int, int]]]] = {
    "flat": {},
    "hnsw": {"m": (4, 128), "ef_construction": (8, 2000), "ef_search": (8, 10_000)},
    "ivf": {"lists": (1, 65_536), "probes": (1, 65_536)},
}
"""What may be set of each kind of index, from and to."""

POINTS_PER_LIST: Final = 39
"""Vectors a list that faiss wants to train with (its ``ClusteringParameters.min_points_per_centroid``)."""
FLAT_BELOW: Final = 2000
"""Below so many vectors, comparing all of them is as fast as any structure, and exact."""
SLICE: Final = 4096
"""Vectors that are added at a time, so that a long building can be given up in between."""
SAVED_AT_ONCE: Final = 2**20
"""Bytes of a structure that are written or read at a time."""


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """The dimension and metric of an index, its kind and its parameters.

    Args:
        dimension: of the vectors.
        metric: ``cosine`` takes vectors of length 1.
        params: some of :data:`PARAMS` of its kind.

    Raises:
        RpcError: -32602, a parameter that the kind does not have, or beyond its bounds.
    """

    dimension: int
    metric: Metric = "cosine"
    kind: Kind = "flat"
    params: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = PARAMS[self.kind]
        for name, value in self.params.items():
            if name not in known:
                raise RpcError(
                    ErrorCode.INVALID_PARAMS,
                    f"index.{name}: an index of kind {self.kind} has no such parameter; it has "
                    f"{', '.join(known) or 'none'}",
                )
            low, high = known[name]
            if type(value) is not int or not low <= value <= high:
                raise RpcError(
                    ErrorCode.INVALID_PARAMS, f"index.{name}: {value!r:.50} is no whole number from {low} to {high}"
                )

    @property
    def faiss_metric(self) -> int:
        """faiss' number of the metric."""
        number: int = faiss.METRIC_L2 if self.metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
        return number

    @property
    def flat_below(self) -> int:
        """How many vectors it takes before another structure than :class:`Flat` is built."""
        return max(FLAT_BELOW, POINTS_PER_LIST * self.params.get("lists", 0))


Found = tuple["NDArray[np.float32]", "NDArray[np.int64]"]
"""What faiss found: its distances, and rows, best first; fewer than asked for where there are not so many."""


class Flat:
    """A structure that compares every vector. Rows can be replaced, moved and cut off.

    Args:
        count: rows it has to begin with, all zeros, for :attr:`memory` to be filled.
        room: rows that it may soon have, so that adding them moves nothing in memory.
    """

    def __init__(self, spec: IndexSpec, count: int = 0, room: int = 0) -> None:
        self._dimension = spec.dimension
        self._index: Any = faiss.IndexFlat(spec.dimension, spec.faiss_metric)
        if room > count:
            self._resize(room)
        self._resize(count)

    @classmethod
    def of(cls, spec: IndexSpec, vectors: NDArray[np.float32]) -> Flat:
        """The structure of these vectors."""
        flat = cls(spec)
        flat.add(vectors)
        return flat

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Append rows."""
        self._index.add(np.ascontiguousarray(vectors))

    def replace(self, rows: list[int], vectors: NDArray[np.float32]) -> None:
        """Put other vectors into rows that are there."""
        self.memory[rows] = vectors

    def remove(self, rows: list[int]) -> list[tuple[int, int]]:
        """Cut rows off: the last ones fill the places of those before them.

        Args:
            rows: that differ.

        Returns:
            The moves that were made: from which row to which.
        """
        memory = self.memory
        left = len(memory) - len(rows)
        gone = set(rows)
        moved = list(
            zip(
                (row for row in range(left, len(memory)) if row not in gone),
                (row for row in rows if row < left),
                strict=True,
            )
        )
        if moved:
            memory[[target for _, target in moved]] = memory[[source for source, _ in moved]]
        self._resize(left)
        return moved

    def _resize(self, count: int) -> None:
        self._index.codes.resize(count * self._dimension * 4)
        self._index.ntotal = count

    @property
    def memory(self) -> NDArray[np.float32]:
        """The index's own memory, a row a vector; valid until the index changes its size."""
        count = self._index.ntotal
        flat: NDArray[np.float32] = faiss.rev_swig_ptr(self._index.get_xb(), count * self._dimension)
        return flat.reshape(count, self._dimension)

    def vectors(self, rows: list[int] | None = None) -> NDArray[np.float32]:
        """A copy of some rows, or of all."""
        memory = self.memory
        return memory.copy() if rows is None else memory[rows]

    def search(self, query: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None, share: float) -> Found:
        """The ``k`` nearest of the allowed rows.

        Args:
            share: of the rows that is allowed, above 0.
        """
        params = faiss.SearchParameters(sel=_selector(allowed)) if allowed is not None else None
        return _asked(self._index, query, k, params)

    search_all = search


class Graph:
    """HNSW (Malkov and Yashunin, 2016): walks a graph of neighbours from the far to the near.

    Args:
        index: faiss' own, with what is in it.
    """

    def __init__(self, spec: IndexSpec, index: Any) -> None:
        self._ef = spec.params.get("ef_search", 100)
        self._index = index

    @classmethod
    def of(cls, spec: IndexSpec, vectors: NDArray[np.float32], go_on: Callable[[], bool]) -> Graph:
        """The graph of these vectors.

        Raises:
            Abandoned: ``go_on`` said so.
        """
        index = faiss.IndexHNSWFlat(spec.dimension, spec.params.get("m", 16), spec.faiss_metric)
        index.hnsw.efConstruction = spec.params.get("ef_construction", 100)
        _fill(index, vectors, go_on)
        return cls(spec, index)

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Append rows."""
        self._index.add(np.ascontiguousarray(vectors))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def vectors(self, rows: list[int] | None = None) -> NDArray[np.float32]:
        """A copy of some rows, or of all."""
        return _reconstructed(self._index.storage, rows)

    def search(self, query: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None, share: float) -> Found:
        """The ``k`` nearest of the allowed rows, or nearly all of them. The fewer are allowed, the wider the search."""
        wide = int(max(self._ef, 2 * k) / share)
        params = faiss.SearchParametersHNSW(efSearch=wide)
        if allowed is not None:
            params = faiss.SearchParametersHNSW(efSearch=wide, sel=_selector(allowed))
        return _asked(self._index, query, k, params)

    def search_all(self, query: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None, share: float) -> Found:
        """The ``k`` nearest of the allowed rows: every vector is compared."""
        params = faiss.SearchParameters(sel=_selector(allowed)) if allowed is not None else None
        return _asked(self._index.storage, query, k, params)


class Lists:
    """IVF: vectors in lists around centres (k-means); the lists whose centres are nearest are looked through.

    Args:
        index: faiss' own, with what is in it.
    """

    def __init__(self, spec: IndexSpec, index: Any) -> None:
        self._lists = int(index.nlist)
        self._probes = min(self._lists, spec.params.get("probes", max(16, self._lists // 8)))
        self._index = index

    @classmethod
    def of(cls, spec: IndexSpec, vectors: NDArray[np.float32], go_on: Callable[[], bool]) -> Lists:
        """The lists of these vectors.

        Raises:
            Abandoned: ``go_on`` said so.
        """
        most = max(1, len(vectors) // POINTS_PER_LIST)
        count = min(most, spec.params.get("lists", int(4 * len(vectors) ** 0.5)))
        centres = faiss.IndexFlat(spec.dimension, spec.faiss_metric)
        index = faiss.IndexIVFFlat(centres, spec.dimension, count, spec.faiss_metric)
        index.train(np.ascontiguousarray(vectors))
        index.make_direct_map(True)
        _fill(index, vectors, go_on)
        return cls(spec, index)

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Append rows, to the lists there are."""
        self._index.add(np.ascontiguousarray(vectors))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def vectors(self, rows: list[int] | None = None) -> NDArray[np.float32]:
        """A copy of some rows, or of all."""
        return _reconstructed(self._index, rows)

    def search(self, query: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None, share: float) -> Found:
        """The ``k`` nearest of the allowed rows in the nearest lists. The fewer are allowed, the more lists."""
        return self._search(query, k, allowed, min(self._lists, int(self._probes / share)))

    def search_all(self, query: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None, share: float) -> Found:
        """The ``k`` nearest of the allowed rows: every list is looked through."""
        return self._search(query, k, allowed, self._lists)

    def _search(self, query: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None, probes: int) -> Found:
        params = faiss.SearchParametersIVF(nprobe=probes)
        if allowed is not None:
            params = faiss.SearchParametersIVF(nprobe=probes, sel=_selector(allowed))
        return _asked(self._index, query, k, params)


Structure = Flat | Graph | Lists


class Abandoned(Exception):
    """The building of a structure was given up."""


def build(spec: IndexSpec, vectors: NDArray[np.float32], go_on: Callable[[], bool]) -> Structure:
    """The structure for these vectors; :class:`Flat` for any kind where they are few. Takes long for many.

    Args:
        go_on: asked now and then; false ends it.

    Raises:
        Abandoned: ``go_on`` said so.
    """
    if spec.kind == "flat" or len(vectors) < spec.flat_below:
        return Flat.of(spec, vectors)
    kind = Graph if spec.kind == "hnsw" else Lists
    return kind.of(spec, vectors, go_on)


def built_with(spec: IndexSpec) -> dict[str, str]:
    """What a structure is built with: one that was saved with anything else is another one."""
    params = {name: str(spec.params.get(name, "")) for name in ("m", "ef_construction", "lists")}
    about = {"kind": spec.kind, "metric": spec.metric, "dimension": str(spec.dimension)}
    return {**about, **params, "faiss": str(faiss.__version__)}


def save(structure: Graph | Lists, write: Callable[[bytes], object]) -> None:
    """Write a structure, its vectors included, some bytes at a time.

    Raises:
        OSError: what ``write`` raises, or another error of faiss.
    """
    failures: list[Exception] = []

    def written(data: bytes) -> int:
        try:
            write(data)
        except Exception as error:
            failures.append(error)
            return 0
        return len(data)

    try:
        faiss.write_index(structure._index, faiss.PyCallbackIOWriter(written, SAVED_AT_ONCE))
    except Exception as error:
        raise failures[0] if failures else OSError(str(error)) from error


def load(spec: IndexSpec, read: Callable[[int], bytes]) -> Graph | Lists:
    """A structure as it was saved: with :func:`built_with`, and by who was trusted, as faiss believes what it reads.

    Args:
        read: gives so many bytes, or fewer where there are no more.

    Raises:
        ValueError: it is none of this kind, dimension and metric.
    """
    try:
        index = faiss.read_index(faiss.PyCallbackIOReader(read, SAVED_AT_ONCE))
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    kind = faiss.IndexHNSWFlat if spec.kind == "hnsw" else faiss.IndexIVFFlat
    if not isinstance(index, kind) or (index.d, index.metric_type) != (spec.dimension, spec.faiss_metric):
        raise ValueError(f"it is a {type(index).__name__} of dimension {index.d}")
    return Graph(spec, index) if spec.kind == "hnsw" else Lists(spec, index)


def _fill(index: Any, vectors: NDArray[np.float32], go_on: Callable[[], bool]) -> None:
    for start in range(0, len(vectors), SLICE):
        if not go_on():
            raise Abandoned
        index.add(np.ascontiguousarray(vectors[start : start + SLICE]))


def _selector(allowed: NDArray[np.bool_]) -> Any:
    return faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))


def _reconstructed(index: Any, rows: list[int] | None) -> NDArray[np.float32]:
    if rows is None:
        every: NDArray[np.float32] = index.reconstruct_n(0, index.ntotal)
        return every
    some: NDArray[np.float32] = index.reconstruct_batch(np.array(rows, dtype=np.int64))
    return some


def _asked(index: Any, query: NDArray[np.float32], k: int, params: Any) -> Found:
    """Run one query, on one thread.

    Comparing one query with many vectors waits for memory, not for a core. faiss would still split it among all
    threads; on cores that have other work, their waiting for each other made it 3 to 100 times slower.
    """
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # of this thread: a building beside keeps its own
    try:
        distances, rows = index.search(query.reshape(1, -1), k, params=params)
    finally:
        faiss.omp_set_num_threads(threads)
    distances, rows = distances[0], rows[0]
    if len(rows) and rows[-1] >= 0:
        return distances, rows
    there = rows >= 0
    return distances[there], rows[there]
