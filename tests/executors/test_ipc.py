from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.executors import ipc
from trunkline_protocol.framing import FramingError

kinds = st.integers(1, 24)
call_ids = st.integers(0, 2**64 - 1)
frames = st.lists(st.tuples(kinds, call_ids, st.binary(max_size=300)), max_size=8)


def wire(messages: list[tuple[int, int, bytes]]) -> bytes:
    return b"".join(ipc.frame(*message) for message in messages)


@given(st.frozensets(st.integers(0, 63)))
def test_slots_to_release(slots: frozenset[int]) -> None:
    assert ipc.parse_release(ipc.release_body(slots)) == slots
    with pytest.raises(FramingError):
        ipc.parse_release(ipc.release_body(slots)[:-1])


@given(frames)
def test_whole(messages: list[tuple[int, int, bytes]]) -> None:
    assert list(ipc.FrameReader().feed(wire(messages))) == messages


@given(frames)
def test_byte_by_byte(messages: list[tuple[int, int, bytes]]) -> None:
    reader = ipc.FrameReader()
    got: list[tuple[int, int, bytes]] = []
    for byte in wire(messages):
        got.extend(reader.feed(bytes([byte])))
    assert got == messages


@given(frames, st.lists(st.integers(1, 50), min_size=1))
def test_cut_anywhere(messages: list[tuple[int, int, bytes]], sizes: list[int]) -> None:
    reader, data = ipc.FrameReader(), wire(messages)
    got: list[tuple[int, int, bytes]] = []
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        got.extend(reader.feed(data[at : at + size]))
        at, turn = at + size, turn + 1
    assert got == messages


def test_trailing_data_waits_for_its_rest() -> None:
    reader = ipc.FrameReader()
    first, second = ipc.frame(ipc.RESULT, 1, b"one"), ipc.frame(ipc.ERROR, 2, b"two")
    assert list(reader.feed(first + second[:7])) == [(ipc.RESULT, 1, b"one")]
    assert list(reader.feed(second[7:])) == [(ipc.ERROR, 2, b"two")]


def test_a_large_frame_in_many_pieces() -> None:
    body = b"x" * 5_000_000
    data = ipc.frame(ipc.RESULT, 3, body)
    reader = ipc.FrameReader()
    got: list[tuple[int, int, bytes]] = []
    for at in range(0, len(data), 65_536):
        got.extend(reader.feed(data[at : at + 65_536]))
    assert got == [(ipc.RESULT, 3, body)]


@pytest.mark.parametrize("size", [0, 8, ipc.MAX_FRAME + 1, 2**32 - 1])
def test_impossible_lengths_are_refused(size: int) -> None:
    with pytest.raises(FramingError):
        list(ipc.FrameReader().feed(struct.pack("<IBQ", size, 1, 1)))


calls = st.builds(
    ipc.CallBody,
    st.floats(allow_nan=False),
    st.integers(0, 255),
    st.integers(0, 255),
    st.text(max_size=80),
    st.binary(max_size=80),
    st.binary(max_size=80),
    st.binary(max_size=80),
)


@given(call_ids, calls)
def test_call(call_id: int, body: ipc.CallBody) -> None:
    said = body.method.encode(), body.metadata, body.principal, body.params
    data = ipc.call_frame(call_id, body.deadline, body.depth, body.flags, *said)
    ((kind, got_id, got),) = ipc.FrameReader().feed(data)
    assert (kind, got_id, ipc.parse_call(got)) == (ipc.CALL, call_id, body)


@given(call_ids, call_ids, calls)
def test_nested_call(call_id: int, parent: int, body: ipc.CallBody) -> None:
    ((kind, got_id, got),) = ipc.FrameReader().feed(ipc.nested_call_frame(call_id, parent, body))
    assert (kind, got_id, ipc.parse_nested_call(got)) == (ipc.NESTED_CALL, call_id, (parent, body))


@given(call_ids, st.integers(0, 2**40), st.binary())
def test_outcome(call_id: int, run_us: int, body: bytes) -> None:
    ((kind, got_id, got),) = ipc.FrameReader().feed(ipc.outcome_frame(ipc.RESULT, call_id, run_us, body))
    assert (kind, got_id, ipc.parse_outcome(got)) == (ipc.RESULT, call_id, (min(run_us, 2**32 - 1), body))


@given(st.binary(max_size=100), st.binary())
def test_chunk(chunk_type: bytes, data: bytes) -> None:
    assert ipc.parse_chunk(ipc.chunk_body(chunk_type, data)) == (chunk_type, data)


@given(call_ids)
def test_credit(consumed: int) -> None:
    assert ipc.parse_credit(ipc.credit_body(consumed)) == consumed
