"""Plain functions that call others, and what an executor does outside of any call."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from trunkline import Context, RpcError, method

SEEN: list[str] = []
"""What plain functions did, and when they ran at once."""

_running = 0


def alone(name: str) -> None:
    """Note that a plain function runs, and whether another one does."""
    global _running
    _running += 1
    SEEN.append(name if _running == 1 else f"{name} with another")
    time.sleep(0.02)
    _running -= 1


@method("plain.upper", idempotent=True)
def upper(text: str) -> str:
    """Upper case, as a plain function."""
    alone("upper")
    return text.upper()


@method("plain.call", idempotent=True)
def call(method: str, ctx: Context, params: dict[str, Any] | None = None, timeout_ms: int | None = None) -> Any:
    """Call another method and wait for it."""
    alone("before")
    result = ctx.blocking.call(method, params, timeout_ms=timeout_ms)
    alone("after")
    return result


@method("plain.read", idempotent=True)
def read(method: str, ctx: Context, params: dict[str, Any] | None = None, at_most: int = 100) -> list[Any]:
    """Read a stream, or its beginning."""
    items = []
    for chunk in ctx.blocking.stream(method, params):
        items.append(chunk.data)
        if len(items) == at_most:
            break
    return items


@method("plain.publish", idempotent=True)
def publish(topic: str, ctx: Context) -> Any:
    """Publish and wait for the position."""
    return ctx.blocking.publish(topic, {"from": "a plain function"})


@method("plain.steps", idempotent=True)
def steps(words: list[str], ctx: Context) -> Iterator[str]:
    """A call in each step of a plain generator."""
    for word in words:
        yield ctx.blocking.call("plain.upper", {"text": word})


@method("plain.threads", idempotent=True)
def threads(words: list[str], ctx: Context) -> list[str]:
    """Calls from threads of its own."""
    found: dict[str, str] = {}

    def ask(word: str) -> None:
        found[word] = ctx.blocking.call("loop.lower", {"text": word})

    own = [threading.Thread(target=ask, args=(word,)) for word in words]
    for thread in own:
        thread.start()
    for thread in own:
        thread.join()
    return [found[word] for word in words]


@method("plain.ends", idempotent=True)
def ends(method: str, ctx: Context) -> None:
    """Notes how the wait for a call ended."""
    try:
        ctx.blocking.call(method)
    except RpcError as error:
        SEEN.append(f"ended {error.code}")
        raise


@method("plain.forgot", idempotent=True)
def forgot(what: str, ctx: Context) -> Any:
    """Forgets that a plain function cannot await."""
    if what == "stream":
        return ctx.stream("loop.letters", {"text": "ab"})
    return ctx.publish("a.b", 1) if what == "publish" else ctx.call("loop.lower", {"text": "A"})


@method("loop.blocks", idempotent=True)
async def blocks(ctx: Context) -> Any:
    """Would block the event loop."""
    return ctx.blocking.call("loop.lower", {"text": "A"})


@method("loop.lower", idempotent=True)
async def lower(text: str) -> str:
    """Lower case, as a coroutine."""
    await asyncio.sleep(0)
    return text.lower()


@method("loop.letters", idempotent=True)
async def letters(text: str) -> AsyncIterator[str]:
    """A chunk for each letter; without end for an empty text."""
    try:
        for letter in text:
            yield letter
        while not text:
            yield "-"
            await asyncio.sleep(0)
    finally:
        SEEN.append("letters ended")


@method("loop.forever", idempotent=True)
async def forever() -> None:
    """Never ends."""
    SEEN.append("forever begun")
    try:
        await asyncio.sleep(3600)
    finally:
        SEEN.append("forever ended")


@method("waiters.seen", idempotent=True)
async def seen() -> list[str]:
    """What happened in this executor."""
    return SEEN


class Own:
    """Calls of the executor itself."""

    _late: Context | None = None

    async def load(self, settings: Mapping[str, Any], ctx: Context) -> None:
        """Keep the executor's own context, and begin what goes on without any call."""
        self._own = ctx
        self._go = asyncio.Event()
        self._task = asyncio.create_task(self._publish())
        self._said = await ctx.publish("own.loaded", {"worker": ctx.worker_id})

    async def _publish(self) -> None:
        await self._go.wait()
        await self._own.publish("own.later", {"who": self._own.principal.name})

    @method("own.go", idempotent=True)
    async def go(self, ctx: Context) -> dict[str, Any]:
        """Let the task go on, which began before any call."""
        self._late = ctx
        self._go.set()
        return self._said

    @method("own.asks", idempotent=True)
    async def asks(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """What the executor itself is answered."""
        return await self._own.call(method, params)

    @method("own.late", idempotent=True)
    async def late(self) -> Any:
        """Use the context of a call that has ended."""
        assert self._late is not None
        return await self._late.call("loop.lower", {"text": "A"})
