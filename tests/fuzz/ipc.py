"""Target: the frames between hub and executor against a second reading of their layout.

The input is ``u8 size of its parts, 0 = whole`` and then what the peer sends, garbage included.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from trunkline.executors import ipc
from trunkline_protocol.framing import FramingError

TOKENS: Final = (
    b"\x09\x00\x00\x00", b"\x01\x00\x00\x40", b"\x00\x00\x00\x40", b"\xff\xff\xff\xff", bytes(8),
    b"\x00\x00\x00\x00\x00\x00\xf8\x7f",
)  # fmt: skip

_CALL: Final = ipc.call_frame(7, math.inf, 1, 0, "ü".encode(), b"{}", b'{"name":"a"}', b"[1]")
_NESTED: Final = ipc.nested_call_frame(8, 7, ipc.CallBody(1.5, 2, 1, "m", b"", b"[]"))
SEEDS: Final = (
    b"",
    b"\x00" + _CALL + _NESTED,
    b"\x01" + _CALL,
    b"\x05" + ipc.outcome_frame(ipc.RESULT, 1, 5, b"null") + ipc.frame(ipc.CHUNK, 1, ipc.chunk_body(b'"data"', b"1")),
    b"\x03" + ipc.frame(ipc.CREDIT, 2**64 - 1, ipc.credit_body(3)) + ipc.frame(ipc.PING),
    b"\x00\x08\x00\x00\x00" + bytes(9),
    b"\x00\x01\x00\x00\x40" + bytes(9),
    b"\x00\x00\x00\x00\x40" + bytes(9),
    b"\x00" + ipc.frame(ipc.RELEASE, 3, ipc.release_body((0, 5, 63))),
    b"\x00" + ipc.frame(ipc.CHUNK, 1, b"\xff\xff{}"),
    b"\x00" + ipc.frame(ipc.RESULT, 1, b"\x01\x02"),
    b"\x00" + ipc.frame(ipc.CALL, 1, _CALL[13:-8]),
    b"\x00" + ipc.frame(ipc.CALL, 1, _CALL[13:].replace("ü".encode(), b"\xff\xff")),
)

Frame = tuple[int, int, bytes]


def check(data: bytes) -> None:
    """Whatever arrives: the same frames in the same order, or FramingError; and so for their bodies."""
    step, stream = (data[0] if data else 0) or max(1, len(data)), data[1:]
    expected, refused = read(stream)
    got: list[Frame] = []
    raised = False
    reader = ipc.FrameReader()
    try:
        for at in range(0, len(stream), step):
            got.extend(reader.feed(stream[at : at + step]))
    except FramingError:
        raised = True
    assert raised == refused
    assert got == expected
    for kind, _, body in got:
        _check_body(kind, body)


def read(stream: bytes) -> tuple[list[Frame], bool]:
    """The whole frames of a stream, and whether what follows them has a length that cannot be."""
    frames: list[Frame] = []
    while len(stream) >= 13:
        size = int.from_bytes(stream[:4], "little")
        if not 9 <= size <= 1 << 30:
            return frames, True
        if len(stream) < 4 + size:
            break
        frames.append((stream[4], int.from_bytes(stream[5:13], "little"), stream[13 : 4 + size]))
        stream = stream[4 + size :]
    return frames, False


PARSERS: Final[dict[int, Callable[[bytes], Any]]] = {
    ipc.CALL: ipc.parse_call,
    ipc.NESTED_CALL: ipc.parse_nested_call,
    ipc.RESULT: ipc.parse_outcome,
    ipc.ERROR: ipc.parse_outcome,
    ipc.CHUNK: ipc.parse_chunk,
    ipc.NESTED_CHUNK: ipc.parse_chunk,
    ipc.CREDIT: ipc.parse_credit,
    ipc.NESTED_CREDIT: ipc.parse_credit,
    ipc.INPUT: ipc.parse_input,
    ipc.INPUT_CREDIT: ipc.parse_credit,
    ipc.RELEASE: ipc.parse_release,
}
EIGHT_BYTES: Final = (ipc.CREDIT, ipc.NESTED_CREDIT, ipc.INPUT_CREDIT, ipc.RELEASE)


def _written_again(kind: int, parsed: Any) -> bytes:
    """The body that says the same: reading loses nothing."""
    if kind == ipc.CALL:
        deadline, depth, flags, method, metadata, params, principal = parsed
        return ipc.call_frame(0, deadline, depth, flags, method.encode(), metadata, principal, params)[13:]
    if kind == ipc.NESTED_CALL:
        return ipc.nested_call_frame(0, *parsed)[13:]
    if kind in (ipc.RESULT, ipc.ERROR):
        return ipc.outcome_frame(kind, 0, *parsed)[13:]
    if kind in (ipc.CHUNK, ipc.NESTED_CHUNK):
        return ipc.chunk_body(*parsed)
    if kind == ipc.INPUT:
        return ipc.input_body(*parsed)
    if kind == ipc.RELEASE:
        return ipc.release_body(parsed)
    return ipc.credit_body(parsed)[:8]


def _check_body(kind: int, body: bytes) -> None:
    parser = PARSERS.get(kind)
    if parser is None:
        return
    with suppress(FramingError):
        parsed = parser(body)
        again = _written_again(kind, parsed)
        if kind == ipc.INPUT:
            body = body[:8] + bytes([bool(body[8])]) + body[9:]  # any flag but 0 means the end
        assert again == (body[:8] if kind in EIGHT_BYTES else body)
