"""The collections that this executor owns: opened when first used, rebuilt in the background, closed."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from trunkline import Context, ErrorCode, RpcError
from trunkline.background import start_task
from trunkline.methods.vectors.collection import Collection
from trunkline.methods.vectors.index import Building, IndexSpec, VectorIndex
from trunkline.methods.vectors.keeping import FileKeeper, InThread
from trunkline.methods.vectors.room import Room
from trunkline.methods.vectors.store import InUse, Manifest
from trunkline.methods.vectors.tenant_stores import TenantStores
from trunkline.storage.collection_counts import CollectionCounts
from trunkline_protocol.tenants import SharedNames, tenant_and_name

LOCK_PATIENCE: Final = 5.0
"""Seconds to wait for a collection that another process has: mostly an executor that is just dying."""
LOCK_RETRY: Final = 0.05

Result = TypeVar("Result")

logger = logging.getLogger("trunkline.vectors")


class CollectionOwner:
    """The collections of one data folder, as far as this executor owns them.

    Everything that touches a collection runs on the executor's one thread, so that file and index have one order. A
    collection is its tenant's: here it has a key (:mod:`trunkline_protocol.tenants`), by which calls come to it, too.

    Attributes:
        shared: the names of collections that all tenants have in common.
    """

    def __init__(self) -> None:
        self._open: dict[str, Collection] = {}
        self._damaged: dict[str, str] = {}
        self._stores: TenantStores | None = None
        self.shared = SharedNames()
        self._builds: dict[VectorIndex, tuple[asyncio.Task[None], list[Building]]] = {}
        self._keeper = FileKeeper()
        self._counts = CollectionCounts()

    def load(self, settings: Mapping[str, Any]) -> None:
        """Find the data folder, ``settings["data_dir"]``. Collections are opened when they are first used.

        Those that match ``settings["shared_collections"]`` are ``default``'s, whoever names them.

        Raises:
            RpcError: 4001, the setting is missing; 5001 or 5002, the folder cannot be made.
        """
        if not settings.get("data_dir"):
            raise RpcError(ErrorCode.INVALID_CONFIGURATION, "vectors: data_dir is not set (TRUNKLINE_DATA)")
        self._stores = TenantStores(Path(settings["data_dir"]))
        self.shared = SharedNames(tuple(settings.get("shared_collections") or ()))

    @property
    def stores(self) -> TenantStores:
        """The collections on disk."""
        assert self._stores is not None
        return self._stores

    def tenant(self, name: str, ctx: Context) -> str:
        """Whose a collection is, as the principal of a call names it."""
        return self.shared.owner(ctx.principal.tenant, name)

    def key(self, name: str, ctx: Context) -> str:
        """The key of a collection, as the principal of a call names it."""
        return self.shared.key(ctx.principal.tenant, name)

    def room(self, name: str, ctx: Context) -> Room | None:
        """What the quotas of a collection's tenant leave; None without any. What tenants share counts for none."""
        quotas, tenant = ctx.principal.quotas, self.tenant(name, ctx)
        if quotas is None or tenant != ctx.principal.tenant:
            return None
        return Room(self._counts, self.stores.folder(tenant), quotas, tenant)

    # --- opening ---

    async def get(self, name: str, ctx: Context) -> Collection:
        """The collection, opened if need be.

        Raises:
            RpcError: 4001, no such collection; 5001, another process has it; 3002, 5002, it cannot be read.
        """
        collection = await self.find(name, ctx)
        if collection is None:
            raise RpcError(
                ErrorCode.INVALID_CONFIGURATION,
                f"there is no collection {name!r}: call collections.create first",
                maybe_executed=False,
                data={"no_such": "collection"},
            )
        return collection

    async def find(self, name: str, ctx: Context) -> Collection | None:
        """As :meth:`get`; None where there is no such collection."""
        key = self.key(name, ctx)
        collection = self._open.get(key)
        if collection is not None and not collection.closed:
            return collection
        collection = await self._patiently(key, ctx, self._open_now)
        if collection is not None:
            self._begin_beside(collection, ctx)
        return collection

    async def create(self, manifest: Manifest, ctx: Context, room: Room | None = None) -> Collection | None:
        """Create a collection; returns None, or the one that exists already.

        Raises:
            RpcError: as :meth:`get`, and :meth:`Room.require`.
        """
        key = self.key(manifest.name, ctx)
        existing = await self._patiently(key, ctx, lambda key: self._create_now(key, manifest, room))
        if existing is not None:
            self._begin_beside(existing, ctx)
        return existing

    def _begin_beside(self, collection: Collection, ctx: Context) -> None:
        self._keeper.check_if_due(collection, ctx.run_in_thread)
        self.build_if_due(collection, ctx)

    async def _patiently(
        self, key: str, ctx: Context, function: Callable[[str], Collection | None]
    ) -> Collection | None:
        deadline = asyncio.get_running_loop().time() + LOCK_PATIENCE
        while True:
            try:
                opened: Collection | None = await ctx.run_in_thread(function, key)
                return opened
            except InUse:
                if asyncio.get_running_loop().time() > deadline:
                    raise
            await asyncio.sleep(LOCK_RETRY)

    def _open_now(self, key: str) -> Collection | None:
        """Open a collection, on the executor's thread, so that two calls cannot open it twice."""
        collection = self._open.get(key)
        if collection is None or collection.closed:
            collection = self._opened(key)
            if collection is not None:
                self._open[key] = collection
        return collection

    def _opened(self, key: str) -> Collection | None:
        """The collection from the disk. That it is damaged is logged once, not at each call, until it opens."""
        tenant, name = tenant_and_name(key)
        try:
            store = self.stores.of(tenant)
            collection = None if store is None else store.open(name)
        except RpcError as error:
            if error.code == ErrorCode.PIPELINE_INITIALIZATION_FAILED and self._damaged.get(key) != error.message:
                self._damaged[key] = error.message
                said = {"collection": name, "tenant": tenant, "reason": error.message}
                logger.warning("a collection cannot be opened", extra=said)
            raise
        self._damaged.pop(key, None)
        return collection

    def _create_now(self, key: str, manifest: Manifest, room: Room | None) -> Collection | None:
        existing = self._open_now(key)
        if existing is None:
            if room is not None:
                room.require_empty()
            self.stores.made(tenant_and_name(key)[0]).create(manifest)
        return existing

    async def run(self, collection: Collection, ctx: Context, function: Callable[..., Result], *args: Any) -> Result:
        """Run a function on the thread, if the collection is still open then.

        Raises:
            RpcError: 5001, the collection is closed; and what the function raises.
        """

        def checked() -> Result:
            collection.check_open()
            return function(*args)

        result: Result = await ctx.run_in_thread(checked)
        return result

    # --- building beside ---

    async def rebuild(self, collection: Collection, spec: IndexSpec | None, ctx: Context) -> None:
        """Compact the collection and build its index anew, while it answers. See :meth:`Collection.rebuild`."""
        spec = collection.check_index(spec or collection.index.spec)
        while not await self.run(collection, ctx, collection.shrink):
            pass
        await self.run(collection, ctx, collection.set_index, spec)
        self._give_up_building(collection.index)
        building = self.build_if_due(collection, ctx)
        if building is not None:
            await asyncio.wait([building])

    def build_if_due(self, collection: Collection, ctx: Context) -> asyncio.Task[None] | None:
        """Begin to build the index in the background, if it is due. Returns the task of a building under way.

        Also begins to write the index file, if that is due.
        """
        self._keeper.write_if_due(collection, ctx.run_in_thread)
        index = collection.index
        if index in self._builds:
            return self._builds[index][0]
        if not collection.is_building_due:
            return None
        buildings: list[Building] = []
        task = start_task(
            self._build(collection, buildings, ctx.run_in_thread), "build", expected=Exception
        )  # see _built
        self._builds[index] = (task, buildings)
        task.add_done_callback(functools.partial(self._built, index))
        return task

    async def _build(self, collection: Collection, buildings: list[Building], in_thread: InThread) -> None:
        index = collection.index
        building, work = await in_thread(collection.begin_building)
        buildings.append(building)
        done = False
        while not done:
            await asyncio.to_thread(work, building)
            work, done = Building.work, await in_thread(index.finish_building, building)

    def _built(self, index: VectorIndex, task: asyncio.Task[None]) -> None:
        if index in self._builds and self._builds[index][0] is task:
            del self._builds[index]
        if not task.cancelled() and (error := task.exception()) is not None:
            index.fail_building()
            logger.error("an index could not be built; it stays as it is until it is opened again", exc_info=error)

    def _give_up_building(self, index: VectorIndex) -> None:
        if index in self._builds:
            task, buildings = self._builds.pop(index)
            for building in buildings:
                building.abandoned = True
            task.cancel()

    # --- closing ---

    async def delete(self, collection: Collection, ctx: Context) -> None:
        """Delete a collection with all its items.

        Raises:
            RpcError: 5001, the collection is closed, or cannot be removed.
        """
        await self.run(collection, ctx, self._delete_now, collection)
        self._give_up(collection)

    def _delete_now(self, collection: Collection) -> None:
        key = next(key for key, each in self._open.items() if each is collection)
        self.stores.made(tenant_and_name(key)[0]).delete(collection)
        del self._open[key]

    async def release(self, released: Callable[[str], bool]) -> None:
        """Close the collections whose key is released; calls for them have ended."""
        await asyncio.to_thread(_close, self._forget([key for key in self._open if released(key)]))

    def close(self) -> None:
        """Close all collections."""
        _close(self._forget(list(self._open)))

    def _forget(self, keys: list[str]) -> list[Collection]:
        collections = [self._open.pop(key) for key in keys]
        for collection in collections:
            self._give_up(collection)
        return collections

    def _give_up(self, collection: Collection) -> None:
        self._give_up_building(collection.index)
        self._keeper.give_up(collection)


def _close(collections: list[Collection]) -> None:
    for collection in collections:
        collection.close()
