"""Runs registered methods: coroutines on the loop, plain functions one at a time on a thread, generators as streams.

Knows no wire. Whoever uses it (the executor process, or a test without any server) gives each call a sink for
its outcome and a :class:`trunkline.methods.context.Host` for what methods ask for.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError as FutureCancelled
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from contextvars import copy_context
from typing import Any, Final, Protocol

from typing_extensions import override

from trunkline import defaults
from trunkline.methods.batched_calls import BatchedCalls
from trunkline.methods.binding import Binding
from trunkline.methods.context import CURRENT_CALL, Context
from trunkline.methods.declaration import Batch
from trunkline.methods.inputs import InputStream
from trunkline.methods.pieces import LARGE
from trunkline.methods.registry import BoundMethod, Registry
from trunkline.methods.turns import Turns
from trunkline.methods.user_errors import Outcome, UncarriedError, log_failure, unexpected
from trunkline.methods.wire_values import sendable
from trunkline_protocol.catalogue import ModuleFailure, not_loaded
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.flow import SendWindow
from trunkline_protocol.messages import Window

MAX_PARKED_FUNCTIONS: Final = 256
"""Plain functions that may wait for calls of their own at once: each holds a thread."""

_THREAD: Final = threading.local()
"""``has_turn``: whether the thread runs a plain function whose turn it is."""

MAX_WINDOW: Final = 1024
MAX_WINDOW_BYTES: Final = 4 * 2**20
"""What a reader may ask for at most: the hub keeps it until the reader's socket takes it."""


class Sink(Protocol):
    """Where one call's outcome goes. Exactly one of ``result`` and ``error`` is called, last."""

    def begin(self) -> None:
        """Note that the call has a slot and runs now."""

    def result(self, data: bytes) -> None:
        """Take the result, as JSON."""

    def error(self, error: RpcError) -> None:
        """Take the typed error."""

    def chunk(self, chunk_type: bytes, data: bytes) -> None:
        """Take one item of a stream: type as a JSON string, data as JSON."""

    def parked(self, waits: bool) -> None:
        """Note that the call waits for its reader or its input, so that its slot is free, or goes on."""

    def input_consumed(self, consumed: int) -> None:
        """Note that the method has consumed ``consumed`` items of its input in total."""


class Credit(SendWindow):
    """The window of one stream of a method, whose next item can be awaited.

    Args:
        window: what the reader asked for, within bounds; None for the hub's own.
    """

    __slots__ = ("_room",)

    def __init__(self, window: Window | None = None) -> None:
        if window is None:
            SendWindow.__init__(self)
        else:
            SendWindow.__init__(self, min(window.items, MAX_WINDOW), min(window.bytes, MAX_WINDOW_BYTES))
        self._room: asyncio.Future[None] | None = None

    @override
    def grant(self, consumed: int) -> bool:
        news = SendWindow.grant(self, consumed)
        if news and self._room is not None and not self._room.done():
            self._room.set_result(None)
        return news

    async def wait(self) -> None:
        """Wait until one more item may be sent."""
        while self.exhausted:
            self._room = asyncio.get_running_loop().create_future()
            await self._room


class Running:
    """One call that this runner holds: waiting for a slot, or in progress."""

    __slots__ = ("began", "context", "credit", "dropped", "entered", "has_slot", "input", "parked", "task")

    def __init__(self, context: Context, *, has_slot: bool) -> None:
        self.context = context
        self.has_slot = has_slot
        self.entered = False
        self.dropped = False
        self.began = False
        self.parked = 0
        self.credit: Credit | None = None
        self.input: InputStream[Any] | None = None
        self.task: asyncio.Task[None] | None = None


class MethodRunner:
    """Runs calls of one registry.

    Args:
        max_concurrency: how many calls run on the loop at once; others wait for a slot, in order.
        debug: send tracebacks to callers.
        texts: tell callers the text of exceptions that were not meant for them; with ``debug`` they are told anyway.

    Attributes:
        failed: modules that could not be loaded: calls of their methods are answered with the cause.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        max_concurrency: int = defaults.MAX_CONCURRENCY,
        debug: bool = False,
        texts: bool = False,
    ) -> None:
        self._methods = registry.methods
        self.failed: list[ModuleFailure] = []
        self._debug = debug
        self._texts = texts or debug
        self._running: dict[int, Running] = {}
        self._waiting: dict[int, tuple[bytes, Running, Sink, BoundMethod]] = {}
        self._batches: dict[str, BatchedCalls] = {}
        self._gates: dict[str, asyncio.Semaphore] = {}
        self._free_slots = max_concurrency
        self._turns = Turns()
        self._parked_functions = 0
        self._threads = ThreadPoolExecutor(MAX_PARKED_FUNCTIONS + 1, thread_name_prefix="method")
        self._reading_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="params")
        self._loop = asyncio.get_running_loop()

    def start(self, call_id: int, params: bytes, context: Context, sink: Sink) -> None:
        """Begin a call, or let it wait for a slot; its outcome comes through ``sink``."""
        bound = self._methods.get(context.method)
        if bound is None:
            unknown = RpcError(ErrorCode.METHOD_NOT_FOUND, f"this executor has no method {context.method!r:.200}")
            sink.error(not_loaded(context.method, self.failed, alone=False) or unknown)
            return
        running = Running(context, has_slot=bound.info.lane == "loop")
        if bound.binding.items is not None:
            if context.depth:  # it would wait for what nobody can send
                message = f"{context.method} takes input, which clients push; a method cannot call it"
                sink.error(RpcError(ErrorCode.INVALID_PARAMS, message))
                return
            running.input = InputStream(
                bound.binding.items.read, sink.input_consumed, lambda: self._waiting_outside(running, sink)
            )
        if not running.has_slot:
            self._launch(call_id, params, running, sink, bound)
        elif self._free_slots > 0:
            self._free_slots -= 1
            self._launch(call_id, params, running, sink, bound)
        else:
            self._waiting[call_id] = (params, running, sink, bound)

    def _launch(self, call_id: int, params: bytes, running: Running, sink: Sink, bound: BoundMethod) -> None:
        self._running[call_id] = running
        # The name is the method's: to count up and format one for each call would cost more than all of the rest here.
        work = self._run(call_id, running, params, sink, bound)
        running.task = asyncio.Task(work, loop=self._loop, name=running.context.method)

    def _release_slot(self) -> None:
        self._free_slots += 1
        while self._waiting and self._free_slots > 0:
            call_id = next(iter(self._waiting))
            params, running, sink, bound = self._waiting.pop(call_id)
            self._free_slots -= 1
            self._launch(call_id, params, running, sink, bound)

    @contextmanager
    def parked(self, call_id: int) -> Iterator[None]:
        """Free the slot of a call for others while its method waits for a nested call."""
        if (running := self._running.get(call_id)) is None:
            yield
            return
        self._leave_slot(running)
        try:
            yield
        finally:
            self._take_slot_back(running)

    def _leave_slot(self, running: Running) -> None:
        running.parked += 1
        if running.parked == 1 and running.has_slot:
            self._release_slot()

    def _take_slot_back(self, running: Running) -> None:
        running.parked -= 1
        if not running.parked and running.has_slot:
            self._free_slots -= 1  # perhaps below zero: it does not wait to go on

    def cancel(self, call_id: int) -> None:
        """Cancel a call: drop it if it waits, raise in a coroutine at the next await, tell a plain function."""
        if (waiting := self._waiting.pop(call_id, None)) is not None:
            _params, _running, sink, bound = waiting
            sink.error(RpcError(ErrorCode.CANCELLED, f"{bound.info.name} was cancelled before it ran"))
            return
        if (running := self._running.get(call_id)) is not None and running.task is not None:
            running.context.mark_cancelled()
            if running.entered:
                running.task.cancel()
            else:  # a task cancelled before its first step would never reach its sink
                running.dropped = True

    def grant(self, call_id: int, consumed: int) -> None:
        """Pass on a reader's credit."""
        running = self._running.get(call_id)
        if running is not None and running.credit is not None:
            running.credit.grant(consumed)

    def push(self, call_id: int, data: bytes, final: bool) -> None:
        """Pass on one item of a call's input (JSON), or its end."""
        running = self._running.get(call_id)
        if running is None and (waiting := self._waiting.get(call_id)) is not None:
            running = waiting[1]
        if running is not None and running.input is not None:
            running.input.push(data, final)

    async def finish(self) -> None:
        """Wait for all calls in progress."""
        while tasks := [running.task for running in self._running.values() if running.task is not None]:
            await asyncio.wait(tasks)

    def close(self) -> None:
        """Release the threads, without waiting for what runs on them."""
        for threads in (self._threads, self._reading_thread):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, call_id: int, running: Running, params: bytes, sink: Sink, bound: BoundMethod) -> None:
        running.entered = True
        CURRENT_CALL.set(running.context)
        sink.begin()
        try:
            if running.dropped:
                raise RpcError(ErrorCode.CANCELLED, f"{running.context.method} was cancelled before it ran")
            if len(params) < LARGE:
                arguments = bound.binding.arguments(params)
            else:  # others run meanwhile
                arguments = await _on(self._reading_thread, Outcome.of, bound.binding.arguments, params)
            if bound.is_direct:  # without _outcome: nearly every call would pay for one more coroutine
                running.began = True
                result = bound.binding.encode_result(await bound.function(**arguments))
            elif bound.info.limits is None:
                result = await self._outcome(bound, arguments, running, sink)
            else:
                result = await self._limited(bound, arguments, running, sink)
            if running.input is not None and running.input.fault is not None:
                raise running.input.fault  # a method that did not mind a bad item
            sink.result(result)
        except BaseException as error:  # here and nowhere else: what gets past would end the loop, or nobody's wait
            self._fail(bound, running, error, sink)
        finally:
            self._running.pop(call_id, None)
            running.context.mark_over()
            if running.input is not None:
                running.input.close(bound.info.name)
            if running.has_slot:
                self._release_slot()

    def _fail(self, bound: BoundMethod, running: Running, error: BaseException, sink: Sink) -> None:
        """End a call with whatever was raised."""
        context, began = running.context, running.began
        if isinstance(error, asyncio.CancelledError) and context.cancelled:
            sink.error(RpcError(ErrorCode.CANCELLED, f"{context.method} was cancelled", maybe_executed=began))
        elif isinstance(error, RpcError) and not isinstance(error, UncarriedError):
            failure = sendable(error, context.method, bound.binding.checked_error)
            if began:
                # Whatever else it raised, it had begun; and so it has where it took some of its input.
                took = running.input is not None and running.input.taken > 0
                nothing_ran = failure.nothing_ran or failure.code == ErrorCode.INVALID_PARAMS
                failure.maybe_executed = took or not nothing_ran
            sink.error(failure)
        else:  # a CancelledError that nobody has asked for, too: the method made it itself
            failure = unexpected(context.method, error, texts=self._texts, debug=self._debug)
            failure.maybe_executed = began
            sink.error(failure)
            log_failure(context.method, error, failure.data["error_id"])

    async def _outcome(self, bound: BoundMethod, arguments: dict[str, Any], running: Running, sink: Sink) -> bytes:
        running.began = True
        binding = bound.binding
        if binding.context_name is not None:
            arguments[binding.context_name] = running.context
        if binding.input_name is not None:
            arguments[binding.input_name] = running.input
        if bound.batch is not None:
            return binding.encode_result(await self._batched(bound, bound.batch).call(arguments, running.context))
        if bound.kind == "coroutine":
            return binding.encode_result(await bound.function(**arguments))
        if bound.kind == "function":
            # Encoding large results takes long enough to stay off the loop, too.
            return await self.in_thread(_call_and_encode, bound, arguments)  # type: ignore[no-any-return]
        running.credit = Credit(running.context.window)
        items = bound.function(**arguments)
        if bound.kind == "generator":
            items = self._steps(items, running.context)
        return await self._pump(binding, items, running, sink)

    async def _limited(self, bound: BoundMethod, arguments: dict[str, Any], running: Running, sink: Sink) -> bytes:
        """The outcome of a call once so many of its method run that one more may; it waits without a slot."""
        limits = bound.info.limits
        if limits is None or limits.max_concurrency is None:
            return await self._outcome(bound, arguments, running, sink)
        gate = self._gates.get(bound.info.name)
        if gate is None:
            gate = self._gates[bound.info.name] = asyncio.Semaphore(limits.max_concurrency)
        if gate.locked():
            with self._waiting_outside(running, sink):
                await gate.acquire()
        else:
            await gate.acquire()
        try:
            return await self._outcome(bound, arguments, running, sink)
        finally:
            gate.release()

    def _batched(self, bound: BoundMethod, batch: Batch) -> BatchedCalls:
        """The gatherer of a method's calls, made for the first of them."""
        found = self._batches.get(bound.info.name)
        if found is None:
            run = functools.partial(self._run_batch, bound)
            found = self._batches[bound.info.name] = BatchedCalls(
                bound.info.name, batch, run, runs_again=bound.info.idempotent
            )
        return found

    async def _run_batch(self, bound: BoundMethod, columns: dict[str, list[Any]]) -> Any:
        if bound.kind == "function":
            return await self.in_thread(functools.partial(bound.function, **columns))
        return await bound.function(**columns)

    async def _pump(self, binding: Binding, items: AsyncGenerator[Any, None], running: Running, sink: Sink) -> bytes:
        credit = running.credit
        assert credit is not None
        async with aclosing(items) as source:
            async for item in source:
                chunk_type, data = binding.encode_chunk(item, credit.sent)
                if credit.exhausted:
                    with self._waiting_outside(running, sink):
                        await credit.wait()
                credit.spend(len(data))
                sink.chunk(chunk_type, data)
        return binding.encode_summary(running.context.result, credit.sent)

    @contextmanager
    def _waiting_outside(self, running: Running, sink: Sink) -> Iterator[None]:
        """While a call waits for its reader or its input, its slot is free, here and in the hub's books."""
        sink.parked(True)
        self._leave_slot(running)
        try:
            yield
        finally:
            self._take_slot_back(running)
            sink.parked(False)

    async def _steps(self, generator: Any, context: Context) -> AsyncGenerator[Any, None]:
        """A plain generator, one step at a time: while it waits for its reader the thread is free for others."""
        try:
            while True:
                item, is_last = await self.in_thread(_step, generator)
                if is_last:
                    if item is not None:
                        context.set_result(item)
                    return
                yield item
        finally:
            await self.in_thread(generator.close)

    async def in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a plain function on the thread. A cancel drops a function that waits, and waits for one that runs."""
        await self._turns.take()
        try:
            return await _on(self._threads, _with_turn, function, *args)
        finally:
            self._turns.pass_on()

    def wait_for(self, context: Context, work: Coroutine[Any, Any, Any], *, anyhow: bool = False) -> Any:
        """Run a coroutine for a plain function, which waits for it and lets another run meanwhile.

        It goes on when it has its turn again, so that plain functions still run one at a time.

        Args:
            anyhow: also where the call was cancelled.

        Raises:
            RpcError: -32800, the call was cancelled; 2002, too many functions wait already.
        """
        if not getattr(_THREAD, "has_turn", False):  # a thread of the method's own
            return self._result(context, work, anyhow)
        if self._parked_functions >= MAX_PARKED_FUNCTIONS:
            work.close()
            words = f"{self._parked_functions} plain functions of this executor wait for calls already"
            raise RpcError(ErrorCode.WORKER_OVERLOADED, f"{context.method}: {words}; make it async def")
        self._parked_functions += 1  # only who has the turn changes it
        self._loop.call_soon_threadsafe(self._turns.pass_on)
        try:
            return self._result(context, work, anyhow)
        finally:
            asyncio.run_coroutine_threadsafe(self._turns.take(first=True), self._loop).result()
            self._parked_functions -= 1

    def _result(self, context: Context, work: Coroutine[Any, Any, Any], anyhow: bool) -> Any:
        try:
            return asyncio.run_coroutine_threadsafe(_awaited(context, work, anyhow), self._loop).result()
        except FutureCancelled:
            words = f"{context.method} was cancelled"
            raise RpcError(ErrorCode.CANCELLED, words, maybe_executed=True) from None


async def _awaited(context: Context, work: Coroutine[Any, Any, Any], anyhow: bool) -> Any:
    task = asyncio.current_task()
    assert task is not None
    if anyhow:
        return await work
    if context.cancelled:
        work.close()
        raise asyncio.CancelledError
    with context.waiting(task):
        return await work


def _with_turn(function: Callable[..., Any], *args: Any) -> Outcome:
    _THREAD.has_turn = True
    try:
        return Outcome.of(function, *args)
    finally:
        _THREAD.has_turn = False


async def _on(threads: ThreadPoolExecutor, caught: Callable[..., Outcome], *args: Any) -> Any:
    """The result of a call on a thread, by a function that returns its outcome."""
    future: Future[Outcome] = threads.submit(copy_context().run, caught, *args)
    waiting = asyncio.wrap_future(future)
    try:
        outcome = await asyncio.shield(waiting)
    except asyncio.CancelledError:
        if not future.cancel():
            # It runs, and a running function cannot be stopped: the slot is not free before it ends.
            await asyncio.wait([waiting])
        raise
    return outcome.take()


def _call_and_encode(bound: BoundMethod, arguments: dict[str, Any]) -> bytes:
    return bound.binding.encode_result(bound.function(**arguments))


def _step(generator: Any) -> tuple[Any, bool]:
    """One step of a generator: an item, or its return value and True."""
    try:
        return next(generator), False
    except StopIteration as stop:
        return stop.value, True
