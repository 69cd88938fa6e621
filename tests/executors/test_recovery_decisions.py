"""When a call that failed runs again, and when an executor is replaced for it: on virtual time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from tests.support.doubles import Asked, ready_handle
from trunkline.executors.method_recovery import FIRST_PAUSE, RESTART_EVERY, Recovery, may_try_again, pause_of
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import MethodInfo, RecoveryKind
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.inputs import InputWindow

pytestmark = pytest.mark.virtual_time


def failed(*kinds: RecoveryKind, idempotent: bool = True, attempts: int = 1) -> Asked:
    """A call that an executor has run."""
    call = Asked()
    call.info = MethodInfo("m", idempotent=idempotent, recovery=list(kinds))
    call.attempts = attempts
    call.executor = object()
    return call


def away(retry_after_ms: int | None = None, *, maybe_executed: bool = True) -> RpcError:
    return RpcError(
        ErrorCode.DATABASE_CONNECTION_ERROR, "away", retry_after_ms=retry_after_ms, maybe_executed=maybe_executed
    )


BROKEN = RpcError(ErrorCode.WORKER_CRASHED, "the device is gone", maybe_executed=True)


class Pool:
    """What a recovery asks of a pool."""

    def __init__(self, refusal: RpcError | None = None, no_replacement: RpcError | None = None) -> None:
        self.submitted: list[tuple[Call, float]] = []
        self.replaced: list[str] = []
        self.may_finish = asyncio.Event()
        self.may_finish.set()
        self._refusal = refusal
        self._no_replacement = no_replacement
        self.recovery = Recovery(self._submit, self._replace)
        self.executor, _ = ready_handle(0)

    def takes(self, call: Call, error: RpcError) -> bool:
        return self.recovery.takes(self.executor, call, error)

    def _submit(self, call: Call) -> None:
        if self._refusal is not None:
            raise self._refusal
        self.submitted.append((call, time.monotonic()))

    async def _replace(self, name: str) -> None:
        self.replaced.append(name)
        await self.may_finish.wait()
        if self._no_replacement is not None:
            raise self._no_replacement


async def test_a_retryable_error_runs_again_after_the_pause_it_asks_for() -> None:
    pool, call, began = Pool(), failed("retry"), time.monotonic()
    assert pool.takes(call, away(2500))
    assert call.executor is None, "no executor has it meanwhile"
    await asyncio.sleep(3)
    ((again, at),) = pool.submitted
    assert again is call
    assert at - began == pytest.approx(2.5)
    assert not call.settled


@pytest.mark.parametrize(("attempts", "pause"), [(1, FIRST_PAUSE), (2, 2 * FIRST_PAUSE)])
async def test_pauses_that_nobody_asks_for_grow(attempts: int, pause: float) -> None:
    assert pause_of(failed(attempts=attempts), away()) == pytest.approx(pause)
    assert pause_of(failed(attempts=attempts), away(0)) == 0.0


@pytest.mark.parametrize("kinds", [[], ["restart_worker"]])
async def test_a_method_that_declares_no_retry_is_not_tried_again(kinds: Sequence[RecoveryKind]) -> None:
    pool = Pool()
    assert not pool.takes(failed(*kinds), away(1))
    await asyncio.sleep(1)
    assert (pool.submitted, pool.replaced) == ([], [])


async def test_only_what_is_safe_to_run_again_does() -> None:
    assert may_try_again(failed(), away())
    assert not may_try_again(failed(idempotent=False), away())
    assert may_try_again(failed(idempotent=False), away(maybe_executed=False))
    assert not may_try_again(failed(), RpcError(ErrorCode.PIPELINE_EXECUTION_ERROR, "no"))
    assert may_try_again(failed(attempts=2), away())
    assert not may_try_again(failed(attempts=3), away())
    streamed = failed()
    streamed.chunks = 1
    assert not may_try_again(streamed, away())
    fed = failed()
    fed.input = InputWindow()
    assert may_try_again(fed, away()), "nothing of its input was sent"
    fed.input.begun = True
    assert not may_try_again(fed, away())
    assert not may_try_again(Asked(), away()), "of an unknown method nothing is known"


async def test_a_pause_beyond_the_deadline_is_the_end() -> None:
    pool, call = Pool(), failed("retry")
    call.deadline = time.monotonic() + 1.0
    assert not pool.takes(call, away(1000))
    assert pool.takes(call, away(999))


async def test_what_was_settled_meanwhile_stays_so() -> None:
    pool, call = Pool(), failed("retry")
    assert pool.takes(call, away(1000))
    call.settle_error(RpcError(ErrorCode.CANCELLED, "not wanted"))
    assert not pool.takes(call, away(1000))
    await asyncio.sleep(2)
    assert pool.submitted == []
    assert call.error.code == ErrorCode.CANCELLED


async def test_a_refusal_of_the_second_attempt_is_its_outcome_and_says_that_it_ran() -> None:
    pool, call = Pool(refusal=RpcError(ErrorCode.WORKER_OVERLOADED, "full")), failed("retry")
    assert pool.takes(call, away(1))
    await asyncio.sleep(1)
    assert (call.error.code, call.error.maybe_executed) == (ErrorCode.WORKER_OVERLOADED, True)


async def test_a_hub_that_stops_settles_what_was_to_run_again() -> None:
    pool, call = Pool(), failed("retry")
    assert pool.takes(call, away(1000))
    pool.recovery.stop()
    assert (call.error.data["draining"], call.error.maybe_executed) == (True, True)
    await asyncio.sleep(2)
    assert pool.submitted == []


async def test_a_broken_process_is_replaced_first_and_then_the_call_runs() -> None:
    pool, call = Pool(), failed("restart_worker")
    pool.may_finish.clear()
    assert pool.takes(call, BROKEN)
    await asyncio.sleep(5)
    assert (pool.replaced, pool.submitted) == (["executor-0"], []), "the new process is not there yet"
    pool.may_finish.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [again for again, _ in pool.submitted] == [call]


async def test_a_process_is_replaced_once_a_minute_at_most() -> None:
    pool = Pool()
    assert pool.takes(failed("restart_worker"), BROKEN)
    await asyncio.sleep(RESTART_EVERY - 1)
    assert not pool.takes(failed("restart_worker"), BROKEN), "the error is the outcome"
    await asyncio.sleep(2)
    assert pool.takes(failed("restart_worker"), BROKEN)
    await asyncio.sleep(0)
    assert pool.replaced == ["executor-0", "executor-0"]


async def test_of_a_call_that_may_not_run_again_the_process_is_replaced_all_the_same() -> None:
    pool, call = Pool(), failed("restart_worker", idempotent=False)
    assert not pool.takes(call, BROKEN)
    await asyncio.sleep(1)
    assert (pool.replaced, pool.submitted) == (["executor-0"], [])
    assert not call.settled, "whoever asked settles it with the error"


async def test_where_it_cannot_be_replaced_the_call_runs_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    pool, call = (
        Pool(no_replacement=RpcError(ErrorCode.INVALID_CONFIGURATION, "no such file")),
        failed("restart_worker"),
    )
    assert pool.takes(call, BROKEN)
    await asyncio.sleep(1)
    assert [again for again, _ in pool.submitted] == [call]
    assert "executor-0 could not be replaced: no such file" in caplog.text
