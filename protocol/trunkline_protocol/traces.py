"""``traceparent`` of the W3C's Trace Context, level 2: read, checked, written. Pure: random bits are an argument."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

TRACE_ID_BITS: Final = 128
SPAN_ID_BITS: Final = 64
SAMPLED: Final = 1
RANDOM: Final = 2
"""Level 2: the trace id's right-most 56 bits are random."""

MAX_CHARS: Final = 512
"""Of a ``traceparent``, whose later versions may be longer than the 55 of this one."""

MAX_STATE_CHARS: Final = 512
"""Of a ``tracestate``: what has to be passed on of it (Trace Context 3.3.1.5)."""

_KNOWN_FLAGS: Final = SAMPLED | RANDOM
_decoder: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder: Final = msgspec.json.Encoder()
_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)


class TraceContext(NamedTuple):
    """A span's place in a trace.

    Attributes:
        trace_id: 32 lower-case hexadecimal digits, not all zero.
        span_id: 16 of them: the span itself.
        flags: :data:`SAMPLED` and :data:`RANDOM`; others are of a later level and not passed on.
        parent_id: the span above; empty for the first of a trace.
    """

    trace_id: str
    span_id: str
    flags: int
    parent_id: str = ""

    @property
    def sampled(self) -> bool:
        """Whether whoever began the trace wants it recorded."""
        return bool(self.flags & SAMPLED)

    def traceparent(self) -> str:
        """This span as the ``traceparent`` that the spans below it get."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    def child(self, span_bits: int) -> TraceContext:
        """A span below this one.

        Args:
            span_bits: 64 random bits.
        """
        return TraceContext(self.trace_id, _span_id(span_bits), self.flags, self.span_id)


def begin(trace_bits: int, span_bits: int, *, sampled: bool = True) -> TraceContext:
    """The first span of a new trace.

    Args:
        trace_bits: 128 random bits.
        span_bits: 64 random bits.
    """
    return TraceContext(f"{trace_bits or 1:032x}", _span_id(span_bits), RANDOM | (SAMPLED if sampled else 0))


def parse(traceparent: str) -> TraceContext | None:
    """Read a ``traceparent``; None where it is not valid, which counts as absent (Trace Context 3.2.2)."""
    if len(traceparent) > MAX_CHARS:
        return None
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    if trace_id == "0" * 32 or span_id == "0" * 16:
        return None
    return TraceContext(trace_id, span_id, int(flags, 16) & _KNOWN_FLAGS)


def from_headers(traceparent: str | None, tracestate: str | None) -> dict[str, str]:
    """The members of ``metadata`` that HTTP headers stand for: none where there is no valid ``traceparent``."""
    if traceparent is None or parse(traceparent.strip()) is None:
        return {}
    found = {"traceparent": traceparent.strip()}
    if tracestate and len(tracestate) <= MAX_STATE_CHARS and tracestate.isascii() and tracestate.isprintable():
        found["tracestate"] = tracestate
    return found


def inherit(metadata: bytes, members: Mapping[str, str]) -> bytes:
    """A call's metadata (JSON, or empty) with its connection's trace and request id, unless it brings its own.

    What is no JSON object stays as it is: its caller is told where the call is routed.
    """
    if not metadata:
        return _encoder.encode(members)
    try:
        own = _decoder.decode(metadata)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return metadata
    added = dict(members)
    if "traceparent" in own:
        added.pop("traceparent", None)
        added.pop("tracestate", None)
    if "request_id" in own:
        added.pop("request_id", None)
    merged: dict[str, object] = {**own, **added}
    return _encoder.encode(merged) if added else metadata


def _span_id(bits: int) -> str:
    return f"{bits or 1:016x}"  # all zero is no id
