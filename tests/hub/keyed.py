"""Calls, a backend and a clock for idempotency keys: they only remember."""

from __future__ import annotations

from typing import Any

from trunkline.hub.idempotency import IdempotencyKeys
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.errors import ErrorCode, RpcError

PLAIN, STREAM, INPUT = MethodInfo("work.do"), MethodInfo("work.stream", streaming=True), MethodInfo("work.in", input={})


class Asked(Call):
    """A call that remembers what it was told."""

    def __init__(self, info: MethodInfo = PLAIN, params: bytes = b"{}") -> None:
        Call.__init__(self, info.name, params)
        self.info = info
        self.results: list[bytes] = []
        self.errors: list[RpcError] = []
        self.chunks_seen: list[bytes] = []
        self.reports: list[bytes] = []
        self.credits: list[int] = []
        self.room = True

    def caller(self) -> None:
        return None

    def deliver_result(self, result: bytes) -> None:
        self.results.append(result)

    def deliver_error(self, error: RpcError) -> None:
        self.errors.append(error)

    def deliver_chunk(self, chunk_type: bytes, data: bytes) -> None:
        self.chunks_seen.append(data)

    def deliver_progress(self, value: bytes) -> None:
        self.reports.append(value)

    def writable(self) -> bool:
        return self.room

    def input_consumed(self, consumed: int) -> None:
        self.credits.append(consumed)

    def give_up(self) -> None:
        """As a connection cancels."""
        executed = self.executor is not None
        self.settle_error(RpcError(ErrorCode.CANCELLED, "cancelled", maybe_executed=executed))
        self.cancel_execution()

    @property
    def error(self) -> RpcError:
        assert not self.results
        (error,) = self.errors
        return error


class Backend:
    """Keeps what it is given until the test settles it."""

    def __init__(self, *, dispatch: bool = True, refusal: RpcError | None = None) -> None:
        self.calls: list[Call] = []
        self.cancelled: list[Call] = []
        self.granted: list[int] = []
        self.pushed: list[Any] = []
        self.dispatch = dispatch
        self.refusal = refusal

    def find(self, method: str) -> MethodInfo:
        raise NotImplementedError

    def submit(self, call: Call) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.calls.append(call)
        if self.dispatch:
            call.executor = self

    def cancel(self, call: Call) -> None:
        self.cancelled.append(call)

    def grant(self, call: Call, consumed: int) -> None:
        call.last_activity = 5.0
        self.granted.append(consumed)

    def push(self, call: Call, index: int, data: bytes, final: bool) -> None:
        call.last_activity = 6.0
        self.pushed.append((index, data, final))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def ask(
    keys: IdempotencyKeys,
    backend: Backend,
    info: MethodInfo = PLAIN,
    params: bytes = b"{}",
    *,
    key: str = "k",
    principal: str = "ann",
) -> Asked:
    """Submit as the router does: what is raised settles the call."""
    call = Asked(info, params)
    try:
        keys.submit(call, principal, key, backend)
    except RpcError as error:
        call.settle_error(error)
    return call


def crash(maybe_executed: bool = True) -> RpcError:
    return RpcError(ErrorCode.WORKER_CRASHED, "gone", maybe_executed=maybe_executed, retry_after_ms=7, data={"x": [1]})
