"""A method of the other group, for tests of groups."""

from __future__ import annotations

from trunkline import Context, method


@method("light.only")
async def only(ctx: Context) -> str:
    """Say which group this is."""
    return ctx.group
