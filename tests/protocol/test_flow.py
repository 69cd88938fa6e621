"""Credit: what a sender may have ahead of its receiver."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_protocol.flow import WINDOW_BYTES, WINDOW_ITEMS, SendWindow


def test_so_many_items() -> None:
    window = SendWindow(items=3, size=1000)
    for _ in range(3):
        assert not window.exhausted
        window.spend(1)
    assert window.exhausted
    assert (window.sent, window.consumed, window.ahead, window.ahead_bytes) == (3, 0, 3, 3)


def test_so_many_bytes() -> None:
    window = SendWindow(items=100, size=1000)
    window.spend(999)
    assert not window.exhausted
    window.spend(1)
    assert (window.exhausted, window.grant(1)) == (True, True)
    assert (window.ahead, window.ahead_bytes, window.exhausted) == (1, 1, False)


def test_one_item_may_always_go() -> None:
    window = SendWindow(items=1, size=1)
    for total in range(1, 4):
        assert not window.exhausted
        window.spend(10**9)
        assert (window.exhausted, window.grant(total)) == (True, True)


def test_an_empty_item_counts_as_an_item() -> None:
    window = SendWindow(items=2, size=1)
    window.spend(0)
    assert not window.exhausted
    window.spend(0)
    assert window.exhausted


@pytest.mark.parametrize("total", [0, 1, 2, -5])
def test_totals_never_go_back(total: int) -> None:
    window = SendWindow(items=4, size=1000)
    for _ in range(4):
        window.spend(10)
    window.grant(2)
    assert not window.grant(total), "it is no news"
    assert (window.consumed, window.ahead, window.ahead_bytes) == (2, 2, 20)


def test_nobody_has_consumed_what_was_not_sent() -> None:
    window = SendWindow(items=2, size=1000)
    window.spend(10)
    assert window.grant(10**9)
    assert (window.consumed, window.ahead_bytes) == (1, 0)
    window.spend(10)
    window.spend(10)
    assert window.exhausted, "what is sent later was not taken in advance"


def test_the_defaults_are_those_of_the_contract() -> None:
    window = SendWindow()
    for _ in range(WINDOW_ITEMS):
        assert not window.exhausted
        window.spend(1)
    assert window.exhausted
    window = SendWindow()
    window.spend(WINDOW_BYTES)
    assert window.exhausted


steps = st.lists(st.one_of(st.tuples(st.just("send"), st.integers(0, 500)), st.tuples(st.just("grant"), st.integers())))


@given(items=st.integers(1, 8), size=st.integers(1, 1000), steps=steps)
def test_like_sums_made_anew(items: int, size: int, steps: list[tuple[str, int]]) -> None:
    """Whatever is granted in whatever order: bounded, never back, and never stuck."""
    window, sizes, taken = SendWindow(items, size), list[int](), 0
    for name, value in steps:
        if name == "send" and not window.exhausted:
            sizes.append(value)
            window.spend(value)
        elif name == "grant":
            before, taken = taken, max(taken, min(len(sizes), value))
            assert window.grant(value) == (taken > before)
        ahead = sizes[taken:]
        assert (window.sent, window.consumed) == (len(sizes), taken)
        assert (window.ahead, window.ahead_bytes) == (len(ahead), sum(ahead))
        assert window.exhausted == (len(ahead) >= items or sum(ahead) >= size)
        assert ahead or not window.exhausted, "one may always go"
        assert sum(ahead[:-1]) < size, "only the last item may have gone beyond"
