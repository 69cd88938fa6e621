"""Frames of the executors' wire, garbage included, against a second reading of their layout (tests/fuzz/ipc.py)."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import ipc as target
from tests.fuzz.profile import fuzzing
from trunkline.executors import ipc
from trunkline_protocol.framing import FramingError

kinds = st.sampled_from(sorted(target.PARSERS)) | st.integers(0, 255)
bodies = st.binary(max_size=40) | st.sampled_from([seed[14:] for seed in target.SEEDS])
frames = st.builds(ipc.frame, kinds, st.integers(0, 2**64 - 1), bodies)


@pytest.mark.parametrize("seed", target.SEEDS, ids=range(len(target.SEEDS)))
def test_what_is_easily_read_wrongly(seed: bytes) -> None:
    target.check(seed)


@fuzzing(300)
@given(st.integers(0, 255), st.lists(frames | st.binary(max_size=20) | st.sampled_from(target.TOKENS), max_size=6))
def test_any_bytes_in_any_splits(step: int, parts: list[bytes]) -> None:
    target.check(bytes([step]) + b"".join(parts))


@fuzzing(150)
@given(kinds, bodies, st.integers(0, 60))
def test_a_body_that_is_cut_short(kind: int, body: bytes, size: int) -> None:
    target.check(b"\0" + ipc.frame(kind, 1, body[:size]))


def test_an_announced_giant_takes_no_more_memory_than_has_arrived() -> None:
    reader = ipc.FrameReader()
    head = ipc.MAX_FRAME.to_bytes(4, "little") + bytes(9)
    part = bytes(1000)
    tracemalloc.start()
    try:
        assert list(reader.feed(head)) == []
        for _ in range(200):
            assert list(reader.feed(part)) == []
        assert tracemalloc.get_traced_memory()[1] < 50_000, "the parts themselves are one object here"
    finally:
        tracemalloc.stop()


def test_an_impossible_length_is_refused_as_soon_as_its_head_is_there() -> None:
    reader = ipc.FrameReader()
    for byte in (ipc.MAX_FRAME + 1).to_bytes(4, "little") + bytes(8):
        assert list(reader.feed(bytes([byte]))) == []
    with pytest.raises(FramingError, match=str(ipc.MAX_FRAME + 1)):
        list(reader.feed(b"\0"))
