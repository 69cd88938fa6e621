"""The methods ``collections.*``: create, list, describe, rebuild, export and delete collections."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final

import orjson

from trunkline import Context, ErrorCode, RpcError, method
from trunkline.methods.embeddings.client import embed
from trunkline.methods.vectors.collection import Collection
from trunkline.methods.vectors.owner import CollectionOwner
from trunkline.methods.vectors.shapes import (
    CollectionDescription,
    CollectionList,
    CollectionStats,
    CreatedCollection,
    DeletedCollection,
    Dimension,
    Exported,
    IndexOptions,
    Metadata,
    Name,
    StoredItem,
    StoredPage,
    UnreadableCollection,
    check_metadata,
    description,
    stored_item,
)
from trunkline.methods.vectors.store import Manifest
from trunkline.methods.vectors.structures import IndexSpec, Metric
from trunkline.methods.vectors.tenant_stores import TenantStores
from trunkline_protocol.principals import DEFAULT_TENANT
from trunkline_protocol.tenants import SharedNames

PAGE_ITEMS: Final = 256
PAGE_BYTES: Final = 256 * 1024
"""Of one chunk of an export: much less than what a stream may have on its way."""
HOUR_MS: Final = 3_600_000


class CollectionMethods:
    """The methods ``collections.*``, for the collections that this executor owns."""

    def __init__(self) -> None:
        self.owner = CollectionOwner()

    def load(self, settings: Mapping[str, Any]) -> None:
        """Find the data folder; see :meth:`CollectionOwner.load`, also for errors."""
        self.owner.load(settings)

    def close(self) -> None:
        """Close all collections."""
        self.owner.close()

    async def release(self, released: Callable[[str], bool]) -> None:
        """Close the collections whose name is released. All that was acknowledged is on disk already."""
        await self.owner.release(released)

    @method("collections.create", idempotent=True, routing_key="name", runs_as="method")
    async def create(
        self,
        name: Name,
        ctx: Context,
        dimension: Dimension | None = None,
        metadata: Metadata | None = None,
        metric: Metric | None = None,
        index: IndexOptions | None = None,
        model: str | None = None,
    ) -> CreatedCollection:
        """Create a collection. Without ``dimension`` it is for texts, with the embeddings' model and dimension.

        Creating one that exists succeeds if the options given are those it has; else it is an error.

        Args:
            metric: default cosine.
            index: default flat: exact, and fast enough for some 100,000 vectors.
            model: what makes its vectors, where that is known; by default what embeds its first text.

        Raises:
            RpcError: -32602, invalid index options; 4001, one of that name exists and differs.
        """
        check_metadata(metadata or {}, "collections.create: metadata")
        if dimension is None:
            probe = await embed(ctx, ["dimension"])
            if model not in (None, probe.model):
                raise RpcError(
                    ErrorCode.INVALID_CONFIGURATION,
                    f"texts are embedded by {probe.model}, not {model}: set TRUNKLINE_MODEL, or give a dimension",
                    maybe_executed=False,
                )
            model, dimension = probe.model, probe.vectors.shape[1]
        spec = (index or IndexOptions(kind="flat")).spec(dimension, metric or "cosine")
        wanted = Manifest(
            name=name, dimension=dimension, model=model, metadata=metadata or {}, metric=spec.metric
        ).with_spec(spec)
        tenant = self.owner.tenant(name, ctx)
        existing = await self.owner.create(wanted, ctx, self.owner.room(name, ctx))
        if existing is None:
            return {**description(wanted, tenant), "created": True}
        given = {"dimension": True, "model": model, "metadata": metadata is not None, "metric": metric, "index": index}
        _check_same(existing.manifest, wanted, [part for part, value in given.items() if value])
        return {**description(existing.manifest, tenant), "created": False}

    @method("collections.list", idempotent=True)
    async def list(self, ctx: Context) -> CollectionList:
        """List all collections that the caller may use, by name: its tenant's, and those that tenants share."""
        tenant, may_use = ctx.principal.tenant, ctx.principal.may_use
        found = await ctx.run_in_thread(lambda: [*_listed(self.owner.stores, self.owner.shared, tenant)])
        listed = {name: listing for name, listing in found if may_use(name)}
        return {"collections": [listed[name] for name in sorted(listed)]}

    @method("collections.stats", idempotent=True, routing_key="name")
    async def stats(self, name: Name, ctx: Context) -> CollectionStats:
        """Describe a collection: dimension, metric, index, number of items, size on disk.

        Raises:
            RpcError: 4001, there is no such collection.
        """
        collection = await self.owner.get(name, ctx)
        return await self.owner.run(collection, ctx, _stats, collection, self.owner.tenant(name, ctx))

    @method("collections.delete", routing_key="name")
    async def delete(self, name: Name, ctx: Context) -> DeletedCollection:
        """Delete a collection with all its items.

        Raises:
            RpcError: 4001, there is no such collection.
        """
        collection = await self.owner.get(name, ctx)
        await self.owner.delete(collection, ctx)
        return {"name": name, "deleted": True}

    @method("collections.rebuild", idempotent=True, routing_key="name", timeout_ms=HOUR_MS, max_timeout_ms=24 * HOUR_MS)
    async def rebuild(self, name: Name, ctx: Context, index: IndexOptions | None = None) -> CollectionStats:
        """Compact a collection and rebuild its index, of another kind if ``index`` is given.

        Searches and changes go on while the index is built. Cancelling does not end the building.

        Raises:
            RpcError: -32602, invalid index options; 4001, no such collection; 5001, 5002: nothing has changed.
        """
        collection = await self.owner.get(name, ctx)
        spec: IndexSpec | None = None
        if index is not None:
            spec = index.spec(collection.manifest.dimension, collection.manifest.metric)
        await self.owner.rebuild(collection, spec, ctx)
        return await self.owner.run(collection, ctx, _stats, collection, self.owner.tenant(name, ctx))

    @method("collections.export", idempotent=True, routing_key="name", result=Exported)
    async def export(self, name: Name, ctx: Context) -> AsyncIterator[StoredPage]:
        """Stream all items with their vectors, in pages; the result is their number.

        An item that is changed meanwhile is exported as it was or as it is then.

        Raises:
            RpcError: 4001, there is no such collection.
        """
        collection = await self.owner.get(name, ctx)
        ids = await self.owner.run(collection, ctx, _ids, collection)
        exported = 0
        for start in range(0, len(ids), PAGE_ITEMS):
            items = await self.owner.run(collection, ctx, _stored, collection, ids[start : start + PAGE_ITEMS])
            for page in _pages(items):
                exported += len(page)
                yield {"items": page}
        ctx.set_result({"exported": exported})


def _listed(
    stores: TenantStores, shared: SharedNames, tenant: str
) -> Iterator[tuple[str, CollectionDescription | UnreadableCollection]]:
    """The name and the description of each collection that a tenant has, or that is shared."""
    for owner in dict.fromkeys((tenant, DEFAULT_TENANT) if shared.patterns else (tenant,)):
        store = stores.of(owner)
        if store is None:
            continue
        for each in store.manifests(functools.partial(_is_owned, shared, tenant, owner)):
            if isinstance(each, Manifest):
                yield each.name, description(each, owner)
            else:
                yield each[0], {"name": each[0], "error": each[1]}


def _is_owned(shared: SharedNames, tenant: str, owner: str, name: str) -> bool:
    return shared.owner(tenant, name) == owner


def _stats(collection: Collection, tenant: str) -> CollectionStats:
    index = collection.index
    return {
        **description(collection.manifest, tenant),
        "count": len(index),
        "bytes": collection.disk_bytes,
        "tombstones": index.tombstones,
        "position": collection.position,
        "version": f"{collection.versions.opening}.{collection.position}",
        "search": "exact" if index.is_exact else "approximate",
        "building": index.is_building,
    }


def _ids(collection: Collection) -> list[str]:
    return collection.index.ids()


def _stored(collection: Collection, ids: list[str]) -> list[StoredItem]:
    return [stored_item(*found) for found in collection.index.get(ids) if found is not None]


def _pages(items: list[StoredItem]) -> Iterator[list[StoredItem]]:
    page: list[StoredItem] = []
    size = 0
    for item in items:
        more = len(orjson.dumps(item))
        if page and size + more > PAGE_BYTES:
            yield page
            page, size = [], 0
        page.append(item)
        size += more
    if page:
        yield page


def _check_same(existing: Manifest, wanted: Manifest, given: list[str]) -> None:
    for part in given:
        here, there = getattr(existing, part), getattr(wanted, part)
        if here != there:
            raise RpcError(
                ErrorCode.INVALID_CONFIGURATION,
                f"collection {existing.name!r} exists with {part} {here!r:.200}, not {there!r:.200}; take another "
                "name, or call collections.delete first",
                maybe_executed=False,
            )
