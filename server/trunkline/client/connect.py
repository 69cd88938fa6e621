"""Opening a connection to a hub."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import websockets
from websockets.typing import Subprotocol

from trunkline.client.hub import Hub
from trunkline_protocol import SUBPROTOCOL


@asynccontextmanager
async def connect(url: str, *, token: str | None = None, open_timeout: float = 10.0) -> AsyncIterator[Hub]:
    """Connect to a hub for the length of a ``with`` block.

    Args:
        url: ``ws://host:port/ws``.
        token: sent as ``Authorization: Bearer``.
        open_timeout: seconds the handshake may take.

    Raises:
        OSError, websockets.InvalidHandshake, TimeoutError: no connection could be made.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else None
    connection = await websockets.connect(
        url,
        additional_headers=headers,
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        compression=None,
        max_size=None,
        open_timeout=open_timeout,
        proxy=None,
    )
    hub = Hub(connection)
    try:
        yield hub
    finally:
        await hub.close()
