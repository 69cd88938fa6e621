"""Methods that end badly, each in one of the ways that Python has."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, PlainSerializer

from trunkline import Context, RpcError, method


class Own(BaseException):
    """Somebody's own, of the kind that `except Exception` does not catch."""


class Unreadable(Exception):
    def __str__(self) -> str:
        raise Own("no text")

    __repr__ = __str__


class NotText(Exception):
    def __str__(self) -> str:
        return 7  # type: ignore[return-value]  # noqa: PLE0307


class Exiting(Exception):
    def __str__(self) -> str:  # noqa: PLE0307
        sys.exit("no text")


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()

    def __reduce__(self) -> Any:
        raise Own("not to be pickled")


class Hollow(RpcError):
    """Typed, and nothing of what makes it so."""

    def __init__(self) -> None:
        pass


def raise_stop_iteration() -> None:
    next(x for x in [0] if x)


def parse_arguments() -> None:
    """What argparse does with arguments it does not know."""
    argparse.ArgumentParser(prog="endings").parse_args(["--unknown"])


def raising(make: Callable[[], BaseException]) -> Callable[[], None]:
    def act() -> None:
        raise make()

    return act


BAD: Final[dict[str, tuple[Callable[[], None], str]]] = {
    "stop_iteration": (raise_stop_iteration, "StopIteration"),
    "stop_async_iteration": (raising(lambda: StopAsyncIteration("x")), "StopAsyncIteration"),
    "base": (raising(lambda: BaseException("x")), "BaseException: x"),
    "own": (raising(lambda: Own("x")), "Own: x"),
    "interrupt": (raising(KeyboardInterrupt), "KeyboardInterrupt"),
    "exit": (lambda: sys.exit(2), "SystemExit: 2"),
    "argparse": (parse_arguments, "SystemExit: 2"),
    "generator_exit": (raising(GeneratorExit), "GeneratorExit"),
    "cancelled": (raising(asyncio.CancelledError), "CancelledError"),
    "invalid_state": (raising(lambda: asyncio.InvalidStateError("x")), "InvalidStateError: x"),
    "group": (raising(lambda: ExceptionGroup("two", [ValueError("a"), KeyError("b")])), "ExceptionGroup: two"),
    "base_group": (raising(lambda: BaseExceptionGroup("one", [SystemExit(3)])), "SystemExit: 3"),
    "unreadable": (raising(Unreadable), "Unreadable"),
    "not_text": (raising(NotText), "NotText"),
    "exiting": (raising(Exiting), "Exiting"),
    "unpicklable": (raising(Unpicklable), "Unpicklable: locked"),
    "surrogate": (raising(lambda: ValueError("lone \ud800")), "ValueError: lone \\ud800"),
    "huge": (raising(lambda: ValueError("x" * 10_000_000)), "ValueError: xxx"),
    "typed_no_text": (raising(lambda: RpcError(5002, object())), "RpcError"),  # type: ignore[arg-type]
    "typed_hollow": (raising(Hollow), "Hollow"),
}
"""Kind -> what it does, and what its caller reads."""


def end_badly(kind: str) -> None:
    BAD[kind][0]()


@method("endings.pid")
async def pid() -> int:
    return os.getpid()


@method("endings.thread_pid")
def thread_pid() -> int:
    return os.getpid()


@method("endings.function", idempotent=True)
def function(kind: str) -> str:
    end_badly(kind)
    return "well"


@method("endings.coroutine", idempotent=True)
async def coroutine(kind: str) -> str:
    end_badly(kind)
    return "well"


@method("endings.later")
async def later(kind: str) -> str:
    await asyncio.sleep(0)
    end_badly(kind)
    return "well"


@method("endings.generator")
def generator(kind: str, after: int) -> Iterator[int]:
    yield from range(after)
    end_badly(kind)


@method("endings.generator_finally")
def generator_finally(kind: str) -> Iterator[int]:
    try:
        yield 0
    finally:
        end_badly(kind)


@method("endings.async_generator")
async def async_generator(kind: str, after: int) -> AsyncIterator[int]:
    for number in range(after):
        yield number
    end_badly(kind)


@method("endings.async_generator_finally")
async def async_generator_finally(kind: str) -> AsyncIterator[int]:
    try:
        yield 0
    finally:
        end_badly(kind)


@method("endings.closed_badly")
async def closed_badly(kind: str) -> AsyncIterator[Any]:
    """Its second item cannot be sent; when it is closed for that, it ends badly."""
    try:
        yield 0
        yield object()
    finally:
        end_badly(kind)


@method("endings.helped")
async def helped(kind: str, ctx: Context) -> str:
    await ctx.run_in_thread(end_badly, kind)
    return "well"


@method("endings.awaited_task")
async def awaited_task(kind: str) -> str:
    async def work() -> None:
        end_badly(kind)

    await asyncio.create_task(work())
    return "well"


def check(kind: str) -> str:
    end_badly(kind)
    return kind


@method("endings.parameter")
async def parameter(kind: Annotated[str, AfterValidator(check)]) -> str:
    return kind


class Outcome(BaseModel):
    kind: Annotated[str, PlainSerializer(check)]


@method("endings.result")
async def result(kind: str) -> Outcome:
    return Outcome(kind=kind)


@method("endings.thread_result")
def thread_result(kind: str) -> Outcome:
    return Outcome(kind=kind)


@method("endings.chunk")
async def chunk(kind: str) -> AsyncIterator[Outcome]:
    yield Outcome(kind=kind)


waits: list[asyncio.Event] = []
"""Each set by a call that then waits for ever; the test adds one."""


@method("endings.hang")
async def hang() -> None:
    waits[-1].set()
    await asyncio.Event().wait()


@method("endings.hang_in_generator")
async def hang_in_generator() -> AsyncIterator[int]:
    waits[-1].set()
    await asyncio.Event().wait()
    yield 0


# --- what outlives the call ---

background: set[asyncio.Task[None]] = set()


@method("endings.background")
async def begin_in_background(kind: str) -> str:
    async def work() -> None:
        await asyncio.sleep(0.01)
        end_badly(kind)

    task = asyncio.create_task(work())
    background.add(task)
    await asyncio.wait([task])
    return "it ended"


@method("endings.callback")
async def call_back(kind: str) -> str:
    loop = asyncio.get_running_loop()
    loop.call_soon(end_badly, kind)
    await asyncio.sleep(0.01)
    return "it ended"


@method("endings.threads")
def begin_a_thread(kind: str) -> str:
    thread = threading.Thread(target=end_badly, args=(kind,), name="of-a-method")
    thread.start()
    thread.join()
    return "it ended"
