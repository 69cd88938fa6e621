"""A pack with a cache of its own, which ``cache.clear`` empties."""

from __future__ import annotations

import asyncio

from trunkline import Context, method


class KeptMethods:
    def __init__(self) -> None:
        self.kept: set[str] = set()

    def cache_names(self) -> list[str]:
        return ["kept"]

    def clear_cache(self, cache_type: str) -> dict[str, dict[str, int]]:
        if cache_type == "broken":
            raise ValueError("broken")
        if cache_type not in ("kept", "all"):
            return {}
        entries = len(self.kept)
        self.kept.clear()
        return {"kept": {"entries": entries, "bytes": 10 * entries}}

    @method("kept.put")
    async def put(self, key: str, ctx: Context) -> str:
        """Keep it, and wait a little so that others go elsewhere."""
        self.kept.add(key)
        await asyncio.sleep(0.01)
        return ctx.worker_id
