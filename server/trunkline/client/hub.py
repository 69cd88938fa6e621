"""A connection to a hub: calls, streams and events, many at once. Whatever happens, each of them ends."""

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

from trunkline.client.encoding import encode_exactly
from trunkline.client.errors import DisconnectedError
from trunkline.client.events import Event, Gap, Position
from trunkline.client.streams import ResultStream, StreamChunk, StreamEnd
from trunkline.client.subscriptions import Subscription, Subscriptions
from trunkline_protocol.errors import ErrorCode, RpcError

LOCAL_GRACE: Final = 2.0
"""Seconds the hub gets beyond a call's timeout before the client gives up by itself."""

READ_AHEAD: Final = 64
"""Messages that are handled at a stretch before those who wait for them get a turn."""

PROTOCOL_ERROR: Final = 1002

logger = logging.getLogger("trunkline.client")
Priority = Literal["low", "normal", "high"]


@dataclass(slots=True)
class _OpenCall:
    """A call without its answer. ``on_result`` sees the result before the next message is read."""

    future: asyncio.Future[Any]
    on_progress: Callable[[Any], None] | None
    on_result: Callable[[Any], None] | None

    def settle(self, result: Any) -> None:
        if self.future.done():
            return
        try:
            if self.on_result is not None:
                self.on_result(result)
        except Exception as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def forget(self) -> None:
        """Nobody waits any more; an error that came meanwhile is not worth a warning of the event loop."""
        if not self.future.cancel() and not self.future.cancelled():
            self.future.exception()


class Hub:
    """An open connection; made by :func:`connect`."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._ids = itertools.count(1)
        self._calls: dict[int, _OpenCall] = {}
        self._streams: dict[int, asyncio.Queue[StreamChunk | StreamEnd | Exception]] = {}
        self._subscriptions = Subscriptions(self._ask)
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
        return await self._ask(method, params, timeout_ms=timeout_ms, priority=priority, on_progress=on_progress)

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
            self._streams.pop(request_id, None)
            raise
        return ResultStream(lambda: self.cancel(request_id), queue)

    @asynccontextmanager
    async def subscribe(
        self, *topics: str, recover: Position | None = None, max_queued: int = 1024
    ) -> AsyncIterator[Subscription]:
        """Read what is published, for the length of a ``with`` block::

            async with hub.subscribe("jobs.*") as events:
                async for event in events:
                    match event:
                        case Event(topic, data): ...
                        case Gap(topic, count=count): ...

        Args:
            topics: names, or patterns: ``*`` is one token, ``>`` at the end one or more. An event that several of
                them match comes once. A pattern may also bring history that another subscription of this
                connection recovers.
            recover: go on after this position; for one topic without wildcards.
            max_queued: events that may wait for the reader. If it is slower, the oldest are dropped, and a
                :class:`Gap` with the reason ``client_slow`` stands in their place.

        Raises:
            RpcError: the hub refused: -32602 for what is no topic, 6002 where it is not allowed, 2003 for too many.
            DisconnectedError: the connection is gone.
            ValueError: no topic, ``recover`` with several topics, or no room in the queue.
        """
        if not topics or max_queued < 1:
            raise ValueError("subscribe needs a topic, and max_queued must be 1 or more")
        if recover is not None and len(topics) > 1:
            raise ValueError("recover is the position of one topic: make a subscription for each")
        subscription = Subscription(topics, max_queued)
        try:
            await self._subscriptions.add(subscription, recover)
            yield subscription
        finally:
            await self._subscriptions.remove(subscription)

    async def publish(self, topic: str, data: Any, *, idempotency_key: str | None = None) -> Position:
        """Publish an event; returns its position once the hub has stored it.

        Args:
            data: any JSON.
            idempotency_key: publishing again with the same key, within five minutes, is the same event.

        Raises:
            RpcError: the hub refused: -32602 for what is no topic, 6002 where it is not allowed.
            DisconnectedError: the connection was lost; with an idempotency key it is safe to publish again.
        """
        params = {"topic": topic, "data": data}
        if idempotency_key is not None:
            params["idempotency_key"] = idempotency_key
        stored = await self._ask("publish", params)
        return Position(stored["epoch"], stored["offset"])

    async def cancel(self, request_id: int) -> None:
        """Tell the hub that an outcome is not wanted any more."""
        self._streams.pop(request_id, None)
        message = {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": request_id}}
        try:
            await self._connection.send(msgspec.json.encode(message).decode())
        except websockets.ConnectionClosed:
            return

    async def close(self) -> None:
        """Close the connection; open calls, streams and subscriptions end with :class:`DisconnectedError`."""
        await self._connection.close()
        await asyncio.wait([self._reader])

    async def _ask(
        self,
        method: str,
        params: Any,
        *,
        timeout_ms: int | None = None,
        priority: Priority | None = None,
        on_progress: Callable[[Any], None] | None = None,
        on_result: Callable[[Any], None] | None = None,
    ) -> Any:
        request_id = next(self._ids)
        call = _OpenCall(asyncio.get_running_loop().create_future(), on_progress, on_result)
        self._calls[request_id] = call
        metadata = {} if on_progress is None else {"progress_token": request_id}
        limit = None if timeout_ms is None else timeout_ms / 1000 + LOCAL_GRACE
        try:
            await self._request(request_id, method, params, timeout_ms, priority, metadata)
            return await asyncio.wait_for(call.future, limit)
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
            call.forget()

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
        cause: Exception = ConnectionError("it was closed")
        handled = 0
        try:
            async for text in self._connection:
                handled += 1
                # One read of the socket may hold thousands of messages: let readers empty their queues in between.
                if self._receive(text) or not handled % READ_AHEAD:
                    await asyncio.sleep(0)
        except websockets.ConnectionClosed as closed:
            cause = closed
        except Exception as error:
            logger.exception("reading from the hub failed")
            cause = error
        self._fail_all(cause)
        await self._connection.close(PROTOCOL_ERROR)

    def _receive(self, text: str | bytes) -> bool:
        """Handle one message; returns whether somebody does not keep up."""
        message = msgspec.json.decode(text)
        if not isinstance(message, dict):
            return False
        match message.get("method"):
            case None:
                self._reply(message)
            case "event":
                return self._subscriptions.deliver(event_from(message["params"]))
            case "event.gap":
                return self._subscriptions.deliver(gap_from(message["params"]))
            case "stream_chunk":
                self._chunk(message["params"])
            case "$/progress":
                self._report(message["params"])
        return False

    def _chunk(self, params: dict[str, Any]) -> None:
        queue = self._streams.get(params["request_id"])
        if queue is not None and not params["is_final"]:
            queue.put_nowait(StreamChunk(params["chunk_type"], params["data"], params["index"]))

    def _report(self, params: dict[str, Any]) -> None:
        call = self._calls.get(params["token"])
        if call is None or call.on_progress is None:
            return
        try:
            call.on_progress(params["value"])
        except Exception as error:
            # The caller's own bug ends the caller's own call, and nothing else on this connection.
            call.fail(error)

    def _reply(self, message: dict[str, Any]) -> None:
        request_id = message.get("id")
        if not isinstance(request_id, int):
            logger.warning("the hub refused a message: %s", message.get("error"))
            return
        error = RpcError.from_wire(message["error"]) if "error" in message else None
        if (queue := self._streams.pop(request_id, None)) is not None:
            queue.put_nowait(error or StreamEnd(message.get("result")))
        elif (call := self._calls.pop(request_id, None)) is not None:
            call.settle(message.get("result")) if error is None else call.fail(error)

    def _fail_all(self, cause: Exception) -> None:
        calls, self._calls = self._calls, {}
        streams, self._streams = self._streams, {}
        what = f"the connection was lost: {cause}"
        for call in calls.values():
            call.fail(DisconnectedError(what, maybe_executed=True))
        for queue in streams.values():
            queue.put_nowait(DisconnectedError(what, maybe_executed=True))
        self._subscriptions.end(DisconnectedError(what, maybe_executed=False))


def event_from(params: dict[str, Any]) -> Event:
    """The params of ``event``."""
    return Event(params["topic"], params["data"], params["epoch"], params["offset"], params["published_at"])


def gap_from(params: dict[str, Any]) -> Gap:
    """The params of ``event.gap``."""
    return Gap(
        params["topic"], params["epoch"], params["from"], params["to"], params.get("count"), params.get("reason", "")
    )
