"""The pack ``vectors``: collections of vectors, with texts and metadata, searched by cosine.

A collection has one owner: every call with its name goes to one executor, which keeps it in memory and alone writes
its folder. What is acknowledged is on disk. Search is exact: it compares all vectors of the collection.

Not here: deleting single items, filters by metadata, and compaction. A log grows with each upsert, replaced items
included, until the collection is deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NotRequired

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from trunkline.methods.context import Context
from trunkline.methods.embeddings.client import embed
from trunkline.methods.registry import method
from trunkline.methods.vectors.index import Match
from trunkline.methods.vectors.log import Item, Upsert
from trunkline.methods.vectors.numbers import as_vectors
from trunkline.methods.vectors.store import (
    Collection,
    CollectionLocked,
    CollectionStore,
    Manifest,
)
from trunkline_protocol.errors import ErrorCode, RpcError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ITEMS: Final = 1024
MAX_DIMENSION: Final = 16_384
LOCK_PATIENCE: Final = 5.0
"""Seconds to wait for a collection that another process has: mostly an executor that is just dying."""
LOCK_RETRY: Final = 0.05

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$")]
Id = Annotated[str, Field(min_length=1, max_length=512)]
Vector = list[float]
Metadata = dict[str, Any]


class UpsertItem(BaseModel):
    """An item: a vector, or a text that is embedded; with both, the vector counts and the text is kept beside it."""

    model_config = ConfigDict(extra="forbid")

    id: Id
    vector: Vector | None = None
    text: Annotated[str, Field(min_length=1)] | None = None
    metadata: Metadata = {}


class CollectionDescription(TypedDict):
    """What a collection is.

    ``model`` is what embedded its texts; null as long as all its vectors came from callers.
    """

    name: str
    dimension: int
    model: str | None
    metadata: Metadata
    format_version: int


class CreatedCollection(CollectionDescription):
    """``created`` is false where just this collection was there already."""

    created: bool


class UnreadableCollection(TypedDict):
    """One that is there and cannot be read, and why."""

    name: str
    error: str


class CollectionList(TypedDict):
    """By name."""

    collections: list[CollectionDescription | UnreadableCollection]


class CollectionStats(CollectionDescription):
    """``count`` items; ``bytes`` is the size of the log on disk."""

    count: int
    bytes: int


class FoundItem(TypedDict):
    """A match: ``score`` is the cosine, -1 to 1. ``text`` is there where the item has one."""

    id: str
    score: float
    text: NotRequired[str]
    metadata: Metadata


class Matches(TypedDict):
    """Best first."""

    matches: list[FoundItem]


class VectorMethods:
    """The collections of one data folder, as far as this executor owns them."""

    def __init__(self) -> None:
        self._open: dict[str, Collection] = {}
        self._arrivals = Arrivals()
        self._store: CollectionStore | None = None

    def load(self, settings: Mapping[str, Any]) -> None:
        """Find the data folder, ``settings["data_dir"]``. Collections are opened when they are first used.

        Raises:
            RpcError: 4001, not set; 5001 or 5002, it cannot be made.
        """
        if not settings.get("data_dir"):
            raise RpcError(ErrorCode.INVALID_CONFIGURATION, "vectors: data_dir is not set (TRUNKLINE_DATA)")
        self._store = CollectionStore(Path(settings["data_dir"]) / "collections")

    def close(self) -> None:
        """Let go of all collections, for processes that go on."""
        for collection in self._open.values():
            collection.close()
        self._open.clear()

    # --- collections ---

    @method("collections.create", idempotent=True, routing_key="name")
    async def create(
        self,
        name: Name,
        ctx: Context,
        dimension: Annotated[int, Field(ge=1, le=MAX_DIMENSION)] | None = None,
        metadata: Metadata | None = None,
    ) -> CreatedCollection:
        """Make a collection. Without ``dimension`` it is for texts, and takes model and dimension of the embeddings.

        Making one that exists is fine if dimension, model and metadata are the same; else it is an error.

        Raises:
            RpcError: 4001, one of that name exists and differs.
        """
        model = None
        if dimension is None:
            probe = await embed(ctx, ["dimension"])
            model, dimension = probe.model, probe.vectors.shape[1]
        wanted = Manifest(name=name, dimension=dimension, model=model, metadata=metadata or {})
        existing = await self._find(name, ctx)
        if existing is None:
            await ctx.run_in_thread(self._storage.create, wanted)
            return {**_description(wanted), "created": True}
        # Without a model, the caller asked for a dimension and leaves the model to the texts. Formats are upgraded.
        same = {"format_version": wanted.format_version} | ({} if model else {"model": None})
        if existing.manifest.model_copy(update=same) != wanted:
            raise RpcError(
                ErrorCode.INVALID_CONFIGURATION,
                f"collection {name!r} exists with {_difference(existing.manifest, wanted)}; take another name, or "
                "call collections.delete first",
            )
        return {**_description(existing.manifest), "created": False}

    @method("collections.list", idempotent=True)
    async def list(self, ctx: Context) -> CollectionList:
        """All collections, by name."""
        manifests = await ctx.run_in_thread(lambda: [*self._storage.manifests()])
        return {
            "collections": [
                _description(each) if isinstance(each, Manifest) else {"name": each[0], "error": each[1]}
                for each in manifests
            ]
        }

    @method("collections.stats", idempotent=True, routing_key="name")
    async def stats(self, name: Name, ctx: Context) -> CollectionStats:
        """What a collection is and how much is in it.

        Raises:
            RpcError: 4001, there is no such collection.
        """
        collection = await self._get(name, ctx)
        return {
            **_description(collection.manifest),
            "count": len(collection.index),
            "bytes": collection.log_bytes,
        }

    @method("collections.delete", routing_key="name")
    async def delete(self, name: Name, ctx: Context) -> dict[str, Any]:
        """Remove a collection and all that is in it.

        Raises:
            RpcError: 4001, there is no such collection.
        """
        collection = await self._get(name, ctx)
        await ctx.run_in_thread(self._delete, collection)
        return {"name": name, "deleted": True}

    # --- vectors ---

    @method("vectors.upsert", idempotent=True, routing_key="collection", timeout_ms=120_000, max_timeout_ms=600_000)
    async def upsert(
        self, collection: Name, items: Annotated[Sequence[UpsertItem], Field(max_length=MAX_ITEMS)], ctx: Context
    ) -> dict[str, int]:
        """Put items in, or replace those whose id is there. All or none; acknowledged when on disk.

        Of upserts of one id the one that came in last counts, however long the texts of each take to embed.

        Raises:
            RpcError: -32602, a vector that cannot be, or an id given twice; 4001, no such collection, or another
                model; 5002, disk full.
        """
        ids = [item.id for item in items]
        if len(set(ids)) < len(ids):
            twice = next(each for each in ids if ids.count(each) > 1)
            raise RpcError(ErrorCode.INVALID_PARAMS, f"vectors.upsert: items: id {twice!r:.100} is given twice")
        with self._arrivals.enter(collection, ids) as arrival:
            owned = await self._get(collection, ctx)
            model, vectors = await self._vectors_of(items, owned, ctx)
            upsert = Upsert([Item(item.id, item.text, item.metadata) for item in items], vectors)
            await ctx.run_in_thread(self._apply, arrival, owned, upsert, model)
        return {"upserted": len(items)}

    @method("vectors.missing", idempotent=True, routing_key="collection")
    async def missing(self, collection: Name, ids: Sequence[Id], ctx: Context) -> dict[str, Sequence[str]]:
        """Which of the ids are not in the collection, in the order given.

        Raises:
            RpcError: 4001, there is no such collection.
        """
        owned = await self._get(collection, ctx)
        return {"ids": await ctx.run_in_thread(_with_open(owned, owned.index.missing), ids)}

    @method("vectors.search", idempotent=True, routing_key="collection")
    async def search(
        self,
        collection: Name,
        ctx: Context,
        text: Annotated[str, Field(min_length=1)] | None = None,
        vector: Vector | None = None,
        top_k: Annotated[int, Field(ge=1, le=1000)] = 5,
        model: str | None = None,
    ) -> Matches:
        """The items nearest to a text or to a vector.

        Args:
            model: what made ``vector``; if given, it must be the collection's.

        Raises:
            RpcError: -32602, not just one of text and vector; 4001, no such collection, or another model.
        """
        if (text is None) == (vector is None):
            raise RpcError(ErrorCode.INVALID_PARAMS, "vectors.search: give either text or vector")
        owned = await self._get(collection, ctx)
        manifest = owned.manifest
        if text is not None:
            embedded = await embed(ctx, [text])
            model = embedded.model
            query = _same_space(manifest, model, embedded.vectors)[0]
        else:
            assert vector is not None
            _check_model(manifest, model)
            query = as_vectors([vector], manifest.dimension, "cosine", ["vectors.search: vector"])[0]
        matches = await ctx.run_in_thread(_with_open(owned, owned.index.search), query, top_k)
        return {"matches": [_found(match) for match in matches]}

    # --- inside ---

    @property
    def _storage(self) -> CollectionStore:
        assert self._store is not None
        return self._store

    async def _vectors_of(
        self, items: Sequence[UpsertItem], owned: Collection, ctx: Context
    ) -> tuple[str | None, NDArray[np.float32]]:
        """A vector an item, given or embedded, and the model if a text was embedded."""
        manifest = owned.manifest
        given = [row for row, item in enumerate(items) if item.vector is not None]
        vectors = np.empty((len(items), manifest.dimension), dtype=np.float32)
        vectors[given] = as_vectors(
            [items[row].vector or [] for row in given],
            manifest.dimension,
            "cosine",
            [f"vectors.upsert: items[{row}].vector" for row in given],
        )
        texts = {}
        for row, item in enumerate(items):
            if item.vector is None:
                if item.text is None:
                    raise RpcError(
                        ErrorCode.INVALID_PARAMS, f"vectors.upsert: items[{row}] has neither vector nor text"
                    )
                texts[row] = item.text
        if not texts:
            return None, vectors
        embedded = await embed(ctx, [*texts.values()])
        vectors[[*texts]] = _same_space(manifest, embedded.model, embedded.vectors)
        return embedded.model, vectors

    async def _get(self, name: str, ctx: Context) -> Collection:
        collection = await self._find(name, ctx)
        if collection is None:
            raise RpcError(
                ErrorCode.INVALID_CONFIGURATION, f"there is no collection {name!r}: call collections.create first"
            )
        return collection

    async def _find(self, name: str, ctx: Context) -> Collection | None:
        """The collection, opened if need be; None where there is none."""
        collection = self._open.get(name)
        if collection is not None and not collection.closed:
            return collection
        deadline = asyncio.get_running_loop().time() + LOCK_PATIENCE
        while True:
            try:
                opened: Collection | None = await ctx.run_in_thread(self._open_now, name)
                return opened
            except CollectionLocked as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise RpcError(
                        ErrorCode.DATABASE_CONNECTION_ERROR,
                        f"collection {name!r} is in use: {error}. Two hubs must not share a data folder "
                        "(TRUNKLINE_DATA): stop one, or give it another",
                        retry_after_ms=1000,
                    ) from error
            await asyncio.sleep(LOCK_RETRY)

    def _open_now(self, name: str) -> Collection | None:
        """On the thread, so that two calls cannot open it twice."""
        collection = self._open.get(name)
        if collection is None or collection.closed:
            collection = self._storage.open(name)
            if collection is not None:
                self._open[name] = collection
        return collection

    def _apply(self, arrival: Arrival, collection: Collection, upsert: Upsert, model: str | None) -> None:
        """On the thread, so that log and index have one order."""
        if arrival.superseded:
            rows = [row for row, item in enumerate(upsert.items) if item.id not in arrival.superseded]
            upsert = Upsert([upsert.items[row] for row in rows], upsert.vectors[rows])
        if upsert.items:
            collection.upsert(upsert, model)
            self._arrivals.applied(arrival)

    def _delete(self, collection: Collection) -> None:
        collection.check_open()
        self._storage.delete(collection)
        self._open.pop(collection.manifest.name, None)


@dataclass(slots=True, eq=False)
class Arrival:
    """An upsert on its way. ``superseded`` are ids that a later one has already put in: they must not be undone."""

    collection: str
    ids: frozenset[str]
    superseded: set[str] = field(default_factory=set)


class Arrivals:
    """Upserts on their way, in the order they came in. None waits for another: texts take long to embed."""

    def __init__(self) -> None:
        self._upserts: list[Arrival] = []

    @contextmanager
    def enter(self, collection: str, ids: Sequence[str]) -> Iterator[Arrival]:
        """Take a place in the order, until the block is left."""
        arrival = Arrival(collection, frozenset(ids))
        self._upserts.append(arrival)
        try:
            yield arrival
        finally:
            self._upserts.remove(arrival)

    def applied(self, arrival: Arrival) -> None:
        """Tell those before it. On the executor's thread."""
        for earlier in tuple(self._upserts):
            if earlier is arrival:
                break
            if earlier.collection == arrival.collection:
                earlier.superseded |= earlier.ids & arrival.ids


def _with_open(collection: Collection, function: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*args: Any) -> Any:
        collection.check_open()
        return function(*args)

    return checked


def _check_model(manifest: Manifest, model: str | None) -> None:
    if None not in (model, manifest.model) and model != manifest.model:
        raise RpcError(
            ErrorCode.INVALID_CONFIGURATION,
            f"collection {manifest.name!r} has vectors of {manifest.model}, and this is one of {model}: set "
            "TRUNKLINE_MODEL to the former, or delete the collection and index its texts again",
        )


def _same_space(manifest: Manifest, model: str, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors, if they can be compared with the collection's."""
    _check_model(manifest, model)
    if vectors.shape[1] != manifest.dimension:
        raise RpcError(
            ErrorCode.INVALID_CONFIGURATION,
            f"collection {manifest.name!r} has dimension {manifest.dimension}, and {model} makes vectors of "
            f"{vectors.shape[1]}: give vectors instead of texts, or create a collection without dimension",
        )
    return vectors


def _description(manifest: Manifest) -> CollectionDescription:
    return {
        "name": manifest.name,
        "dimension": manifest.dimension,
        "model": manifest.model,
        "metadata": manifest.metadata,
        "format_version": manifest.format_version,
    }


def _difference(existing: Manifest, wanted: Manifest) -> str:
    for part in ("dimension", "model", "metadata"):
        here, there = getattr(existing, part), getattr(wanted, part)
        if here != there and (part != "model" or there is not None):
            return f"{part} {here!r:.200}, not {there!r:.200}"
    raise AssertionError("they are the same")


def _found(match: Match) -> FoundItem:
    item = match.item
    found: FoundItem = {"id": item.id, "score": match.score, "metadata": item.metadata}
    if item.text is not None:
        found["text"] = item.text
    return found
