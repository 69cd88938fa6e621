"""The methods of the dialogue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from trunkline import method
from trunkline.methods.inputs import InputStream


@method("counted.echo")
async def echo(value: Any) -> Any:
    """Return the value."""
    return value


@method("counted.echo_each")
async def echo_each(items: InputStream[Any]) -> AsyncIterator[Any]:
    """Say what is pushed, item by item."""
    async for item in items:
        yield item
