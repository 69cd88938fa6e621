from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_protocol.traces import RANDOM, SAMPLED, TraceContext, begin, from_headers, inherit, parse

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"


def test_a_traceparent_is_read() -> None:
    assert parse(GOOD) == TraceContext(TRACE, SPAN, SAMPLED)
    assert parse(f"00-{TRACE}-{SPAN}-00") == TraceContext(TRACE, SPAN, 0)
    assert parse(f"00-{TRACE}-{SPAN}-03") == TraceContext(TRACE, SPAN, SAMPLED | RANDOM)


def test_flags_of_later_levels_are_not_handed_on() -> None:
    read = parse(f"00-{TRACE}-{SPAN}-ff")
    assert read is not None
    assert read.traceparent() == f"00-{TRACE}-{SPAN}-03"


@pytest.mark.parametrize(
    "text", [f"cc-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", f"01-{TRACE}-{SPAN}-01-"]
)
def test_later_versions_are_read_as_this_one(text: str) -> None:
    assert parse(text) == TraceContext(TRACE, SPAN, SAMPLED)


@pytest.mark.parametrize(
    "text",
    [
        *("", "00", "00--", "-".join(["00"] * 4), GOOD[:-1], GOOD + "0", " " + GOOD, GOOD + " ", GOOD + "\n"),
        *(GOOD + "-", GOOD + "-more", GOOD.upper(), GOOD.replace("-", "_"), f"ff-{TRACE}-{SPAN}-01"),
        *(f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{SPAN}-0g", f"cc-{TRACE}-{SPAN}-01x"),
        *(f"00-{TRACE[:-1]}\u0661-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-" + "x" * 1000, f"01-{TRACE}-{SPAN}-01-\n"),
    ],
)
def test_what_is_none_counts_as_absent(text: str) -> None:
    assert parse(text) is None


@given(st.text())
def test_no_text_is_too_odd(text: str) -> None:
    parse(text)
    assert parse(GOOD + text) is None or not text


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**64 - 1), st.booleans())
def test_what_begins_here_can_be_read_elsewhere(trace_bits: int, span_bits: int, sampled: bool) -> None:
    first = begin(trace_bits, span_bits, sampled=sampled)
    assert first.sampled is sampled
    assert first.parent_id == ""
    assert parse(first.traceparent()) == first


@given(st.integers(0, 2**64 - 1))
def test_a_child_is_of_the_same_trace(span_bits: int) -> None:
    parent = TraceContext(TRACE, SPAN, SAMPLED)
    child = parent.child(span_bits)
    assert (child.trace_id, child.parent_id, child.flags) == (TRACE, SPAN, SAMPLED)
    read = parse(child.traceparent())
    assert read is not None
    assert read.span_id == child.span_id


# --- headers ---


@pytest.mark.parametrize(
    ("traceparent", "tracestate", "members"),
    [
        (GOOD, "a=1,b=2", {"traceparent": GOOD, "tracestate": "a=1,b=2"}),
        (f" {GOOD} ", None, {"traceparent": GOOD}),
        (GOOD, "", {"traceparent": GOOD}),
        (GOOD, "a=" + "x" * 600, {"traceparent": GOOD}),
        (GOOD, "a=\u00fc", {"traceparent": GOOD}),
        (f"{GOOD}, {GOOD}", "a=1", {}),
        ("nonsense", "a=1", {}),
        (None, "a=1", {}),
    ],
)
def test_headers_as_metadata(traceparent: str | None, tracestate: str | None, members: dict[str, str]) -> None:
    assert from_headers(traceparent, tracestate) == members


@pytest.mark.parametrize(
    ("metadata", "inherited"),
    [
        (b"", {"traceparent": GOOD}),
        (b'{"a": [1.50]}', {"a": [1.5], "traceparent": GOOD}),
        (b'{"note": "traceparent"}', {"note": "traceparent", "traceparent": GOOD}),
        (b'{"traceparent": "own"}', {"traceparent": "own"}),
        (b'{"traceparent": null}', {"traceparent": None}),
        (b"[1]", [1]),
    ],
)
def test_calls_that_bring_no_trace_take_the_connections(metadata: bytes, inherited: object) -> None:
    assert json.loads(inherit(metadata, {"traceparent": GOOD})) == inherited
