"""Joining fragments against ``bytes.decode`` of whole messages (tests/fuzz/fragments.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import fragments as target
from tests.fuzz.fragments import CONTINUES, ENDS, IS_BINARY, step
from tests.fuzz.profile import fuzzing
from trunkline.edge.fragments import Assembler, FrameRefused, check_text

spoilt = st.lists(st.sampled_from(target.TOKENS) | st.text(max_size=4).map(str.encode), max_size=6).map(b"".join)
payloads = st.binary(max_size=6) | st.text(max_size=6).map(str.encode) | spoilt
kinds = st.sampled_from(
    [0, 0, CONTINUES, CONTINUES, CONTINUES | ENDS, CONTINUES | ENDS, IS_BINARY, IS_BINARY | CONTINUES]
)
programs = st.builds(
    lambda limit, steps: bytes([limit]) + b"".join(step(*part) for part in steps),
    st.sampled_from([0, 1, 5, 20, 255]),
    st.lists(st.tuples(kinds, payloads), max_size=12),
)


@pytest.mark.parametrize("seed", target.SEEDS, ids=range(len(target.SEEDS)))
def test_what_is_easily_joined_wrongly(seed: bytes) -> None:
    target.check(seed)


@fuzzing(150)
@given(programs)
def test_any_fragments(program: bytes) -> None:
    target.check(program)


@fuzzing(150)
@given(spoilt)
def test_each_split_in_two_is_judged_as_the_whole(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError:
        valid = False
        with pytest.raises(FrameRefused):
            check_text(data)
    else:
        valid = True
        check_text(data)
    for at in range(len(data) + 1):
        assembler = Assembler(len(data))
        try:
            assembler.start(data[:at], text=True)
            joined = assembler.proceed(data[at:], final=True)
        except FrameRefused:
            joined = None
        assert joined == (data if valid else None)
