"""Framings: whole, byte by byte, with trailing data; too large, cut short; what one writes the other reads."""

from __future__ import annotations

import contextlib
import itertools
import json
import struct
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_protocol.framing import Framing, FramingError, FramingName, Ndjson, OversizeError, Packet4, framing

NAMES: tuple[FramingName, ...] = ("packet4", "ndjson")
LIMIT = 64


def packet(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


def fed(parser: Framing, *parts: bytes) -> list[bytes]:
    return [frame for part in parts for frame in parser.feed(part)]


def bytewise(stream: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in stream]


# --- packet4 ---


def test_packets_come_out_whole_however_they_come_in() -> None:
    stream = packet(b"{}") + packet(b"") + packet(b"\x00\xff" * 8)
    expected = [b"{}", b"", b"\x00\xff" * 8]
    assert fed(Packet4(LIMIT), stream) == expected
    assert fed(Packet4(LIMIT), *bytewise(stream)) == expected
    for cut in range(len(stream)):
        assert fed(Packet4(LIMIT), stream[:cut], stream[cut:]) == expected


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_of_a_frame_is_told(name: FramingName) -> None:
    parser = framing(name, LIMIT)
    whole = parser.encode(b"{}")
    assert parser.kept == 0
    fed(parser, whole + whole[:-1])
    assert parser.kept == len(whole) - 1
    fed(parser, whole[-1:])
    assert parser.kept == 0


def test_what_follows_a_packet_waits_for_its_rest() -> None:
    parser = Packet4(LIMIT)
    assert fed(parser, packet(b"one") + packet(b"two")[:5]) == [b"one"]
    assert fed(parser, packet(b"two")[5:]) == [b"two"]
    assert parser.end() is None


def test_a_packet_may_have_the_limit_and_no_byte_more() -> None:
    assert fed(Packet4(LIMIT), packet(b"x" * LIMIT)) == [b"x" * LIMIT]
    with pytest.raises(OversizeError, match=rf"{LIMIT + 1} bytes .* {LIMIT}"):
        fed(Packet4(LIMIT), struct.pack(">I", LIMIT + 1))


def test_packets_before_one_that_is_too_large_are_handed_out() -> None:
    parser = Packet4(LIMIT)
    frames = parser.feed(packet(b"good") + b"\xff\xff\xff\xff" + b"x" * 1000)
    assert next(frames) == b"good"
    with pytest.raises(OversizeError):
        next(frames)
    assert parser.end() is None, "nothing of it was kept"


@pytest.mark.parametrize(("cut", "words"), [(1, "1 of 4"), (3, "3 of 4"), (4, "0 of 6 bytes"), (9, "5 of 6 bytes")])
def test_an_end_inside_a_packet_is_told(cut: int, words: str) -> None:
    parser = Packet4(LIMIT)
    assert fed(parser, packet(b"sixsix")[:cut]) == []
    with pytest.raises(FramingError, match=words):
        parser.end()


# --- ndjson ---


def test_lines_come_out_whole_however_they_come_in() -> None:
    stream = b'{"a":1}\r\n\n  \n[2]\n"\xc3\xbc"\n'
    expected = [b'{"a":1}', b"[2]", b'"\xc3\xbc"']
    assert fed(Ndjson(LIMIT), stream) == expected
    assert fed(Ndjson(LIMIT), *bytewise(stream)) == expected


def test_the_last_line_may_lack_its_end() -> None:
    parser = Ndjson(LIMIT)
    assert fed(parser, b'{"a":1}\n{"b":2}') == [b'{"a":1}']
    assert parser.end() == b'{"b":2}'
    assert parser.end() is None


def test_a_line_may_have_the_limit_and_no_byte_more() -> None:
    assert fed(Ndjson(LIMIT), b"x" * LIMIT + b"\n") == [b"x" * LIMIT]
    for parts in ((b"x" * (LIMIT + 1),), (b"x" * (LIMIT + 1) + b"\n",), (b"x" * LIMIT, b"x")):
        with pytest.raises(OversizeError, match=f"it may have {LIMIT}"):
            fed(Ndjson(LIMIT), *parts)


def test_line_breaks_between_tokens_do_not_break_the_line() -> None:
    pretty = json.dumps({"text": "a\nb\r", "list": [1, 2]}, indent=2).replace("\n", "\r\n").encode()
    frame = Ndjson(LIMIT).encode(pretty)
    assert frame.count(b"\n") == 1
    assert b"\r" not in frame
    assert json.loads(frame) == json.loads(pretty)


# --- both ---


@given(
    name=st.sampled_from(NAMES),
    values=st.lists(st.recursive(st.none() | st.text() | st.integers(), st.lists, max_leaves=5), max_size=5),
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
def test_what_one_writes_the_other_reads(name: FramingName, values: list[object], cuts: list[int]) -> None:
    parser = framing(name, 10_000)
    stream = b"".join(parser.encode(json.dumps(value).encode()) for value in values)
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    parts = [stream[begin:end] for begin, end in itertools.pairwise(places)]
    assert [json.loads(frame) for frame in fed(parser, *parts)] == values
    assert parser.end() is None


@given(name=st.sampled_from(NAMES), parts=st.lists(st.binary(max_size=80), max_size=8))
def test_any_bytes_make_frames_within_the_limit_or_one_error(name: str, parts: list[bytes]) -> None:
    parser = framing(cast("FramingName", name), LIMIT)
    frames: list[bytes] = []
    with contextlib.suppress(FramingError):
        for part in parts:
            frames.extend(parser.feed(part))
        parser.end()
    assert all(len(frame) <= LIMIT for frame in frames)
