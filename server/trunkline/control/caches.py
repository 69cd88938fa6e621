"""``cache.clear``: empties caches in every executor, and answers when all have done it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from trunkline.hub.dispatch import Handlers, answering_later
from trunkline_protocol.administration import CACHES, ClearCacheParams, ClearedCache, ClearedCaches
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_methods import CACHE_CLEAR

HOOK: Final = "clear_cache"
SECONDS: Final = 10.0
"""How long executors may take: one whose method holds the interpreter lock answers when that has ended."""

Broadcast = Callable[[str, dict[str, Any], float], Awaitable[dict[str, list[Any]]]]


class CacheCalls:
    """Answers ``cache.clear``.

    Args:
        broadcast: calls a hook of the packs in every executor, and returns what they return by executor.
    """

    def __init__(self, broadcast: Broadcast) -> None:
        self._broadcast = broadcast

    def methods(self) -> Handlers:
        """The handler of ``cache.clear``."""
        return answering_later(CACHE_CLEAR, self._clear)

    async def _clear(self, _call: Call, params: ClearCacheParams) -> ClearedCaches:
        answers = await self._broadcast(HOOK, {"cache_type": params.cache_type}, SECONDS)
        return ClearedCaches(params.cache_type, len(answers), total(params.cache_type, answers))


def total(cache_type: str, answers: dict[str, list[Any]]) -> dict[str, ClearedCache]:
    """What all executors have cleared, by cache.

    Raises:
        RpcError: -32602, no executor has a cache of that name.
    """
    cleared: dict[str, ClearedCache] = {}
    for name, count in (item for given in answers.values() for each in given for item in each.items()):
        before = cleared.get(name, ClearedCache(0, 0))
        cleared[name] = ClearedCache(before.entries + count["entries"], before.bytes + count["bytes"])
    if not cleared and cache_type not in CACHES:
        words = f"cache.clear: cache_type: no executor has a cache {cache_type!r:.80}; there are: {', '.join(CACHES)}"
        raise RpcError(ErrorCode.INVALID_PARAMS, f"{words}, and those of your own packs")
    return cleared
