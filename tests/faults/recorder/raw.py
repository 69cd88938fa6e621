"""A client of a few lines, beside the real ones: sessions by the core of the protocol alone, nothing retried.

Where the real clients and this one fail alike, it is the hub. Its shape is that of ``trunkline.client``, as far as the
workload needs it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import websockets
from websockets.asyncio.client import ClientConnection

from trunkline.client import DisconnectedError, Event, Gap, Position, StreamChunk
from trunkline.client.connection_state import CloseInfo, Connected, ConnectionState, Reconnecting
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.session import ProtocolViolation, SessionCore, encode_ack

PAUSE: Final = 0.1
"""Seconds between attempts to connect."""

GRACE: Final = 2.0
"""Seconds that the hub gets beyond a deadline."""

INPUT_WINDOW: Final = 64
CALLEE_WINDOW: Final = 256

LOST: Final = "the session was lost"


class RawSubscription:
    """One topic. ``position`` moves with what is read, ``reached`` with what arrives."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.position: Position | None = None
        self.reached: Position | None = None
        self.arrived: asyncio.Queue[Event | Gap] = asyncio.Queue()

    def __aiter__(self) -> RawSubscription:
        return self

    async def __anext__(self) -> Event | Gap:
        item = await self.arrived.get()
        self.position = item.position
        return item

    def take(self, item: Event | Gap) -> None:
        self.reached = item.position
        self.arrived.put_nowait(item)


class RawStream:
    """Chunks as they come, unchecked; ``result`` is the summary."""

    def __init__(self, queue: asyncio.Queue[Any], consumed: Callable[[int], None]) -> None:
        self._queue = queue
        self._consumed = consumed
        self.result: Any = None

    async def __aiter__(self) -> AsyncIterator[StreamChunk]:
        taken = 0
        while True:
            item = await self._queue.get()
            if isinstance(item, Exception):
                raise item
            if "chunk_type" not in item:
                self.result = item["result"]
                return
            if not item["is_final"]:
                yield StreamChunk(item["chunk_type"], item["data"], item["index"])
                taken += 1
                self._consumed(taken)


class RawHub:
    """See the file. Made by :func:`raw_connect`.

    Args:
        url: of the hub.
        session: without one, a cut ends everything, and nothing is made again but the connection.
    """

    def __init__(self, url: str, *, session: bool = True) -> None:
        self._url = url
        self._with_session = session
        self._core = SessionCore()
        self._session: str | None = None
        self._socket: ClientConnection | None = None
        self._out: asyncio.Queue[bytes] = asyncio.Queue()
        self._ids = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._streams: dict[int, asyncio.Queue[Any]] = {}
        self._credit: dict[int | str, int] = {}
        self._credited = asyncio.Condition()
        self._subscriptions: dict[str, RawSubscription] = {}
        self._asked: dict[int, RawSubscription] = {}
        self._served: dict[str, tuple[Any, dict[str, Any]]] = {}
        self._handlers: dict[str, asyncio.Task[None]] = {}
        self._listeners: list[Callable[[ConnectionState], None]] = []
        self._ack_due: asyncio.TimerHandle | None = None
        self._is_closing = False
        self.connected = asyncio.Event()
        self._runner = asyncio.create_task(self._run(), name="raw-client")

    # --- what the workload calls ---

    def on_connection_state(self, listener: Callable[[ConnectionState], None]) -> None:
        self._listeners.append(listener)

    async def call(
        self,
        method: str,
        params: Any = None,
        *,
        timeout_ms: int,
        idempotency_key: str | None = None,
        idempotent: bool = False,
        input: Iterable[Any] | None = None,
    ) -> Any:
        """As the real one; ``idempotent`` is of no meaning here: nothing is retried."""
        request_id = next(self._ids)
        future = self._calls[request_id] = asyncio.get_running_loop().create_future()
        feeder = None if input is None else asyncio.create_task(self._feed(request_id, input))
        try:
            self._request(request_id, method, params, timeout_ms, idempotency_key)
            return await asyncio.wait_for(future, timeout_ms / 1000 + GRACE)
        except TimeoutError:
            self._cancel(request_id)
            raise RpcError(ErrorCode.COMMUNICATION_TIMEOUT, "no answer", maybe_executed=True) from None
        except asyncio.CancelledError:
            self._cancel(request_id)
            raise
        finally:
            self._calls.pop(request_id, None)
            if feeder is not None:
                feeder.cancel()

    async def stream(self, method: str, params: Any = None, *, timeout_ms: int) -> RawStream:
        request_id = next(self._ids)
        queue = self._streams[request_id] = asyncio.Queue()
        self._request(request_id, method, params, timeout_ms, None, window={"items": 8})
        return RawStream(queue, lambda taken: self._grant(request_id, taken))

    def _grant(self, request_id: int, taken: int) -> None:
        if request_id in self._streams and taken % 4 == 0:
            self._notify("stream.credit", {"request_id": request_id, "consumed": taken})

    async def publish(self, topic: str, data: Any, *, idempotency_key: str | None = None) -> Position:
        params = {"topic": topic, "data": data} | ({"idempotency_key": idempotency_key} if idempotency_key else {})
        stored = await self.call("publish", params, timeout_ms=10_000)
        return Position(stored["epoch"], stored["offset"])

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[RawSubscription]:
        subscription = self._subscriptions[topic] = RawSubscription(topic)
        self._ask(subscription)
        while subscription.position is None:
            await asyncio.sleep(0.01)
        yield subscription
        del self._subscriptions[topic]

    async def register(self, method: str, handler: Any, **options: Any) -> None:
        self._served[method] = (handler, options)
        await self.call("method.register", {"method": method, **options}, timeout_ms=10_000)

    async def close(self) -> None:
        self._is_closing = True  # its connection may end at this moment, and take the cancellation along
        self._runner.cancel()
        await asyncio.wait([self._runner])
        self._lose()

    # --- what is sent ---

    def _request(
        self, request_id: int, method: str, params: Any, timeout_ms: int, key: str | None, **metadata: Any
    ) -> None:
        metadata["timeout_ms"] = timeout_ms
        if key is not None:
            metadata["idempotency_key"] = key
        self._send({"id": request_id, "method": method, "params": params or {}, "metadata": metadata})

    def _cancel(self, request_id: int) -> None:
        self._notify("$/cancelRequest", {"id": request_id})

    def _notify(self, method: str, params: Any) -> None:
        self._send({"method": method, "params": params})

    def _send(self, message: dict[str, Any]) -> None:
        """Number it and write it, now or after the next resume."""
        frame = encoded(message)
        if self._with_session:
            frame = self._core.number(frame)
        elif self._socket is None:
            raise DisconnectedError("not connected", maybe_executed=False)
        if self._socket is not None:
            self._out.put_nowait(frame)

    def _ask(self, subscription: RawSubscription) -> None:
        """Subscribe, on this connection, if there is one: frames of this sort have no number."""
        if self._socket is None:
            return
        request_id = next(self._ids)
        self._asked[request_id] = subscription
        params: dict[str, Any] = {"topic": subscription.topic}
        if (position := subscription.reached) is not None:
            params["recover"] = {"epoch": position.epoch, "offset": position.offset}
        self._out.put_nowait(encoded({"id": request_id, "method": "subscribe", "params": params}))

    async def _feed(self, request_id: int, items: Iterable[Any]) -> None:
        index = -1
        for index, data in enumerate(items):
            await self._wait_for_credit(request_id, index, INPUT_WINDOW)
            self._notify("stream.push", {"request_id": request_id, "index": index, "data": data})
            await asyncio.sleep(0.005)
        self._notify("stream.push", {"request_id": request_id, "index": index + 1, "is_final": True})

    async def _wait_for_credit(self, request_id: int | str, index: int, window: int) -> None:
        async with self._credited:
            await self._credited.wait_for(lambda: index - self._credit.get(request_id, 0) < window)

    # --- connections ---

    async def _run(self) -> None:
        while not self._is_closing:
            with suppress(OSError, websockets.WebSocketException, TimeoutError):
                async with websockets.connect(self._url, compression=None, max_size=None, proxy=None) as socket:
                    await self._serve(socket)
            await asyncio.sleep(PAUSE)

    async def _serve(self, socket: ClientConnection) -> None:
        self._out = asyncio.Queue()
        if self._with_session:
            await self._open(socket)
        self._socket = socket
        self._asked.clear()
        for subscription in self._subscriptions.values():
            self._ask(subscription)
        self.connected.set()
        writer = asyncio.create_task(self._write(socket))
        try:
            async for text in socket:
                await self._receive(json.loads(text), len(text))
        except ProtocolViolation as violation:
            await socket.close(1002, str(violation))
        finally:
            self._socket = None
            writer.cancel()
            if not self._with_session:
                self._lose()
            self._tell(Reconnecting(1, PAUSE, CloseInfo(socket.close_code or 1006, socket.close_reason or "")))

    async def _write(self, socket: ClientConnection) -> None:
        with suppress(websockets.ConnectionClosed):
            while True:
                await socket.send(await self._out.get(), text=True)

    async def _open(self, socket: ClientConnection) -> None:
        had = self._session
        resume = {} if had is None else {"resume": {"session": had, "received": self._core.received}}
        await socket.send(encoded({"id": 0, "method": "session.open", "params": resume}), text=True)
        opened = json.loads(await socket.recv())["result"]
        self._session = opened["session"]
        if opened["resumed"]:
            for frame in self._core.resume(opened["received"]):
                self._out.put_nowait(frame)
        elif had is not None:
            self._core = SessionCore()
            self._lose()
            for method, (_, options) in self._served.items():
                self._request(next(self._ids), "method.register", {"method": method, **options}, 10_000, None)
            self._socket = None
            for frame in self._core.resume(0):
                self._out.put_nowait(frame)
        if had is not None:
            self._tell(Connected(opened["resumed"]))

    def _lose(self) -> None:
        """Everything that is open ends here."""
        lost = DisconnectedError(LOST, maybe_executed=True)
        for future in self._calls.values():
            if not future.done():
                future.set_exception(lost)
        for queue in self._streams.values():
            queue.put_nowait(lost)
        self._streams.clear()
        for task in self._handlers.values():
            task.cancel()
        self._handlers.clear()

    def _tell(self, change: ConnectionState) -> None:
        for listener in self._listeners:
            listener(change)

    # --- what comes ---

    async def _receive(self, message: dict[str, Any], size: int) -> None:
        if "seq" in message and self._with_session:
            is_new = self._core.receive(message["seq"], size)
            self._acknowledge_soon()
            if not is_new:
                return
        match message.get("method"):
            case None:
                self._reply(message)
            case "session.ack":
                self._core.acknowledge(message["params"]["received"])
            case "event" | "event.gap":
                self._event(message["method"], message["params"])
            case "stream_chunk":
                self._chunk(message["params"])
            case "stream.credit":
                self._credit[message["params"]["request_id"]] = message["params"]["consumed"]
                async with self._credited:
                    self._credited.notify_all()
            case "$/cancelRequest":
                self._stop_serving(message["params"]["id"])
            case method:
                task = asyncio.create_task(self._serve_call(message["id"], method, message["params"]))
                self._handlers[message["id"]] = task

    def _chunk(self, params: dict[str, Any]) -> None:
        if (queue := self._streams.get(params["request_id"])) is not None:
            queue.put_nowait(params)

    def _stop_serving(self, request_id: str) -> None:
        if (task := self._handlers.pop(request_id, None)) is not None:
            task.cancel()

    def _acknowledge_soon(self) -> None:
        delay = self._core.ack_delay(time.monotonic())
        if delay is not None and self._ack_due is None:
            self._ack_due = asyncio.get_running_loop().call_later(delay, self._acknowledge)

    def _acknowledge(self) -> None:
        self._ack_due = None
        if self._socket is not None:
            self._out.put_nowait(encode_ack(self._core.take_ack()))

    def _reply(self, message: dict[str, Any]) -> None:
        request_id = message["id"]
        error = RpcError.from_wire(message["error"]) if "error" in message else None
        if (subscription := self._asked.pop(request_id, None)) is not None:
            assert error is None, error
            if subscription.reached is None:
                start = Position(message["result"]["epoch"], message["result"]["offset"])
                subscription.reached = subscription.position = start
        elif (queue := self._streams.pop(request_id, None)) is not None:
            queue.put_nowait(message if error is None else error)
        elif (future := self._calls.get(request_id)) is not None and not future.done():
            future.set_result(message["result"]) if error is None else future.set_exception(error)

    def _event(self, method: str, params: dict[str, Any]) -> None:
        subscription = self._subscriptions.get(params["topic"])
        if subscription is None:
            return
        topic, epoch = params["topic"], params["epoch"]
        if method == "event":
            subscription.take(Event(topic, params["data"], epoch, params["offset"], params["published_at"]))
        else:
            gap = Gap(topic, epoch, params["from"], params["to"], params.get("count"), params["reason"])
            subscription.take(gap)

    async def _serve_call(self, request_id: str, method: str, params: Any) -> None:
        handler: Callable[[Any], Awaitable[Any] | AsyncIterator[Any]] = self._served[method][0]
        given = handler(params)
        answer: Any = None
        if isinstance(given, AsyncIterator):
            index = 0
            async for data in given:
                await self._wait_for_credit(request_id, index, CALLEE_WINDOW)
                chunk = {"request_id": request_id, "chunk_type": "data", "data": data, "index": index}
                self._notify("stream_chunk", chunk)
                index += 1
            answer = {"work": params["work"], "chunks": index}
        else:
            answer = await given
        self._handlers.pop(request_id, None)
        self._send({"id": request_id, "result": answer})


def encoded(message: dict[str, Any]) -> bytes:
    """A JSON-RPC message as the session's core takes it."""
    return json.dumps({"jsonrpc": "2.0", **message}).encode()


@asynccontextmanager
async def raw_connect(url: str, **options: Any) -> AsyncIterator[RawHub]:
    """Connect for the length of a ``with`` block."""
    hub = RawHub(url, **options)
    try:
        await hub.connected.wait()
        yield hub
    finally:
        await hub.close()
