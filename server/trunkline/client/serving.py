"""Methods that this client serves to all callers of the hub, and the calls that their handlers work on."""

from __future__ import annotations

import asyncio
import inspect
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from trunkline.background import start_task
from trunkline.client.calling import Callers, OwnRequest
from trunkline.client.connection_state import DisconnectedError
from trunkline.client.outgoing import Outgoing, encode_exactly, not_sendable
from trunkline.client.streams import StreamChunk
from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.depth import CARRIED_DEPTH, MAX_DEPTH
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.flow import SendWindow
from trunkline_protocol.principals import Principal, principal_from

CHUNKS_AHEAD: Final = 256
"""Chunks that may be sent before their reader has taken the first."""

CHUNK_BYTES_AHEAD: Final = 4 * 2**20
"""Bytes of those chunks: the hub sets no limit, but chunks that wait here for a connection need one."""

UNREGISTER_TIMEOUT_MS: Final = 2000
DRAIN_TIMEOUT_MS: Final = 30_000

Handler = Callable[[Any, "ServedCall"], Any]
"""``async def (params, call)``, whose return value is the result; or an asynchronous or plain generator, whose items
are the chunks of a stream: it yields :class:`StreamChunk` for chunks with a type. Handlers run on the event loop."""

logger = logging.getLogger("trunkline.client")


class ServedCall:
    """The call that a handler works on.

    When the call is cancelled, or its deadline passes, ``asyncio.CancelledError`` is raised in the handler.

    Attributes:
        method: the name of the method.
        metadata: the caller's; its ``timeout_ms`` is the time that was left when the hub sent the call.
        principal: who calls, as the hub says; None from a hub that does not say it.
    """

    def __init__(
        self,
        request_id: str,
        method: str,
        metadata: dict[str, Any],
        principal: Principal | None,
        send: Callable[[Outgoing], None],
    ) -> None:
        self.method = method
        self.metadata = metadata
        self.principal = principal
        self._id = request_id
        self._send = send
        self._result: Any = None
        self._is_over = False

    def progress(self, value: Any) -> None:
        """Report progress (any JSON) to the caller, if the caller asked for reports.

        Raises:
            ValueError: JSON cannot carry the value.
            RpcError: the report is larger than the hub's limit (1003).
        """
        token = self.metadata.get("progress_token")
        if token is not None and not self._is_over:
            data = encode_exactly(value, f"progress of {self.method}", CARRIED_DEPTH)
            self._send(Outgoing(jsonrpc.encode_progress(token, data)))

    def set_result(self, value: Any) -> None:
        """Set the result that follows the last chunk: asynchronous generators cannot return one."""
        self._result = value


class Registration:
    """A served method; made by :meth:`Hub.register`. As a context manager it unregisters the method at the end."""

    def __init__(self, serving: Serving, method: str) -> None:
        self._serving = serving
        self.method = method

    async def unregister(self, *, drain: bool = False, timeout_ms: int | None = None) -> None:
        """Serve the method no longer. Calls that a handler works on may finish.

        Args:
            drain: return when they have, and let others wait for whoever serves the method next: before a program that
                is restarted, or replaced, ends.
            timeout_ms: how long that may take; by default two seconds, and thirty with ``drain``.
        """
        default = DRAIN_TIMEOUT_MS if drain else UNREGISTER_TIMEOUT_MS
        await self._serving.unregister(self.method, drain, default if timeout_ms is None else timeout_ms)

    async def __aenter__(self) -> Registration:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        await self.unregister()


@dataclass(slots=True)
class _Served:
    """A method that is registered; ``is_agreed`` is False until the hub has accepted it."""

    handler: Handler
    params: dict[str, Any]
    is_agreed: bool = False


class _Work:
    """A call that a handler works on."""

    __slots__ = ("call", "room", "task", "window")

    def __init__(self, call: ServedCall) -> None:
        self.call = call
        self.window = SendWindow(CHUNKS_AHEAD, CHUNK_BYTES_AHEAD)
        self.room = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def grant(self, consumed: int) -> None:
        self.window.grant(consumed)
        self.room.set()

    async def wait_for_room(self) -> None:
        while self.window.exhausted:
            self.room.clear()
            await self.room.wait()


class Serving:
    """The methods that a client serves, and the calls that their handlers work on, by the hub's id."""

    def __init__(
        self,
        callers: Callers,
        run: Callable[[Iterable[OwnRequest]], None],
        send: Callable[[Outgoing], None],
        require_size: Callable[[int], None],
    ) -> None:
        self._callers = callers
        self._run_own_requests = run
        self._send = send
        self._require_size = require_size
        self._served: dict[str, _Served] = {}
        self._working: dict[str, _Work] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # --- registering ---

    async def register(self, method: str, handler: Handler, options: dict[str, Any]) -> Registration:
        """Register a method with the hub and serve it.

        Raises:
            ValueError: this client serves the method already.
            RpcError: the hub refused.
        """
        if method in self._served:
            raise ValueError(f"{method} is served by this client already; unregister it first")
        # Noted before the hub has agreed: the first call may arrive right after its response.
        served = self._served[method] = _Served(handler, {"method": method} | options)
        try:
            await self._callers.ask("method.register", served.params, idempotent=True)
        except BaseException:
            del self._served[method]
            raise
        served.is_agreed = True
        return Registration(self, method)

    async def unregister(self, method: str, drain: bool, timeout_ms: int) -> None:
        """Serve a method no longer; does nothing where it is not served."""
        if self._served.pop(method, None) is None:
            return
        params = {"method": method, "drain": True} if drain else {"method": method}

        def failed(error: Exception) -> None:
            # Calls that still arrive are answered with -32601, and the next session does not register the method.
            logger.info("%s could not be unregistered at the hub: %s", method, error)

        if not self._callers.is_connected:
            self._run_own_requests([OwnRequest("method.unregister", params, lambda _result: None, failed)])
            return
        try:
            await self._callers.ask("method.unregister", params, timeout_ms=timeout_ms)
        except (RpcError, DisconnectedError) as error:
            failed(error)

    def restore(self) -> list[OwnRequest]:
        """The calls that register all methods again, with a new session."""
        return [self._again(method, served) for method, served in self._served.items() if served.is_agreed]

    @staticmethod
    def _again(method: str, served: _Served) -> OwnRequest:
        def failed(error: Exception) -> None:
            logger.error("%s is not served any more, the hub refused to register it again: %s", method, error)

        return OwnRequest("method.register", served.params, lambda _result: None, failed)

    # --- messages from the hub ---

    def asked(self, message: dict[str, Any]) -> None:
        """Handle a request: start the method's handler, or answer -32601."""
        request_id, method = message["id"], message["method"]
        served = self._served.get(method)
        if served is None:
            error = RpcError(ErrorCode.METHOD_NOT_FOUND, f"this client does not serve {method:.200}")
            self._send(Outgoing(_error(request_id, error)))
            return
        caller = message.get("principal")
        principal = None if caller is None else principal_from(caller)
        work = _Work(ServedCall(request_id, method, message.get("metadata") or {}, principal, self._send_fitting))
        self._working[request_id] = work
        run = self._run(request_id, work, served.handler, message.get("params"))
        work.task = start_task(run, f"trunkline-{method}")
        self._tasks.add(work.task)
        work.task.add_done_callback(self._tasks.discard)

    def cancelled(self, params: dict[str, Any]) -> None:
        """Handle ``$/cancelRequest``: cancel the handler; no response is sent."""
        self._abort(params["id"])

    def credited(self, params: dict[str, Any]) -> None:
        """Handle ``stream.credit``."""
        work = self._working.get(params["request_id"])
        if work is not None:
            work.grant(params["consumed"])

    def refused(self, request_id: str) -> None:
        """Cancel the handler of a call whose response was too large: its caller gets an error in place of it."""
        self._abort(request_id)

    def _abort(self, request_id: str) -> None:
        work = self._working.pop(request_id, None)
        if work is not None and work.task is not None:
            work.call._is_over = True
            work.task.cancel()

    # --- working ---

    async def _run(self, request_id: str, work: _Work, handler: Handler, params: Any) -> None:
        try:
            result = await self._outcome(request_id, work, handler, params)
            answer = jsonrpc.encode_result(jsonrpc.encode_id(request_id), _encode(result, work.call.method))
        except asyncio.CancelledError:
            if self._working.get(request_id) is not work:
                raise
            # The hub did not cancel the call: the handler cancelled itself, and its caller still waits.
            error = RpcError(ErrorCode.CANCELLED, f"{work.call.method} was cancelled", maybe_executed=True)
            answer = _error(request_id, error)
        except BaseException as failure:
            answer = _error(request_id, _typed(failure, work.call.method))
            if isinstance(failure, (KeyboardInterrupt, GeneratorExit)):
                self._answer(request_id, work, answer)  # the caller gets its error before this program ends
                raise
            # SystemExit does not end the program: one call must not end the service of others.
        self._answer(request_id, work, answer)

    def _answer(self, request_id: str, work: _Work, answer: bytes) -> None:
        try:
            self._require_fitting(answer)
        except RpcError as failure:
            answer = _error(request_id, failure)
        work.call._is_over = True
        if self._working.get(request_id) is work:
            del self._working[request_id]
            self._send(Outgoing(answer))

    def _require_fitting(self, message: bytes) -> None:
        try:
            self._require_size(len(message))
        except RpcError as error:
            raise not_sendable(error) from error

    def _send_fitting(self, item: Outgoing) -> None:
        self._require_fitting(item.body)
        self._send(item)

    async def _outcome(self, request_id: str, work: _Work, handler: Handler, params: Any) -> Any:
        outcome = handler(params, work.call)
        if inspect.isawaitable(outcome):
            outcome = await outcome
        if isinstance(outcome, Generator):
            outcome = _steps(outcome, work.call)
        if isinstance(outcome, AsyncIterable):
            items = outcome if isinstance(outcome, AsyncGenerator) else _generator(outcome)
            return await self._stream(request_id, work, items)
        return outcome

    async def _stream(self, request_id: str, work: _Work, items: AsyncGenerator[Any, None]) -> Any:
        """Send each item as a chunk; returns the result that follows the last one."""
        name = work.call.method
        encoded_id = jsonrpc.encode_id(request_id)
        async with aclosing(items) as source:
            async for item in source:
                kind, value = (item.type, item.data) if isinstance(item, StreamChunk) else ("data", item)
                data = _encode(value, name, CARRIED_DEPTH)
                await work.wait_for_room()
                chunk = jsonrpc.encode_chunk(encoded_id, _encode(kind, name), data, work.window.sent)
                self._send_fitting(Outgoing(chunk))
                work.window.spend(len(data))
        summary = work.call._result
        return {"chunks": work.window.sent} if summary is None else summary

    # --- the end ---

    def lost(self) -> None:
        """Cancel all handlers: the session is over, and their outcomes cannot reach the callers."""
        for request_id in list(self._working):
            self._abort(request_id)

    async def close(self) -> None:
        """Cancel all handlers and wait until they have ended: there will be no connection any more."""
        self.lost()
        self._served.clear()
        if self._tasks:
            await asyncio.wait(self._tasks)


def is_streaming(handler: Handler) -> bool:
    """Whether a handler is a generator."""
    return inspect.isasyncgenfunction(handler) or inspect.isgeneratorfunction(handler)


async def _generator(items: AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
    async for item in items:
        yield item


async def _steps(items: Generator[Any, None, Any], call: ServedCall) -> AsyncGenerator[Any, None]:
    """The items of a plain generator, with a turn of the loop after each; what the generator returns is the result."""
    try:
        while True:
            try:
                item = next(items)
            except StopIteration as stop:
                if stop.value is not None:
                    call.set_result(stop.value)
                return
            yield item
            await asyncio.sleep(0)
    finally:
        items.close()


def _encode(value: Any, method: str, levels: int = MAX_DEPTH) -> bytes:
    try:
        return encode_exactly(value, f"what {method} returned", levels)
    except ValueError as error:
        raise RpcError(ErrorCode.SERIALIZATION_ERROR, str(error), maybe_executed=True) from error


def _typed(error: BaseException, method: str) -> RpcError:
    """The error for the caller: of an exception not meant for it the type, and the id of its text in the log."""
    if isinstance(error, RpcError):
        return error
    error_id = secrets.token_hex(4)
    logger.warning("%s failed (id %s)", method, error_id, exc_info=error)
    words = f"{method} failed: {type(error).__name__} (id {error_id})"
    return RpcError(ErrorCode.INTERNAL_ERROR, words, maybe_executed=True, data={"error_id": error_id})


def _error(request_id: str, error: RpcError) -> bytes:
    return jsonrpc.encode_error(jsonrpc.encode_id(request_id), jsonrpc.encode_error_object(error))
