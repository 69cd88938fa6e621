"""Opens the WebSocket connections of load generators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import picows

Listener = TypeVar("Listener", bound=picows.WSListener)


async def connected(listener: Listener, url: str, headers: Mapping[str, str] | None = None) -> Listener:
    """The same listener, once its connection to ``url`` is open: picows returns it as any ``WSListener``."""
    await picows.ws_connect(lambda: listener, url, extra_headers=headers)
    return listener
