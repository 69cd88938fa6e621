"""Streams and progress over HTTP, as server-sent events, from a real hub."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.edge.http.http_client import EVENTS, JSON, connected, encoded, events, request, rpc
from tests.support.frames import raw_tcp
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.match import require
from tests.support.timing import PATIENCE, eventually
from trunkline_protocol.errors import ErrorCode


@pytest.fixture(scope="module")
def quick_hub() -> Iterator[RunningHub]:
    """One whose heartbeats come soon, and whose patience with peers that do not read is short."""
    env = {"TRUNKLINE_PING_INTERVAL": "0.2", "TRUNKLINE_PING_TIMEOUT": "0.8"}
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, env=env) as hub:
        yield hub


def test_a_stream(debug_hub: RunningHub) -> None:
    with events(debug_hub, "/rpc", request("debug.count", params={"n": 100})) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        *chunks, reply = [event.data for event in stream]
    assert reply == {"jsonrpc": "2.0", "id": 1, "result": {"chunks": 100}}
    assert [chunk["params"]["index"] for chunk in chunks] == list(range(101))
    assert all(chunk["method"] == "stream_chunk" and chunk["params"]["request_id"] == 1 for chunk in chunks)
    assert [chunk["params"]["is_final"] for chunk in chunks] == [False] * 100 + [True]


def test_fault_19_a_stream_that_fails(debug_hub: RunningHub) -> None:
    with events(debug_hub, "/rpc", request("debug.count", params={"n": 9, "fail_at": 3})) as stream:
        *chunks, reply = [event.data for event in stream]
    assert len(chunks) == 3
    require({"id": 1, "error": {"code": ErrorCode.PIPELINE_EXECUTION_ERROR, "data": {"chunks": 3}}}, reply)


def test_chunks_come_as_they_are_made(debug_hub: RunningHub) -> None:
    with events(debug_hub, "/rpc", request("debug.count", params={"n": 1000, "interval_ms": 20})) as stream:
        first = next(iter(stream))
    assert first.data["params"]["index"] == 0


def test_a_call_that_is_no_stream(debug_hub: RunningHub) -> None:
    with events(debug_hub, "/rpc", request("debug.echo", params={"value": 1})) as stream:
        assert [event.data for event in stream] == [{"jsonrpc": "2.0", "id": 1, "result": 1}]


def test_an_error_is_an_event_and_no_request_is_none(debug_hub: RunningHub) -> None:
    with events(debug_hub, "/rpc", request("nobody.serves.this")) as stream:
        assert stream.status == 200
        assert next(iter(stream)).data["error"]["code"] == ErrorCode.METHOD_NOT_FOUND
    with events(debug_hub, "/rpc", b"no json") as stream:
        assert stream.status == 400
        assert stream.body()["error"]["code"] == ErrorCode.PARSE_ERROR


def test_progress(lab_hub: RunningHub) -> None:
    message = request("lab.progress", params={"steps": 3}, metadata={"progress_token": "p"})
    with events(lab_hub, "/rpc", message) as stream:
        *reports, reply = [event.data for event in stream]
    assert [report["params"] for report in reports] == [
        {"token": "p", "value": {"step": step}} for step in (1, 2, 3, "done")
    ]
    assert reply["result"] == 3


def test_a_batch_with_streams(debug_hub: RunningHub) -> None:
    batch = [request("debug.count", id="a", params={"n": 5}), request("debug.count", id="b", params={"n": 5})]
    with events(debug_hub, "/rpc", batch) as stream:
        *chunks, replies = [event.data for event in stream]
    for name in ("a", "b"):
        indexes = [chunk["params"]["index"] for chunk in chunks if chunk["params"]["request_id"] == name]
        assert indexes == list(range(6))
    assert {reply["id"] for reply in replies} == {"a", "b"}


def test_nothing_to_answer(debug_hub: RunningHub) -> None:
    assert rpc(debug_hub, {"jsonrpc": "2.0", "method": "debug.echo"}, EVENTS).status == 204


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/event-stream;q=0", "text/event-stream; q=0.0"])
def test_who_does_not_ask_for_events_gets_none(debug_hub: RunningHub, accept: str) -> None:
    answer = rpc(debug_hub, request("debug.echo", params={"value": 1}), JSON | {"Accept": accept})
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "accept", ["text/event-stream", "application/json, text/event-stream", "Text/Event-Stream;q=0.5"]
)
def test_who_asks_gets_them(debug_hub: RunningHub, accept: str) -> None:
    answer = rpc(debug_hub, request("debug.echo", params={"value": 1}), JSON | {"Accept": accept})
    assert answer.headers["content-type"] == "text/event-stream"


def test_credit_is_refused(debug_hub: RunningHub) -> None:
    message = request("debug.count", params={"n": 500}, metadata={"window": {"items": 2}})
    with events(debug_hub, "/rpc", message) as stream:
        error = next(iter(stream)).data["error"]
    assert error["code"] == ErrorCode.INVALID_PARAMS
    assert "metadata.window" in error["message"]


def test_a_silent_stream_has_heartbeats(quick_hub: RunningHub, tmp_path: Path) -> None:
    params = {"folder": str(tmp_path), "method": "debug.echo"}
    with events(quick_hub, "/rpc", request("lab.calls_later", params=params)) as stream:
        for _ in range(2):
            stream.heartbeat()
        (tmp_path / "go").touch()
        (reply,) = [event.data for event in stream]
    assert reply["result"] == "called while it stopped"


def test_fault_12_a_peer_that_leaves_cancels_its_call(lab_hub: RunningHub, tmp_path: Path) -> None:
    marker = tmp_path / "cleanup"
    with connected(lab_hub) as connection:
        body = encoded(request("lab.cleanup", params={"marker": str(marker)}))
        connection.request("POST", "/rpc", body, JSON)
        eventually(Path(f"{marker}.started").exists, "it runs")
    eventually(lambda: marker.exists() and marker.read_text() == "cancelled", "the coroutine was cancelled")
    eventually(lambda: lab_hub.get("/health").json()["active_requests"] == 0, "nothing is left in flight")


async def test_fault_12_a_peer_that_leaves_behind_pipelined_requests(lab_hub: RunningHub, tmp_path: Path) -> None:
    marker = tmp_path / "cleanup"
    body = encoded(request("lab.cleanup", params={"marker": str(marker)}))
    fields = ("Host: 127.0.0.1", "Content-Type: application/json", f"Content-Length: {len(body)}")
    head = "\r\n".join(["POST /rpc HTTP/1.1", *fields, "", ""])
    async with raw_tcp(lab_hub.port) as socket:
        await socket.write((head.encode() + body) * 3)
        await asyncio.to_thread(eventually, Path(f"{marker}.started").exists, "the first one runs")
    eventually(lambda: marker.exists() and marker.read_text() == "cancelled", "the coroutine was cancelled")
    eventually(lambda: lab_hub.get("/health").json()["active_requests"] == 0, "nothing is left in flight")


def test_fault_12_a_peer_that_leaves_cancels_its_stream(lab_hub: RunningHub, tmp_path: Path) -> None:
    marker = tmp_path / "flood"
    message = request("lab.flood", params={"n": 10**9, "marker": str(marker)})
    with events(lab_hub, "/rpc", message) as stream:
        next(iter(stream))
    eventually(Path(f"{marker}.closed").exists, "the generator was closed")


def test_fault_11_a_slow_reader_slows_its_stream_only(lab_hub: RunningHub, tmp_path: Path) -> None:
    marker, n, size = tmp_path / "flood", 1500, 10_000
    before = lab_hub.rss()
    message = request("lab.flood", params={"n": n, "size": size, "marker": str(marker)})
    with events(lab_hub, "/rpc", message, receive_buffer=32 * 1024) as stream:
        eventually(marker.exists, "it runs")
        made = _standstill(marker)
        assert made < n // 2, "the stream does not wait for its reader"
        assert lab_hub.rss() - before < 24 * 2**20
        assert rpc(lab_hub, request("debug.echo", params={"value": 1})).json()["result"] == 1
        *chunks, reply = [event.data for event in stream]
    assert reply["result"] == {"chunks": n}
    assert [chunk["params"]["index"] for chunk in chunks] == list(range(n + 1))


def _standstill(marker: Path) -> int:
    """How far a flood comes before it waits."""
    limit = time.monotonic() + PATIENCE
    before = -1
    while (now := int(marker.read_text() or 0)) != before:
        assert time.monotonic() < limit, "it does not wait"
        before = now
        time.sleep(0.3)  # nothing tells that it stands still
    return now


def test_a_peer_that_takes_nothing_is_cut_off(quick_hub: RunningHub, tmp_path: Path) -> None:
    marker = tmp_path / "flood"
    message = request("lab.flood", params={"n": 10**9, "size": 10_000, "marker": str(marker)})
    with events(quick_hub, "/rpc", message, receive_buffer=32 * 1024):
        eventually(Path(f"{marker}.closed").exists, "the generator was closed")
        eventually(lambda: quick_hub.get("/health").json()["active_requests"] == 0, "nothing is left in flight")


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT")
def test_fault_13_a_large_answer_that_nobody_takes_is_not_kept(quick_hub: RunningHub) -> None:
    process = psutil.Process(quick_hub.process.pid)
    with connected(quick_hub) as connection:
        connection.connect()
        own = connection.sock.getsockname()[1]

        def is_kept() -> bool:
            return any(each.raddr and each.raddr.port == own for each in process.net_connections("tcp"))

        eventually(is_kept, "the hub has taken the connection")
        body = encoded(request("debug.echo", params={"value": "x" * 8_000_000}))
        connection.request("POST", "/rpc", body, JSON)
        eventually(lambda: not is_kept(), "the connection was cut off", 3 * PATIENCE)
