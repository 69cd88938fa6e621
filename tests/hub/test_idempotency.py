"""One key, one execution: joining, leaving, what is returned again, what releases the key."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hub.keyed import INPUT, PLAIN, STREAM, Asked, Backend, Clock, ask, crash
from trunkline.hub.idempotency import IdempotencyKeys
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_messages import MAX_KEY_CHARS


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def keys(clock: Clock) -> IdempotencyKeys:
    return IdempotencyKeys(clock)


# --- one execution ---


def test_the_first_result_is_returned_again(keys: IdempotencyKeys, backend: Backend) -> None:
    first = ask(keys, backend)
    backend.calls[0].settle_result(b'{"n":1}')
    again = ask(keys, backend)
    assert first.results == again.results == [b'{"n":1}']
    assert len(backend.calls) == 1
    assert keys.running == 0


def test_the_first_error_is_returned_again(keys: IdempotencyKeys, backend: Backend) -> None:
    first = ask(keys, backend)
    backend.calls[0].settle_error(crash())
    again = ask(keys, backend)
    assert first.error.to_wire() == again.error.to_wire() == crash().to_wire()
    assert len(backend.calls) == 1


def test_a_second_call_joins_the_running_one(keys: IdempotencyKeys, backend: Backend) -> None:
    asked = [ask(keys, backend) for _ in range(3)]
    (work,) = backend.calls
    work.last_activity = 9.0
    work.progress(b"1")
    work.settle_result(b"2")
    assert [(call.reports, call.results, call.last_activity) for call in asked] == [([b"1"], [b"2"], 9.0)] * 3


def test_errors_of_joined_calls_are_their_own(keys: IdempotencyKeys, backend: Backend) -> None:
    asked = [ask(keys, backend) for _ in range(2)]
    backend.calls[0].settle_error(crash())
    asked[0].error.data["trace_id"] = "t"
    assert "trace_id" not in asked[1].error.data
    assert "trace_id" not in ask(keys, backend).error.data


@pytest.mark.parametrize("other", [{"key": "other"}, {"principal": "bob"}])
def test_another_key_or_principal_is_another_call(keys: IdempotencyKeys, backend: Backend, other: Any) -> None:
    ask(keys, backend)
    ask(keys, backend, **other)
    assert len(backend.calls) == 2


def test_principal_and_key_are_not_run_together(keys: IdempotencyKeys, backend: Backend) -> None:
    ask(keys, backend, principal="ab", key="c")
    ask(keys, backend, principal="a", key="bc")
    assert len(backend.calls) == 2


@pytest.mark.parametrize(("info", "params"), [(PLAIN, b'{"n":2}'), (INPUT, b"{}")])
@pytest.mark.parametrize("when", ["running", "kept"])
def test_the_same_key_for_something_else_is_refused(
    keys: IdempotencyKeys, backend: Backend, info: MethodInfo, params: bytes, when: str
) -> None:
    first = ask(keys, backend)
    if when == "kept":
        backend.calls[0].settle_result(b"1")
    other = ask(keys, backend, info, params)
    assert (other.error.code, other.error.data) == (ErrorCode.INVALID_PARAMS, {"idempotency": "mismatch"})
    if when == "running":
        backend.calls[0].settle_result(b"1")
    assert first.results == ask(keys, backend).results == [b"1"]
    assert len(backend.calls) == 1


def test_method_and_params_are_not_run_together(keys: IdempotencyKeys, backend: Backend) -> None:
    ask(keys, backend, MethodInfo("a"), b"[1]")
    assert ask(keys, backend, MethodInfo("a[1"), b"]").error.code == ErrorCode.INVALID_PARAMS


@pytest.mark.parametrize("length", [0, MAX_KEY_CHARS + 1])
def test_unusable_keys(keys: IdempotencyKeys, backend: Backend, length: int) -> None:
    assert ask(keys, backend, key="ü" * length).error.code == ErrorCode.INVALID_PARAMS
    assert backend.calls == []


def test_the_longest_key(keys: IdempotencyKeys, backend: Backend) -> None:
    ask(keys, backend, key="ü" * MAX_KEY_CHARS)
    assert len(backend.calls) == 1


# --- what was not executed ---


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.WORKER_OVERLOADED,
        ErrorCode.WORKER_UNAVAILABLE,
        ErrorCode.RATE_LIMITED,
        ErrorCode.METHOD_NOT_FOUND,
        ErrorCode.INVALID_PARAMS,
    ],
)
def test_a_refusal_before_execution_releases_the_key(keys: IdempotencyKeys, code: ErrorCode) -> None:
    refusing = Backend(refusal=RpcError(code, "no", retry_after_ms=3))
    refused = ask(keys, refusing)
    assert (refused.error.code, refused.error.retry_after_ms) == (code, 3)
    later, backend = Backend(), Backend()
    waiting = ask(keys, later, params=b'{"other":1}')  # even for something else
    later.calls[0].settle_error(RpcError(code, "no"))
    assert waiting.error.code == code
    ask(keys, backend)
    assert len(backend.calls) == 1


def test_a_backend_with_a_bug_releases_the_key(keys: IdempotencyKeys) -> None:
    class Broken(Backend):
        def submit(self, call: Call) -> None:
            raise ZeroDivisionError

    broken = Broken()
    call = Asked()
    with pytest.raises(ZeroDivisionError):
        keys.submit(call, "ann", "k", broken)
    assert call.error.code == ErrorCode.INTERNAL_ERROR
    assert keys.running == 0


# --- leaving ---


def test_cancelling_detaches_one(keys: IdempotencyKeys, backend: Backend) -> None:
    asked = [ask(keys, backend) for _ in range(3)]
    asked[0].give_up()  # the one that began it, too
    asked[2].give_up()
    assert backend.cancelled == []
    backend.calls[0].settle_result(b"1")
    assert asked[1].results == [b"1"]
    assert asked[0].error.code == asked[2].error.code == ErrorCode.CANCELLED


def test_the_last_ones_cancel_cancels_the_work(keys: IdempotencyKeys, backend: Backend) -> None:
    asked = [ask(keys, backend) for _ in range(2)]
    for call in asked:
        call.give_up()
        call.cancel_execution()  # twice is once
    assert backend.cancelled == backend.calls
    backend.calls[0].settle_result(b"too late")
    again = ask(keys, backend)
    assert (again.error.code, again.error.maybe_executed) == (ErrorCode.CANCELLED, True)
    assert len(backend.calls) == 1


def test_cancelling_what_is_done_reaches_nobody(keys: IdempotencyKeys, backend: Backend) -> None:
    first = ask(keys, backend)
    backend.calls[0].settle_result(b"1")
    first.cancel_execution()
    assert backend.cancelled == []


def test_cancelled_while_it_waited_it_may_run_later(keys: IdempotencyKeys) -> None:
    backend = Backend(dispatch=False)
    first = ask(keys, backend)
    first.give_up()
    assert not first.error.maybe_executed
    assert backend.cancelled == backend.calls
    second = ask(keys, backend)
    backend.calls[1].settle_result(b"1")
    assert second.results == [b"1"]


def test_vanishing_is_cancelling(keys: IdempotencyKeys, backend: Backend) -> None:
    first, second = ask(keys, backend), ask(keys, backend)
    first.abandon()
    assert backend.cancelled == []
    second.abandon()
    assert backend.cancelled == backend.calls
    assert not first.errors
    assert not second.errors


def test_whoever_waits_knows_whether_it_was_dispatched(keys: IdempotencyKeys) -> None:
    backend = Backend(dispatch=False)
    first = ask(keys, backend)
    executors = [first.executor]
    backend.calls[0].executor = backend
    late = ask(keys, backend)
    executors += [first.executor, late.executor]
    backend.calls[0].executor = None  # the executor died; it waits again
    executors += [first.executor, late.executor]
    assert executors == [None, backend, backend, None, None]


def test_whoever_waits_knows_how_long_it_waited(keys: IdempotencyKeys) -> None:
    backend = Backend(dispatch=False)
    first, second = ask(keys, backend), ask(keys, backend)
    (work,) = backend.calls
    work.received = first.received = 100.0
    second.received, work.waited = 105.0, 9.0
    work.executor = backend
    assert (first.waited, second.waited) == (9.0, 4.0)


def test_what_the_method_is_told_is_the_first_calls(keys: IdempotencyKeys, backend: Backend) -> None:
    call = Asked(PLAIN, b'{"a":1}')
    call.metadata, call.priority, call.flow, call.deadline, call.progress_token = b'{"p":1}', 0, 7, 99.0, "t"
    keys.submit(call, "ann", "k", backend)
    (work,) = backend.calls
    assert (work.params, work.metadata, work.priority, work.flow) == (b'{"a":1}', b'{"p":1}', 0, 7)
    assert (work.deadline, work.progress_token, work.info, work.depth) == (99.0, "t", PLAIN, 0)


# --- streams and input ---


def test_a_stream_passes_through(keys: IdempotencyKeys, backend: Backend) -> None:
    reader = ask(keys, backend, STREAM)
    (work,) = backend.calls
    work.last_activity = 4.0
    work.stream(b'"data"', b"1")
    assert (reader.chunks_seen, reader.chunks, reader.last_activity) == ([b"1"], 1, 4.0)
    assert reader.backend is not None
    reader.backend.grant(reader, 1)
    assert (backend.granted, reader.last_activity) == ([1], 5.0)
    reader.room = False
    assert not work.writable()
    work.settle_error(crash())
    assert reader.error.data["chunks"] == 1


@pytest.mark.parametrize("info", [STREAM, INPUT])
def test_a_stream_cannot_be_joined(keys: IdempotencyKeys, backend: Backend, info: MethodInfo) -> None:
    ask(keys, backend, info)
    second = ask(keys, backend, info)
    assert (second.error.code, second.error.data) == (ErrorCode.INVALID_REQUEST, {"idempotency": "in_use"})
    assert second.error.maybe_executed
    assert backend.cancelled == []


def test_a_stream_that_ended_is_not_made_up(keys: IdempotencyKeys, backend: Backend) -> None:
    reader = ask(keys, backend, STREAM)
    backend.calls[0].stream(b'"data"', b"1")
    backend.calls[0].settle_result(b'{"chunks":1}')
    assert reader.results == [b'{"chunks":1}']
    again = ask(keys, backend, STREAM)
    assert (again.error.code, again.error.data) == (ErrorCode.INVALID_REQUEST, {"idempotency": "executed"})
    assert again.error.maybe_executed


def test_a_stream_that_failed_says_so_again_without_chunks(keys: IdempotencyKeys, backend: Backend) -> None:
    ask(keys, backend, STREAM)
    backend.calls[0].stream(b'"data"', b"1")
    backend.calls[0].settle_error(crash())
    again = ask(keys, backend, STREAM)
    assert (again.error.code, again.error.data) == (ErrorCode.WORKER_CRASHED, {"x": [1]})


def test_input_passes_through(keys: IdempotencyKeys, backend: Backend) -> None:
    sender = ask(keys, backend, INPUT)
    assert sender.backend is not None
    sender.backend.push(sender, 0, b"1", False)
    assert (backend.pushed, sender.last_activity) == ([(0, b"1", False)], 6.0)
    backend.calls[0].input_consumed(1)
    assert sender.credits == [1]
    backend.calls[0].settle_result(b"2")
    assert ask(keys, backend, INPUT).results == [b"2"]
