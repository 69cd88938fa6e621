"""The rule every origin relies on: the first terminal outcome wins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode, RpcError


class Recording(Call):
    def __init__(self) -> None:
        Call.__init__(self, "m", b"{}")
        self.said: list[tuple[str, Any]] = []

    def caller(self) -> None:
        return None

    def deliver_result(self, result: bytes) -> None:
        self.said.append(("result", result))

    def deliver_error(self, error: RpcError) -> None:
        self.said.append(("error", error.code))

    def deliver_chunk(self, chunk_type: bytes, data: bytes) -> None:
        self.said.append(("chunk", data))

    def deliver_progress(self, value: bytes) -> None:
        self.said.append(("progress", value))


class Owner:
    def __init__(self) -> None:
        self.codes: list[int] = []

    def finished(self, call: Call, code: int) -> None:
        assert call.settled
        self.codes.append(code)


class Backend:
    def __init__(self) -> None:
        self.cancelled = 0

    def cancel(self, _call: Call) -> None:
        self.cancelled += 1


@pytest.fixture
def call() -> Recording:
    call = Recording()
    call.owner = Owner()
    call.backend = Backend()  # type: ignore[assignment]
    return call


def fail(call: Call) -> None:
    call.settle_error(RpcError(ErrorCode.WORKER_CRASHED, "gone"))


STEPS: dict[str, Callable[[Call], object]] = {
    "result": lambda call: call.settle_result(b"1"),
    "error": fail,
    "abandon": lambda call: call.abandon(),
    "chunk": lambda call: call.stream(b'"data"', b"2"),
    "progress": lambda call: call.progress(b"3"),
}
TERMINAL = {"result": 0, "error": ErrorCode.WORKER_CRASHED, "abandon": ErrorCode.CANCELLED}


@given(st.lists(st.sampled_from(list(STEPS)), max_size=12))
def test_first_outcome_wins_whatever_follows(steps: list[str]) -> None:
    call, owner = Recording(), Owner()
    call.owner = owner
    for step in steps:
        STEPS[step](call)
    ends = [index for index, step in enumerate(steps) if step in TERMINAL]
    first = ends[0] if ends else len(steps)
    expected = [step for step in steps[: first + 1] if step != "abandon"]
    assert [kind for kind, _ in call.said] == expected
    assert owner.codes == [TERMINAL[steps[end]] for end in ends[:1]]
    assert call.chunks == steps[:first].count("chunk")


def test_an_error_says_how_many_chunks_went_out(call: Recording) -> None:
    call.stream(b'"data"', b"1")
    call.stream(b'"data"', b"2")
    error = RpcError(ErrorCode.WORKER_CRASHED, "gone")
    call.settle_error(error)
    assert error.data == {"chunks": 2}


def test_an_error_before_any_chunk_says_nothing_of_chunks(call: Recording) -> None:
    error = RpcError(ErrorCode.WORKER_CRASHED, "gone")
    call.settle_error(error)
    assert error.data == {}


def test_abandoning_cancels_the_work_once(call: Recording) -> None:
    call.abandon()
    call.abandon()
    assert call.backend.cancelled == 1  # type: ignore[union-attr]
    assert call.said == []


def test_abandoning_a_settled_call_cancels_nothing(call: Recording) -> None:
    call.settle_result(b"1")
    call.abandon()
    assert call.backend.cancelled == 0  # type: ignore[union-attr]
