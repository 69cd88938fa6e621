"""A method whose routing keys another group owns, for tests of groups."""

from __future__ import annotations

from trunkline import method


@method("rival.owned", routing_key="name")
async def owned(name: str) -> str:
    """Return the name."""
    return name


@method("rival.free")
async def free() -> str:
    """Run anywhere."""
    return "free"
