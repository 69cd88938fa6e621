"""What may wait, in all, of one flow and in bytes, and that the books of it are right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_protocol.backlog import SHARED_FROM, Backlog, QueueLimits
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode, RpcError

ANYWHERE = -1


def made(calls: int = 131_072, calls_per_flow: int = 10_240, bytes: int = 256 * 2**20) -> Backlog[int]:
    return Backlog(QueueLimits(calls, calls_per_flow, bytes), lambda: 70)


def call(flow: int = 1, params: bytes = b"{}", priority: int = 1) -> Call:
    one = Call("m", params, priority=priority)
    one.flow = flow
    return one


def push(backlog: Backlog[int], *calls: Call, index: int = ANYWHERE) -> None:
    for each in calls:
        backlog.push(each, index)


def refusal(backlog: Backlog[int], flow: int = 1, params: bytes = b"{}") -> str:
    """Push a call that has to be refused; which setting did."""
    before = (backlog.waiting, backlog.bytes)
    with pytest.raises(RpcError) as caught:
        push(backlog, call(flow, params))
    assert caught.value.code == ErrorCode.WORKER_OVERLOADED
    assert caught.value.retryable
    assert caught.value.retry_after_ms == 70
    assert (backlog.waiting, backlog.bytes) == before
    limit: str = caught.value.data["limit"]
    assert limit in caught.value.message
    return limit


def fill(backlog: Backlog[int], number: int, flow: int = 1) -> None:
    push(backlog, *(call(flow) for _ in range(number)))


# --- each limit ---


def test_calls_in_all() -> None:
    backlog = made(calls=3)
    push(backlog, call(1), call(2), call(3))
    assert refusal(backlog, flow=4) == "TRUNKLINE_QUEUE_LIMIT"
    assert backlog.pop(ANYWHERE) is not None
    push(backlog, call(4))


def test_no_queue_at_all() -> None:
    assert refusal(made(calls=0)) == "TRUNKLINE_QUEUE_LIMIT"


def test_calls_of_one_flow() -> None:
    backlog = made(calls=10, calls_per_flow=2)
    fill(backlog, 2)
    assert refusal(backlog) == "TRUNKLINE_QUEUE_LIMIT_PER_CONNECTION"
    fill(backlog, 2, flow=2)
    assert backlog.pop(ANYWHERE) is not None
    fill(backlog, 1)
    assert refusal(backlog) == "TRUNKLINE_QUEUE_LIMIT_PER_CONNECTION"


def test_a_flow_is_counted_over_all_its_queues() -> None:
    backlog = made(calls_per_flow=3)
    push(backlog, call(), index=0)
    push(backlog, call(), index=1)
    backlog.push(call(), 2)
    assert refusal(backlog) == "TRUNKLINE_QUEUE_LIMIT_PER_CONNECTION"


def test_bytes_of_params() -> None:
    backlog = made(bytes=100)
    push(backlog, call(params=b"x" * 60), call(params=b"x" * 40))
    assert backlog.bytes == 100
    assert refusal(backlog, flow=2, params=b"x") == "TRUNKLINE_QUEUE_BYTES"
    assert backlog.pop(ANYWHERE) is not None
    assert refusal(backlog, flow=2, params=b"x" * 61) == "TRUNKLINE_QUEUE_BYTES"
    push(backlog, call(params=b"x" * 60))


def test_a_call_larger_than_everything_may_wait_alone() -> None:
    """It came in as a message that is allowed: refused here, it could never run."""
    backlog = made(bytes=100)
    push(backlog, call(params=b"x" * 1000))
    assert refusal(backlog, params=b"") == "TRUNKLINE_QUEUE_BYTES"
    assert backlog.pop(ANYWHERE) is not None
    assert backlog.bytes == 0


def test_what_an_executor_lost_is_let_in_whatever_the_limits() -> None:
    backlog = made(calls=1, calls_per_flow=1, bytes=1)
    lost = call(params=b"xxx")
    fill(backlog, 1)
    backlog.push_front(lost, ANYWHERE)
    assert (backlog.waiting, backlog.bytes) == (2, 5)
    assert backlog.pop(ANYWHERE) is lost


# --- the last fifth ---


def test_one_that_fills_the_queue_does_not_shut_the_others_out() -> None:
    backlog = made(calls=100)
    fill(backlog, 80)
    assert refusal(backlog) == "TRUNKLINE_QUEUE_LIMIT"
    for flow in range(2, 12):
        fill(backlog, 1, flow)
    assert refusal(backlog) == "TRUNKLINE_QUEUE_LIMIT"
    assert backlog.waiting == 90


def test_the_last_fifth_is_shared_by_those_who_wait() -> None:
    backlog = made(calls=100)
    fill(backlog, 80)
    fill(backlog, 11, flow=2)  # 20 // 2 = 10, and who has no more than that may have one more
    assert refusal(backlog, flow=2) == "TRUNKLINE_QUEUE_LIMIT"
    fill(backlog, 7, flow=3)
    assert refusal(backlog, flow=3) == "TRUNKLINE_QUEUE_LIMIT"
    fill(backlog, 1, flow=4)
    assert backlog.waiting == 99


def test_many_small_ones_fill_it_to_the_end() -> None:
    backlog = made(calls=100)
    for flow in range(100):
        fill(backlog, 1, flow)
    assert refusal(backlog, flow=1000) == "TRUNKLINE_QUEUE_LIMIT"
    assert backlog.waiting == 100


@pytest.mark.parametrize(("calls", "one_may_have"), [(SHARED_FROM - 1, SHARED_FROM - 1), (SHARED_FROM, 40)])
def test_a_small_queue_has_no_such_part(calls: int, one_may_have: int) -> None:
    backlog = made(calls=calls)
    fill(backlog, one_may_have)
    assert refusal(backlog) == "TRUNKLINE_QUEUE_LIMIT"


def test_there_is_room_again_when_calls_have_gone() -> None:
    backlog = made(calls=100)
    fill(backlog, 80)
    assert backlog.pop(ANYWHERE) is not None
    fill(backlog, 1)
    assert refusal(backlog) == "TRUNKLINE_QUEUE_LIMIT"


# --- queues ---


def test_each_key_has_a_queue_of_its_own() -> None:
    backlog = made()
    here, there, anywhere = call(), call(), call()
    push(backlog, here, index=0)
    push(backlog, there, index=1)
    push(backlog, anywhere)
    assert [backlog.has(key) for key in (0, 1, ANYWHERE, 2)] == [True, True, True, False]
    assert backlog.pop(0) is here
    assert backlog.pop(0) is None
    assert backlog.pop(2) is None
    assert not backlog.has(0)
    assert backlog.pop(1) is there
    assert backlog.pop(ANYWHERE) is anywhere
    assert (backlog.waiting, backlog.bytes) == (0, 0)


def test_the_hint_is_only_asked_for_by_a_refusal() -> None:
    asked: list[int] = []

    def hint() -> int:
        asked.append(1)
        return 70

    backlog = Backlog[int](QueueLimits(calls=1), hint)
    push(backlog, call())
    assert not asked
    refusal(backlog)
    assert len(asked) == 1


def test_closing_one_queue_leaves_the_others() -> None:
    backlog = made()
    gone, stays = [call(1), call(2)], call(1)
    push(backlog, *gone, index=0)
    push(backlog, stays, index=1)
    assert set(backlog.close(0)) == set(gone)
    assert backlog.close(0) == []
    assert (backlog.waiting, backlog.pop(1)) == (1, stays)


def test_remove_wherever_it_waits() -> None:
    backlog = made()
    calls = [call(flow) for flow in range(4)]
    for index, each in enumerate(calls):
        push(backlog, each, index=index - 1)
    assert not backlog.remove(calls[0], 2)
    assert backlog.remove(calls[0], -1)
    for each in calls[1:]:
        assert backlog.remove(each)
        assert not backlog.remove(each)
    assert not backlog.remove(call())
    assert (backlog.waiting, backlog.bytes) == (0, 0)


def test_drain() -> None:
    backlog = made(calls_per_flow=2)
    calls = [call(1), call(1), call(2)]
    push(backlog, *calls[:2], index=0)
    push(backlog, calls[2])
    assert set(backlog.drain()) == set(calls)
    assert (backlog.waiting, backlog.bytes) == (0, 0)
    assert backlog.drain() == []
    fill(backlog, 2)


steps = st.lists(
    st.tuples(
        st.sampled_from(["push", "push", "front", "pop", "remove"]),
        st.integers(0, 4),
        st.integers(0, 40),
        st.integers(-1, 1),
    ),
    max_size=100,
)


@given(steps)
def test_the_books_are_right_and_no_limit_is_passed(steps: list[tuple[str, int, int, int]]) -> None:
    limits = QueueLimits(calls=20, calls_per_flow=6, bytes=300)
    backlog, inside, above = Backlog[int](limits, lambda: 0), list[Call](), 0
    for name, flow, size, index in steps:
        each = call(flow, b"x" * size, priority=size % 3)
        if name == "push":
            try:
                backlog.push(each, index)
            except RpcError:
                own = sum(other.flow == flow for other in inside)
                bytes_then = sum(len(other.params) for other in inside) + size
                assert len(inside) >= limits.calls or own >= limits.calls_per_flow or bytes_then > limits.bytes
            else:
                inside.append(each)
        elif name == "front":
            backlog.push_front(each, index)
            inside.append(each)
            above += 1
        elif name == "remove" and inside:
            assert backlog.remove(inside.pop(flow % len(inside)))
        elif name == "pop" and (popped := backlog.pop(index)) is not None:
            inside.remove(popped)
        assert backlog.waiting == len(inside) <= limits.calls + above
        assert backlog.bytes == sum(len(other.params) for other in inside)
    for index in (-1, 0, 1):
        while (popped := backlog.pop(index)) is not None:
            inside.remove(popped)
    assert inside == []
    assert backlog._by_flow == {}


def test_what_moves_keeps_its_order_and_waits_behind_what_is_there() -> None:
    backlog = made()
    calls = [call(flow) for flow in (1, 2, 1, 1, 2)]
    there = call(1)
    push(backlog, *calls, index=0)
    push(backlog, there, index=1)
    moved = {1: 1, 2: None, 3: 0}
    assert backlog.move(0, lambda each: moved[each.flow]) == [calls[1], calls[4]]
    assert [backlog.pop(1) for _ in range(4)] == [there, calls[0], calls[2], calls[3]]
    assert (backlog.waiting, backlog.bytes) == (0, 0)
    assert backlog.move(7, lambda _each: 0) == []


def test_what_stays_keeps_its_place() -> None:
    backlog = made()
    calls = [call(flow, priority=priority) for flow in (1, 2, 3) for priority in (1, 0, 2)]
    push(backlog, *calls)
    unmoved = made()
    push(unmoved, *calls)
    assert backlog.move(ANYWHERE, lambda _each: ANYWHERE) == []
    assert [backlog.pop(ANYWHERE) for _ in calls] == [unmoved.pop(ANYWHERE) for _ in calls]
