"""Runs packs inside this process, without hub, wire or executor: for tests of your own methods, and ours."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import math
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Mapping
from types import ModuleType, TracebackType
from typing import Any, Final, Self

import msgspec
from typing_extensions import override

from trunkline.background import start_task
from trunkline.methods.context import Chunk, Context, Host, executors_context
from trunkline.methods.registry import Registry
from trunkline.methods.runner import Credit, MethodRunner, Sink
from trunkline.methods.wire_values import decode, encode
from trunkline_protocol.codecs.jsonrpc import encode_error_object
from trunkline_protocol.depth import CARRIED_DEPTH
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.principals import Principal, encode_principal
from trunkline_protocol.tokens import TokensUsed

MAX_DEPTH: Final = 8
ANYBODY: Final = Principal("anonymous", frozenset({"act_as", "admin", "callee"}))

Items = AsyncIterable[Any] | Iterable[Any]
"""What is fed to a call; each item is any JSON, or bytes."""


class _Outcome(Sink):
    """The sink of one call: chunks, then a result or an error."""

    def __init__(self) -> None:
        self.items: asyncio.Queue[Chunk | None] = asyncio.Queue()
        self.input_credit = Credit()
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        # Whoever asked may have gone: then nobody fetches the error, which is no mistake.
        self.future.add_done_callback(lambda future: future.cancelled() or future.exception())

    @override
    def begin(self) -> None: ...

    @override
    def parked(self, waits: bool) -> None: ...

    @override
    def input_consumed(self, consumed: int) -> None:
        self.input_credit.grant(consumed)

    @override
    def result(self, data: bytes) -> None:
        if not self.future.done():
            self.future.set_result(decode(data))
        self.items.put_nowait(None)

    @override
    def error(self, error: RpcError) -> None:
        self.fail(RpcError.from_wire(decode(encode_error_object(error))))

    def fail(self, error: BaseException) -> None:
        """End the call with an error, which need not be the method's."""
        if not self.future.done():
            self.future.set_exception(error)
        self.items.put_nowait(None)

    @override
    def chunk(self, chunk_type: bytes, data: bytes) -> None:
        self.items.put_nowait(Chunk(msgspec.json.decode(chunk_type), decode(data)))


class LocalStream:
    """Chunks of one stream; when they are through, ``result`` is the result that followed them.

    Attributes:
        result: None until the stream has ended.
    """

    def __init__(
        self,
        methods: LocalMethods,
        method: str,
        params: Any,
        metadata: dict[str, Any],
        depth: int,
        input: Items | None = None,
        principal: Principal | None = None,
    ) -> None:
        self.result: Any = None
        self._chunks = self._run(methods, method, params, metadata, depth, input, principal)

    def __aiter__(self) -> AsyncGenerator[Chunk, None]:
        return self._chunks

    async def aclose(self) -> None:
        """Cancel the stream, if it has not ended."""
        await self._chunks.aclose()

    async def _run(
        self,
        methods: LocalMethods,
        method: str,
        params: Any,
        metadata: dict[str, Any],
        depth: int,
        input: Items | None,
        principal: Principal | None,
    ) -> AsyncGenerator[Chunk, None]:
        call_id, outcome = methods._start(method, params, metadata, depth, math.inf, input, principal)
        taken = 0
        try:
            while (chunk := await outcome.items.get()) is not None:
                yield chunk
                taken += 1
                methods._runner.grant(call_id, taken)
            self.result = await outcome.future
        finally:
            if not outcome.future.done():
                methods._runner.cancel(call_id)
                await asyncio.wait([outcome.future])


class LocalMethods:
    """Packs in this process, loaded as an executor loads them, called as a client calls them.

    Parameters and results go through JSON and the same checks as in an executor, plain functions run on the one
    thread, and methods may call each other by ``ctx.call``. What only a hub does is not here: deadlines are told to
    methods but not enforced, nothing is retried, and routing keys have no effect, for there is one executor. On
    leaving, what still runs is cancelled, and instances that have a ``close`` are closed.

    >>> import my_pack
    >>> async with LocalMethods(my_pack, settings={"data_dir": "/tmp/x"}) as methods:
    ...     assert await methods.call("text.upper", {"text": "a"}) == "A"
    ...     stream = methods.stream("text.letters", {"text": "ab"})
    ...     assert [chunk.data async for chunk in stream] == ["a", "b"]
    ...     assert stream.result == {"chunks": 2}

    Args:
        modules: modules with ``@method`` functions or classes, loaded in this order.
        settings: what their ``load`` steps get, for example ``data_dir`` and ``model``.
        worker_id: what methods see as ``ctx.worker_id``.
        principal: what methods see as ``ctx.principal``; by default that of every peer of a hub without credentials.
        on_progress: called with what methods report by ``ctx.progress``.
        stubs: by name, what stands in for the methods of the hub and of clients that the modules call: a function of
            the params, sync or async, that returns the result or raises :class:`RpcError`.
    """

    def __init__(
        self,
        *modules: ModuleType,
        settings: Mapping[str, Any] | None = None,
        worker_id: str = "local",
        principal: Principal = ANYBODY,
        on_progress: Callable[[Any], None] | None = None,
        stubs: Mapping[str, Callable[[Any], Any]] | None = None,
    ) -> None:
        self._registry = Registry()
        for module in modules:
            self._registry.add_module(module)
        self._settings = dict(settings or {})
        self._worker_id = worker_id
        self._principal = principal
        self._on_progress = on_progress
        self._stubs = dict(stubs or {})
        self._ids = itertools.count(1)
        self._running: set[int] = set()

    async def __aenter__(self) -> Self:
        self._runner = MethodRunner(self._registry, texts=True)
        await self._registry.load(self._settings, executors_context(_LocalHost(self), self._worker_id))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for call_id in list(self._running):
            self._runner.cancel(call_id)
        await self._runner.finish()
        self._runner.close()
        failure = await self._registry.close()
        if failure is not None:
            raise failure

    async def call(
        self,
        method: str,
        params: Any = None,
        *,
        timeout_ms: int | None = None,
        input: Items | None = None,
        principal: Principal | None = None,
    ) -> Any:
        """Call a method and return its result.

        Args:
            params: any JSON; an object or an array, by the method's signature.
            timeout_ms: what the method sees as its deadline.
            input: what is fed to it, where it takes input, as fast as it takes it.
            principal: who makes this call; that of all calls by default.

        Raises:
            RpcError: the error that the call ended with; -32601 for a method that no module has.
            Exception: whatever ``input`` raised; the call is cancelled then.
        """
        deadline = math.inf if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        return await self._call(method, params, {}, 0, deadline, input, principal)

    def stream(
        self, method: str, params: Any = None, *, input: Items | None = None, principal: Principal | None = None
    ) -> LocalStream:
        """Stream from a method. Closing the iterator early cancels it. ``input`` and ``principal`` as in :meth:`call`.

        Raises:
            RpcError: from the iterator, the error that the stream ended with.
        """
        return LocalStream(self, method, params, {}, 0, input, principal)

    async def _call(
        self,
        method: str,
        params: Any,
        metadata: dict[str, Any],
        depth: int,
        deadline: float,
        input: Items | None = None,
        principal: Principal | None = None,
    ) -> Any:
        call_id, outcome = self._start(method, params, metadata, depth, deadline, input, principal)
        try:
            return await outcome.future
        except asyncio.CancelledError:
            self._runner.cancel(call_id)
            raise

    def _start(
        self,
        method: str,
        params: Any,
        metadata: dict[str, Any],
        depth: int,
        deadline: float,
        input: Items | None,
        principal: Principal | None,
    ) -> tuple[int, _Outcome]:
        if depth > MAX_DEPTH:
            raise RpcError(
                ErrorCode.WORKER_OVERLOADED, f"{method} was not called: {depth} methods deep, more than {MAX_DEPTH}"
            )
        if method not in self._registry.methods:
            raise RpcError(ErrorCode.METHOD_NOT_FOUND, f"no method {method!r:.200} in the modules that were given")
        if input is not None and self._registry.methods[method].info.input is None:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"{method} takes no input")
        given = encode({} if params is None else params, f"the caller of {method} gave", large_integers=not depth)
        call_id = next(self._ids)
        outcome = _Outcome()
        self._running.add(call_id)
        outcome.future.add_done_callback(lambda _: self._running.discard(call_id))
        who = principal or self._principal
        encoded = encode_principal(who.name, who.roles, who.tenant, who.claims, who.collections)
        about = msgspec.json.encode(metadata), deadline, depth, self._worker_id, encoded
        context = Context(_LocalHost(self), call_id, method, *about)
        self._runner.start(call_id, given, context, outcome)
        if input is not None:
            feeder = start_task(self._feed(call_id, input, outcome), "input")
            outcome.future.add_done_callback(lambda _: feeder.cancel())
        return call_id, outcome

    async def _call_stub(self, method: str, stub: Callable[[Any], Any], params: Any) -> Any:
        result = stub(_as_sent(params, f"the caller of {method} gave"))
        return _as_sent(await result if inspect.isawaitable(result) else result, f"the stub of {method} returned")

    async def _feed(self, call_id: int, items: Items, outcome: _Outcome) -> None:
        credit = outcome.input_credit
        try:
            async for item in _each(items):
                data = encode(item, "the input has", CARRIED_DEPTH, large_integers=True)
                await credit.wait()
                credit.spend(len(data))
                self._runner.push(call_id, data, False)
            self._runner.push(call_id, b"null", True)
        except BaseException as error:  # the caller's own: it is the one to hear of it
            outcome.fail(error)
            self._runner.cancel(call_id)


async def _each(items: Items) -> AsyncIterator[Any]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


def _as_sent(value: Any, gave: str) -> Any:
    """A value as who gets it over the wire has it."""
    return decode(encode(value, gave))


class _LocalHost(Host):
    """The host of methods that run here."""

    def __init__(self, methods: LocalMethods) -> None:
        self._methods = methods
        self._loop = asyncio.get_running_loop()

    @override
    async def call(self, context: Context, method: str, params: Any, metadata: dict[str, Any]) -> Any:
        merged = context.nested_metadata(metadata)
        deadline = context.deadline
        if "timeout_ms" in metadata:
            deadline = min(deadline, time.monotonic() + metadata["timeout_ms"] / 1000)
        stub = self._methods._stubs.get(method)
        with self._methods._runner.parked(context.call_id):
            if stub is not None:
                return await self._methods._call_stub(method, stub, params)
            principal = context.principal
            return await self._methods._call(method, params, merged, context.depth + 1, deadline, principal=principal)

    @override
    def stream(
        self, context: Context, method: str, params: Any, metadata: dict[str, Any]
    ) -> AsyncGenerator[Chunk, None]:
        merged = context.nested_metadata(metadata)
        return aiter(LocalStream(self._methods, method, params, merged, context.depth + 1, None, context.principal))

    @override
    def used(self, context: Context, tokens: TokensUsed) -> None:
        """Count nothing: there are no tenants."""

    @override
    def progress(self, context: Context, value: Any) -> None:
        if self._methods._on_progress is not None:
            self._loop.call_soon_threadsafe(
                self._methods._on_progress, _as_sent(value, f"{context.method}, to report progress, gave")
            )

    @override
    async def run_in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return await self._methods._runner.in_thread(function, *args)

    @override
    def wait_for(self, context: Context, work: Coroutine[Any, Any, Any], *, anyhow: bool = False) -> Any:
        return self._methods._runner.wait_for(context, work, anyhow=anyhow)
