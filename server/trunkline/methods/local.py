"""Runs method modules in this process, without a hub: for tests of your methods.

::

    async with LocalMethods(my_methods) as methods:
        assert await methods.call("text.upper", {"text": "a"}) == "A"
        chunks = [chunk async for chunk in methods.stream("text.words", {"text": "a b"})]

Parameters and results pass through the same checks and the same JSON as behind a hub; methods reach each other
by ``ctx.call`` as usual.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from types import ModuleType
from typing import Any

import msgspec

from trunkline.methods.context import Chunk, Context
from trunkline.methods.registry import Registry
from trunkline.methods.runner import Runner
from trunkline_protocol.calls import NO_DEADLINE
from trunkline_protocol.errors import RpcError


class _Outcome:
    """Collects one call's outcome: chunks, then a result or an error."""

    def __init__(self) -> None:
        self.items: asyncio.Queue[Chunk | RpcError | bytes] = asyncio.Queue()

    def result(self, data: bytes) -> None:
        self.items.put_nowait(data)

    def error(self, error: RpcError) -> None:
        self.items.put_nowait(error)

    def chunk(self, chunk_type: bytes, data: bytes) -> None:
        self.items.put_nowait(Chunk(msgspec.json.decode(chunk_type), msgspec.json.decode(data)))


class LocalMethods:
    """The methods of some modules, loaded here.

    Args:
        modules: with ``@method`` functions or classes.
        settings: what ``load`` steps get.
    """

    def __init__(self, *modules: ModuleType, settings: Mapping[str, Any] | None = None) -> None:
        self._registry = Registry()
        for module in modules:
            self._registry.add_module(module)
        self._settings = settings or {}
        self._runner = Runner(self._registry)
        self._ids = itertools.count(1)
        self.progress_reports: list[Any] = []

    async def __aenter__(self) -> LocalMethods:
        await self._registry.load(self._settings)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._runner.close()

    async def call(self, method: str, params: Any = None, *, depth: int = 0) -> Any:
        """Call a method and return its result; chunks of a stream are dropped.

        Raises:
            RpcError: as a client would get it.
        """
        async for item in self._items(method, params, depth):
            if isinstance(item, bytes):
                return msgspec.json.decode(item)
        raise AssertionError("a call ended without an outcome")

    async def stream(self, method: str, params: Any = None, *, depth: int = 0) -> AsyncIterator[Chunk]:
        """Yield the chunks of a streaming method. Leaving early cancels it."""
        async for item in self._items(method, params, depth):
            if isinstance(item, Chunk):
                yield item

    async def _items(self, method: str, params: Any, depth: int) -> AsyncIterator[Chunk | bytes]:
        call_id, outcome = next(self._ids), _Outcome()
        context = Context(_LocalHost(self), call_id, method, b"", NO_DEADLINE, depth, "local")
        self._runner.start(call_id, msgspec.json.encode({} if params is None else params), context, outcome)
        taken = 0
        try:
            while True:
                item = await outcome.items.get()
                if isinstance(item, RpcError):
                    raise item
                yield item
                if isinstance(item, bytes):
                    return
                taken += 1
                self._runner.grant(call_id, taken)
        finally:
            self._runner.cancel(call_id)

    async def run_in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a plain function on the methods' thread."""
        return await self._runner.in_thread(function, *args)


class _LocalHost:
    """What contexts ask for, answered here."""

    def __init__(self, methods: LocalMethods) -> None:
        self._methods = methods

    async def call(self, context: Context, method: str, params: Any, metadata: dict[str, Any]) -> Any:
        del metadata
        return await self._methods.call(method, params, depth=context.depth + 1)

    def stream(self, context: Context, method: str, params: Any, metadata: dict[str, Any]) -> AsyncIterator[Chunk]:
        del metadata
        return self._methods.stream(method, params, depth=context.depth + 1)

    def progress(self, context: Context, value: Any) -> None:
        del context
        self._methods.progress_reports.append(value)

    async def run_in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return await self._methods.run_in_thread(function, *args)
