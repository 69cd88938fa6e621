"""Topics and patterns against a plain recursive reading of their rules (tests/fuzz/topics.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import topics as target
from tests.fuzz.profile import fuzzing

tokens = st.sampled_from(["a", "b", "system", "*", ">", "é", "", " ", "a*"]) | st.text(max_size=3)
plain = st.sampled_from(["a", "b", "system", "*", ">"])
names = st.lists(plain, min_size=1, max_size=4).map(".".join) | st.lists(tokens, max_size=5).map(".".join)


@pytest.mark.parametrize("seed", target.SEEDS, ids=range(len(target.SEEDS)))
def test_what_is_easily_matched_wrongly(seed: bytes) -> None:
    target.check(seed)


@fuzzing(250)
@given(st.lists(names, max_size=10))
def test_any_names(lines: list[str]) -> None:
    target.check("\n".join(lines).encode("utf-8", "replace"))
