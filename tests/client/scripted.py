"""A hub that says what the test tells it to, over a real socket."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.support.timing import PATIENCE
from trunkline_protocol import SUBPROTOCOL

EPOCH = "e1"
Answer = Callable[[dict[str, Any]], list[dict[str, Any]] | None]


def event(topic: str, offset: int, data: Any = None, *, epoch: str = EPOCH) -> dict[str, Any]:
    params = {"topic": topic, "data": data, "epoch": epoch, "offset": offset, "published_at": 1_765_432_100_123}
    return {"jsonrpc": "2.0", "method": "event", "params": params}


def gap(topic: str, first: int, last: int, reason: str = "slow_consumer", *, epoch: str = EPOCH) -> dict[str, Any]:
    params = {"topic": topic, "epoch": epoch, "from": first, "to": last, "count": last - first + 1, "reason": reason}
    return {"jsonrpc": "2.0", "method": "event.gap", "params": params}


def chunk(request_id: int, index: int) -> dict[str, Any]:
    params = {"request_id": request_id, "chunk_type": "data", "data": index, "index": index, "is_final": False}
    return {"jsonrpc": "2.0", "method": "stream_chunk", "params": params}


def final(request_id: int, index: int) -> dict[str, Any]:
    params = {"request_id": request_id, "chunk_type": "data", "data": None, "index": index, "is_final": True}
    return {"jsonrpc": "2.0", "method": "stream_chunk", "params": params}


def subscribed(
    message: dict[str, Any], offset: int = 0, *, recovered: bool = False, epoch: str = EPOCH
) -> dict[str, Any]:
    topic = message["params"]["topic"]
    result = {"topic": topic, "epoch": epoch, "offset": offset, "recovered": recovered}
    if "*" in topic or ">" in topic:
        result |= {"epoch": None, "offset": 0}
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


def reply(message: dict[str, Any], result: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


def opened(
    message: dict[str, Any], session: str = "s", *, resumed: bool = False, received: int = 0, ttl_ms: int = 60_000
) -> dict[str, Any]:
    """What ``session.open`` is answered."""
    return reply(message, {"session": session, "resumed": resumed, "received": received, "ttl_ms": ttl_ms})


def successive(answer: Callable[[int, dict[str, Any]], list[dict[str, Any]] | None]) -> Answer:
    """Hubs one after the other: the session of each connection is a new one, and ``answer`` gets its number from 0.

    It is not asked about ``session.open``, nor about what wants no answer.
    """
    numbers = itertools.count()
    number = 0

    def of_present(message: dict[str, Any]) -> list[dict[str, Any]] | None:
        nonlocal number
        if message["method"] == "session.open":
            number = next(numbers)
            return [opened(message, f"s{number}")]
        return answer(number, message) if "id" in message else []

    return of_present


def refused(message: dict[str, Any], code: int, text: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": message["id"], "error": {"code": code, "message": text}}


def agreeable(message: dict[str, Any]) -> list[dict[str, Any]]:
    """A hub whose topics are empty."""
    if message["method"] == "subscribe":
        return [subscribed(message)]
    return [{"jsonrpc": "2.0", "id": message["id"], "result": {"topic": message["params"]["topic"]}}]


class ScriptedHub:
    """One listening socket.

    Args:
        answer: what comes of each message.
        sessions: whether ``answer`` is asked about ``session.open``, too; else it is refused.

    Attributes:
        received: every message of every client, in order.
    """

    def __init__(self, answer: Answer, *, sessions: bool = False) -> None:
        self._answer = answer
        self._no_sessions = not sessions
        self._sockets: list[ServerConnection] = []
        self._changed = asyncio.Condition()
        self.received: list[dict[str, Any]] = []
        self.url = ""

    def answers_to(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        """Take a message of a client."""
        if message.get("method") == "session.open" and self._no_sessions:
            return [refused(message, -32601, "no sessions here")]
        self.received.append(message)
        answers = self._answer(message)
        return agreeable(message) if answers is None and "id" in message else answers or []

    async def handle(self, socket: ServerConnection) -> None:
        self._sockets.append(socket)
        async for text in socket:
            await self._send(socket, self.answers_to(json.loads(text)))
            async with self._changed:
                self._changed.notify_all()

    async def send(self, *messages: dict[str, Any]) -> None:
        """To the newest client, without a break."""
        await self._send(self._sockets[-1], messages)

    async def cut(self) -> None:
        """End the newest client's TCP connection without a word."""
        self._sockets[-1].transport.abort()

    async def wait_for(self, method: str, number: int = 1, *, within: float = PATIENCE) -> dict[str, Any]:
        """Wait until so many calls of a method came and were answered; returns the last of them."""
        async with asyncio.timeout(within), self._changed:
            await self._changed.wait_for(lambda: len(self.calls(method)) >= number)
        return next(itertools.islice(self.calls(method), number - 1, None))

    def calls(self, method: str) -> list[dict[str, Any]]:
        return [message for message in self.received if message["method"] == method]

    @staticmethod
    async def _send(socket: ServerConnection, messages: Any) -> None:
        for message in messages:
            await socket.send(json.dumps(message))


@asynccontextmanager
async def scripted_hub(answer: Answer = agreeable, *, sessions: bool = False) -> AsyncIterator[ScriptedHub]:
    """Listen for the length of a ``with`` block. ``answer`` may return None for the usual answer."""
    hub = ScriptedHub(answer, sessions=sessions)
    async with serve(hub.handle, "127.0.0.1", 0, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        hub.url = f"ws://127.0.0.1:{port}/ws"
        yield hub
