from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trunkline.hub.deadlines import TICK, DeadlineWheel
from trunkline_protocol.calls import Call


def call(deadline: float) -> Call:
    call = Call("m", b"{}")
    call.deadline = deadline
    return call


def test_never_early_and_at_most_a_tick_late() -> None:
    wheel, watched = DeadlineWheel(100.0), call(100.503)
    wheel.add(watched)
    assert wheel.expired(100.5) == []
    assert wheel.expired(100.503) == []
    assert wheel.expired(100.503 + TICK) == [watched]
    assert wheel.expired(200) == []


def test_a_deadline_that_has_passed_already_expires_at_the_next_tick() -> None:
    wheel = DeadlineWheel(100.0)
    wheel.expired(150.0)
    late = call(120.0)
    wheel.add(late)
    assert wheel.expired(150.0 + 2 * TICK) == [late]


def test_discarded_ones_do_not_expire() -> None:
    wheel, first, second = DeadlineWheel(), call(1.0), call(1.0)
    wheel.add(first)
    wheel.add(second)
    wheel.discard(first)
    wheel.discard(first)
    wheel.discard(call(5.0))
    assert wheel.expired(2.0) == [second]
    assert not wheel


def test_a_discarded_one_that_was_late_when_it_was_added() -> None:
    wheel = DeadlineWheel(100.0)
    late = call(50.0)
    wheel.add(late)
    wheel.discard(late)
    assert wheel.expired(101.0) == []
    assert not wheel


def test_in_order() -> None:
    wheel = DeadlineWheel()
    calls = [call(n / 10) for n in (5, 1, 3, 2, 4)]
    for each in calls:
        wheel.add(each)
    assert [each.deadline for each in wheel.expired(1.0)] == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_settled_ones_are_left_out() -> None:
    wheel, watched = DeadlineWheel(), call(1.0)
    wheel.add(watched)
    watched.settled = True
    assert wheel.expired(2.0) == []


def test_a_long_silence_costs_nothing() -> None:
    wheel = DeadlineWheel(0.0)
    assert wheel.expired(1e9) == []
    soon = call(1e9 + 1)
    wheel.add(soon)
    assert wheel.expired(1e9 + 2) == [soon]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.floats(0, 3)),
        st.tuples(st.just("discard"), st.integers(0, 20)),
        st.tuples(st.just("wait"), st.floats(0, 1)),
    ),
    max_size=60,
)


@given(steps)
def test_like_a_list_that_is_searched(steps: list[tuple[str, float]]) -> None:
    """Against a naive model: everything expires once, never early, and within two ticks of the look."""
    now, wheel, watched, got = 1000.0, DeadlineWheel(1000.0), [], []
    for name, value in steps:
        if name == "add":
            watched.append(call(now + value))
            wheel.add(watched[-1])
        elif name == "discard" and watched:
            wheel.discard(watched.pop(int(value) % len(watched)))
        else:
            now += value
            expired = wheel.expired(now)
            assert all(each in watched for each in expired), "discarded, or expired before"
            assert all(each.deadline <= now + 1e-9 for each in expired)
            watched = [each for each in watched if each not in expired]
            assert all(each.deadline > now - 2 * TICK for each in watched)
            got.extend(expired)
    expired = wheel.expired(now + 10)
    assert set(expired) == set(watched)
    assert not wheel
