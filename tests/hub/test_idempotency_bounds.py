"""What is kept of idempotency keys is bounded; and any order of calls, outcomes, cancels and time keeps the promise."""

from __future__ import annotations

import sys
import time
import tracemalloc

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.hub.keyed import PLAIN, STREAM, Asked, Backend, Clock, ask, crash
from trunkline.hub.idempotency import (
    MAX_RESULT_BYTES,
    OUTCOME_OVERHEAD,
    IdempotencyKeys,
    KeyLimits,
    Outcomes,
    SharedCall,
    StoredOutcome,
)
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def keys(clock: Clock) -> IdempotencyKeys:
    return IdempotencyKeys(clock)


@pytest.mark.parametrize(("size", "kept"), [(MAX_RESULT_BYTES, True), (MAX_RESULT_BYTES + 1, False)])
def test_large_results_are_remembered_only(keys: IdempotencyKeys, backend: Backend, size: int, kept: bool) -> None:
    first = ask(keys, backend)
    backend.calls[0].settle_result(b"x" * size)
    assert len(first.results[0]) == size
    again = ask(keys, backend)
    assert len(backend.calls) == 1
    if kept:
        assert again.results == first.results
    else:
        assert (again.error.code, again.error.data) == (ErrorCode.INVALID_REQUEST, {"idempotency": "executed"})
        assert again.error.maybe_executed
        assert keys.outcomes.bytes < 2 * OUTCOME_OVERHEAD


def test_outcomes_grow_old(keys: IdempotencyKeys, backend: Backend, clock: Clock) -> None:
    ask(keys, backend)
    clock.now += 10_000  # however long it runs
    ask(keys, backend)
    backend.calls[0].settle_result(b"1")
    clock.now += 599
    assert ask(keys, backend).results == [b"1"]
    clock.now += 2  # being used does not make it younger
    ask(keys, backend)
    assert len(backend.calls) == 2
    assert len(keys.outcomes) == keys.outcomes.bytes == 0


def test_a_call_is_refused_rather_than_a_key_forgotten(clock: Clock, backend: Backend) -> None:
    keys = IdempotencyKeys(clock, KeyLimits(keys_per_principal=3))
    for name in "abc":
        ask(keys, backend, key=name)
        backend.calls[-1].settle_result(b"1")
        clock.now += 10
    refused = ask(keys, backend, key="d").error
    assert (refused.code, refused.retryable) == (ErrorCode.RESOURCE_EXHAUSTED, True)
    assert refused.data == {"limit": "TRUNKLINE_IDEMPOTENCY_KEYS_PER_PRINCIPAL"}
    assert not refused.maybe_executed
    assert [ask(keys, backend, key=name).results for name in "abc"] == [[b"1"]] * 3
    assert len(backend.calls) == 3
    assert refused.retry_after_ms is not None
    clock.now += refused.retry_after_ms / 1000
    ask(keys, backend, key="d")
    assert len(backend.calls) == 4
    assert ask(keys, backend, key="b").results == [b"1"]


@pytest.mark.parametrize("number", [10_100, 40_000])
def test_one_principal_does_not_push_out_anothers_keys(keys: IdempotencyKeys, backend: Backend, number: int) -> None:
    ask(keys, backend)
    backend.calls[-1].settle_result(b"1")
    for key in range(number):
        ask(keys, backend, key=str(key), principal="bob")
        backend.calls[-1].settle_result(b"2")
    assert ask(keys, backend).results == [b"1"]


def test_the_keys_of_all_principals_are_bounded(clock: Clock, backend: Backend) -> None:
    keys = IdempotencyKeys(clock, KeyLimits(keys=4, keys_per_principal=2))
    for number in range(4):
        ask(keys, backend, key=str(number), principal=f"p{number // 2}")
    assert ask(keys, backend).error.data == {"limit": "TRUNKLINE_IDEMPOTENCY_KEYS"}
    backend.calls[0].settle_error(crash(maybe_executed=False))
    assert not ask(keys, backend).errors


def test_work_in_progress_is_counted_and_never_pushed_out(clock: Clock, backend: Backend) -> None:
    keys = IdempotencyKeys(clock, KeyLimits(keys_per_principal=5))
    for number in range(5):
        ask(keys, backend, key=f"slow {number}")
    assert ask(keys, backend, key="one more").error.code == ErrorCode.RESOURCE_EXHAUSTED
    for number in range(5):
        joined = ask(keys, backend, key=f"slow {number}")
        backend.calls[number].settle_result(b"1")
        assert joined.results == [b"1"]
    assert len(backend.calls) == len(keys.outcomes) == 5


def test_bytes_are_bounded_and_the_fact_is_kept(clock: Clock, backend: Backend) -> None:
    keys = IdempotencyKeys(clock, KeyLimits(bytes=400_000))
    ask(keys, backend, principal="bob")
    backend.calls[-1].settle_result(b"y" * 20_000)
    for number in range(50):
        ask(keys, backend, key=str(number))
        backend.calls[-1].settle_result(b"x" * 20_000)
        assert keys.outcomes.bytes <= 121_000 + 52 * (OUTCOME_OVERHEAD + 60), "a quarter, and what is bob's"
    answers = [ask(keys, backend, key=str(number)) for number in range(50)]
    assert len(backend.calls) == 51, "none runs again"
    assert [len(answer.results) for answer in answers] == [0] * 45 + [1] * 5
    assert {answer.error.data["idempotency"] for answer in answers[:45]} == {"executed"}
    assert ask(keys, backend, principal="bob").results == [b"y" * 20_000]


def test_bytes_of_all_principals_are_bounded(clock: Clock, backend: Backend) -> None:
    keys = IdempotencyKeys(clock, KeyLimits(bytes=100_000))
    for number in range(10):
        ask(keys, backend, principal=f"p{number}")
        backend.calls[-1].settle_result(b"x" * 20_000)
    answers = [ask(keys, backend, principal=f"p{number}") for number in range(10)]
    assert [len(answer.results) for answer in answers] == [1] * 5 + [0] * 5, "who came first keeps it"
    clock.now += 601
    ask(keys, backend)
    assert keys.outcomes.bytes == 0
    assert set(keys.outcomes._held) == {"ann"}


def test_the_default_bounds() -> None:
    assert KeyLimits() == KeyLimits(262_144, 65_536, 32 * 2**20, 600.0)


def test_what_is_counted_is_what_it_takes() -> None:
    """The real memory of kept outcomes, against the count."""
    outcomes, size, number = Outcomes(KeyLimits()), 300, 5000
    tracemalloc.start()
    try:
        for n in range(number):
            outcomes.take("ann", 0.0)
            outcomes.put(("ann", f"key-{n}" * 4), StoredOutcome(n.to_bytes(32, "big"), result=bytes(size)), 0.0)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(outcomes) == number
    print(f"\n{used / number:.0f} bytes an outcome, counted {outcomes.bytes / number:.0f}, Python {sys.version[:4]}")
    assert 0.7 * outcomes.bytes < used < 1.1 * outcomes.bytes


def test_every_step_takes_the_same_time_however_many_there_are() -> None:
    keys, backend = IdempotencyKeys(lambda: 0.0), Backend()
    started = time.thread_time()
    asked = [ask(keys, backend, key=str(number)) for number in range(2000) for _ in range(10)]
    crowd = [ask(keys, backend, key="one") for _ in range(10_000)]
    for call in (*asked, *crowd):
        call.abandon()
    assert keys.running == 0
    assert len(backend.cancelled) == 2001
    print(f"\n{(time.thread_time() - started) / 60_000 * 1e6:.1f} us a step")  # 30,000 asked and left
    assert time.thread_time() - started < 10


class Machine(RuleBasedStateMachine):
    """Any order of calls, outcomes, cancels and time, against the promise in plain words."""

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.backend = Backend()
        self.keys = IdempotencyKeys(self.clock, KeyLimits(keys_per_principal=2, seconds=10.0))
        self.calls: list[Asked] = []

    @rule(key=st.sampled_from("abc"), dispatch=st.booleans(), stream=st.booleans())
    def call(self, key: str, dispatch: bool, stream: bool) -> None:
        self.backend.dispatch = dispatch
        self.calls.append(ask(self.keys, self.backend, STREAM if stream and key == "c" else PLAIN, key=key))

    @precondition(lambda self: self.backend.calls)
    @rule(data=st.data(), how=st.sampled_from(["result", "crash", "refuse", "dispatch"]))
    def work(self, data: st.DataObject, how: str) -> None:
        work = data.draw(st.sampled_from(self.backend.calls))
        if how == "dispatch":
            work.executor = self.backend
        elif how == "result":
            work.settle_result(b"1")
        else:
            work.settle_error(crash(how == "crash"))

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), vanish=st.booleans())
    def leave(self, data: st.DataObject, vanish: bool) -> None:
        call = data.draw(st.sampled_from(self.calls))
        call.abandon() if vanish else call.give_up()

    @rule(seconds=st.sampled_from([1.0, 9.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def each_key_runs_once_at_a_time(self) -> None:
        open_work: list[Call] = [work for work in self.backend.calls if not work.settled]
        used = [work.used for work in open_work if isinstance(work, SharedCall)]
        assert len(used) == len(set(used)) == self.keys.running
        assert all(len(call.results) + len(call.errors) <= 1 for call in self.calls)
        waiting = [call for call in self.calls if not call.settled]
        assert {id(call.backend) for call in waiting} == set(map(id, open_work))
        assert len(self.keys.outcomes) <= 2
        assert (self.keys.outcomes.bytes == 0) == (len(self.keys.outcomes) == 0)


TestMachine = Machine.TestCase
