"""``cache.clear``: empties caches in every executor, and answers when all have done it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from trunkline.background import start_task
from trunkline.hub.dispatch import Handlers, answering
from trunkline_protocol.administration import CACHES, ClearCacheParams, ClearedCache, ClearedCaches
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_methods import CACHE_CLEAR

HOOK: Final = "clear_cache"
SECONDS: Final = 10.0
"""How long executors may take: one whose method holds the interpreter lock answers when that has ended."""

Broadcast = Callable[[str, dict[str, Any], float], Awaitable[dict[str, list[Any]]]]

_encoder: Final = msgspec.json.Encoder()
logger = logging.getLogger("trunkline.hub")


class CacheCalls:
    """Answers ``cache.clear``.

    Args:
        broadcast: calls a hook of the packs in every executor, and returns what they return by executor.
    """

    def __init__(self, broadcast: Broadcast) -> None:
        self._broadcast = broadcast

    def methods(self) -> Handlers:
        """The handler of ``cache.clear``."""
        return answering(CACHE_CLEAR, self._begin)

    def _begin(self, call: Call, params: ClearCacheParams) -> None:
        start_task(self._clear(call, params.cache_type), call.method)

    async def _clear(self, call: Call, cache_type: str) -> None:
        try:
            answers = await self._broadcast(HOOK, {"cache_type": cache_type}, SECONDS)
            call.settle_result(_encoder.encode(ClearedCaches(cache_type, len(answers), total(cache_type, answers))))
        except RpcError as error:
            call.settle_error(error)
        except Exception:
            logger.exception("answering %s failed", call.method)
            call.settle_error(RpcError(ErrorCode.INTERNAL_ERROR, f"the hub failed to answer {call.method}"))


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
