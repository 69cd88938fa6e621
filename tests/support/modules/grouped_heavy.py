"""Methods of one group only, for tests of groups."""

from __future__ import annotations

from typing import Any

from trunkline import Context, method


@method("heavy.owned", routing_key="name")
async def owned(name: str, ctx: Context) -> str:
    """Say which executor owns a name."""
    return ctx.worker_id


@method("heavy.lift")
async def lift(ctx: Context) -> dict[str, Any]:
    """Call a method that the other group has, too."""
    return {"group": ctx.group, "inner": await ctx.call("place.tell"), "light": await ctx.call("light.only")}
