"""Methods that say where they run, for tests of groups."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from trunkline import Context, ErrorCode, RpcError, method


class Place:
    def load(self, settings: dict[str, Any]) -> None:
        """Keep what an executor is told of itself."""
        self.settings = settings

    @method("place.tell", idempotent=True)
    async def tell(self, ctx: Context) -> dict[str, Any]:
        """Say where this runs, and what it was given."""
        return {
            "group": ctx.group,
            "worker_id": ctx.worker_id,
            "told": [self.settings["group"], self.settings["executor"]],
            "colour": self.settings.get("colour"),
            "paint": os.environ.get("PAINT"),
            "prefix": sys.prefix,
        }

    @method("place.wait")
    async def wait(self, ctx: Context, seconds: float = 30.0) -> str:
        """Wait, and say who did."""
        await asyncio.sleep(seconds)
        return ctx.worker_id


@method("place.by_technique", idempotent=True, technique="technique")
async def by_technique(ctx: Context, technique: str = "plain", pipeline_id: str | None = None) -> str:
    """Say which group runs a technique, or a pipeline."""
    return f"{technique if pipeline_id is None else 'a pipeline'} in {ctx.group}"


@method("rag.check", idempotent=True, technique="technique")
async def check(ctx: Context, technique: str, config: dict[str, Any]) -> dict[str, Any]:
    """As pipeline.initialize asks; only the group of a technique knows it."""
    if (technique == "deep") != (ctx.group == "heavy"):
        raise RpcError(ErrorCode.INVALID_CONFIGURATION, f"no technique {technique} in {ctx.group}")
    return config
