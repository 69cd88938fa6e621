"""Methods that say who calls them, and that call others on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from trunkline import Context, Principal, method


def told(principal: Principal) -> dict[str, Any]:
    """A principal as data."""
    return {
        "name": principal.name,
        "roles": sorted(principal.roles),
        "tenant": principal.tenant,
        "claims": dict(principal.claims),
    }


@method("who.calls", idempotent=True)
async def calls(ctx: Context) -> dict[str, Any]:
    """Who calls."""
    return told(ctx.principal)


@method("who.plain", idempotent=True)
def plain(ctx: Context) -> dict[str, Any]:
    """Who calls, as a plain function."""
    return told(ctx.principal)


@method("who.streams", idempotent=True)
async def streams(ctx: Context) -> AsyncIterator[dict[str, Any]]:
    """Who reads."""
    yield told(ctx.principal)


@method("who.below", idempotent=True)
async def below(ctx: Context, method: str = "who.calls", params: dict[str, Any] | None = None) -> Any:
    """What another method says, called with the caller's rights."""
    return await ctx.call(method, params)


@method("who.own", idempotent=True, runs_as="method")
async def own(ctx: Context, method: str = "who.calls", params: dict[str, Any] | None = None) -> Any:
    """What another method says, called with this one's rights."""
    return await ctx.call(method, params)


@method("who.publishes", idempotent=True)
async def publishes(topic: str, ctx: Context) -> Any:
    """Publish for the caller."""
    return await ctx.publish(topic, 1)


@method("who.waits", idempotent=True)
async def waits(begun: str, ctx: Context) -> dict[str, Any]:
    """Who calls, once the file with the suffix ``.go`` is there."""
    mark = Path(begun)
    await asyncio.to_thread(mark.touch)
    while not await asyncio.to_thread(mark.with_suffix(".go").exists):
        await asyncio.sleep(0.02)
    return told(ctx.principal)
