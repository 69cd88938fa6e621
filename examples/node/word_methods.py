"""Methods that main.mjs calls."""

import os
from collections.abc import AsyncIterator

from trunkline import method


@method("words.count", idempotent=True)
def count(text: str) -> int:
    """How many words a text has."""
    return len(text.split())


@method("words.each")
async def each(text: str) -> AsyncIterator[str]:
    """Its words, one after the other."""
    for word in text.split():
        yield word


@method("words.hub")
def hub() -> int:
    """The process of the hub, for those who want to see it restarted."""
    return os.getppid()
