"""Methods that call and publish for whoever calls them: with their caller's rights, and with their own."""

from __future__ import annotations

from typing import Any

from trunkline import Context, method


@method("open.call", idempotent=True)
async def call(method: str, ctx: Context, params: dict[str, Any] | None = None) -> Any:
    """Call another method with the caller's rights."""
    return await ctx.call(method, params)


@method("open.read", idempotent=True)
async def read(method: str, ctx: Context, params: dict[str, Any] | None = None) -> Any:
    """Read another method's stream with the caller's rights."""
    return [chunk.data async for chunk in ctx.stream(method, params)]


@method("open.publish", idempotent=True)
async def publish(topic: str, ctx: Context, key: str | None = None) -> Any:
    """Publish with the caller's rights."""
    return await ctx.publish(topic, {"n": 1}, idempotency_key=key)


@method("own.call", idempotent=True, runs_as="method")
async def own_call(method: str, ctx: Context, params: dict[str, Any] | None = None) -> Any:
    """Call another method with this method's rights."""
    return await ctx.call(method, params)


@method("own.publish", idempotent=True, runs_as="method")
async def own_publish(topic: str, ctx: Context) -> Any:
    """Publish with this method's rights."""
    return await ctx.publish(topic, {"n": 1})


@method("closed.count", idempotent=True)
async def count() -> Any:
    """A stream that only some may read."""
    yield 1


@method("closed.secret", idempotent=True)
async def secret() -> str:
    """What only some may ask."""
    return "secret"
