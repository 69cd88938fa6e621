"""Idempotency keys: the work of a key runs once, however many calls carry the key.

A key belongs to a principal. The first call with a key starts the work (:class:`SharedCall`); calls that arrive while
the work runs join it; later calls get the stored outcome. Work that ended before anything was executed frees its key.
No other key is forgotten before its time: a call with one key too many is refused.

Pure but for the calls it settles: the clock is an argument.
"""

from __future__ import annotations

import secrets
import sys
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
from typing_extensions import override

from trunkline import defaults
from trunkline_protocol.calls import Call, Caller, CallSubmission
from trunkline_protocol.codecs.jsonrpc import encode_error_object
from trunkline_protocol.errors import ErrorCode, RpcError, limit_error
from trunkline_protocol.hub_messages import MAX_KEY_CHARS
from trunkline_protocol.params_digest import params_digest
from trunkline_protocol.tenants import TenantParts, name_in, tenant_and_name

MAX_RESULT_BYTES: Final = 2**20
"""Of a larger result only the fact is stored that the work was executed."""

OUTCOME_OVERHEAD: Final = 384
"""Bytes that a stored outcome takes beside its key and its JSON (measured: 330 on CPython 3.11)."""

KeyId = tuple[str, str]
"""The owner of a key, as calls state it (``key_scope``), and the key."""


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """Limits of what is stored.

    Attributes:
        keys: keys of all principals, with a stored outcome or work in progress.
        keys_per_principal: keys of one principal.
        bytes: results and errors. Above this, or a quarter of it for one principal, of the oldest outcomes only the
            fact is kept that the work was executed.
        seconds: how long an outcome is stored after the work has ended.
    """

    keys: int = defaults.IDEMPOTENCY_KEYS
    keys_per_principal: int = defaults.IDEMPOTENCY_KEYS_PER_PRINCIPAL
    bytes: int = 32 * 2**20
    seconds: float = 600.0


class StoredOutcome:
    """The outcome of a key's work: JSON of its result or of its error; neither where the result was not stored."""

    __slots__ = ("at", "digest", "error", "result")

    def __init__(self, digest: bytes, *, result: bytes | None = None, error: bytes | None = None) -> None:
        self.digest = digest
        self.result = result
        self.error = error
        self.at = 0.0

    @property
    def size(self) -> int:
        """Bytes of the stored JSON."""
        return len(self.result or self.error or b"")

    def drop(self) -> None:
        """Drop the JSON: keep only the fact that there was an outcome."""
        self.result = self.error = None

    def settle(self, call: Call) -> None:
        """Answer a call with this outcome; -32600 where its JSON is not stored."""
        if self.result is not None:
            call.settle_result(self.result)
        elif self.error is not None:
            call.settle_error(RpcError.from_wire(msgspec.json.decode(self.error)))
        else:
            words = f"{call.method} was executed under this idempotency key already, and what it returned was not kept"
            call.settle_error(_refusal("executed", words))


class _Held:
    """One principal's keys: their number, when the work of each ended, and the outcomes whose JSON is stored."""

    __slots__ = ("bytes", "ended", "keys", "whole")

    def __init__(self) -> None:
        self.keys = 0
        self.ended: deque[float] = deque()
        self.bytes = 0
        self.whole: OrderedDict[KeyId, StoredOutcome] = OrderedDict()


class Outcomes:
    """The stored outcomes: each kept for its time, all bounded in number and bytes."""

    def __init__(self, limits: KeyLimits) -> None:
        self._limits = limits
        self._kept: OrderedDict[KeyId, StoredOutcome] = OrderedDict()
        self._held: dict[str, _Held] = {}
        self._parts = TenantParts()
        self._taken = 0
        self._whole_bytes = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: KeyId, now: float) -> StoredOutcome | None:
        """The stored outcome of a key; None where there is none, or its time is over."""
        self._expire(now)
        return self._kept.get(key)

    def take(self, principal: str, now: float) -> None:
        """Count one more key of a principal, named by its ``owner``, before its work begins.

        Raises:
            RpcError: 2003, there are too many keys: one has to expire before.
        """
        self._expire(now)
        limits, held = self._limits, self._held.get(principal)
        if held is not None and held.keys >= limits.keys_per_principal:
            oldest = held.ended[0] if held.ended else now
            raise self._full("idempotency_keys_per_principal", f"{name_in(principal)} has {held.keys}", now - oldest)
        if self._taken >= limits.keys:
            oldest = next((outcome.at for outcome in self._kept.values()), now)
            raise self._full("idempotency_keys", f"all principals have {self._taken}", now - oldest)
        if refusal := self._parts.refusal(principal, limits.keys, "idempotency_keys", "idempotency keys of calls"):
            raise refusal
        if held is None:
            held = self._held[principal] = _Held()
        held.keys += 1
        self._parts.add(principal)
        self._taken += 1

    def give_back(self, principal: str) -> None:
        """Free a key that was taken: nothing was executed under it."""
        held = self._held[principal]
        held.keys -= 1
        self._parts.add(principal, -1)
        self._taken -= 1
        if not held.keys:
            del self._held[principal]

    def put(self, key: KeyId, outcome: StoredOutcome, now: float) -> None:
        """Store the outcome of a key that was taken."""
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
            self._forget(key, outcome)

    def forget(self, tenant: str) -> None:
        """Forget the keys of a tenant's principals whose work has ended."""
        for key, outcome in list(self._kept.items()):
            if tenant_and_name(key[0])[0] == tenant:
                self._forget(key, outcome)

    def _forget(self, key: KeyId, outcome: StoredOutcome) -> None:
        """Forget a key: of its principal's, the one whose work has ended first."""
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
            f"{words} idempotency keys, each kept for {self._limits.seconds:g} s after its work; wait, or omit the key",
            retry_after_ms=1 + int(1000 * (self._limits.seconds - age)),
        )


class SharedCall(Call):
    """The work of one key: a call for the backend, and the backend (``CallExecution``) of the calls that wait for it.

    The waiting calls have deadlines of their own, and can be cancelled one by one; the work is cancelled with the last.
    The method gets deadline and metadata of the first call.

    Args:
        first: the call that begins the work.
        used: the principal and the key.
        digest: as returned by :func:`params_digest` for the first call.
        ended: called once with the outcome, before any waiting call is settled; None where nothing was executed.
    """

    __slots__ = ("_callers", "_ended", "_executor", "_first_caller", "digest", "used")

    def __init__(
        self, first: Call, used: KeyId, digest: bytes, ended: Callable[[SharedCall, StoredOutcome | None], None]
    ) -> None:
        self._callers: dict[Call, None] = {}
        self._executor: object | None = None
        self._first_caller = first.caller()  # the first call may be cancelled before the others
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
        """Whether the method streams: then a result without its chunks would be incomplete."""
        return self.info is not None and self.info.streaming

    @property
    def exclusive(self) -> bool:
        """Whether no call can join: chunks have one reader, input has one sender."""
        return self.streams or (self.info is not None and self.info.input is not None)

    def join(self, call: Call) -> None:
        """Let one more call wait for the outcome."""
        self._callers[call] = None
        self._mirror(call)
        call.backend = self

    def _mirror(self, call: Call) -> None:
        """Copy to a waiting call whether the work may have been executed, and since when."""
        call.executor = self._executor
        call.waited = max(0.0, self.received + self.waited - call.received)
        call.attempts = max(self.attempts, int(self._executor is not None))

    # --- the backend's side ---

    @property
    def executor(self) -> object | None:
        """Who executes the work, if anyone yet. Set by the backend, and copied to the waiting calls."""
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
        # A count of chunks would be that of another call: each waiting call adds its own.
        error.data.pop("chunks", None)
        if error.data.get("request_id") == self.known_request_id():
            error.data.pop("request_id", None)  # each of those that share the outcome has its own
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
        for call in tuple(self._callers):  # a chunk may make a call end, and leave
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
        """Let a call wait no more; with the last one the work is cancelled."""
        if call not in self._callers:
            return
        del self._callers[call]
        if not self._callers:
            words = f"{self.method} was cancelled: no call waited for it any more"
            self.settle_error(RpcError(ErrorCode.CANCELLED, words, maybe_executed=self.maybe_executed))
            self.cancel_execution()

    def grant(self, call: Call, consumed: int) -> None:
        """Pass on credit: the reader has consumed so many chunks in total."""
        if self.backend is not None and not self.settled:
            self.backend.grant(self, consumed)
            call.last_activity = self.last_activity

    def push(self, call: Call, index: int, data: bytes, final: bool) -> None:
        """Pass on one item of the input, or its end."""
        if self.backend is not None and not self.settled:
            self.backend.push(self, index, data, final)
            call.last_activity = self.last_activity


class IdempotencyKeys:
    """The idempotency keys of a hub: those with work in progress, and those with a stored outcome.

    Args:
        clock: a monotonic clock, in seconds.

    Attributes:
        epoch: names this memory of keys, which ends with the process: another epoch means that its keys are forgotten.
    """

    def __init__(self, clock: Callable[[], float], limits: KeyLimits | None = None) -> None:
        self.epoch = secrets.token_hex(4)
        self._clock = clock
        self._running: dict[KeyId, SharedCall] = {}
        self.outcomes = Outcomes(limits or KeyLimits())

    @property
    def running(self) -> int:
        """How many keys have work in progress."""
        return len(self._running)

    def require_epoch(self, epoch: str | None, what: str) -> None:
        """Check that a repetition comes to the memory that its first attempt was known to.

        Args:
            epoch: ``metadata.idempotency_epoch``; None where the call is no repetition, or its caller does not mind.
            what: is repeated, for the error.

        Raises:
            RpcError: 2001, maybe executed: another hub, or an earlier run of this one, may have done it already.
        """
        if epoch is not None and epoch != self.epoch:
            words = (
                f"{what} may have been executed by a hub that is gone, with its idempotency keys (epoch {epoch:.50}, "
                f"not {self.epoch}): look up what became of it; a new call of it has no metadata.idempotency_epoch"
            )
            raise RpcError(ErrorCode.WORKER_CRASHED, words, maybe_executed=True, data={"idempotency": "epoch"})

    def submit(self, call: Call, principal: str, key: str, backend: CallSubmission) -> None:
        """Execute a call, let it join the work in progress, or answer it with the stored outcome.

        Args:
            call: a routed call: ``info``, deadline and the rest are set.
            key: the call's ``metadata.idempotency_key``.

        Raises:
            RpcError: -32602 for an invalid key, or one that was used for another call; -32600 where the work runs and
                cannot be shared; 2003 where there are too many keys. Work in progress is not affected.
        """
        if not 0 < len(key) <= MAX_KEY_CHARS:
            message = f"metadata.idempotency_key must have 1 to {MAX_KEY_CHARS} characters, not {len(key)}"
            raise RpcError(ErrorCode.INVALID_PARAMS, message)
        used = (principal, key)
        digest = params_digest(call.method, call.params)
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

    def _begin(self, call: Call, used: KeyId, digest: bytes, backend: CallSubmission) -> None:
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


def _require_same(first: bytes, second: bytes, call: Call) -> None:
    if first != second:
        raise RpcError(
            ErrorCode.INVALID_PARAMS,
            f"metadata.idempotency_key was used for a call that differs from this one of {call.method:.200}: "
            "repeat it with the same method and params, or use another key",
            data={"idempotency": "mismatch"},
        )


def _refusal(reason: str, words: str) -> RpcError:
    return RpcError(ErrorCode.INVALID_REQUEST, words, maybe_executed=True, data={"idempotency": reason})
