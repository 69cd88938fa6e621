"""What a caller may push ahead of the method, as the hub counts it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.inputs import INPUT_WINDOW, INPUT_WINDOW_BYTES, InputWindow


def code_of(window: InputWindow, index: int, data: bytes = b"1", final: bool = False) -> int:
    with pytest.raises(RpcError) as caught:
        window.accept(index, data, final)
    return caught.value.code


def test_items_and_their_end() -> None:
    window = InputWindow()
    assert all(window.accept(index, b"1", False) for index in range(3))
    assert window.accept(3, b"null", True)


def test_repetitions_are_ignored() -> None:
    window = InputWindow()
    window.accept(0, b"1", False)
    window.accept(1, b"2", False)
    assert not window.accept(0, b"1", False)
    window.accept(2, b"", True)
    assert not window.accept(2, b"", True)
    assert not window.accept(1, b"2", False)


@pytest.mark.parametrize("index", [1, 2, 10**9])
def test_gaps_are_not(index: int) -> None:
    assert code_of(InputWindow(), index) == ErrorCode.INVALID_PARAMS


@pytest.mark.parametrize(("index", "final"), [(1, False), (2, False), (2, True)])
def test_nothing_comes_after_the_end(index: int, final: bool) -> None:
    window = InputWindow()
    window.accept(0, b"1", False)
    window.accept(1, b"null", True)
    assert code_of(window, index, b"null", final) == ErrorCode.INVALID_PARAMS


def test_the_end_carries_nothing() -> None:
    assert code_of(InputWindow(), 0, b"1", True) == ErrorCode.INVALID_PARAMS


def test_so_many_items_ahead() -> None:
    window = InputWindow()
    for index in range(INPUT_WINDOW):
        window.accept(index, b"1", False)
    assert code_of(window, INPUT_WINDOW) == ErrorCode.RESOURCE_EXHAUSTED
    window.consume(1)
    assert window.accept(INPUT_WINDOW, b"1", False)
    assert code_of(window, INPUT_WINDOW + 1) == ErrorCode.RESOURCE_EXHAUSTED
    window.consume(1)  # absolute: said twice is said once
    assert code_of(window, INPUT_WINDOW + 1) == ErrorCode.RESOURCE_EXHAUSTED
    assert window.accept(INPUT_WINDOW + 1, b"", True), "the end is no item"


def test_so_many_bytes_ahead() -> None:
    window = InputWindow()
    assert window.accept(0, b"x" * (INPUT_WINDOW_BYTES - 1), False)
    assert window.accept(1, b"x" * 10 * INPUT_WINDOW_BYTES, False), "one item may always go"
    assert code_of(window, 2) == ErrorCode.RESOURCE_EXHAUSTED
    window.consume(1)
    assert code_of(window, 2) == ErrorCode.RESOURCE_EXHAUSTED
    window.consume(2)
    assert window.accept(2, b"1", False)


def test_more_was_taken_than_was_sent() -> None:
    window = InputWindow()
    window.accept(0, b"1", False)
    window.consume(10**6)
    for index in range(1, INPUT_WINDOW + 1):
        assert window.accept(index, b"1", False)
    assert code_of(window, INPUT_WINDOW + 1) == ErrorCode.RESOURCE_EXHAUSTED


@given(st.lists(st.tuples(st.integers(1, 200_000), st.integers(0, 3)), max_size=200))
def test_what_is_ahead_is_bounded(steps: list[tuple[int, int]]) -> None:
    """Against sums made anew each time."""
    window, taken = InputWindow(), 0
    sizes: list[int] = []
    for size, take in steps:
        taken = min(len(sizes), taken + take)
        window.consume(taken)
        ahead = sizes[taken:]
        room = len(ahead) < INPUT_WINDOW and sum(ahead) < INPUT_WINDOW_BYTES
        if room:
            assert window.accept(len(sizes), bytes(size), False)
            sizes.append(size)
        else:
            assert code_of(window, len(sizes), bytes(size)) == ErrorCode.RESOURCE_EXHAUSTED


def test_what_waits_comes_out_in_order() -> None:
    window = InputWindow()
    window.hold(b"one")
    window.hold(b"three")
    assert window.held_bytes == 8
    assert window.release() == [b"one", b"three"]
    assert (window.held_bytes, window.release()) == (0, [])
