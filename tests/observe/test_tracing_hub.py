"""Traces of a real hub, at a collector of the test's own."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge.http.http_client import request, rpc
from tests.observe.collector import Collector, Span
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.peer import peer
from tests.support.timing import PATIENCE, eventually

SERVER, INTERNAL = 2, 1

MILLISECOND = 1_000_000
DELAY = 10**9 * PATIENCE
"""Of spans, which count nanoseconds: what a busy machine may be late."""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture(scope="module")
def hub(collector: Collector) -> Iterator[RunningHub]:
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "TRUNKLINE_MAX_CONCURRENCY": "1",
        "TRUNKLINE_LOG_REQUESTS": "true",
        "NO_PROXY": "127.0.0.1",
    }
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, executors=2, env=env) as running:
        yield running


def traceparent(flags: str = "01") -> tuple[str, str, str]:
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    return trace, span, f"00-{trace}-{span}-{flags}"


def below(spans: dict[str, Span], parent: str) -> list[Span]:
    return sorted((span for span in spans.values() if span.parent_id == parent), key=lambda span: span.start)


async def test_the_spans_of_a_nested_call_are_one_tree(hub: RunningHub, collector: Collector) -> None:
    trace, root, header = traceparent()
    async with peer(hub.url) as one:
        params = {"method": "lab.where"}
        said = await one.result("debug.call", params, metadata={"traceparent": header, "request_id": "r-9"})
    spans = collector.trace(trace, 6)
    assert len(spans) == 6
    (outer,) = below(spans, root)
    assert (outer.name, outer.kind, outer.service) == ("debug.call", SERVER, "trunkline")
    (outer_executor,) = below(spans, outer.span_id)
    (outer_method,) = below(spans, outer_executor.span_id)
    (inner,) = below(spans, outer_method.span_id)
    (inner_executor,) = below(spans, inner.span_id)
    (inner_method,) = below(spans, inner_executor.span_id)
    assert below(spans, inner_method.span_id) == []
    names = [span.name for span in (outer_method, inner, inner_method)]
    assert names == ["debug.call", "lab.where", "lab.where"]
    assert inner_executor.name == said["worker_id"]
    assert inner_executor.attributes["process.pid"] == said["pid"] != os.getpid()
    assert outer_executor.attributes["process.pid"] in hub.executor_pids()
    assert said["metadata"]["traceparent"] == f"00-{trace}-{inner_method.span_id}-01", "its own spans go below this one"
    assert said["metadata"]["request_id"] == "r-9"
    for upper, lower in ((outer, outer_method), (outer_method, inner), (inner, inner_method)):
        assert lower.start <= lower.end
        assert lower.end - lower.start <= upper.end - upper.start + MILLISECOND, (upper.name, lower.name)
        # The hub learns how long a method ran when its outcome arrives, which a busy machine delays.
        assert lower.start <= upper.end, (upper.name, lower.name)
        assert upper.start <= lower.end + DELAY, (upper.name, lower.name)
    assert outer.attributes["rpc.system.name"] == "jsonrpc"
    assert outer.attributes["rpc.method"] == "debug.call"
    assert outer.attributes["jsonrpc.protocol.version"] == "2.0"
    assert "error.type" not in outer.attributes
    assert (outer.attributes["trunkline.depth"], inner.attributes["trunkline.depth"]) == (0, 1)


async def test_a_failure_names_itself_and_its_trace(hub: RunningHub, collector: Collector) -> None:
    trace, _, header = traceparent()
    async with peer(hub.url) as one:
        error = await one.error("debug.fail", metadata={"traceparent": header})
        assert error["data"]["trace_id"] == trace
        spans = collector.trace(trace, 3)
        failed = [span for span in spans.values() if span.failed]
        assert {span.name for span in failed} == {"debug.fail"}
        for span in failed:
            assert span.attributes["error.type"] == "INTERNAL_ERROR"
            assert span.attributes["rpc.response.status_code"] == "-32603"

        trace, _, header = traceparent()
        error = await one.error("made.up", metadata={"traceparent": header})
        assert error["data"]["trace_id"] == trace
        (span,) = collector.trace(trace, 1).values()
        assert (span.name, span.attributes["rpc.method"]) == ("_OTHER", "_OTHER")
        assert span.attributes["rpc.method_original"] == "made.up"


async def test_waiting_is_a_span_of_its_own(hub: RunningHub, collector: Collector) -> None:
    trace, root, header = traceparent()
    async with peer(hub.url) as one:
        busy = [await one.request("debug.sleep", {"seconds": 60}) for _ in range(2)]
        late = await one.request("debug.sleep", {"seconds": 0.1}, metadata={"traceparent": header})
        await one.result("rpc.ping")  # the hub has it
        began = time.monotonic()
        await asyncio.sleep(0.2)  # for the length of the span
        waited = time.monotonic() - began
        for request_id in busy:
            await one.cancel(request_id)
        await one.reply(late)
    spans = collector.trace(trace, 4, without="")
    (server,) = below(spans, root)
    queue, executor = below(spans, server.span_id)
    assert queue.name == "queue"
    assert queue.end - queue.start >= waited * 1e9 - MILLISECOND
    assert executor.start >= queue.end - MILLISECOND
    (method,) = below(spans, executor.span_id)
    assert method.end - method.start > 0.09e9
    without_waiting = server.end - server.start - (queue.end - queue.start)
    assert method.end - method.start <= without_waiting + MILLISECOND, "waiting is none of it"


async def test_a_call_without_a_trace_begins_one(hub: RunningHub, collector: Collector) -> None:
    async with peer(hub.url) as one:
        said = await one.result("lab.where", metadata={"colour": "blue"})
    assert said["metadata"]["colour"] == "blue"
    _, trace, method_span, flags = said["metadata"]["traceparent"].split("-")
    assert flags == "03"
    spans = collector.trace(trace, 3)
    server = next(span for span in spans.values() if span.kind == SERVER)
    assert server.parent_id == ""
    assert spans[method_span].name == "lab.where"


async def test_who_wants_no_record_gets_none_and_is_passed_through(hub: RunningHub, collector: Collector) -> None:
    trace, _, header = traceparent("00")
    async with peer(hub.url) as one:
        said = await one.result("lab.where", metadata={"traceparent": header})
        assert said["metadata"]["traceparent"] == header
        other, _, recorded = traceparent()
        await one.result("lab.where", metadata={"traceparent": recorded})
        assert (await one.error("debug.fail", metadata={"traceparent": header}))["data"]["trace_id"] == trace
    collector.trace(other, 3)
    assert collector.trace(trace, 0) == {}


@pytest.mark.parametrize("header", ["", "nonsense", "00-" + "0" * 32 + "-b7ad6b7169203331-01"])
async def test_a_traceparent_that_is_none_begins_another(hub: RunningHub, collector: Collector, header: str) -> None:
    async with peer(hub.url) as one:
        said = await one.result("lab.where", metadata={"traceparent": header})
    collector.trace(said["metadata"]["traceparent"].split("-")[1], 3)


async def test_headers_of_a_request_over_http_are_the_parent(hub: RunningHub, collector: Collector) -> None:
    trace, root, header = traceparent()
    headers = {"Content-Type": "application/json", "traceparent": header, "tracestate": "vendor=a,other=b"}
    answer = await asyncio.to_thread(rpc, hub, request("lab.where"), headers)
    metadata = answer.json()["result"]["metadata"]
    assert metadata["tracestate"] == "vendor=a,other=b"
    spans = collector.trace(trace, 3)
    (server,) = below(spans, root)
    assert {span.state for span in spans.values()} == {"vendor=a,other=b"}
    assert spans[metadata["traceparent"].split("-")[2]].name == "lab.where"

    trace, root, own = traceparent()
    answer = await asyncio.to_thread(rpc, hub, request("lab.where", metadata={"traceparent": own}), headers)
    assert "tracestate" not in answer.json()["result"]["metadata"], "it is of another trace"
    (server,) = below(collector.trace(trace, 3), root)
    assert (server.name, server.state) == ("lab.where", "")


async def test_headers_of_an_upgrade_are_the_parent_of_calls_that_bring_none(
    hub: RunningHub, collector: Collector
) -> None:
    trace, root, header = traceparent()
    other, other_root, own = traceparent()
    async with peer(hub.url, headers={"traceparent": header, "tracestate": "vendor=a"}) as one:
        for metadata in ({}, {"metadata": {"colour": "blue"}}, {"metadata": {"traceparent": own}}):
            said = await one.result("lab.where", **metadata)
            assert said["metadata"].get("colour") == metadata.get("metadata", {}).get("colour")
        await one.notify("debug.echo", {"value": 1})
        await one.result("rpc.ping")
    spans = collector.trace(trace, 10)
    assert sorted(span.name for span in below(spans, root)) == ["debug.echo", "lab.where", "lab.where", "rpc.ping"]
    assert {span.state for span in spans.values()} == {"vendor=a"}
    assert [span.name for span in below(collector.trace(other, 3), other_root)] == ["lab.where"]


async def test_headers_that_are_no_trace_are_as_if_they_were_not_there(hub: RunningHub) -> None:
    async with peer(hub.url, headers={"traceparent": "00-x", "tracestate": "vendor=a"}) as one:
        said = await one.result("lab.where", metadata={"colour": "blue"})
    assert said["metadata"].keys() == {"colour", "traceparent"}
    said = await asyncio.to_thread(
        rpc, hub, request("lab.where"), {"Content-Type": "application/json", "tracestate": "a=b"}
    )
    assert said.json()["result"]["metadata"].keys() == {"traceparent", "request_id"}


async def test_metadata_that_is_wrong_is_still_refused(hub: RunningHub) -> None:
    async with peer(hub.url) as one:
        assert (await one.error("lab.where", metadata={"traceparent": 7}))["code"] == -32602


async def test_a_stream_and_a_retried_call_are_traced(hub: RunningHub, collector: Collector) -> None:
    trace, root, header = traceparent()
    async with peer(hub.url) as one:
        stream = await one.request("debug.count", {"n": 3, "interval_ms": 20}, metadata={"traceparent": header})
        await one.reply(stream)
    (server,) = below(collector.trace(trace, 3), root)
    assert server.end - server.start >= 3 * (20 * MILLISECOND - MILLISECOND), "as long as it streams"


async def test_one_line_a_call_with_its_trace(hub: RunningHub) -> None:
    trace, _, header = traceparent()
    async with peer(hub.url) as one:
        await one.result("session.open", {})
        metadata = {"traceparent": header, "request_id": "order-8"}
        await one.send(
            {"jsonrpc": "2.0", "id": "a", "method": "debug.echo", "params": {"value": "the payload"}, "seq": 1}
            | {"metadata": metadata}
        )
        await one.reply("a")

    def line() -> dict[str, object] | None:
        return next((json.loads(said) for said in hub.stderr if trace in said), None)

    eventually(line, "the line is written")
    said = line()
    assert said is not None
    assert (said["event"], said["logger"], said["level"]) == ("call", "trunkline.requests", "info")
    assert (said["method"], said["outcome"], said["request_id"]) == ("debug.echo", "ok", "order-8")
    assert (said["principal"], said["trace_id"]) == ("anonymous", trace)
    assert isinstance(said["duration_ms"], float)
    assert isinstance(said["session"], str)
    assert len(said["session"]) == 8, "a label, not the id"
    assert "the payload" not in "\n".join(hub.stderr)


async def test_without_an_endpoint_traces_are_passed_on_and_nothing_is_loaded(lab_hub: RunningHub) -> None:
    trace, _, header = traceparent()
    async with peer(lab_hub.url) as one:
        assert (await one.result("lab.where", metadata={"traceparent": header}))["metadata"] == {"traceparent": header}
        assert (await one.error("debug.fail", metadata={"traceparent": header}))["data"]["trace_id"] == trace
        assert "trace_id" not in (await one.error("debug.fail"))["data"]
        assert "trace_id" not in (await one.error("debug.fail", metadata={"traceparent": "nonsense"}))["data"]
    async with peer(lab_hub.url, headers={"traceparent": header, "tracestate": "a=b"}) as one:
        assert (await one.result("lab.where"))["metadata"] == {"traceparent": header, "tracestate": "a=b"}
        assert (await one.error("debug.fail"))["data"]["trace_id"] == trace
    if sys.platform == "linux":
        maps = Path(f"/proc/{lab_hub.process.pid}/maps").read_text()  # noqa: ASYNC240
        assert "google/_upb" not in maps, "protobuf"


def test_a_hub_ends_in_time_though_its_collector_is_gone() -> None:
    env = {"TRUNKLINE_OTLP_ENDPOINT": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    with ready_hub(DEBUG_METHODS, executors=1, env=env) as hub:
        assert hub.get("/health").status == 200
