from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.executors.output import BURST_BYTES, LINES_PER_SECOND, MAX_LINE_BYTES, OutputLines

TEXT = b"one\ntwo\r\n\n  \nthree \xc3\xa9\nfour"


@given(st.lists(st.integers(0, len(TEXT))))
def test_lines_however_they_are_cut(cuts: list[int]) -> None:
    lines, said, at = OutputLines(), [], 0
    for cut in [*sorted(cuts), len(TEXT)]:
        said += lines.feed(TEXT[at:cut], 0.0)
        at = cut
    assert [*said, *lines.end()] == ["one", "two", "three é", "four"]
    assert lines.take_left_out() == (0, 0)


def test_so_many_a_second_pass_and_the_others_are_counted() -> None:
    lines = OutputLines()
    said = lines.feed(b"line\n" * (LINES_PER_SECOND + 50), 5.0)
    said += lines.feed(b"line\n" * 30, 5.9)
    assert len(said) == LINES_PER_SECOND
    assert lines.take_left_out()[0] == 80
    assert lines.take_left_out() == (0, 0)
    assert lines.feed(b"line\n", 6.0) == ["line"]


def test_bytes_count_as_lines_do() -> None:
    lines = OutputLines()
    said = lines.feed((b"x" * (MAX_LINE_BYTES - 1) + b"\n") * 60, 1.0)
    assert BURST_BYTES // MAX_LINE_BYTES <= len(said) <= BURST_BYTES // MAX_LINE_BYTES + 1
    assert lines.lines_left_out == 60 - len(said)


def test_a_line_that_is_too_long_is_cut_and_the_next_is_whole() -> None:
    lines = OutputLines()
    said = lines.feed(b"a" * 5000, 0.0) + lines.feed(b"b" * 5000, 0.0) + lines.feed(b"c\nnext\n", 0.0)
    assert [len(line) for line in said] == [MAX_LINE_BYTES + 1, len("next")]
    assert said[0].endswith("…")
    assert lines.bytes_left_out >= 8000


def test_after_a_flood_lines_begin_at_their_beginning() -> None:
    lines = OutputLines()
    lines.feed(b"flood\n" * 1000, 0.0)
    assert lines.feed(b"the end of the fl", 0.5) == []
    assert lines.feed(b"ood\nwhole\n", 1.0) == ["whole"]


@given(st.lists(st.tuples(st.binary(max_size=5000), st.floats(0, 3)), max_size=30))
def test_nothing_odd_breaks_it_or_makes_it_grow(portions: list[tuple[bytes, float]]) -> None:
    lines = OutputLines()
    for data, now in portions:
        for line in lines.feed(data, now):
            assert "\n" not in line
            assert len(line) <= MAX_LINE_BYTES + 1
        assert len(lines._partial) <= MAX_LINE_BYTES
    lines.end()


@pytest.mark.parametrize("size", [1, 100, 10_000])
def test_what_is_left_out_is_accounted_for(size: int) -> None:
    lines = OutputLines()
    line = b"x" * size + b"\n"
    said = sum(len(text) for _ in range(100) for text in lines.feed(line * 50, 0.0))
    _, left_out = lines.take_left_out()
    assert said + left_out == pytest.approx(5000 * size, rel=1.1)
    assert left_out > 0
