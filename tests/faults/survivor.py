"""A client with a session that comes back after every cut: the pure core of the protocol over a bare socket."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection

from tests.support.timing import PATIENCE
from trunkline_protocol.session import SessionCore, encode_ack


class Survivor:
    """Makes calls and follows one topic, whatever happens to its connections.

    It fails where a frame comes that may not come, or where a session is not resumed.

    Attributes:
        replies: by id of the call.
        chunks: the indexes of the one stream it started, in the order in which they came.
        events: the data of the topic's events, in order.
        gaps: the params of the gaps that were announced.
        resumed: how often it came back.
    """

    def __init__(self, url: str, *, topic: str) -> None:
        self._url = url
        self._topic = topic
        self._core = SessionCore()
        self._session: str | None = None
        self._position: dict[str, Any] | None = None
        self._socket: ClientConnection | None = None
        self._ids = itertools.count(1)
        self._pings = 0
        self.replies: dict[int, Any] = {}
        self.chunks: list[int] = []
        self.events: list[Any] = []
        self.gaps: list[Any] = []
        self.resumed = 0

    async def connect(self) -> None:
        """Connect until it works: open the session or resume it, and subscribe."""
        limit = time.monotonic() + PATIENCE
        while self._socket is None:
            try:
                await self._connect()
            except (OSError, websockets.WebSocketException):
                self._socket = None
                assert time.monotonic() < limit, "it cannot come back"
                await asyncio.sleep(0.02)

    async def _connect(self) -> None:
        options: dict[str, Any] = {"compression": None, "ping_interval": None, "close_timeout": 1, "proxy": None}
        socket = await websockets.connect(self._url, **options)
        params = {}
        if self._session is not None:
            params["resume"] = {"session": self._session, "received": self._core.take_ack()}
        await socket.send(request("open", "session.open", params))
        opened = json.loads(await socket.recv())["result"]
        if self._session is not None:
            assert opened["resumed"] is True, opened
            self.resumed += 1
            for frame in self._core.resume(opened["received"]):
                await socket.send(frame.decode())
        self._session = opened["session"]
        recover = {} if self._position is None else {"recover": self._position}
        await socket.send(request("subscribe", "subscribe", {"topic": self._topic, **recover}))
        self._socket = socket

    async def call(self, method: str, params: Any) -> int:
        """Make a call; what this connection does not take the next one sends again."""
        request_id = next(self._ids)
        await self._send(self._core.number(request(request_id, method, params).encode()).decode())
        return request_id

    async def ping(self) -> None:
        """Return when the hub has everything that was sent so far."""
        await self.connect()
        pings = self._pings
        await self._send(request("ping", "rpc.ping", {}))
        await self.read_until(lambda: self._pings > pings)

    async def _send(self, text: str) -> None:
        if self._socket is not None:
            try:
                await self._socket.send(text)
            except websockets.ConnectionClosed:
                self._socket = None

    async def read_for(self, seconds: float) -> None:
        """Read what comes within this time, and come back after cuts."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            await self._read(left)

    async def read_until(self, condition: Callable[[], bool]) -> None:
        """Read until it holds, and come back after cuts."""
        limit = time.monotonic() + 3 * PATIENCE
        while not condition():
            assert time.monotonic() < limit, f"{len(self.replies)} replies, {len(self.events)} events: not yet"
            await self._read(0.1)

    async def _read(self, within: float) -> None:
        if self._socket is None:
            await self.connect()
        assert self._socket is not None
        try:
            text = await asyncio.wait_for(self._socket.recv(), within)
        except TimeoutError:
            return
        except websockets.ConnectionClosed:
            self._socket = None
            return
        message = json.loads(text)
        if "seq" not in message:
            self._unnumbered(message)
        elif self._core.receive(message["seq"], len(text)):
            self._numbered(message)
        if self._core.ack_delay(time.monotonic()) == 0:
            await self._send(encode_ack(self._core.take_ack()).decode())

    def _numbered(self, message: Any) -> None:
        if message.get("method") == "stream_chunk":
            self.chunks.append(message["params"]["index"])
        else:
            assert message["id"] not in self.replies, f"answered twice: {message}"
            self.replies[message["id"]] = message

    def _unnumbered(self, message: Any) -> None:
        match message.get("method"):
            case "session.ack":
                self._core.acknowledge(message["params"]["received"])
            case "event":
                params = message["params"]
                self._position = {"epoch": params["epoch"], "offset": params["offset"]}
                self.events.append(params["data"])
            case "event.gap":
                params = message["params"]
                self._position = {"epoch": params["epoch"], "offset": params["to"]}
                self.gaps.append(params)
            case None:
                assert "error" not in message, message
                self._pings += message["id"] == "ping"
                if message["id"] == "subscribe" and self._position is None:
                    self._position = {"epoch": message["result"]["epoch"], "offset": message["result"]["offset"]}

    async def close(self) -> None:
        """Leave."""
        if self._socket is not None:
            await self._socket.close()


def request(request_id: int | str, method: str, params: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
