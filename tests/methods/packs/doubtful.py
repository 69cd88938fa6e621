"""Methods that say, or do not say, whether they have done anything yet when they raise."""

from __future__ import annotations

from trunkline import Context, ErrorCode, InputStream, RpcError, method


@method("doubtful.silent")
async def silent() -> None:
    raise RpcError(ErrorCode.INVALID_CONFIGURATION, "it does not say")


@method("doubtful.nothing")
async def nothing() -> None:
    raise RpcError(ErrorCode.INVALID_CONFIGURATION, "nothing was done", maybe_executed=False)


@method("doubtful.nested")
async def nested(ctx: Context) -> None:
    """What another method says of itself is not true of this one, which may have done something before."""
    await ctx.call("doubtful.nothing")


@method("doubtful.took")
async def took(items: InputStream[int]) -> None:
    async for _item in items:
        raise RpcError(ErrorCode.INVALID_CONFIGURATION, "nothing was done, it thinks", maybe_executed=False)
