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
NAMES_HOOK: Final = "cache_names"
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
        cleared = total(answers)
        if not cleared and params.cache_type not in CACHES:
            named = await self._broadcast(NAMES_HOOK, {}, SECONDS)
            names = sorted({name for given in named.values() for each in given for name in each})
            raise RpcError(
                ErrorCode.INVALID_PARAMS,
                f"cache.clear: cache_type: no executor has a cache {params.cache_type!r:.80}; "
                f"there are: {', '.join(['all', *names])}",
            )
        return ClearedCaches(params.cache_type, len(answers), cleared)


def total(answers: dict[str, list[Any]]) -> dict[str, ClearedCache]:
    """What all executors have cleared, by cache."""
    cleared: dict[str, ClearedCache] = {}
    for name, count in (item for given in answers.values() for each in given for item in each.items()):
        before = cleared.get(name, ClearedCache(0, 0))
        cleared[name] = ClearedCache(before.entries + count["entries"], before.bytes + count["bytes"])
    return cleared
