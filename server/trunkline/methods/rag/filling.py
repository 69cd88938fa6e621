"""Whether a collection is still being filled, so that an answer may not be all there is."""

from __future__ import annotations

from typing import Any, Final, final

from typing_extensions import TypedDict

from trunkline import Context, ErrorCode, RpcError

_NOT_KNOWN: Final = frozenset(
    {ErrorCode.METHOD_NOT_FOUND, ErrorCode.FORBIDDEN, ErrorCode.WORKER_UNAVAILABLE, ErrorCode.WORKER_OVERLOADED}
)
"""The hub has no pack ``documents``, or the caller may not call it, or not now: the answer is worth more."""


@final
class FillingItems(TypedDict):
    """The number of items in a collection that is being filled, and the expected number."""

    items: int
    expected_items: int


@final
class FillingDocuments(TypedDict):
    """How many documents are in, of those that calls of ``documents.process`` put in now."""

    calls: int
    documents_done: int
    documents_total: int


Filling = FillingItems | FillingDocuments


async def filling_of(collection: str, stats: dict[str, Any], ctx: Context) -> Filling | None:
    """How far a collection is filled; None where it is complete, as far as can be known.

    Args:
        stats: of the collection; who fills it by hand may say in its metadata how many items there will be.

    Raises:
        RpcError: of ``documents.filling``, but for those that say that it cannot be asked.
    """
    expected = stats["metadata"].get("expected_items")
    if isinstance(expected, int) and stats["count"] < expected:
        return {"items": stats["count"], "expected_items": expected}
    try:
        found: FillingDocuments = await ctx.call("documents.filling", {"collection": collection})
    except RpcError as error:
        if error.code in _NOT_KNOWN:
            return None
        raise
    return found if found["calls"] else None


def progress(filling: Filling) -> tuple[int, int]:
    """How many are done, and how many there are."""
    if "documents_total" in filling:
        return filling["documents_done"], filling["documents_total"]
    return filling["items"], filling["expected_items"]
