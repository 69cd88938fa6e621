"""What tenants have in a hub, from connections to collections. Each is removed by whoever keeps it."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any, Final

from trunkline.control.pipelines import Pipelines
from trunkline.conversations.service import Conversations
from trunkline.edge.context import EdgeContext
from trunkline.hub.authentication import NOT_ALLOWED
from trunkline.hub.internal import call
from trunkline.hub.principal import HUB, Principal
from trunkline.hub.resumption import Resumption
from trunkline.hub.router import Router
from trunkline.hub.topic_spaces import TopicSpaces
from trunkline.jobs.service import Jobs
from trunkline.observe.tenant_calls import TenantCalls
from trunkline.storage.collection_counts import CollectionCounts, Stored
from trunkline.storage.durable import sync_folder
from trunkline.storage.failures import told
from trunkline.storage.tenant_folders import COLLECTIONS, tenant_folder
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.tenant_messages import TenantThings

DELETE_MS: Final = 60_000


class Holdings:
    """What tenants have in one hub; see :class:`trunkline.control.tenants.TenantHoldings`.

    Args:
        data: the data folder.
    """

    def __init__(
        self,
        data: Path,
        router: Router,
        context: EdgeContext,
        sessions: Resumption,
        jobs: Jobs,
        conversations: Conversations,
        spaces: TopicSpaces,
        pipelines: Pipelines,
        counts: TenantCalls,
    ) -> None:
        self._data = data
        self._router = router
        self._context = context
        self._sessions = sessions
        self._jobs = jobs
        self._conversations = conversations
        self._spaces = spaces
        self._pipelines = pipelines
        self._counts = counts

    async def counted(self, tenant: str) -> TenantThings:
        """How much of each kind a tenant has.

        Raises:
            RpcError: its jobs or its folder cannot be read.
        """
        return TenantThings(
            collections=len(await asyncio.to_thread(self._collections, tenant)),
            jobs=await self._jobs.count_of(tenant),
            conversations=await self._conversations.count_of(tenant),
            connections=sum(each.principal.tenant == tenant for each in self._context.listeners),
            sessions=sum(each.owner.connection.principal.tenant == tenant for each in self._sessions.table.entries()),
        )

    async def stored(self, tenant: str) -> Stored:
        """The number of collections of a tenant, of the items in them, and of the bytes they take of the disk.

        Raises:
            RpcError: they cannot be read.
        """
        return await asyncio.to_thread(CollectionCounts().of, tenant_folder(self._data, tenant) / COLLECTIONS)

    def disconnect(self, tenant: str, reason: str) -> TenantThings:
        """End the connections (4502) and sessions of a tenant: those that come now are refused with the same code."""
        closed = self._context.close_where(lambda who: who.tenant == tenant, NOT_ALLOWED, reason)
        table = self._sessions.table
        theirs = [each for each in table.entries() if each.owner.connection.principal.tenant == tenant]
        for entry in theirs:
            table.end(entry, "revoked")
        return TenantThings(connections=closed, sessions=len(theirs))

    async def purge(self, tenant: str) -> TenantThings:
        """Remove jobs, conversations, collections, and the folder of a tenant; and what is in memory of it.

        Raises:
            RpcError: some are left, perhaps for now.
        """
        jobs = await self._jobs.remove_of(tenant)
        conversations = await self._conversations.delete_of(tenant, None)
        there = await asyncio.to_thread(self._collections, tenant)
        if there:
            await self._delete_collections(tenant)
        await asyncio.to_thread(self._remove_folder, tenant)
        self._spaces.forget(tenant)
        self._counts.forget(tenant)
        self._router.keys.outcomes.forget(tenant)
        self._pipelines.forget(tenant)
        return TenantThings(collections=len(there), jobs=jobs, conversations=conversations)

    async def _delete_collections(self, tenant: str) -> None:
        """Have the owners delete them, who may have them open. What cannot be opened goes with the folder."""
        who = Principal(HUB.name, tenant=tenant)

        async def asked(method: str, **params: Any) -> Any:
            return await call(self._router, method, params, timeout_ms=DELETE_MS, who=who)

        try:
            listed = (await asked("collections.list"))["collections"]
            for each in listed:
                if "error" not in each and each.get("tenant") == tenant:
                    await asked("collections.delete", name=each["name"])
        except RpcError as error:
            if error.code != ErrorCode.METHOD_NOT_FOUND:  # nobody here has them open
                raise

    def _collections(self, tenant: str) -> list[str]:
        folder = tenant_folder(self._data, tenant) / COLLECTIONS
        with told(f"the folder {folder} cannot be read", folder):
            if not folder.is_dir():
                return []
            return [each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")]

    def _remove_folder(self, tenant: str) -> None:
        folder = tenant_folder(self._data, tenant)
        assert folder != self._data
        with told(f"the folder {folder} cannot be removed", folder):
            if folder.is_dir():
                shutil.rmtree(folder)
                sync_folder(folder.parent)
