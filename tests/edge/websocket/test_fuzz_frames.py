"""The real door, picows included, against an independent reading of RFC 6455 (tests/fuzz/frames_model.py).

A stream of client frames means the same in whatever TCP segments it arrives: whole, byte by byte, cut anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import frames_model as model
from tests.fuzz.memory_door import CLOSE, LATE, Observed, converse
from tests.fuzz.profile import fuzzing
from tests.support.frames import BINARY, CONTINUATION, PING, PONG, TEXT, close_payload, masked

MAX_BYTES = 70_000
SMALL = 1500
"""Bytes up to which a stream is fed byte by byte."""


def client_frame(
    opcode: int,
    payload: bytes,
    *,
    fin: bool = True,
    rsv: int = 0,
    key: bytes | None = b"\x01\x82\x03\xf4",
    width: int = 0,
) -> bytes:
    """A frame with every header field at the test's will. ``width`` bytes of length; 0 is as few as possible."""
    size = len(payload)
    if not width and size > 125:
        width = 2 if size < 1 << 16 else 8
    short = {0: size, 2: 126, 8: 127}[width]
    head = bytes([fin << 7 | rsv << 4 | opcode, (key is not None) << 7 | short]) + size.to_bytes(8, "big")[8 - width :]
    return head + (payload if key is None else key + masked(payload, key))


keys = st.binary(min_size=4, max_size=4)
sizes = st.sampled_from([0, 1, 124, 125, 126, 127, 600])
texts = st.text(max_size=20) | st.builds(lambda size, char: char * size, sizes, st.sampled_from("aé€😀"))
controls = st.builds(
    client_frame, st.sampled_from([PING, PONG]), st.binary(max_size=8) | st.just(b"\xff" * 125), key=keys
)


@st.composite
def fragmented(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A text message in fragments, cut at any byte, with control frames between them."""
    message = draw(texts).encode()
    cuts = sorted(draw(st.lists(st.integers(0, len(message)), max_size=4)))
    parts = [message[start:end] for start, end in pairwise([0, *cuts, len(message)])]
    frames = []
    for number, part in enumerate(parts):
        opcode, fin = CONTINUATION if number else TEXT, number == len(parts) - 1
        frames.append(client_frame(opcode, part, fin=fin, key=draw(keys)))
        if not fin:
            frames += draw(st.lists(controls, max_size=2))
    return message, frames


conversations = st.lists(fragmented(), max_size=5)

any_payloads = (
    texts.map(str.encode)
    | st.binary(max_size=10)
    | st.sampled_from([1000, 1005, 0, 999, 1004, 3000, 5000]).map(close_payload)
)
any_frames = st.builds(
    client_frame,
    st.sampled_from([CONTINUATION, TEXT, TEXT, BINARY, CLOSE, PING, PONG]) | st.integers(0, 15),
    any_payloads,
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 0, 1, 2, 4, 7]),
    key=st.none() | keys | keys | keys,
    width=st.sampled_from([0, 0, 0, 2, 8]),
)

ODD = {
    "too large": client_frame(TEXT, b"x" * (MAX_BYTES + 1)),
    "too large together": client_frame(TEXT, b"x" * (MAX_BYTES // 2 + 1), fin=False)
    + client_frame(CONTINUATION, b"x" * (MAX_BYTES // 2)),
    "length with its highest bit": b"\x81\xff" + (1 << 63).to_bytes(8, "big") + b"mask",
    "a giant's head": b"\x81\xff" + (1 << 40).to_bytes(8, "big") + b"mask",
    "close of one byte": client_frame(CLOSE, b"\x03"),
    "close with bad text": client_frame(CLOSE, close_payload(1000, b"\xff")),
    "close without code": client_frame(CLOSE, b""),
    "large": client_frame(TEXT, b"x" * 65_536),
}
"""By name, so that failures can be printed."""

bad_utf8 = st.sampled_from([b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"a\x80"])


@dataclass(frozen=True)
class Segments:
    """How a stream is cut: every ``step`` bytes where it is short enough for that, else at ``cuts`` (per mille)."""

    step: int
    cuts: list[int]

    def of(self, stream: bytes) -> list[bytes]:
        if len(stream) <= SMALL:
            return [stream[at : at + self.step] for at in range(0, len(stream), self.step)]
        borders = [0, *(len(stream) * cut // 1000 for cut in sorted(self.cuts)), len(stream)]
        return [stream[start:end] for start, end in pairwise(borders) if start < end]


segmentations = st.builds(
    Segments, st.sampled_from([1, 1, 2, 7, 40, SMALL]), st.lists(st.integers(0, 1000), max_size=8)
)


def sent(observed: Observed, opcode: int) -> list[bytes]:
    return [payload for kind, payload in observed.frames if kind == opcode]


def requires(observed: Observed, expected: model.Expected) -> None:
    assert observed.failures == []
    if expected.close == {model.STAYS_OPEN}:
        answers = [b"%d" % number for number in range(1, len(expected.messages) + 1)]
        assert observed.messages == expected.messages
        assert sent(observed, PONG) == expected.pongs
        assert sent(observed, TEXT) == [*answers, *LATE]
        assert not observed.close_codes
        assert not observed.cut
    else:
        requires_close(observed, expected)


def requires_close(observed: Observed, expected: model.Expected) -> None:
    """picows looks one frame ahead: the close frame may be out before the frame ahead of the fault is handled."""
    pongs = sent(observed, PONG)
    lost = len(expected.messages) + len(expected.pongs) - len(observed.messages) - len(pongs)
    assert 0 <= lost <= 1, (observed, expected)
    assert observed.messages == expected.messages[: len(observed.messages)]
    assert pongs == expected.pongs[: len(pongs)]
    assert len(observed.close_codes) == 1, observed
    assert observed.frames[-1][0] == CLOSE, "something was sent after the close frame"
    assert observed.close_codes[0] in expected.close
    assert observed.cut, "the connection hangs"


@fuzzing(90)
@given(segmentations, conversations)
def test_messages_arrive_whole_and_in_order(segments: Segments, conversation: list[tuple[bytes, list[bytes]]]) -> None:
    stream = b"".join(frame for _, frames in conversation for frame in frames)
    expected = model.read(stream, MAX_BYTES)
    assert expected.messages == [message for message, _ in conversation], "the model is wrong"
    requires(converse(segments.of(stream), MAX_BYTES), expected)


@fuzzing(140)
@given(
    segmentations,
    st.lists(any_frames | st.sampled_from(sorted(ODD)) | st.binary(max_size=6), min_size=1, max_size=6),
    conversations,
)
def test_any_frames_are_taken_or_refused(
    segments: Segments, frames: list[bytes | str], good: list[tuple[bytes, list[bytes]]]
) -> None:
    tail = [ODD[frame] if isinstance(frame, str) else frame for frame in frames]
    stream = b"".join([*(frame for _, parts in good for frame in parts), *tail])
    requires(converse(segments.of(stream), MAX_BYTES), model.read(stream, MAX_BYTES))


@fuzzing(50)
@given(segmentations, texts, bad_utf8, texts, st.integers(-3, 3))
def test_invalid_utf8_wherever_it_is_split(
    segments: Segments, before: str, bad: bytes, after: str, around: int
) -> None:
    message = before.encode() + bad + after.encode()
    at = max(0, len(before.encode()) + around)
    stream = client_frame(TEXT, message[:at], fin=False) + client_frame(CONTINUATION, message[at:])
    expected = model.read(stream, MAX_BYTES)
    assert expected.close == {1007}, "the model is wrong"
    requires(converse(segments.of(stream), MAX_BYTES), expected)


@pytest.mark.parametrize("size", [125, 126, 65_535, 65_536, MAX_BYTES])
def test_lengths_at_their_borders(size: int) -> None:
    message = b"x" * size
    stream = client_frame(TEXT, message) + client_frame(TEXT, b"next")
    for step in (len(stream), 1000, 7):
        observed = converse([stream[at : at + step] for at in range(0, len(stream), step)], MAX_BYTES)
        requires(observed, model.Expected([message, b"next"]))


GOOD = client_frame(TEXT, b"good")
TOO_LARGE = client_frame(TEXT, b"x" * (MAX_BYTES + 1))
AFTER_A_FAULT = {
    "a frame that is too large, in two segments": [TOO_LARGE[:20], TOO_LARGE[20:]],
    "what follows one that is too large": [TOO_LARGE, GOOD],
    "what follows a reserved opcode": [client_frame(3, b""), GOOD],
    "what follows a close frame": [client_frame(CLOSE, b"") + GOOD],
    "what follows a close frame in its own segment": [client_frame(CLOSE, b""), GOOD],
}


@pytest.mark.parametrize("segments", AFTER_A_FAULT.values(), ids=AFTER_A_FAULT)
def test_nothing_is_delivered_once_a_close_frame_is_out(segments: list[bytes]) -> None:
    observed = converse(segments, MAX_BYTES)
    assert observed.messages == []
    assert [opcode for opcode, _ in observed.frames] == [CLOSE]


REFUSED = {"reserved opcode": client_frame(3, b""), "unmasked": client_frame(TEXT, b"", key=None)}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("code", [0, 1, 999, 1005, 2999, 5000, 65_535])
@pytest.mark.parametrize("step", [SMALL, 1])
def test_a_code_nobody_may_send_is_1002_whatever_picows_refuses_behind_it(code: int, refused: bytes, step: int) -> None:
    stream = client_frame(CLOSE, close_payload(code)) + refused
    observed = converse(Segments(step, []).of(stream), MAX_BYTES)
    assert observed.close_codes == [1002]
    assert observed.cut


FAULTS = {
    "reserved opcode": client_frame(3, b""),
    "close of one byte": client_frame(CLOSE, b"\x03"),
    "unmasked": client_frame(TEXT, b"", key=None),
    "binary": client_frame(BINARY, b""),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_nothing_is_sent_after_the_close_frame(fault: bytes) -> None:
    """Answers to what came in the same segment must be out before it, or not at all."""
    observed = converse([GOOD * 5 + fault], MAX_BYTES)
    assert observed.frames[-1][0] == CLOSE
    assert observed.cut
