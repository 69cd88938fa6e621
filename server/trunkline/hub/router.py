"""Every call passes here, whatever door it came through: the hub answers it or a backend executes it.

The router also keeps the books: which calls are in flight, when each must be over, and what became of it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

from trunkline import defaults
from trunkline.hub.deadlines import TICK, DeadlineWheel
from trunkline.hub.idempotency import IdempotencyKeys, KeyLimits
from trunkline_protocol.calls import DEFAULT_TIMEOUT_MS, NO_DEADLINE, PRIORITIES, Call, CallBackend
from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.codecs.jsonrpc import decode_metadata
from trunkline_protocol.errors import ErrorCode, RpcError, draining_error, limit_error
from trunkline_protocol.messages import NO_METADATA, Metadata
from trunkline_protocol.traces import TraceContext, parse

DEFAULT_STREAM_IDLE_MS: Final = 60_000
MAX_DEPTH: Final = 8
WAY_SECONDS: Final = 0.001
"""What a call takes beside running is the way to its executor and back up to here, and waiting beyond."""

logger = logging.getLogger("trunkline.hub")


HubHandler = Callable[[Call], None]
"""What answers a method of the hub: it settles the call, now or later, or raises :class:`RpcError`."""


def _trace_of(call: Call) -> TraceContext | None:
    """The trace its caller is in. The hub adds no span to it, so it hands ``traceparent`` on as it is."""
    try:
        traceparent = decode_metadata(call.metadata).traceparent
    except RpcError:  # which the caller is told where the call is routed
        return None
    return None if traceparent is None else parse(traceparent)


def _require_right(call: Call) -> None:
    caller = call.caller()
    if caller is not None and not caller.may_call(call.method):
        words = f"{caller.name} may not call {call.method:.200}"
        origin = call.origin()
        if origin is not call:
            words += f", which its call of {origin.method:.200} needs"
        raise RpcError(ErrorCode.FORBIDDEN, words)


Recorder = Callable[[Call, str | None, float, int], None]
"""Told of each finished call: it, its method (None = nobody serves it), seconds, error code (0 = success)."""


class CallTracer(Protocol):
    """Gives calls their place in a trace (see :class:`trunkline.observe.tracing.Tracer`)."""

    def begin(self, call: Call) -> None:
        """Set ``call.trace``, and what the call's metadata tells the next one."""


class Router:
    """Routes calls, watches their deadlines, counts them.

    ``draining`` refuses new calls from outside while those in flight, and the calls they make, run on.
    """

    def __init__(
        self,
        backend: CallBackend,
        record: Recorder,
        *,
        max_calls: int = defaults.MAX_CALLS,
        keys: KeyLimits | None = None,
    ) -> None:
        self.backend = backend
        self._max_calls = max_calls
        self.in_flight = 0
        self.draining = False
        self.tracer: CallTracer | None = None
        self._record = record
        self._hub_methods: dict[str, HubHandler] = {}
        self.keys = IdempotencyKeys(time.monotonic, keys)
        self._deadlines = DeadlineWheel(time.monotonic())
        self._ticker: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def handle(self, handlers: Mapping[str, HubHandler]) -> None:
        """Add methods that the hub answers itself (see :mod:`trunkline.hub.dispatch`).

        Raises:
            ValueError: a name is taken already.
        """
        if taken := self._hub_methods.keys() & handlers.keys():
            raise ValueError(f"hub methods defined twice: {', '.join(sorted(taken))}")
        self._hub_methods.update(handlers)

    def answers(self, name: str) -> bool:
        """Whether the hub answers a method itself."""
        return name in self._hub_methods

    def route(self, call: Call, refusal: RpcError | None = None) -> None:
        """Take a call. It is settled exactly once, perhaps before this returns.

        This is the one place where rights are asked for every call that no connection has asked for: those of methods,
        however deep, of jobs, and to the hub's own methods.

        Args:
            refusal: why its origin does not let it in; it is only counted and answered, then.
        """
        call.received = call.last_activity = time.monotonic()
        call.owner = self
        self.in_flight += 1
        if self.tracer is not None:
            self.tracer.begin(call)
        elif call.metadata and b"traceparent" in call.metadata:
            call.trace = _trace_of(call)
        try:
            if refusal is not None:
                raise refusal
            if not call.vetted:
                _require_right(call)
            handler = self._hub_methods.get(call.method)
            if handler is not None:
                handler(call)
            else:
                self._submit(call)
        except RpcError as error:
            call.settle_error(error)
        except Exception:
            logger.exception("routing %s failed", call.method)
            call.settle_error(RpcError(ErrorCode.INTERNAL_ERROR, f"the hub failed to answer {call.method}"))

    def _submit(self, call: Call) -> None:
        if call.depth == 0 and self.draining:
            raise draining_error()
        if call.depth == 0 and self.in_flight > self._max_calls:
            raise limit_error("max_calls", f"{self._max_calls} calls are in flight already")
        if call.depth > MAX_DEPTH:
            raise RpcError(
                ErrorCode.WORKER_OVERLOADED,
                f"calls nested deeper than {MAX_DEPTH}: {call.method} was refused",
            )
        info = call.info = self.backend.find(call.method)
        metadata = decode_metadata(call.metadata) if call.metadata else NO_METADATA
        if metadata is not NO_METADATA:
            call.progress_token = metadata.progress_token
            if metadata.window is not None:
                call.window = metadata.window.items
            call.priority = PRIORITIES[metadata.priority]
        self._set_deadline(call, info, metadata)
        key = metadata.idempotency_key
        if key is not None and (scope := call.key_scope()) is not None:
            self.keys.submit(call, scope, key, self.backend)
            return
        call.backend = self.backend
        self.backend.submit(call)

    def _set_deadline(self, call: Call, info: MethodInfo, metadata: Metadata) -> None:
        # Whoever feeds a call decides how long it takes, as does the reader of a stream: only silence counts.
        is_stream = info.streaming or info.input is not None
        if is_stream:
            default: float = DEFAULT_STREAM_IDLE_MS
        else:
            # A nested call comes with the deadline of its outer one: it has what is left, be that more or less.
            default = DEFAULT_TIMEOUT_MS if call.deadline == NO_DEADLINE else math.inf
        timeout_ms = metadata.timeout_ms or info.timeout_ms or default
        if info.max_timeout_ms is not None:
            timeout_ms = min(timeout_ms, info.max_timeout_ms)
        seconds = timeout_ms / 1000
        if is_stream:
            call.idle_timeout = seconds
        call.deadline = min(call.deadline, call.received + seconds)
        self._watch(call)

    def _watch(self, call: Call) -> None:
        self._deadlines.add(call)
        if self._ticker is None:
            self._ticker = asyncio.get_running_loop().call_later(TICK, self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        for call in self._deadlines.expired(now):
            try:
                self._expire(call, now)
            except Exception:  # the others' deadlines count, and those of the next tick
                logger.exception("the deadline of a call of %s could not be enforced", call.method)
        self._ticker = asyncio.get_running_loop().call_later(TICK, self._tick) if self._deadlines else None

    def _expire(self, call: Call, now: float) -> None:
        if call.idle_timeout:
            # A stream's deadline moves with its chunks; one that waits for its reader is not idle.
            alive_until = (now if not call.writable() else call.last_activity) + call.idle_timeout
            if alive_until > now:
                call.deadline = alive_until
                self._watch(call)
                return
        waited = now - call.received
        what = "sent nothing for" if call.idle_timeout else "was not done after"
        limit = call.idle_timeout or waited
        started = call.maybe_executed
        if not started:
            call.waited = waited
        call.settle_error(
            RpcError(
                ErrorCode.COMMUNICATION_TIMEOUT,
                f"{call.method} {what} {limit:.3g} s" + ("" if started else ": it was still waiting for an executor"),
                maybe_executed=started,
            )
        )
        call.cancel_execution()

    def finished(self, call: Call, code: int) -> None:
        """A call has ended (see :class:`trunkline_protocol.calls.CallOwner`)."""
        if call.deadline != NO_DEADLINE:
            self._deadlines.discard(call)
        self.in_flight -= 1
        if not self.in_flight and self.draining:
            self._idle.set()
        # Names that nobody serves are a peer's invention: they are not to become labels.
        known = call.info is not None or call.method in self._hub_methods
        seconds = time.monotonic() - call.received
        if call.ran and seconds - call.ran > WAY_SECONDS:
            call.waited = seconds - call.ran  # in the queue, or in its executor behind others
        self._record(call, call.method if known else None, seconds, code)

    def calls(self) -> Iterator[Call]:
        """The calls in flight that somebody else than the hub answers, in no order."""
        return (call for call in self._deadlines if not call.settled)

    async def drain(self, limit: float) -> int:
        """Refuse new calls and wait up to ``limit`` seconds for those in flight. Returns how many are left."""
        self.draining = True
        if self.in_flight:
            self._idle.clear()
            try:
                await asyncio.wait_for(self._idle.wait(), limit)
            except TimeoutError:
                logger.warning("%d calls were still running after %.1f s of draining", self.in_flight, limit)
        return self.in_flight
