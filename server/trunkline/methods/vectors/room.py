"""How much a tenant may store, where it has a quota: checked before each commit that adds something."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from trunkline import RpcError
from trunkline.methods.vectors.changes import Change, Delete
from trunkline.storage.collection_counts import CollectionCounts
from trunkline_protocol.errors import limit_error
from trunkline_protocol.principals import StorageQuotas

EMPTY_BYTES: Final = 64 * 1024
"""What an empty collection takes, roughly."""


class Room:
    """What the quotas of a tenant leave.

    Args:
        counts: of all tenants.
        folder: of the tenant's collections.
    """

    def __init__(self, counts: CollectionCounts, folder: Path, quotas: StorageQuotas, tenant: str) -> None:
        self._counts = counts
        self._folder = folder
        self._quotas = quotas
        self._tenant = tenant

    def require(self, growth: int, changes: Sequence[Change] = ()) -> None:
        """Check that there is room for changes, by which there are so many items more. On the executor's thread.

        What other executors store at the same moment is not seen.

        Raises:
            RpcError: 2003, naming the quota; nothing has changed.
        """
        quotas, stored = self._quotas, self._counts.of(self._folder)
        if quotas.items and growth > 0 and stored.items + growth > quotas.items:
            raise self._refusal("items", quotas.items, stored.items, growth)
        if quotas.bytes and (size := sum(map(_size, changes))) and stored.bytes + size > quotas.bytes:
            raise self._refusal("bytes", quotas.bytes, stored.bytes, size)

    def require_empty(self) -> None:
        """Check that there is room for an empty collection.

        Raises:
            RpcError: as :meth:`require`.
        """
        limit, stored = self._quotas.bytes, self._counts.of(self._folder)
        if limit and stored.bytes + EMPTY_BYTES > limit:
            raise self._refusal("bytes", limit, stored.bytes, EMPTY_BYTES)

    def _refusal(self, what: str, limit: int, there: int, more: int) -> RpcError:
        words = f"collections of tenant {self._tenant:.100} have {there:,} {what}, and may have {limit:,}"
        error = limit_error(f"quotas.{what}", f"{words}: there is no room for {more:,} more", retry_after_ms=None)
        error.nothing_ran = True
        error.data |= {"of": "tenant", "max": limit}
        return error


def _size(change: Change) -> int:
    if isinstance(change, Delete):
        return 0
    texts = sum(len(item.text.encode("utf-8", "surrogatepass")) for item in change.items if item.text is not None)
    metadata = sum(len(msgspec.json.encode(item.metadata)) for item in change.items)
    return texts + metadata + change.vectors.nbytes
