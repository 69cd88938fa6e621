"""A bare JSON-RPC peer: it sends what it is told and remembers what comes. No library of ours is in it."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection

from tests.support.timing import PATIENCE


class Peer:
    """One WebSocket connection.

    Attributes:
        others: messages that came while a reply was waited for, in order.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.others: list[Any] = []
        self._ids = itertools.count(1)

    async def send(self, message: Any) -> None:
        """Send text as it is, anything else as JSON."""
        await self.socket.send(message if isinstance(message, str) else self.encode(message))

    def encode(self, message: Any) -> str | bytes:
        """How this peer writes."""
        return json.dumps(message)

    def decode(self, message: str | bytes) -> Any:
        """How this peer reads."""
        return json.loads(message)

    async def request(
        self, method: str, params: Any = None, *, id: Any = None, metadata: dict[str, Any] | None = None
    ) -> Any:
        """Send a request; returns its id."""
        request_id = next(self._ids) if id is None else id
        message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": {} if params is None else params}
        if metadata is not None:
            message["metadata"] = metadata
        await self.send(message)
        return request_id

    async def notify(self, method: str, params: Any = None) -> None:
        """Send a notification."""
        await self.send({"jsonrpc": "2.0", "method": method, "params": {} if params is None else params})

    async def cancel(self, request_id: Any) -> None:
        """Send ``$/cancelRequest``."""
        await self.notify("$/cancelRequest", {"id": request_id})

    async def receive(self, within: float = PATIENCE) -> Any:
        """The next message."""
        return self.decode(await asyncio.wait_for(self.socket.recv(), within))

    async def reply(self, request_id: Any, within: float = PATIENCE) -> Any:
        """The reply to one request; what comes before it goes to :attr:`others`."""
        for index, message in enumerate(self.others):
            if is_reply(message, request_id):
                return self.others.pop(index)
        async with asyncio.timeout(within):
            while not is_reply(message := self.decode(await self.socket.recv()), request_id):
                self.others.append(message)
        return message

    async def call(self, method: str, params: Any = None, *, within: float = PATIENCE, **options: Any) -> Any:
        """Send a request and wait for its reply, whole."""
        return await self.reply(await self.request(method, params, **options), within)

    async def result(self, method: str, params: Any = None, **options: Any) -> Any:
        """Send a request that has to succeed; returns its result."""
        reply = await self.call(method, params, **options)
        assert "error" not in reply, reply
        return reply["result"]

    async def error(self, method: str, params: Any = None, **options: Any) -> Any:
        """Send a request that has to fail; returns its error object."""
        reply = await self.call(method, params, **options)
        assert "result" not in reply, reply
        return reply["error"]

    async def close_code(self, within: float = PATIENCE) -> int | None:
        """Wait until the hub closes; returns its code."""
        async with asyncio.timeout(within):
            await self.socket.wait_closed()
        return self.socket.close_code


def is_reply(message: Any, request_id: Any) -> bool:
    return (
        isinstance(message, dict)
        and "method" not in message
        and type(message.get("id")) is type(request_id)
        and message.get("id") == request_id
    )


@asynccontextmanager
async def peer(
    url: str, headers: Mapping[str, str] | None = None, kind: type[Peer] = Peer, **options: Any
) -> AsyncIterator[Peer]:
    """Connect for the length of a ``with`` block. ``kind`` is how it reads and writes."""
    async with websockets.connect(
        url,
        additional_headers=dict(headers or {}),
        compression=None,
        max_size=None,
        ping_interval=None,
        close_timeout=1,
        proxy=None,
        **{"open_timeout": PATIENCE} | options,
    ) as socket:
        yield kind(socket)
