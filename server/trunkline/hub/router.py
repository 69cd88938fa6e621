"""The router: every call passes through it, whatever its door, and is answered by the hub or executed by a backend.

The router also keeps count: which calls are in flight, when each must have ended, and with which outcome.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

from trunkline import defaults
from trunkline.hub.breaker import BreakerLimits, Breakers
from trunkline.hub.deadlines import TICK, DeadlineWheel
from trunkline.hub.idempotency import IdempotencyKeys, KeyLimits
from trunkline.hub.method_limits import DeclaredLimits
from trunkline.hub.principal import not_granted
from trunkline_protocol.calls import DEFAULT_TIMEOUT_MS, NO_DEADLINE, PRIORITIES, Call, TenantBackend
from trunkline_protocol.catalogue import CLIENT_PACK, MethodInfo
from trunkline_protocol.codecs.jsonrpc import decode_metadata
from trunkline_protocol.errors import ErrorCode, RpcError, draining_error, limit_error
from trunkline_protocol.messages import NO_METADATA, Metadata
from trunkline_protocol.traces import TraceContext, parse

DEFAULT_STREAM_IDLE_MS: Final = 60_000
MAX_DEPTH: Final = 8
WAY_SECONDS: Final = 0.001
"""Seconds that a call takes beside running that count as transfer to its executor and back; more is waiting."""

logger = logging.getLogger("trunkline.hub")


HubHandler = Callable[[Call], None]
"""Answers a method of the hub: settles the call, now or later, or raises :class:`RpcError`."""


def _trace_of(call: Call) -> TraceContext | None:
    """The trace of the caller. Without a tracer the hub adds no span, and passes ``traceparent`` on unchanged."""
    try:
        traceparent = decode_metadata(call.metadata).traceparent
    except RpcError:  # the caller gets this error when the call is routed
        return None
    return None if traceparent is None else parse(traceparent)


def _require_right(call: Call) -> None:
    caller = call.caller()
    if caller is not None and not caller.may_call(call.method):
        origin = call.origin()
        why = "" if origin is call else f", which its call of {origin.method:.200} needs"
        raise not_granted(caller, "methods", call.method, why)


Recorder = Callable[[Call, str | None, float, int], None]
"""Called with each finished call, the key of its method (None where unknown), seconds, and error code (0 = success).

The key of a method is its name, but for those that clients of a tenant serve (:mod:`trunkline_protocol.tenants`)."""


class CallTracer(Protocol):
    """Begins a span for each call (see :class:`trunkline.observe.tracing.Tracer`)."""

    def begin(self, call: Call) -> None:
        """Set ``call.trace``, and the ``traceparent`` in the call's metadata that is passed on."""


class Router:
    """Routes calls, enforces their deadlines, counts them.

    While ``draining``, new calls from outside are refused; those in flight, and the calls they make, run on.
    """

    def __init__(
        self,
        backend: TenantBackend,
        record: Recorder,
        *,
        max_calls: int = defaults.MAX_CALLS,
        keys: KeyLimits | None = None,
        breakers: Breakers | None = None,
    ) -> None:
        self.backend = backend
        self.max_calls = max_calls
        self.in_flight = 0
        self.draining = False
        self.tracer: CallTracer | None = None
        self._record = record
        self._hub_methods: dict[str, HubHandler] = {}
        self.breakers = breakers or Breakers(BreakerLimits())
        self._tripped = self.breakers.tripped
        self.keys = IdempotencyKeys(time.monotonic, keys)
        self._limits = DeclaredLimits()
        self._deadlines = DeadlineWheel(time.monotonic())
        self._ticker: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def handle(self, handlers: Mapping[str, HubHandler]) -> None:
        """Add methods that the hub answers itself (see :mod:`trunkline.hub.dispatch`).

        Raises:
            ValueError: a method of that name was added already.
        """
        if taken := self._hub_methods.keys() & handlers.keys():
            raise ValueError(f"hub methods defined twice: {', '.join(sorted(taken))}")
        self._hub_methods.update(handlers)

    def answers(self, name: str) -> bool:
        """Whether the hub answers a method itself."""
        return name in self._hub_methods

    def route(self, call: Call, refusal: RpcError | None = None) -> None:
        """Accept a call. It is settled exactly once, perhaps before this returns.

        Rights are checked here for every call that no connection has checked: those made by methods, however deep, by
        jobs, and to the hub's own methods.

        Args:
            refusal: the error of a call that its origin refuses: such a call is only counted and answered.
        """
        call.received = call.last_activity = time.monotonic()
        call.owner = self
        self.in_flight += 1
        if self.tracer is not None:
            self.tracer.begin(call)
        elif call.metadata and call.metadata.find(b"traceparent") >= 0:
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
            logger.exception("routing %s failed", call.method, extra={"request_id": call.request_id()})
            call.settle_error(RpcError(ErrorCode.INTERNAL_ERROR, f"the hub failed to answer {call.method}"))

    def _submit(self, call: Call) -> None:
        if self.draining and call.depth == 0:
            raise draining_error()
        if self.in_flight > self.max_calls and call.depth == 0:
            raise limit_error("max_calls", f"{self.max_calls} calls are in flight already")
        if call.depth > MAX_DEPTH:
            words = f"{call.method} was refused: calls are nested deeper than {MAX_DEPTH}; does a method call itself?"
            raise RpcError(ErrorCode.WORKER_OVERLOADED, words)
        info = call.info = self.backend.find_for(call)
        if info.limits is not None:
            self._limits.admit(call, info.limits, call.received)
        if self._tripped:
            self.breakers.admit(call, info.name, call.received)
        metadata = NO_METADATA
        if call.metadata:
            metadata = decode_metadata(call.metadata)
            call.progress_token = metadata.progress_token
            if metadata.window is not None:
                call.window = metadata.window.items
            call.priority = PRIORITIES[metadata.priority]
        self._set_deadline(call, info, metadata)
        key = metadata.idempotency_key
        if key is not None and (scope := call.key_scope()) is not None:
            if not info.idempotent:
                self.keys.require_epoch(metadata.idempotency_epoch, call.method)
            self.keys.submit(call, scope, key, self.backend)
            return
        call.backend = self.backend
        self.backend.submit(call)

    def _set_deadline(self, call: Call, info: MethodInfo, metadata: Metadata) -> None:
        # The sender of input, or the reader of a stream, decides how long a call takes: only silence is limited.
        is_stream = info.streaming or info.input is not None
        if is_stream:
            default: float = DEFAULT_STREAM_IDLE_MS
        else:
            # A nested call comes with the deadline of its outer call, and has the time that is left of that.
            default = DEFAULT_TIMEOUT_MS if call.deadline == NO_DEADLINE else math.inf
        timeout_ms = metadata.timeout_ms or info.timeout_ms or default
        if info.max_timeout_ms is not None:
            timeout_ms = min(timeout_ms, info.max_timeout_ms)
        seconds = timeout_ms / 1000
        if is_stream:
            call.idle_timeout = seconds
        deadline = call.received + seconds
        if deadline < call.deadline:
            call.deadline = deadline
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
            except Exception:  # the deadlines of the other calls, and of the next tick, still have to be enforced
                words = "the deadline of a call of %s could not be enforced"
                logger.exception(words, call.method, extra={"request_id": call.request_id()})
        self._ticker = asyncio.get_running_loop().call_later(TICK, self._tick) if self._deadlines else None

    def _expire(self, call: Call, now: float) -> None:
        if call.idle_timeout:
            # A stream's deadline moves with its chunks; a stream that waits for its reader is not idle.
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
        whom = "a client that serves it" if call.info is not None and call.info.pack == CLIENT_PACK else "an executor"
        call.settle_error(
            RpcError(
                ErrorCode.COMMUNICATION_TIMEOUT,
                f"{call.method} {what} {limit:.3g} s" + ("" if started else f": it was still waiting for {whom}"),
                maybe_executed=started,
            )
        )
        call.cancel_execution()

    def finished(self, call: Call, code: int) -> None:
        """Count and record a call that has ended (see :class:`trunkline_protocol.calls.CallOwner`)."""
        if call.tick:
            self._deadlines.discard(call)
        info = call.info
        if info is not None and info.limits is not None:
            self._limits.ended(call)
        if self._tripped:
            self.breakers.ended(call, code, time.monotonic())
        self.in_flight -= 1
        if not self.in_flight and self.draining:
            self._idle.set()
        # Peers can invent any number of unknown names: these must not become labels of metrics.
        if info is not None:
            key: str | None = info.name
        else:
            key = call.method if call.method in self._hub_methods else None
        seconds = time.monotonic() - call.received
        if call.ran and seconds - call.ran > WAY_SECONDS:
            call.waited = seconds - call.ran  # in the queue, or in its executor behind others
        self._record(call, key, seconds, code)

    def calls(self) -> Iterator[Call]:
        """The calls in flight but those to the hub's own methods, in no particular order."""
        return (call for call in self._deadlines if not call.settled)

    async def drain(self, limit: float) -> int:
        """Refuse new calls, wait up to ``limit`` seconds for those in flight, and return how many are left."""
        self.draining = True
        if self.in_flight:
            self._idle.clear()
            try:
                await asyncio.wait_for(self._idle.wait(), limit)
            except TimeoutError:
                logger.warning("%d calls were still running after %.1f s of draining", self.in_flight, limit)
        return self.in_flight
