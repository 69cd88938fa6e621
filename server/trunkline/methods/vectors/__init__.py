"""The pack ``vectors``: collections of vectors, with texts and metadata, and finding the nearest.

A collection has one owner: every call with its name goes to one executor, which keeps it in memory and alone writes
its folder. What is acknowledged is on disk, and the next search sees it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import numpy as np
from pydantic import Field

from trunkline import Context, ErrorCode, InputStream, RpcError, method
from trunkline.methods.embeddings.client import embed
from trunkline.methods.vectors import collection_methods, lexical_methods
from trunkline.methods.vectors.arrivals import Arrival, Arrivals
from trunkline.methods.vectors.changes import Change, Delete, Item, Upsert
from trunkline.methods.vectors.collection import Collection
from trunkline.methods.vectors.filters import compile_filter
from trunkline.methods.vectors.numbers import as_vectors
from trunkline.methods.vectors.query import query_vector, same_space
from trunkline.methods.vectors.room import Room
from trunkline.methods.vectors.shapes import (
    MAX_ITEMS,
    Deleted,
    Filter,
    FoundItem,
    Ids,
    Imported,
    Matches,
    MissingItems,
    Name,
    StoredItem,
    StoredItems,
    TopK,
    UpsertItem,
    UpsertPage,
    Vector,
    check_metadata,
    found_item,
    stored_item,
)
from trunkline.methods.vectors.store import Manifest
from trunkline.methods.vectors.versions import (
    Begun,
    Claim,
    Claimed,
    Source,
    Upserted,
    is_of,
    marked,
    of_valid,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_VECTOR_BYTES: Final = 8 * 2**20
"""Of vectors in one answer."""
IMPORT_ITEMS: Final = 1024
"""Items of an import that are put in at a time."""


class VectorMethods(lexical_methods.LexicalMethods):
    """The methods of items: ``vectors.*``, and ``collections.import``."""

    def __init__(self) -> None:
        super().__init__()
        self._arrivals = Arrivals()

    @method(
        "vectors.upsert",
        idempotent=True,
        routing_key="collection",
        timeout_ms=120_000,
        max_timeout_ms=600_000,
        runs_as="method",
    )
    async def upsert(
        self,
        collection: Name,
        items: Annotated[Sequence[UpsertItem], Field(max_length=MAX_ITEMS)],
        ctx: Context,
        replaces: Filter | None = None,
        claim: Claim | None = None,
    ) -> Upserted:
        """Insert items, or replace those of the same id. All or none; acknowledged when on disk.

        Of several changes of one item the one that arrived last counts, however long its text takes to embed.

        Args:
            replaces: a filter: other items that match it are deleted in the same moment, with ``claim`` only those
                of its documents.
            claim: as of ``vectors.claim``: items of documents that were claimed for a later turn are left out.

        Raises:
            RpcError: -32602, an invalid vector or invalid metadata, or an id given twice; 2003, a quota of the tenant
                (``data.limit``); 4001, no such collection, or another model; 5001 with ``data.claim_again``, a claim of
                an earlier opening; 5002, disk full.
        """
        ids = [item.id for item in items]
        if len(set(ids)) < len(ids):
            twice = next(each for each in ids if ids.count(each) > 1)
            raise RpcError(ErrorCode.INVALID_PARAMS, f"vectors.upsert: items: id {twice!r:.100} is given twice")
        matches = None if replaces is None else _compiled(replaces, "vectors.upsert: replaces")
        where = [f"vectors.upsert: items[{at}]" for at in range(len(items))]
        return await self._put(collection, items, where, ctx, claim, matches)

    @method("vectors.claim", idempotent=True, routing_key="collection")
    async def claim(self, collection: Name, ctx: Context, documents: dict[Source, Begun] | None = None) -> Claimed:
        """Draw a turn number, and claim documents for turns drawn before. The highest turn may write a document.

        The first item of a claimed document is marked by ``document`` in its metadata, until another item
        replaces it.

        Args:
            documents: by their name, the ``source`` in the metadata of their items.

        Raises:
            RpcError: 4001, no such collection; 5002, disk full.
        """
        owned = await self.owner.get(collection, ctx)
        superseded = await self.owner.run(owned, ctx, _claim_now, owned, documents or {})
        self.owner.build_if_due(owned, ctx)
        return {"turn": owned.versions.draw(), "opening": owned.versions.opening, "superseded": superseded}

    @method("vectors.delete", idempotent=True, routing_key="collection")
    async def delete_items(
        self, collection: Name, ctx: Context, ids: Ids | None = None, filter: Filter | None = None
    ) -> Deleted:
        """Delete items by id, or all whose metadata match a filter. All or none; acknowledged when on disk.

        Raises:
            RpcError: -32602, not just one of ids and filter, or an invalid filter; 4001, no such collection; 5002.
        """
        if (ids is None) == (filter is None):
            raise RpcError(ErrorCode.INVALID_PARAMS, "vectors.delete: give either ids or filter")
        matches = None
        if filter is not None:
            matches = _compiled(filter, "vectors.delete: filter")
        with self._arrivals.enter(self.owner.key(collection, ctx)) as arrival:
            owned = await self.owner.get(collection, ctx)
            deleted = await self.owner.run(owned, ctx, self._delete_now, arrival, owned, ids or [], matches)
        self.owner.build_if_due(owned, ctx)
        return {"deleted": deleted}

    @method("vectors.get", idempotent=True, routing_key="collection")
    async def get(self, collection: Name, ids: Ids, ctx: Context, vectors: bool = False) -> StoredItems:
        """Get items by id, with their vectors if ``vectors`` is true.

        Raises:
            RpcError: -32602, more vectors than an answer takes; 4001, there is no such collection.
        """
        owned = await self.owner.get(collection, ctx)
        most = MAX_VECTOR_BYTES // (4 * owned.manifest.dimension)
        if vectors and len(ids) > most:
            raise RpcError(
                ErrorCode.INVALID_PARAMS,
                f"vectors.get: ids: {len(ids)} vectors of {owned.manifest.dimension} numbers are too much for one "
                f"answer; ask for {most} at a time",
            )

        def look_up() -> list[StoredItem | None]:
            found = owned.index.get(ids)
            return [None if each is None else stored_item(each[0], each[1] if vectors else None) for each in found]

        return {"items": await self.owner.run(owned, ctx, look_up)}

    @method("vectors.missing", idempotent=True, routing_key="collection")
    async def missing(
        self, collection: Name, ids: Sequence[Annotated[str, Field(min_length=1, max_length=512)]], ctx: Context
    ) -> MissingItems:
        """Return the ids that are not in the collection, in the order given.

        Raises:
            RpcError: 4001, there is no such collection.
        """
        owned = await self.owner.get(collection, ctx)
        return {"ids": await self.owner.run(owned, ctx, lambda: owned.index.missing(ids))}

    @method("vectors.search", idempotent=True, routing_key="collection", runs_as="method")
    async def search(
        self,
        collection: Name,
        ctx: Context,
        text: Annotated[str, Field(min_length=1)] | None = None,
        vector: Vector | None = None,
        top_k: TopK = 5,
        model: str | None = None,
        min_score: float | None = None,
        filter: Filter | None = None,
    ) -> Matches:
        """Find the items nearest to a text or to a vector, best first.

        Args:
            model: what made ``vector``; if given, it must be the collection's.
            min_score: leave out what scores less: the cosine, the inner product or minus the Euclidean distance.
            filter: leave out items whose metadata do not match.

        Raises:
            RpcError: -32602, not just one of text and vector, or an invalid filter; 4001, no such collection, or
                another model.
        """
        if (text is None) == (vector is None):
            raise RpcError(ErrorCode.INVALID_PARAMS, "vectors.search: give either text or vector")
        matches = compile_filter(filter, "vectors.search: filter") if filter else None
        owned = await self.owner.get(collection, ctx)
        query = await query_vector(owned.manifest, text, vector, model, ctx)

        def find() -> list[FoundItem]:
            return [found_item(match) for match in owned.index.search(query, top_k, min_score, matches)]

        return {"matches": await self.owner.run(owned, ctx, find)}

    @method(
        "collections.import",
        routing_key="name",
        timeout_ms=collection_methods.HOUR_MS,
        max_timeout_ms=24 * collection_methods.HOUR_MS,
        runs_as="method",
    )
    async def import_items(self, name: Name, items: InputStream[UpsertItem | UpsertPage], ctx: Context) -> Imported:
        """Insert items from the input stream: single items, or pages as ``collections.export`` streams them.

        They are acknowledged together, by the result; ``$/progress`` reports as ``{"imported": n}`` those that are
        on disk. If the call ends early, these stay. Importing them again is harmless.

        Raises:
            RpcError: -32602, an invalid item; 4001, no such collection, or another model; 5002, disk full.
        """
        imported = 0
        async for batch in _batches(items):
            await self._put(name, [item for item, _ in batch.values()], [where for _, where in batch.values()], ctx)
            imported += len(batch)
            ctx.progress({"imported": imported})
        await self.owner.get(name, ctx)  # also where nothing was pushed
        return {"imported": imported}

    # --- inside ---

    async def _put(
        self,
        collection: str,
        given: Sequence[UpsertItem],
        where: Sequence[str],
        ctx: Context,
        claim: Claim | None = None,
        matches: Callable[[Item], bool] | None = None,
    ) -> Upserted:
        for item, place in zip(given, where, strict=True):
            check_metadata(item.metadata, f"{place}.metadata")
        items = [Item(item.id, item.text, item.metadata) for item in given]
        room = self.owner.room(collection, ctx)
        with self._arrivals.enter(self.owner.key(collection, ctx), items) as arrival:
            owned = await self.owner.get(collection, ctx)
            model, vectors = await _vectors_of(given, where, owned.manifest, ctx)
            upserted: Upserted = await ctx.run_in_thread(
                self._put_now, arrival, owned, Upsert(items, vectors), model, claim, matches, room
            )
        self.owner.build_if_due(owned, ctx)
        return upserted

    def _put_now(
        self,
        arrival: Arrival,
        collection: Collection,
        upsert: Upsert,
        model: str | None,
        claim: Claim | None,
        matches: Callable[[Item], bool] | None,
        room: Room | None,
    ) -> Upserted:
        """Apply an upsert, on the executor's thread, so that file and index have one order."""
        collection.check_open()
        told: Upserted = {"upserted": len(upsert.items)}
        late: list[str] = []
        if claim is not None:
            told["superseded"] = late = collection.versions.superseded(claim)
            matches = None if matches is None else of_valid(claim, late, matches)
        if arrival.superseded or late:
            rows = [
                row
                for row, item in enumerate(upsert.items)
                if item.id not in arrival.superseded and not is_of(item, late)
            ]
            upsert = Upsert([upsert.items[row] for row in rows], upsert.vectors[rows])
        ids = [item.id for item in upsert.items]
        changes: list[Change] = [upsert] if ids else []
        if matches is not None:
            stays = arrival.superseded.union(ids)
            gone = [each for each in collection.index.matching(matches) if each not in stays]
            told["deleted"] = len(gone)
            changes += [Delete(gone)] if gone else []
            ids += gone
        if changes:
            if room is not None:
                room.require(collection.growth(changes), changes)
            collection.commit(changes, model)
        self._arrivals.applied(arrival, ids, matches)
        return told

    def _delete_now(
        self, arrival: Arrival, collection: Collection, ids: Sequence[str], matches: Callable[[Item], bool] | None
    ) -> int:
        if matches is not None:
            ids = collection.index.matching(matches)
        if arrival.superseded:
            ids = [each for each in ids if each not in arrival.superseded]
        deleted = collection.delete(ids)
        self._arrivals.applied(arrival, ids, matches)
        return deleted


def _compiled(filter: Filter, where: str) -> Callable[[Item], bool]:
    if not filter:
        raise RpcError(
            ErrorCode.INVALID_PARAMS, f"{where}: an empty filter matches every item: call collections.delete for that"
        )
    return compile_filter(filter, where)


def _claim_now(collection: Collection, documents: dict[str, Begun]) -> list[str]:
    """Claim documents, on the executor's thread. Returns those that cannot be claimed."""
    superseded = []
    items: list[Item] = []
    vectors = []
    for (source, begun), found in zip(
        documents.items(), collection.index.get([each.first for each in documents.values()]), strict=True
    ):
        if not collection.versions.claim(source, begun, None if found is None else found[0]):
            superseded.append(source)
        elif found is not None:
            items.append(marked(found[0], begun.turn))
            vectors.append(found[1])
    if items:
        collection.upsert(Upsert(items, np.stack(vectors)))
    return superseded


async def _batches(
    items: InputStream[UpsertItem | UpsertPage],
) -> AsyncIterator[dict[str, tuple[UpsertItem, str]]]:
    """Batches of pushed items by id, each item with its name for error messages. Of one id the last counts."""
    batch: dict[str, tuple[UpsertItem, str]] = {}
    async for pushed in items:
        where = f"collections.import: item {items.taken - 1} of the input"
        if isinstance(pushed, UpsertPage):
            batch.update((item.id, (item, f"{where}: items[{at}]")) for at, item in enumerate(pushed.items))
        else:
            batch[pushed.id] = (pushed, where)
        if len(batch) >= IMPORT_ITEMS:
            yield batch
            batch = {}
    if batch:
        yield batch


async def _vectors_of(
    items: Sequence[UpsertItem], where: Sequence[str], manifest: Manifest, ctx: Context
) -> tuple[str | None, NDArray[np.float32]]:
    """A vector an item, given or embedded, and the model if a text was embedded."""
    given = [row for row, item in enumerate(items) if item.vector is not None]
    vectors = np.empty((len(items), manifest.dimension), dtype=np.float32)
    vectors[given] = as_vectors(
        [items[row].vector or [] for row in given],
        manifest.dimension,
        manifest.metric,
        [f"{where[row]}.vector" for row in given],
    )
    texts = {}
    for row, item in enumerate(items):
        if item.vector is None:
            if item.text is None:
                raise RpcError(ErrorCode.INVALID_PARAMS, f"{where[row]} has neither vector nor text")
            texts[row] = item.text
    if not texts:
        return None, vectors
    embedded = await embed(ctx, [*texts.values()])
    vectors[[*texts]] = same_space(manifest, embedded.model, embedded.vectors)
    return embedded.model, vectors
