"""Frames between the hub and one executor, over a socketpair. Pure: bytes in, frames out.

Every frame is ``u32 length | u8 kind | u64 call id | body`` (little endian; the length counts what follows it).
The call id is in every frame in both directions, so that a late reply is never taken for the next answer.
Ids of calls from the hub and of calls from an executor are counted apart; the kind tells which one is meant.

===============  ==========  =====================================================================
kind             direction   body
===============  ==========  =====================================================================
CALL             hub -> ex   ``f64 deadline | u8 depth | u8 flags | u16 n | u32 m | u32 p`` + method (n) + metadata (m)
                             + principal (p) + params; deadline on CLOCK_MONOTONIC in seconds, infinite = none;
                             principal: JSON (trunkline_protocol/principals.py), empty = the hub itself
CANCEL           hub -> ex   empty
CREDIT           hub -> ex   ``u64`` items of the stream consumed so far (absolute)
INPUT            hub -> ex   ``u64 index | u8 final`` + item JSON: one item of the call's input, or its end
STOP             hub -> ex   empty: finish what runs, then exit
RESULT           ex -> hub   ``u32`` run time in microseconds + result JSON
ERROR            ex -> hub   ``u32`` run time in microseconds + error object JSON
CHUNK            ex -> hub   ``u16 n`` + chunk type as a JSON string (n) + data JSON
INPUT_CREDIT     ex -> hub   ``u64`` items of the input that the method has taken so far (absolute)
PROGRESS         ex -> hub   value JSON
USED             ex -> hub   tokens of a language model that the call used (trunkline_protocol/tokens.py), JSON
STATS            ex -> hub   what methods counted so far (methods/figures.py), JSON; once a second at most, if changed
READY            ex -> hub   catalogue JSON
FAILED           ex -> hub   error object JSON: loading failed; the process exits next
NESTED_CALL      ex -> hub   ``u64 parent`` + the body of CALL; its principal is empty, since the hub knows it;
                             parent 0 = the executor itself, outside of any call
NESTED_CANCEL    ex -> hub   empty
NESTED_CREDIT    ex -> hub   as CREDIT
NESTED_RESULT    hub -> ex   result JSON
NESTED_ERROR     hub -> ex   error object JSON
NESTED_CHUNK     hub -> ex   as CHUNK
PARKED           ex -> hub   empty: the call waits for its reader or its input, its slot is free meanwhile
UNPARKED         ex -> hub   empty: it goes on
RELEASE          hub -> ex   ``u64`` slots, one bit each: let go of all that belongs to their routing keys
RELEASED         ex -> hub   empty: it has; else error object JSON: it could not. The id is that of the RELEASE
BROADCAST        hub -> ex   :class:`Broadcast` as JSON: a hook of the pack instances to be called
BROADCAST_DONE   ex -> hub   JSON array of what they returned, or error object JSON. The id is that of the BROADCAST
PING / PONG      both        empty
===============  ==========  =====================================================================
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from trunkline_protocol.framing import FramingError

CALL: Final = 1
CANCEL: Final = 2
CREDIT: Final = 3
STOP: Final = 4
RESULT: Final = 5
ERROR: Final = 6
CHUNK: Final = 7
PROGRESS: Final = 8
STATS: Final = 25
USED: Final = 26
READY: Final = 9
FAILED: Final = 10
NESTED_CALL: Final = 11
NESTED_CANCEL: Final = 12
NESTED_CREDIT: Final = 13
NESTED_RESULT: Final = 14
NESTED_ERROR: Final = 15
NESTED_CHUNK: Final = 16
PING: Final = 17
PONG: Final = 18
PARKED: Final = 19
UNPARKED: Final = 20
INPUT: Final = 21
INPUT_CREDIT: Final = 22
RELEASE: Final = 23
RELEASED: Final = 24
BROADCAST: Final = 40
BROADCAST_DONE: Final = 41

FLAG_PROGRESS: Final = 1
"""The caller asked for progress reports."""

_HEAD: Final = struct.Struct("<IBQ")
_HEAD_TAIL: Final = _HEAD.size - 4
_CALL: Final = struct.Struct("<dBBHII")
_CALL_FRAME: Final = struct.Struct("<IBQdBBHII")
_CALL_HEAD: Final = _CALL_FRAME.size - 4
_OUTCOME_FRAME: Final = struct.Struct("<IBQI")
_OUTCOME_HEAD: Final = _OUTCOME_FRAME.size - 4
_LONGEST_RUN: Final = 0xFFFFFFFF
_INPUT: Final = struct.Struct("<QB")
_U64: Final = struct.Struct("<Q")
_U32: Final = struct.Struct("<I")
_U16: Final = struct.Struct("<H")

MAX_FRAME: Final = 1 << 30

_CUT: Final = "the body of a frame is cut short"


class Configuration(msgspec.Struct):
    """What an executor is told when it starts, as JSON.

    Attributes:
        modules, settings, max_concurrency, python_path, rlimits: as in :class:`trunkline.executors.specs.ExecutorSpec`.
        parent: the hub's process, with which it ends.
        withheld: names of variables that it does not get.
        fresh: import modules anew that this process has loaded before.
    """

    name: str
    group: str
    modules: tuple[str, ...]
    settings: dict[str, Any]
    max_concurrency: int
    python_path: tuple[str, ...] = ()
    parent: int = 0
    withheld: tuple[str, ...] = ()
    rlimits: dict[str, int] = {}
    fresh: bool = False


class Broadcast(msgspec.Struct):
    """The body of a BROADCAST: a hook of the pack instances, and its arguments by name."""

    hook: str
    params: dict[str, Any]


class CallBody(NamedTuple):
    """The parts of a CALL."""

    deadline: float
    depth: int
    flags: int
    method: str
    metadata: bytes
    params: bytes
    principal: bytes = b""


def frame(kind: int, call_id: int = 0, body: bytes = b"") -> bytes:
    """A frame of any kind."""
    return _HEAD.pack(_HEAD_TAIL + len(body), kind, call_id) + body


def call_frame(
    call_id: int,
    deadline: float,
    depth: int,
    flags: int,
    method: bytes,
    metadata: bytes,
    principal: bytes,
    params: bytes,
) -> bytes:
    """A CALL frame."""
    m, d, p = len(method), len(metadata), len(principal)
    head = _CALL_FRAME.pack(_CALL_HEAD + m + d + p + len(params), CALL, call_id, deadline, depth, flags, m, d, p)
    return b"".join((head, method, metadata, principal, params))


def nested_call_frame(call_id: int, parent: int, body: CallBody) -> bytes:
    """A NESTED_CALL frame: a method calls another through the hub."""
    method = body.method.encode()
    return frame(
        NESTED_CALL,
        call_id,
        _U64.pack(parent)
        + _CALL.pack(body.deadline, body.depth, body.flags, len(method), len(body.metadata), len(body.principal))
        + method
        + body.metadata
        + body.principal
        + body.params,
    )


def parse_call(body: bytes, start: int = 0) -> tuple[float, int, int, str, bytes, bytes, bytes]:
    """Read the body of a CALL, or of a NESTED_CALL from ``start``: the parts of :class:`CallBody`, in that order.

    This and the other ``parse_`` functions raise FramingError for a body that is cut short.
    """
    size, method_at = len(body), start + _CALL.size
    if size < method_at:
        raise FramingError(_CUT)
    deadline, depth, flags, method_size, metadata_size, principal_size = _CALL.unpack_from(body, start)
    metadata_at = method_at + method_size
    principal_at = metadata_at + metadata_size
    params_at = principal_at + principal_size
    if size < params_at:
        raise FramingError(_CUT)
    try:
        method = body[method_at:metadata_at].decode()
    except UnicodeDecodeError as error:
        raise FramingError("a method's name that is not UTF-8") from error
    metadata, principal = body[metadata_at:principal_at], body[principal_at:params_at]
    return deadline, depth, flags, method, metadata, body[params_at:], principal


def _require(complete: bool) -> None:
    if not complete:
        raise FramingError(_CUT)


def parse_nested_call(body: bytes) -> tuple[int, CallBody]:
    """Read the body of a NESTED_CALL: the parent's call id and the call."""
    _require(len(body) >= _U64.size)
    return _U64.unpack_from(body)[0], CallBody(*parse_call(body, _U64.size))


def outcome_frame(kind: int, call_id: int, run_us: int, body: bytes) -> bytes:
    """A RESULT or ERROR frame; ``run_us`` is the run time in microseconds."""
    if run_us > _LONGEST_RUN:
        run_us = _LONGEST_RUN
    return _OUTCOME_FRAME.pack(_OUTCOME_HEAD + len(body), kind, call_id, run_us) + body


def parse_outcome(body: bytes) -> tuple[int, bytes]:
    """Read the body of a RESULT or an ERROR: run time in microseconds, JSON."""
    if len(body) < 4:
        raise FramingError(_CUT)
    return _U32.unpack_from(body)[0], body[4:]


def chunk_body(chunk_type: bytes, data: bytes) -> bytes:
    """The body of a CHUNK."""
    return _U16.pack(len(chunk_type)) + chunk_type + data


def parse_chunk(body: bytes) -> tuple[bytes, bytes]:
    """Read the body of a CHUNK: type as a JSON string, data JSON."""
    _require(len(body) >= _U16.size)
    end = 2 + _U16.unpack_from(body)[0]
    _require(len(body) >= end)
    return body[2:end], body[end:]


def input_body(index: int, final: bool, data: bytes) -> bytes:
    """The body of an INPUT. The one that ends the input has no item: its data is ignored."""
    return _INPUT.pack(index, final) + data


def parse_input(body: bytes) -> tuple[int, bool, bytes]:
    """Read the body of an INPUT: index, whether it is the end, item JSON."""
    _require(len(body) >= _INPUT.size)
    index, final = _INPUT.unpack_from(body)
    return index, bool(final), body[_INPUT.size :]


def credit_body(consumed: int) -> bytes:
    """The body of a CREDIT or an INPUT_CREDIT."""
    return _U64.pack(consumed)


def parse_credit(body: bytes) -> int:
    """Read the body of a CREDIT: items consumed in total."""
    _require(len(body) >= _U64.size)
    return int(_U64.unpack_from(body)[0])


def release_body(slots: Iterable[int]) -> bytes:
    """The body of a RELEASE: slots are numbers below 64."""
    return _U64.pack(sum(1 << slot for slot in set(slots)))


def parse_release(body: bytes) -> frozenset[int]:
    """Read the body of a RELEASE: the slots."""
    _require(len(body) >= _U64.size)
    bits = int(_U64.unpack_from(body)[0])
    return frozenset(slot for slot in range(64) if bits >> slot & 1)


class FrameReader:
    """Cuts a byte stream into frames, in whatever portions it arrives."""

    __slots__ = ("_have", "_need", "_parts")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._have = 0
        self._need = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Yield ``(kind, call id, body)`` of each frame that these bytes complete.

        Raises:
            FramingError: a frame's length is out of range.
        """
        if self._parts:
            # A large frame arrives in many pieces; they are joined once, when the last has arrived.
            self._parts.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        at, end = 0, len(data)
        unpack, head_size = _HEAD.unpack_from, _HEAD.size
        need = head_size
        while end - at >= head_size:
            size, kind, call_id = unpack(data, at)
            if not _HEAD_TAIL <= size <= MAX_FRAME:
                raise FramingError(f"a frame of {size} bytes")
            stop = at + 4 + size
            if stop > end:
                need = 4 + size
                break
            yield kind, call_id, data[at + head_size : stop]
            at = stop
        if at < end:
            self._parts.append(data[at:])
            self._have, self._need = end - at, need
