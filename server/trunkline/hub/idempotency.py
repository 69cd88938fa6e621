"""Idempotency keys: work that carries one runs once, however often and by however many calls it is asked for.

A key belongs to a principal. The first call with it starts the work (:class:`SharedCall`); calls that come while it
runs join it; calls that come later get the outcome that was kept. What ended before anything was executed is
forgotten, so that the key may be used again. No other key is forgotten before its time: a call that would be one too
many is refused.

Pure but for the calls it settles: the clock is an argument.
"""

from __future__ import annotations

import hashlib
import sys
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
from typing_extensions import override

from trunkline import defaults
from trunkline_protocol.calls import Call, CallBackend, Caller
from trunkline_protocol.codecs.jsonrpc import encode_error_object
from trunkline_protocol.errors import ErrorCode, RpcError, limit_error
from trunkline_protocol.hub_messages import MAX_KEY_CHARS

MAX_RESULT_BYTES: Final = 2**20
"""Of larger results only the fact is remembered."""

OUTCOME_OVERHEAD: Final = 384
"""Bytes that an outcome takes beside its key and its JSON (measured: 330 on CPython 3.11)."""

KeyId = tuple[str, str]
"""A principal's name and its key."""


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """How much is kept.

    Attributes:
        keys: with an outcome, or work in progress; of all principals.
        keys_per_principal: of one of them.
        bytes: results and errors. Beyond them, or a quarter for one principal, its oldest keys only tell that they were
            used.
        seconds: how long an outcome is kept, from when the work ended.
    """

    keys: int = defaults.IDEMPOTENCY_KEYS
    keys_per_principal: int = defaults.IDEMPOTENCY_KEYS_PER_PRINCIPAL
    bytes: int = 32 * 2**20
    seconds: float = 600.0


class StoredOutcome:
    """How the work of a key ended: JSON of its result or of its error; neither where the result was not kept."""

    __slots__ = ("at", "digest", "error", "result")

    def __init__(self, digest: bytes, *, result: bytes | None = None, error: bytes | None = None) -> None:
        self.digest = digest
        self.result = result
        self.error = error
        self.at = 0.0

    @property
    def size(self) -> int:
        """Bytes of the JSON."""
        return len(self.result or self.error or b"")

    def drop(self) -> None:
        """From now on only tell that there was one."""
        self.result = self.error = None

    def settle(self, call: Call) -> None:
        """Answer a call with it."""
        if self.result is not None:
            call.settle_result(self.result)
        elif self.error is not None:
            call.settle_error(RpcError.from_wire(msgspec.json.decode(self.error)))
        else:
            words = f"{call.method} was executed under this idempotency key already, and what it returned was not kept"
            call.settle_error(_refusal("executed", words))


class _Held:
    """What one principal has: keys in all, when the work of each ended, and the outcomes that are still whole."""

    __slots__ = ("bytes", "ended", "keys", "whole")

    def __init__(self) -> None:
        self.keys = 0
        self.ended: deque[float] = deque()
        self.bytes = 0
        self.whole: OrderedDict[KeyId, StoredOutcome] = OrderedDict()


class Outcomes:
    """What is kept: for its time, and bounded in number and bytes."""

    def __init__(self, limits: KeyLimits) -> None:
        self._limits = limits
        self._kept: OrderedDict[KeyId, StoredOutcome] = OrderedDict()
        self._held: dict[str, _Held] = {}
        self._taken = 0
        self._whole_bytes = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: KeyId, now: float) -> StoredOutcome | None:
        """The outcome of a key, unless it is too old."""
        self._expire(now)
        return self._kept.get(key)

    def take(self, principal: str, now: float) -> None:
        """Count one more key, whose work is to begin.

        Raises:
            RpcError: 2003, one has to grow too old before.
        """
        self._expire(now)
        limits, held = self._limits, self._held.get(principal)
        if held is not None and held.keys >= limits.keys_per_principal:
            oldest = held.ended[0] if held.ended else now
            raise self._full("idempotency_keys_per_principal", f"{principal} has {held.keys}", now - oldest)
        if self._taken >= limits.keys:
            oldest = next((outcome.at for outcome in self._kept.values()), now)
            raise self._full("idempotency_keys", f"all principals have {self._taken}", now - oldest)
        if held is None:
            held = self._held[principal] = _Held()
        held.keys += 1
        self._taken += 1

    def give_back(self, principal: str) -> None:
        """Nothing was executed under a key that was taken."""
        held = self._held[principal]
        held.keys -= 1
        self._taken -= 1
        if not held.keys:
            del self._held[principal]

    def put(self, key: KeyId, outcome: StoredOutcome, now: float) -> None:
        """Keep the outcome of a key that was taken."""
        outcome.at = now
        self._kept[key] = outcome
        self.bytes += OUTCOME_OVERHEAD + sys.getsizeof(key[1])
        held = self._held[key[0]]
        held.ended.append(now)
        if outcome.size:
            held.whole[key] = outcome
            held.bytes += outcome.size
            self._whole_bytes += outcome.size
            self.bytes += outcome.size
            while held.bytes > self._limits.bytes // 4 or self._whole_bytes > self._limits.bytes:
                self._drop(held, next(iter(held.whole)))

    def _drop(self, held: _Held, key: KeyId) -> None:
        outcome = held.whole.pop(key)
        held.bytes -= outcome.size
        self._whole_bytes -= outcome.size
        self.bytes -= outcome.size
        outcome.drop()

    def _expire(self, now: float) -> None:
        while self._kept:
            key, outcome = next(iter(self._kept.items()))
            if now - outcome.at < self._limits.seconds:
                return
            del self._kept[key]
            self.bytes -= OUTCOME_OVERHEAD + sys.getsizeof(key[1])
            held = self._held[key[0]]
            held.ended.popleft()
            if outcome.size:
                self._drop(held, key)
            self.give_back(key[0])

    def _full(self, setting: str, words: str, age: float) -> RpcError:
        return limit_error(
            setting,
            f"{words} idempotency keys, each kept for {self._limits.seconds:g} s after its work; wait, or call without",
            retry_after_ms=1 + int(1000 * (self._limits.seconds - age)),
        )


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
        self, first: Call, used: KeyId, digest: bytes, ended: Callable[[SharedCall, StoredOutcome | None], None]
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
        self._ended(self, StoredOutcome(self.digest, result=result if keep else None))
        for call in self._take_callers():
            call.settle_result(result)

    @override
    def deliver_error(self, error: RpcError) -> None:
        # The chunks it mentions were another call's.
        error.data.pop("chunks", None)
        encoded = encode_error_object(error)
        self._ended(self, StoredOutcome(self.digest, error=encoded) if error.maybe_executed else None)
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
                and cannot be shared; 2003 where there are too many keys. The key's work is unharmed.
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
        self.outcomes.take(used[0], self._clock())
        shared = self._running[used] = SharedCall(call, used, digest, self._end)
        shared.backend = backend
        try:
            backend.submit(shared)
        except RpcError as error:
            shared.settle_error(error)
        except Exception:
            shared.settle_error(RpcError(ErrorCode.INTERNAL_ERROR, f"the hub failed to run {call.method}"))
            raise

    def _end(self, shared: SharedCall, outcome: StoredOutcome | None) -> None:
        del self._running[shared.used]
        if outcome is not None:
            self.outcomes.put(shared.used, outcome, self._clock())
        else:
            self.outcomes.give_back(shared.used[0])


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
