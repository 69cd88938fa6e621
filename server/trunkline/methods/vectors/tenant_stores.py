"""Where the collections of each tenant are on disk: those of one are in no folder of another. All of this blocks."""

from __future__ import annotations

from pathlib import Path

from trunkline.methods.vectors.store import CollectionStore
from trunkline.storage.failures import told
from trunkline.storage.tenant_folders import COLLECTIONS, make_tenant_folder, tenant_folder
from trunkline_protocol.principals import DEFAULT_TENANT


class TenantStores:
    """The collections of all tenants in a data folder.

    Args:
        data: the data folder; made if it is not there.

    Raises:
        RpcError: 5001 or 5002, it cannot be made.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._stores = {DEFAULT_TENANT: CollectionStore(data / COLLECTIONS)}

    def of(self, tenant: str) -> CollectionStore | None:
        """The collections of a tenant; None where it never had one.

        Raises:
            RpcError: as :meth:`made`.
        """
        is_there = tenant in self._stores or self.folder(tenant).is_dir()
        return self.made(tenant) if is_there else None

    def folder(self, tenant: str) -> Path:
        """Where the collections of a tenant are, whether it has any or not."""
        return tenant_folder(self._data, tenant) / COLLECTIONS

    def made(self, tenant: str) -> CollectionStore:
        """The collections of a tenant, whose folder is made if it is not there.

        Raises:
            RpcError: 5001 or 5002, it cannot be made.
        """
        folder = tenant_folder(self._data, tenant)
        store = self._stores.get(tenant)
        if store is None or not (folder / COLLECTIONS).is_dir():
            with told(f"the folder {folder}", folder):
                make_tenant_folder(self._data, tenant)
            store = self._stores[tenant] = CollectionStore(folder / COLLECTIONS)
        return store
