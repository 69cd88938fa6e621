"""Idempotency keys: work that carries one runs once, however often and by however many calls it is asked for.

A key belongs to a principal. The first call with it starts the work (:class:`SharedCall`); calls that come while it
runs join it; calls that come later get the outcome that was kept. What ended before anything was executed is
forgotten, so that the key may be used again.

Pure but for the calls it settles: the clock is an argument.
"""

from __future__ import annotations

import hashlib
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
from typing_extensions import override

from trunkline_protocol.calls import Call, CallBackend, Caller
from trunkline_protocol.codecs.jsonrpc import encode_error_object
from trunkline_protocol.errors import ErrorCode, RpcError

MAX_KEY_CHARS: Final = 256
MAX_RESULT_BYTES: Final = 2**20
"""Of larger results only the fact is remembered."""

OUTCOME_OVERHEAD: Final = 384
"""Bytes that an outcome takes beside its key and its JSON (measured: 330 on CPython 3.11)."""

KeyId = tuple[str, str]
"""A principal's name and its key."""


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """How much is kept: the outcomes used least recently go first.

    Attributes:
        seconds: how long an outcome is kept, from when the work ended.
    """

    outcomes: int = 10_000
    bytes: int = 32 * 2**20
    seconds: float = 600.0


class Outcome:
    """How the work of a key ended: JSON of its result or of its error; neither where the result was not kept."""

    __slots__ = ("at", "digest", "error", "result", "size")

    def __init__(self, digest: bytes, *, result: bytes | None = None, error: bytes | None = None) -> None:
        self.digest = digest
        self.result = result
        self.error = error
        self.at = 0.0
        self.size = 0

    def settle(self, call: Call) -> None:
        """Answer a call with it."""
        if self.result is not None:
            call.settle_result(self.result)
        elif self.error is not None:
            call.settle_error(RpcError.from_wire(msgspec.json.decode(self.error)))
        else:
            words = f"{call.method} was executed under this idempotency key already, and what it returned was not kept"
            call.settle_error(_refusal("executed", words))


class Outcomes:
    """What is kept: bounded in number, bytes and age."""

    def __init__(self, limits: KeyLimits) -> None:
        self._limits = limits
        self._kept: OrderedDict[KeyId, Outcome] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: KeyId, now: float) -> Outcome | None:
        """The outcome of a key, unless it is too old."""
        outcome = self._kept.get(key)
        if outcome is None:
            return None
        if now - outcome.at >= self._limits.seconds:
            self._forget(key)
            return None
        self._kept.move_to_end(key)
        return outcome

    def put(self, key: KeyId, outcome: Outcome, now: float) -> None:
        """Keep the outcome of a key that has none, and make room for it."""
        outcome.at = now
        kept = outcome.result or outcome.error or b""
        outcome.size = OUTCOME_OVERHEAD + sys.getsizeof(key[1]) + len(kept)
        self._kept[key] = outcome
        self.bytes += outcome.size
        self._make_room(now)

    def _make_room(self, now: float) -> None:
        limits = self._limits
        while self._kept:
            oldest = next(iter(self._kept))
            expired = now - self._kept[oldest].at >= limits.seconds
            if not expired and len(self._kept) <= limits.outcomes and self.bytes <= limits.bytes:
                return
            self._forget(oldest)

    def _forget(self, key: KeyId) -> None:
        self.bytes -= self._kept.pop(key).size


class SharedCall(Call):
    """The work of one key: the call that its backend executes, and what executes the calls that wait for it.

    Those have deadlines of their own, and may be cancelled one by one; the work ends with the last of them. What the
    method is told, its deadline and metadata, is what the first of them said.

    Args:
        first: the call that begins it.
        used: its principal and key.
        digest: of what was asked.
        ended: told of the outcome once, before any waiting call is; None where nothing was executed.
    """

    __slots__ = ("_callers", "_ended", "_executor", "_first_caller", "digest", "used")

    def __init__(
        self, first: Call, used: KeyId, digest: bytes, ended: Callable[[SharedCall, Outcome | None], None]
    ) -> None:
        self._callers: dict[Call, None] = {}
        self._executor: object | None = None
        self._first_caller = first.caller()  # it may leave before the others
        self._ended = ended
        self.used = used
        self.digest = digest
        Call.__init__(self, first.method, first.params, first.metadata, priority=first.priority, depth=first.depth)
        self.flow = first.flow
        self.deadline = first.deadline
        self.idle_timeout = first.idle_timeout
        self.received = first.received
        self.last_activity = first.last_activity
        self.trace = first.trace
        self.info = first.info
        self.progress_token = first.progress_token
        self.join(first)

    @property
    def streams(self) -> bool:
        """Whether its result would be incomplete without the chunks before it."""
        return self.info is not None and self.info.streaming

    @property
    def exclusive(self) -> bool:
        """Whether it cannot be joined: there is one reader of its chunks, or one sender of its input."""
        return self.streams or (self.info is not None and self.info.input is not None)

    def join(self, call: Call) -> None:
        """One more call waits for the outcome."""
        self._callers[call] = None
        self._mirror(call)
        call.backend = self

    def _mirror(self, call: Call) -> None:
        """What may have been executed is the same for all who wait."""
        call.executor = self._executor
        call.attempts = max(self.attempts, int(self._executor is not None))

    # --- the backend's side ---

    @property
    def executor(self) -> object | None:
        """See :class:`Call`. Backends set it, and all who wait have to see it: it tells what may have been executed."""
        return self._executor

    @executor.setter
    def executor(self, executor: object | None) -> None:
        self._executor = executor
        for call in self._callers:
            self._mirror(call)

    @override
    def deliver_result(self, result: bytes) -> None:
        keep = len(result) <= MAX_RESULT_BYTES and not self.streams
        self._ended(self, Outcome(self.digest, result=result if keep else None))
        for call in self._take_callers():
            call.settle_result(result)

    @override
    def deliver_error(self, error: RpcError) -> None:
        # The chunks it mentions were another call's.
        error.data.pop("chunks", None)
        encoded = encode_error_object(error)
        self._ended(self, Outcome(self.digest, error=encoded) if error.maybe_executed else None)
        for call in self._take_callers():
            call.settle_error(RpcError.from_wire(msgspec.json.decode(encoded)))

    def _take_callers(self) -> tuple[Call, ...]:
        callers = tuple(self._callers)
        self._callers.clear()
        for call in callers:
            call.waited, call.ran = self.waited, self.ran
        return callers

    @override
    def deliver_chunk(self, chunk_type: bytes, data: bytes) -> None:
        for call in tuple(self._callers):  # what they are told may make them leave
            call.last_activity = self.last_activity
            call.stream(chunk_type, data)

    @override
    def deliver_progress(self, value: bytes) -> None:
        for call in tuple(self._callers):
            call.last_activity = self.last_activity
            call.progress(value)

    @override
    def writable(self) -> bool:
        return any(call.writable() for call in self._callers)

    @override
    def caller(self) -> Caller | None:
        return self._first_caller

    @override
    def origin(self) -> Call:
        return next(iter(self._callers), self)

    @override
    def input_consumed(self, consumed: int) -> None:
        for call in tuple(self._callers):
            call.last_activity = self.last_activity
            call.input_consumed(consumed)

    # --- the callers' side: CallExecution ---

    def cancel(self, call: Call) -> None:
        """One call waits no more. The last one takes the work with it."""
        if call not in self._callers:
            return
        del self._callers[call]
        if not self._callers:
            words = f"{self.method} was cancelled: nobody waited for it any more"
            self.settle_error(RpcError(ErrorCode.CANCELLED, words, maybe_executed=self.maybe_executed))
            self.cancel_execution()

    def grant(self, call: Call, consumed: int) -> None:
        """The reader of the chunks has taken so many."""
        if self.backend is not None and not self.settled:
            self.backend.grant(self, consumed)
            call.last_activity = self.last_activity

    def push(self, call: Call, index: int, data: bytes, final: bool) -> None:
        """One item of its input."""
        if self.backend is not None and not self.settled:
            self.backend.push(self, index, data, final)
            call.last_activity = self.last_activity


class IdempotencyKeys:
    """All keys in use.

    Args:
        clock: monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float], limits: KeyLimits | None = None) -> None:
        self._clock = clock
        self._running: dict[KeyId, SharedCall] = {}
        self.outcomes = Outcomes(limits or KeyLimits())

    @property
    def running(self) -> int:
        """How many keys have work in progress."""
        return len(self._running)

    def submit(self, call: Call, principal: str, key: str, backend: CallBackend) -> None:
        """Execute a call, let it join the one that runs, or answer it with the outcome there was.

        Args:
            call: routed already: ``info``, deadline and the rest are set.
            key: its ``metadata.idempotency_key``.

        Raises:
            RpcError: -32602 for an unusable key, or one that was used for something else; -32600 where the work runs
                and cannot be shared. The key's work is unharmed.
        """
        if not 0 < len(key) <= MAX_KEY_CHARS:
            message = f"metadata.idempotency_key must have 1 to {MAX_KEY_CHARS} characters, not {len(key)}"
            raise RpcError(ErrorCode.INVALID_PARAMS, message)
        used = (principal, key)
        digest = digest_of(call)
        shared = self._running.get(used)
        if shared is not None:
            _require_same(shared.digest, digest, call)
            if shared.exclusive:
                words = f"{call.method} runs under this idempotency key already, and a stream cannot be joined"
                raise _refusal("in_use", words)
            shared.join(call)
        elif (outcome := self.outcomes.get(used, self._clock())) is not None:
            _require_same(outcome.digest, digest, call)
            outcome.settle(call)
        else:
            self._begin(call, used, digest, backend)

    def _begin(self, call: Call, used: KeyId, digest: bytes, backend: CallBackend) -> None:
        shared = self._running[used] = SharedCall(call, used, digest, self._end)
        shared.backend = backend
        try:
            backend.submit(shared)
        except RpcError as error:
            shared.settle_error(error)
        except Exception:
            shared.settle_error(RpcError(ErrorCode.INTERNAL_ERROR, f"the hub failed to run {call.method}"))
            raise

    def _end(self, shared: SharedCall, outcome: Outcome | None) -> None:
        del self._running[shared.used]
        if outcome is not None:
            self.outcomes.put(shared.used, outcome, self._clock())


def digest_of(call: Call) -> bytes:
    """What tells whether two calls ask for the same: method and params, byte for byte."""
    digest = hashlib.sha256(call.method.encode())
    digest.update(b"\0")
    digest.update(call.params)
    return digest.digest()


def _require_same(first: bytes, second: bytes, call: Call) -> None:
    if first != second:
        raise RpcError(
            ErrorCode.INVALID_PARAMS,
            f"metadata.idempotency_key was used for another call than this {call.method:.200}: "
            "the method and the params have to be the same, or the key another",
            data={"idempotency": "mismatch"},
        )


def _refusal(reason: str, words: str) -> RpcError:
    return RpcError(ErrorCode.INVALID_REQUEST, words, maybe_executed=True, data={"idempotency": reason})
