"""The executor process: loads method modules, sends READY, runs the hub's calls, and dies with its parent.

Started as ``python -m trunkline.executors.process FD`` by :mod:`trunkline.executors.supervisor`, which writes the
configuration (JSON) to standard input.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import faulthandler
import functools
import itertools
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from typing import Any, Final

import msgspec
from typing_extensions import override

from trunkline.background import keep_up, start_task, thread_died
from trunkline.executors import ipc
from trunkline.executors.environment import watch
from trunkline.executors.printing import finish_output, tell_by_records
from trunkline.executors.restrictions import die_with_parent, refuse_new_privileges, set_rlimits
from trunkline.methods.context import Chunk, Context, Host, executors_context
from trunkline.methods.figures import FIGURES
from trunkline.methods.loading import load_modules
from trunkline.methods.registry import Registry
from trunkline.methods.runner import MethodRunner
from trunkline.methods.source_files import forget_sources, loaded_sources
from trunkline.methods.user_errors import new_error_id, told, words_of
from trunkline.methods.wire_values import decode, encode
from trunkline_protocol.catalogue import ModuleFailure
from trunkline_protocol.codecs.jsonrpc import encode_error_object
from trunkline_protocol.depth import CARRIED_DEPTH, MAX_DEPTH, is_too_deep, too_deep
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.slots import slot_of
from trunkline_protocol.tokens import TokensUsed

EXIT_LOAD_FAILED: Final = 3
NESTED_CREDIT_STEP: Final = 16
STATS_INTERVAL: Final = 1.0

CLOSE_SECONDS: Final = 5.0
"""Seconds for ``close`` of all pack instances, and what is registered with ``atexit``, together."""

logger = logging.getLogger("trunkline.executor")


class HubWire(asyncio.Protocol):
    """The executor's side of the socketpair. Frames of one turn of the loop are written together.

    Args:
        frames: what takes call id and body of a frame, by its kind.
    """

    def __init__(self, frames: Mapping[int, Callable[[int, bytes], None]]) -> None:
        self._frames = frames
        self._reader = ipc.FrameReader()
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self.lost = asyncio.Event()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    @override
    def data_received(self, data: bytes) -> None:
        frames = self._frames
        for kind, call_id, body in self._reader.feed(data):
            frames[kind](call_id, body)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    def send(self, frame: bytes) -> None:
        """Queue a frame, to be written in this turn of the loop."""
        self._out.append(frame)
        if len(self._out) == 1:
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write the queued frames now."""
        out, self._out = self._out, []
        if out and self._transport is not None:
            self._transport.write(b"".join(out))

    def close(self) -> None:
        """Write the queued frames, and close the wire."""
        self.flush()
        if self._transport is not None:
            self._transport.close()


class CallSink:
    """Sends the frames of one call to the hub; a :class:`trunkline.methods.runner.Sink`."""

    __slots__ = ("_call_id", "_started", "_wire")

    def __init__(self, wire: HubWire, call_id: int) -> None:
        self._wire = wire
        self._call_id = call_id
        self._started = 0.0

    def begin(self) -> None:
        """Start to measure the run time: the call has a slot."""
        self._started = time.perf_counter()

    def _outcome(self, kind: int, body: bytes) -> None:
        run_us = int((time.perf_counter() - self._started) * 1e6) if self._started else 0
        self._wire.send(ipc.outcome_frame(kind, self._call_id, run_us, body))

    def result(self, data: bytes) -> None:
        """Send RESULT."""
        self._outcome(ipc.RESULT, data)

    def parked(self, waits: bool) -> None:
        """Send PARKED, or UNPARKED where the call goes on."""
        self._wire.send(ipc.frame(ipc.PARKED if waits else ipc.UNPARKED, self._call_id))

    def error(self, error: RpcError) -> None:
        """Send ERROR."""
        self._outcome(ipc.ERROR, encode_error_object(error))

    def chunk(self, chunk_type: bytes, data: bytes) -> None:
        """Send CHUNK."""
        self._wire.send(ipc.frame(ipc.CHUNK, self._call_id, ipc.chunk_body(chunk_type, data)))

    def input_consumed(self, consumed: int) -> None:
        """Send INPUT_CREDIT."""
        self._wire.send(ipc.frame(ipc.INPUT_CREDIT, self._call_id, ipc.credit_body(consumed)))


class NestedCalls(Host):
    """Makes the calls of methods through the hub."""

    def __init__(self, send: Callable[[bytes], None], runner: MethodRunner) -> None:
        self._send = send
        self._runner = runner
        self._ids = itertools.count(1)
        self._results: dict[int, asyncio.Future[Any]] = {}
        self._streams: dict[int, asyncio.Queue[Any]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()

    def _start(self, context: Context, method: str, params: Any, metadata: dict[str, Any]) -> int:
        call_id = next(self._ids)
        carried = context.nested_metadata(metadata)
        body = ipc.CallBody(
            context.deadline,
            context.depth + 1,
            0,
            method,
            msgspec.json.encode(carried) if carried else b"",
            encode({} if params is None else params, f"{context.method}, to call {method}, gave"),
        )
        self._send(ipc.nested_call_frame(call_id, context.call_id, body))
        return call_id

    @override
    async def call(self, context: Context, method: str, params: Any, metadata: dict[str, Any]) -> Any:
        call_id = self._start(context, method, params, metadata)
        future = self._results[call_id] = self._loop.create_future()
        try:
            with self._runner.parked(context.call_id):
                return await future
        except asyncio.CancelledError:
            self._send(ipc.frame(ipc.NESTED_CANCEL, call_id))
            raise
        finally:
            del self._results[call_id]

    @override
    async def stream(
        self, context: Context, method: str, params: Any, metadata: dict[str, Any]
    ) -> AsyncGenerator[Chunk, None]:
        call_id = self._start(context, method, params, metadata)
        queue = self._streams[call_id] = asyncio.Queue()
        taken, ended = 0, False
        try:
            while True:
                with self._runner.parked(context.call_id):
                    item = await queue.get()
                if not isinstance(item, Chunk):
                    ended = True
                    if isinstance(item, RpcError):
                        raise item
                    return
                yield item
                taken += 1
                if taken % NESTED_CREDIT_STEP == 0:
                    self._send(ipc.frame(ipc.NESTED_CREDIT, call_id, ipc.credit_body(taken)))
        finally:
            del self._streams[call_id]
            if not ended:
                self._send(ipc.frame(ipc.NESTED_CANCEL, call_id))

    @override
    def used(self, context: Context, tokens: TokensUsed) -> None:
        self._tell(ipc.frame(ipc.USED, context.call_id, msgspec.json.encode(tokens)))

    @override
    def progress(self, context: Context, value: Any) -> None:
        words = f"{context.method}, to report progress, gave"
        self._tell(ipc.frame(ipc.PROGRESS, context.call_id, encode(value, words, CARRIED_DEPTH)))

    def _tell(self, frame: bytes) -> None:
        if threading.get_ident() == self._loop_thread:
            self._send(frame)  # not through the loop: the result must not overtake a report
        else:
            self._loop.call_soon_threadsafe(self._send, frame)

    @override
    async def run_in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return await self._runner.in_thread(function, *args)

    @override
    def wait_for(self, context: Context, work: Coroutine[Any, Any, Any], *, anyhow: bool = False) -> Any:
        return self._runner.wait_for(context, work, anyhow=anyhow)

    def on_result(self, call_id: int, body: bytes) -> None:
        """Handle NESTED_RESULT."""
        if (queue := self._streams.get(call_id)) is not None:
            queue.put_nowait(None)
        elif (future := self._results.get(call_id)) is not None and not future.done():
            future.set_result(decode(body))

    def on_error(self, call_id: int, body: bytes) -> None:
        """Handle NESTED_ERROR."""
        error = RpcError.from_wire(decode(body))
        if (queue := self._streams.get(call_id)) is not None:
            queue.put_nowait(error)
        elif (future := self._results.get(call_id)) is not None and not future.done():
            future.set_exception(error)

    def on_chunk(self, call_id: int, body: bytes) -> None:
        """Handle NESTED_CHUNK."""
        if (queue := self._streams.get(call_id)) is not None:
            chunk_type, data = ipc.parse_chunk(body)
            queue.put_nowait(Chunk(msgspec.json.decode(chunk_type), decode(data)))


class Executor:
    """Connects the wire to the hub with the runner of methods."""

    def __init__(self, registry: Registry, worker_id: str, group: str, *, max_concurrency: int, debug: bool) -> None:
        self.runner = MethodRunner(registry, max_concurrency=max_concurrency, debug=debug)
        frames: dict[int, Callable[[int, bytes], None]] = {}
        self.wire = HubWire(frames)
        self.host = NestedCalls(self.wire.send, self.runner)
        self.stopped = asyncio.Event()
        self._debug = debug
        self._worker_id = worker_id
        self._group = group
        self._registry = registry
        frames |= {
            ipc.CALL: self._on_call,
            ipc.CANCEL: lambda call_id, _body: self.runner.cancel(call_id),
            ipc.CREDIT: lambda call_id, body: self.runner.grant(call_id, ipc.parse_credit(body)),
            ipc.INPUT: self._on_input,
            ipc.NESTED_RESULT: self.host.on_result,
            ipc.NESTED_ERROR: self.host.on_error,
            ipc.NESTED_CHUNK: self.host.on_chunk,
            ipc.PING: lambda _call_id, _body: self.wire.send(ipc.frame(ipc.PONG)),
            ipc.STOP: lambda _call_id, _body: self.stopped.set(),
            ipc.RELEASE: self._on_release,
            ipc.BROADCAST: self._on_broadcast,
        }

    def own_context(self) -> Context:
        """The context of the executor itself, which no call ends."""
        return executors_context(self.host, self._worker_id)

    def _on_call(self, call_id: int, body: bytes) -> None:
        deadline, depth, _flags, method, metadata, params, principal = ipc.parse_call(body)
        context = Context(
            self.host, call_id, method, metadata, deadline, depth, self._worker_id, principal, self._group
        )
        sink = CallSink(self.wire, call_id)
        if len(params) > 2 * MAX_DEPTH and is_too_deep(params):
            sink.error(too_deep(f"{method}: params"))
        else:
            self.runner.start(call_id, params, context, sink)

    def _on_release(self, number: int, body: bytes) -> None:
        start_task(self._release(number, ipc.parse_release(body)), "release")

    async def _release(self, number: int, slots: frozenset[int]) -> None:
        said = b""
        try:
            await self._registry.release(lambda key: slot_of(key) in slots)
        except BaseException as error:
            error_id = new_error_id()
            words = "routing keys that move to another executor could not be released (id %s)"
            logger.exception(words, error_id)
            why = told(error, error_id, texts=self._debug)
            said = encode_error_object(RpcError(ErrorCode.INTERNAL_ERROR, f"release failed: {why}"))
        self.wire.send(ipc.frame(ipc.RELEASED, number, said))

    def _on_broadcast(self, number: int, body: bytes) -> None:
        start_task(self._broadcast(number, body), "broadcast")

    async def _broadcast(self, number: int, body: bytes) -> None:
        asked = msgspec.json.decode(body, type=ipc.Broadcast)
        try:
            said = msgspec.json.encode(await self._registry.broadcast(asked.hook, asked.params))
        except RpcError as error:
            said = encode_error_object(error)
        except BaseException as error:
            logger.exception("the hook %s failed", asked.hook)
            words = f"{asked.hook} failed: {words_of(error)}"
            said = encode_error_object(RpcError(ErrorCode.INTERNAL_ERROR, words))
        self.wire.send(ipc.frame(ipc.BROADCAST_DONE, number, said))

    def _on_input(self, call_id: int, body: bytes) -> None:
        _index, final, data = ipc.parse_input(body)
        self.runner.push(call_id, data, final)


async def report_figures(send: Callable[[bytes], None]) -> None:
    """Send STATS with the methods' figures, once a second at most, whenever they have changed."""
    said = 0
    while True:
        if FIGURES.version != said:
            said = FIGURES.version
            send(ipc.frame(ipc.STATS, 0, msgspec.json.encode(FIGURES.snapshot())))
        await asyncio.sleep(STATS_INTERVAL)


async def serve(wire: socket.socket, config: ipc.Configuration, on_closing: Callable[[], None] = lambda: None) -> int:
    """Run one executor until the hub sends STOP or is gone; returns the exit code.

    Args:
        on_closing: called when all calls have ended, before pack instances are closed.
    """
    loop = asyncio.get_running_loop()
    registry = Registry()
    settings = config.settings
    executor = Executor(
        registry,
        config.name,
        config.group,
        max_concurrency=config.max_concurrency,
        debug=bool(settings.get("debug")),
    )
    await loop.create_connection(lambda: executor.wire, sock=wire)
    sys.path[:0] = config.python_path
    if config.fresh:
        forget_sources(config.python_path)
    # Python's cache goes by seconds and sizes: code that is saved twice in a second would be what it was at first.
    sys.dont_write_bytecode |= not all(name.startswith("trunkline.") for name in config.modules)
    began = time.time_ns()
    failed = await load_modules(registry, config.modules, settings, executor.own_context())
    sources = loaded_sources(began, (file for failure in failed for file in failure.files))
    if failed and not registry.methods:
        executor.wire.send(ipc.frame(ipc.FAILED, 0, encode_error_object(_all_failed(failed, sources))))
        executor.wire.close()
        return EXIT_LOAD_FAILED
    executor.runner.failed = failed
    catalogue = msgspec.structs.replace(registry.catalogue(), failed=failed, sources=sources)
    executor.wire.send(ipc.frame(ipc.READY, 0, msgspec.json.encode(catalogue)))
    reporting = keep_up(functools.partial(report_figures, executor.wire.send), "figures")
    ends = [start_task(event.wait(), "end") for event in (executor.wire.lost, executor.stopped)]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if not executor.wire.lost.is_set():
        await asyncio.wait(
            [start_task(executor.runner.finish(), "finish"), ends[0]], return_when=asyncio.FIRST_COMPLETED
        )
        executor.wire.flush()
    reporting.cancel()
    on_closing()
    if (failure := await registry.close()) is not None:
        logger.error("close failed", exc_info=failure)
    executor.runner.close()
    executor.wire.close()
    return 0


def bound_end() -> None:
    """End this process after :data:`CLOSE_SECONDS`, whatever runs then and however it blocks."""

    def end() -> None:
        sys.stderr.write(f"ERROR {logger.name}: close or atexit did not end within {CLOSE_SECONDS:.3g} s\n")
        sys.stderr.flush()
        os._exit(0)

    timer = threading.Timer(CLOSE_SECONDS, end)
    timer.daemon = True
    timer.start()


def keep_signals_from_ending() -> None:
    """Leave Ctrl-C and SIGTERM to the hub, which a terminal or systemd sends them to as well; not so in children.

    A handler that does nothing, where ignoring the signals would be inherited: programs that a method starts get the
    usual ones by exec, and processes that it forks here.
    """
    usual: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    for number in usual:
        signal.signal(number, lambda _number, _frame: None)

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    os.register_at_fork(after_in_child=restore)


def _all_failed(failed: list[ModuleFailure], sources: dict[str, int]) -> RpcError:
    words = "; ".join(failure.words for failure in failed)
    return RpcError(failed[0].code, words, data={"failed": msgspec.to_builtins(failed), "sources": sources})


def run_to_end(work: Coroutine[Any, Any, int]) -> int:
    """Run the loop until ``work`` is done, and return its result.

    asyncio ends the loop where a task or a callback raises SystemExit or KeyboardInterrupt. Tasks of methods may do so,
    which must not end all other calls.
    """
    loop_factory = None
    with contextlib.suppress(ImportError):
        import uvloop

        loop_factory = uvloop.new_event_loop
    runner = asyncio.Runner(loop_factory=loop_factory)
    loop = runner.get_loop()
    task = loop.create_task(work, name="executor")
    while not task.done():
        try:
            loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as error:
            words = "%s was raised by a task or callback that a method had started; the executor goes on"
            logger.error(words, words_of(error), exc_info=error)
    with contextlib.suppress(SystemExit, KeyboardInterrupt):  # tasks that are cancelled now may raise them as well
        runner.close()
    return task.result()


def main() -> None:
    """Run the executor process."""
    config = msgspec.json.decode(sys.stdin.buffer.read(), type=ipc.Configuration)
    die_with_parent(config.parent)
    set_rlimits(config.rlimits)
    watch(config.withheld)
    os.dup2(2, 1)  # what methods print must not reach the hub's stdout
    faulthandler.enable()  # a crash in native code says where
    keep_signals_from_ending()
    tell_by_records(config.settings.get("log_level", "info"), config.modules)
    refuse_new_privileges()
    wire = socket.socket(fileno=int(sys.argv[1]))
    os.dup(wire.fileno())  # stays open until the process ends, so that the hub hears of its end and not before
    wire.setblocking(False)
    threading.excepthook = thread_died
    code = run_to_end(serve(wire, config, bound_end))
    bound_end()
    atexit._run_exitfuncs()
    finish_output()
    os._exit(code)  # a method's thread that never ends must not hold the process


if __name__ == "__main__":
    main()
