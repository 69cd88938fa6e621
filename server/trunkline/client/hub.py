"""A connection to a hub: calls and streams, many at once. Whatever happens, each of them ends."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

from trunkline_protocol import SUBPROTOCOL
from trunkline_protocol.errors import ErrorCode, RpcError

LOCAL_GRACE: Final = 2.0
"""Seconds the hub gets beyond a call's timeout before the client gives up by itself."""

logger = logging.getLogger("trunkline.client")
Priority = Literal["low", "normal", "high"]
_END: Final = object()


class DisconnectedError(ConnectionError):
    """The connection is gone. ``maybe_executed`` says whether the call had been sent."""

    def __init__(self, message: str, *, maybe_executed: bool) -> None:
        super().__init__(message)
        self.maybe_executed = maybe_executed


@dataclass(frozen=True, slots=True)
class StreamChunk:
    """One chunk of a stream: its type, its data (any JSON) and its 0-based index."""

    type: str
    data: Any
    index: int


class ResultStream:
    """The chunks of a streaming call: iterate once. Leaving the loop early cancels the call.

    ``result`` is the summary that follows the last chunk; it is set when the iteration has ended.
    """

    def __init__(self, hub: Hub, request_id: int, queue: asyncio.Queue[Any]) -> None:
        self._hub = hub
        self._id = request_id
        self._queue = queue
        self.result: Any = None

    async def __aiter__(self) -> AsyncIterator[StreamChunk]:
        """Yield chunks in order.

        Raises:
            RpcError: the call failed, after all chunks that came before.
            DisconnectedError: the connection was lost.
        """
        ended, expected = False, 0
        try:
            while True:
                item = await self._queue.get()
                if isinstance(item, StreamChunk):
                    if item.index != expected:
                        raise RpcError(ErrorCode.SERIALIZATION_ERROR, f"chunk {expected} is missing from the stream")
                    expected += 1
                    yield item
                    continue
                ended = True
                if isinstance(item, Exception):
                    raise item
                self.result = item[1]
                return
        finally:
            if not ended:
                await self._hub.cancel(self._id)


class Hub:
    """An open connection; made by :func:`connect`."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._ids = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._streams: dict[int, asyncio.Queue[Any]] = {}
        self._progress: dict[int, Callable[[Any], None]] = {}
        self._reader = asyncio.create_task(self._read(), name="trunkline-client")

    async def call(
        self,
        method: str,
        params: Any = None,
        *,
        timeout_ms: int | None = None,
        priority: Priority | None = None,
        on_progress: Callable[[Any], None] | None = None,
    ) -> Any:
        """Call a method and wait for its result. Cancelling the awaiting task cancels the call at the hub.

        Args:
            params: an object (by name) or a list (by position).
            timeout_ms: deadline in milliseconds; the hub's default is 30,000.
            on_progress: called with each progress report.

        Raises:
            RpcError: the typed error the call ended with; 1002 when the deadline passed.
            DisconnectedError: the connection was lost before the answer came.
        """
        request_id = next(self._ids)
        future = self._calls[request_id] = asyncio.get_running_loop().create_future()
        metadata: dict[str, Any] = {}
        if on_progress is not None:
            self._progress[request_id] = on_progress
            metadata["progress_token"] = request_id
        limit = None if timeout_ms is None else timeout_ms / 1000 + LOCAL_GRACE
        try:
            await self._request(request_id, method, params, timeout_ms, priority, metadata)
            return await asyncio.wait_for(future, limit)
        except TimeoutError:
            await self.cancel(request_id)
            raise RpcError(
                ErrorCode.COMMUNICATION_TIMEOUT,
                f"{method}: the hub did not answer in time",
                maybe_executed=True,
            ) from None
        except asyncio.CancelledError:
            await self.cancel(request_id)
            raise
        finally:
            self._calls.pop(request_id, None)
            self._progress.pop(request_id, None)

    async def stream(
        self,
        method: str,
        params: Any = None,
        *,
        timeout_ms: int | None = None,
        priority: Priority | None = None,
    ) -> ResultStream:
        """Start a streaming call.

        Args:
            timeout_ms: the longest silence between chunks in milliseconds; the hub's default is 60,000.

        Raises:
            DisconnectedError: the connection is gone.
        """
        request_id = next(self._ids)
        queue = self._streams[request_id] = asyncio.Queue()
        try:
            await self._request(request_id, method, params, timeout_ms, priority, {})
        except BaseException:
            del self._streams[request_id]
            raise
        return ResultStream(self, request_id, queue)

    async def cancel(self, request_id: int) -> None:
        """Tell the hub that an outcome is not wanted any more."""
        self._streams.pop(request_id, None)
        message = {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": request_id}}
        try:
            await self._connection.send(msgspec.json.encode(message).decode())
        except websockets.ConnectionClosed:
            return

    async def close(self) -> None:
        """Close the connection; open calls end with :class:`DisconnectedError`."""
        await self._connection.close()
        await asyncio.wait([self._reader])

    async def _request(
        self,
        request_id: int,
        method: str,
        params: Any,
        timeout_ms: int | None,
        priority: Priority | None,
        metadata: dict[str, Any],
    ) -> None:
        if timeout_ms is not None:
            metadata["timeout_ms"] = timeout_ms
        if priority is not None:
            metadata["priority"] = priority
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": request_id, "method": method}
        if params is not None:
            message["params"] = params
        if metadata:
            message["metadata"] = metadata
        try:
            await self._connection.send(encode_exactly(message).decode())
        except websockets.ConnectionClosed as closed:
            raise DisconnectedError(f"{method} was not sent: {closed}", maybe_executed=False) from closed

    async def _read(self) -> None:
        cause: Exception | None = None
        try:
            async for text in self._connection:
                self._receive(text)
        except websockets.ConnectionClosed as closed:
            cause = closed
        except Exception as error:
            logger.exception("reading from the hub failed")
            cause = error
        self._fail_all(cause or ConnectionError("the connection was closed"))

    def _receive(self, text: str | bytes) -> None:
        message = msgspec.json.decode(text)
        if not isinstance(message, dict):
            return
        if message.get("method") == "stream_chunk":
            self._chunk(message["params"])
        elif message.get("method") == "$/progress":
            self._report(message["params"])
        elif "method" not in message:
            self._reply(message)

    def _chunk(self, params: dict[str, Any]) -> None:
        queue = self._streams.get(params["request_id"])
        if queue is not None and not params["is_final"]:
            queue.put_nowait(StreamChunk(params["chunk_type"], params["data"], params["index"]))

    def _report(self, params: dict[str, Any]) -> None:
        request_id = params["token"]
        callback = self._progress.get(request_id)
        if callback is None:
            return
        try:
            callback(params["value"])
        except Exception as error:
            # The caller's own bug ends the caller's own call, and nothing else on this connection.
            future = self._calls.get(request_id)
            if future is not None and not future.done():
                future.set_exception(error)

    def _reply(self, message: dict[str, Any]) -> None:
        request_id = message.get("id")
        if not isinstance(request_id, int):
            logger.warning("the hub refused a message: %s", message.get("error"))
            return
        error = RpcError.from_wire(message["error"]) if "error" in message else None
        if (queue := self._streams.pop(request_id, None)) is not None:
            queue.put_nowait(error or (_END, message.get("result")))
        elif (future := self._calls.pop(request_id, None)) is not None and not future.done():
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(message.get("result"))

    def _fail_all(self, cause: Exception) -> None:
        calls, self._calls = self._calls, {}
        streams, self._streams = self._streams, {}
        for future in calls.values():
            if not future.done():
                future.set_exception(DisconnectedError(f"the connection was lost: {cause}", maybe_executed=True))
        for queue in streams.values():
            queue.put_nowait(DisconnectedError(f"the connection was lost: {cause}", maybe_executed=True))


def encode_exactly(message: dict[str, Any]) -> bytes:
    """JSON without silent losses, or a clear error.

    Raises:
        ValueError: NaN, an infinity or an integer beyond 2**53, which JavaScript peers could not read.
    """
    import orjson

    try:
        data = orjson.dumps(message, option=orjson.OPT_STRICT_INTEGER)
    except TypeError as error:
        raise ValueError(f"params of {message['method']} cannot be sent: {error}") from error
    if b"null" in data and not _is_finite(message):
        raise ValueError(f"params of {message['method']} cannot be sent: a float is not finite")
    return data


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return value - value == 0.0
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return all(map(_is_finite, value)) if isinstance(value, (list, tuple)) else True


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
