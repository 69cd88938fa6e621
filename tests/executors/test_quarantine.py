"""Which inputs are suspects, which are not run, and for how long."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.executors.quarantine import MAX_SECONDS, Quarantine, QuarantineLimits
from trunkline_protocol.errors import ErrorCode

LIMITS = QuarantineLimits(kills=3, seconds=100.0, forget_seconds=1000.0, inputs=4)


def convict(quarantine: Quarantine, params: bytes = b"{}", now: float = 0.0) -> None:
    assert [quarantine.killed("m", params, now) for _ in range(LIMITS.kills)] == [False, False, True]


def test_the_third_kill_is_the_last() -> None:
    quarantine = Quarantine(LIMITS)
    convict(quarantine, now=10.0)
    error = quarantine.refusal("m", b"{}", 50.0)
    assert error is not None
    assert (error.code, error.maybe_executed, error.retryable) == (ErrorCode.WORKER_CRASHED, False, True)
    assert error.data == {"quarantined": True, "kills": 3}
    assert error.retry_after_ms == 60_001
    assert quarantine.quarantined(50.0) == 1


def test_other_params_and_other_methods_go_on() -> None:
    quarantine = Quarantine(LIMITS)
    convict(quarantine)
    assert quarantine.refusal("m", b'{"x":1}', 1.0) is None
    assert quarantine.refusal("other", b"{}", 1.0) is None


def test_what_kills_for_one_tenant_is_no_suspect_of_another() -> None:
    quarantine = Quarantine(LIMITS)
    assert [quarantine.killed("m", b"{}", 0.0, "acme") for _ in range(LIMITS.kills)] == [False, False, True]
    assert quarantine.refusal("m", b"{}", 0.0, "acme") is not None
    assert quarantine.refusal("m", b"{}", 0.0, "bolt") is None
    assert quarantine.refusal("m", b"{}", 0.0) is None
    quarantine.survived("m", b"{}", "bolt")
    assert quarantine.refusal("m", b"{}", 0.0, "acme") is not None


def test_two_kills_are_chance() -> None:
    quarantine = Quarantine(LIMITS)
    assert not quarantine.killed("m", b"{}", 0.0)
    assert not quarantine.killed("m", b"{}", 0.0)
    assert quarantine.refusal("m", b"{}", 0.0) is None


def test_who_gets_through_is_cleared() -> None:
    quarantine = Quarantine(LIMITS)
    quarantine.killed("m", b"{}", 0.0)
    quarantine.killed("m", b"{}", 0.0)
    quarantine.survived("m", b"{}")
    assert (len(quarantine), quarantine.methods) == (0, {})
    quarantine.killed("m", b"{}", 0.0)
    assert quarantine.refusal("m", b"{}", 0.0) is None


def test_it_is_over_after_a_while_and_the_next_kill_brings_it_back_for_twice_as_long() -> None:
    quarantine = Quarantine(LIMITS)
    convict(quarantine)
    assert quarantine.refusal("m", b"{}", 99.9) is not None
    assert quarantine.refusal("m", b"{}", 100.0) is None
    assert quarantine.killed("m", b"{}", 110.0)
    error = quarantine.refusal("m", b"{}", 110.0)
    assert error is not None
    assert error.retry_after_ms == 200_001
    assert error.data["kills"] == 4


def test_no_quarantine_is_longer_than_an_hour() -> None:
    quarantine, now = Quarantine(LIMITS), 0.0
    convict(quarantine)
    for _ in range(20):
        now += MAX_SECONDS
        if quarantine.killed("m", b"{}", now):
            error = quarantine.refusal("m", b"{}", now)
            assert error is not None
            assert error.retry_after_ms is not None
            assert error.retry_after_ms <= MAX_SECONDS * 1000 + 1


def test_what_was_long_ago_is_forgotten() -> None:
    quarantine = Quarantine(LIMITS)
    quarantine.killed("m", b"{}", 0.0)
    quarantine.killed("m", b"{}", 1.0)
    assert not quarantine.killed("m", b"{}", 1002.0)
    assert len(quarantine) == 1


def test_memory_is_bounded() -> None:
    quarantine = Quarantine(LIMITS)
    for n in range(100):
        quarantine.killed(f"m{n % 7}", b"%d" % n, float(n))
        assert len(quarantine) <= LIMITS.inputs
        assert sum(quarantine.methods.values()) == len(quarantine)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["killed", "survived", "wait"]),
            st.sampled_from(["a", "b"]),
            st.sampled_from([b"1", b"2"]),
            st.floats(0, 150),
        )
    )
)
def test_only_inputs_that_killed_often_enough_in_a_row_are_refused(
    steps: list[tuple[str, str, bytes, float]],
) -> None:
    quarantine, in_a_row, now = Quarantine(LIMITS), dict[tuple[str, bytes], int](), 0.0
    for name, method, params, seconds in steps:
        key = (method, params)
        if name == "killed":
            in_a_row[key] = in_a_row.get(key, 0) + 1
            quarantine.killed(method, params, now)
        elif name == "survived":
            in_a_row.pop(key, None)
            quarantine.survived(method, params)
        else:
            now += seconds
        for each in (("a", b"1"), ("a", b"2"), ("b", b"1"), ("b", b"2")):
            if quarantine.refusal(*each, now) is not None:
                assert in_a_row[each] >= LIMITS.kills
        assert set(quarantine.methods) <= {method for method, _ in in_a_row}
