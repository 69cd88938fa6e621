"""``POST /rpc`` of a real hub: JSON-RPC 2.0 over HTTP."""

from __future__ import annotations

import gzip
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.edge.http.http_client import JSON, ask, connected, request, rpc, send
from tests.support.hub import RunningHub
from tests.support.match import require
from tests.support.timing import eventually
from trunkline_protocol.errors import ErrorCode


@pytest.mark.parametrize("request_id", [1, "1", "a-b", 2**53 - 1, -1, None])
def test_a_request_is_answered_under_its_id(debug_hub: RunningHub, request_id: Any) -> None:
    answer = rpc(debug_hub, request("debug.echo", id=request_id, params={"value": [1, "ä", None]}))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {"jsonrpc": "2.0", "id": request_id, "result": [1, "ä", None]}
    assert int(answer.headers["content-length"]) == len(answer.body)


def test_positional_params(debug_hub: RunningHub) -> None:
    assert rpc(debug_hub, request("debug.echo", params=[5])).json()["result"] == 5


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (request("nobody.serves.this"), ErrorCode.METHOD_NOT_FOUND),
        (request("debug.sleep", params={"seconds": "x"}), ErrorCode.INVALID_PARAMS),
        (request("debug.fail"), ErrorCode.INTERNAL_ERROR),
        (request("debug.unserializable"), ErrorCode.SERIALIZATION_ERROR),
        (request("debug.sleep", params={"seconds": 30}, metadata={"timeout_ms": 50}), ErrorCode.COMMUNICATION_TIMEOUT),
        (request("debug.echo", metadata={"timeout_ms": "soon"}), ErrorCode.INVALID_PARAMS),
    ],
)
def test_what_became_of_a_request_is_status_200(debug_hub: RunningHub, message: Any, code: int) -> None:
    answer = rpc(debug_hub, message)
    assert answer.status == 200
    require({"jsonrpc": "2.0", "id": 1, "error": {"code": code}}, answer.json())


@pytest.mark.parametrize(
    ("body", "code", "request_id"),
    [
        (b"", ErrorCode.PARSE_ERROR, None),
        (b'{"jsonrpc"', ErrorCode.PARSE_ERROR, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"debug.echo","params":{"value":NaN}}', ErrorCode.PARSE_ERROR, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"debug.echo"} {}', ErrorCode.PARSE_ERROR, None),
        (b"[" * 100_000, ErrorCode.PARSE_ERROR, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"debug.echo","params":["\xff"]}', ErrorCode.PARSE_ERROR, None),
        (b"[]", ErrorCode.INVALID_REQUEST, None),
        (b"5", ErrorCode.INVALID_REQUEST, None),
        (b'{"jsonrpc":"1.0","id":1,"method":"debug.echo"}', ErrorCode.INVALID_REQUEST, 1),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"debug.echo"}', ErrorCode.INVALID_REQUEST, None),
        (b'{"jsonrpc":"2.0","id":"a","method":5}', ErrorCode.INVALID_REQUEST, "a"),
        (b'{"jsonrpc":"2.0","id":"a","method":"debug.echo","params":5}', ErrorCode.INVALID_REQUEST, "a"),
        (json.dumps([request("rpc.ping")] * 101).encode(), ErrorCode.INVALID_REQUEST, None),
    ],
)
def test_faults_01_to_06_and_08_what_is_no_request_is_status_400(
    debug_hub: RunningHub, body: bytes, code: int, request_id: Any
) -> None:
    answer = rpc(debug_hub, body)
    assert answer.status == 400
    require({"jsonrpc": "2.0", "id": request_id, "error": {"code": code}}, answer.json())
    assert rpc(debug_hub, request("rpc.ping")).status == 200


def test_a_notification_runs_and_is_not_answered(lab_hub: RunningHub, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    message = {"jsonrpc": "2.0", "method": "lab.counted_run", "params": {"marker": str(marker)}}
    answer = rpc(lab_hub, message)
    assert (answer.status, answer.body) == (204, b"")
    assert "content-type" not in answer.headers
    eventually(marker.exists, "the notification ran")


def test_a_batch_has_one_answer(debug_hub: RunningHub) -> None:
    batch = [
        request("debug.sleep", id="slow", params={"seconds": 0.05}),
        request("debug.echo", id=2, params={"value": "x"}),
        {"jsonrpc": "2.0", "method": "debug.echo"},
        {"jsonrpc": "2.0", "id": 4},
        request("nobody.serves.this", id=5),
        7,
    ]
    answer = rpc(debug_hub, batch)
    assert answer.status == 200
    by_id = {str(reply["id"]): reply for reply in answer.json()}
    assert len(answer.json()) == 5
    assert by_id["2"]["result"] == "x"
    assert by_id["slow"]["result"]["slept"] == 0.05
    assert by_id["4"]["error"]["code"] == by_id["None"]["error"]["code"] == ErrorCode.INVALID_REQUEST
    assert by_id["5"]["error"]["code"] == ErrorCode.METHOD_NOT_FOUND


def test_a_batch_of_notifications_is_not_answered(debug_hub: RunningHub) -> None:
    answer = rpc(debug_hub, [{"jsonrpc": "2.0", "method": "debug.echo"}] * 3)
    assert (answer.status, answer.body) == (204, b"")


def test_fault_04_an_id_twice_in_a_batch(debug_hub: RunningHub) -> None:
    first, second = request("debug.echo", params={"value": 1}), request("debug.echo", params={"value": 2})
    replies = {str(reply["id"]): reply for reply in rpc(debug_hub, [first, second]).json()}
    assert replies["1"]["result"] == 1
    require({"code": ErrorCode.INVALID_REQUEST, "data": {"duplicate_id": 1}}, replies["None"]["error"])


@pytest.mark.parametrize(
    "batch",
    [
        [{"jsonrpc": "2.0", "id": 5, "result": 1}],
        [
            request("debug.sleep", params={"seconds": 30}),
            {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}},
        ],
    ],
)
def test_what_leaves_nothing_to_answer_is_not_waited_for(debug_hub: RunningHub, batch: Any) -> None:
    assert rpc(debug_hub, batch).status == 204


def test_a_cancel_in_the_same_batch(debug_hub: RunningHub) -> None:
    batch = [
        request("debug.sleep", params={"seconds": 30}),
        {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 1}},
    ]
    assert rpc(debug_hub, batch).json()[0]["error"]["code"] == ErrorCode.CANCELLED


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("subscribe", {"topic": "a"}),
        ("unsubscribe", {"topic": "a"}),
        ("session.open", {}),
        ("session.close", {}),
        ("method.register", {"method": "own.one"}),
        ("method.unregister", {"method": "own.one"}),
        ("auth", {"token": "x"}),
        ("lab.sum", {}),
    ],
)
def test_what_needs_a_connection_is_refused_and_says_so(lab_hub: RunningHub, method: str, params: Any) -> None:
    answer = rpc(lab_hub, request(method, params=params))
    assert answer.status == 400
    error = answer.json()["error"]
    assert error["code"] == ErrorCode.INVALID_REQUEST
    assert method in error["message"]
    assert "/ws" in error["message"]


def test_publish_needs_none(debug_hub: RunningHub) -> None:
    answer = rpc(debug_hub, request("publish", params={"topic": "http.one", "data": 1}))
    assert answer.json()["result"]["offset"] == 1


def test_a_stream_wants_the_header_that_says_how(debug_hub: RunningHub) -> None:
    answer = rpc(debug_hub, request("debug.count", params={"n": 2}))
    assert answer.status == 400
    error = answer.json()["error"]
    assert "Accept: text/event-stream" in error["message"]
    assert error["data"]["accept"] == "text/event-stream"


def test_progress_that_nobody_could_be_told_is_left_out(lab_hub: RunningHub) -> None:
    answer = rpc(lab_hub, request("lab.progress", params={"steps": 5}, metadata={"progress_token": "p"}))
    assert answer.json()["result"] == 5


# --- what a request may look like ---


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=UTF-8", "application/json-rpc", "application/jsonrequest"]
)
def test_content_types_of_json(debug_hub: RunningHub, kind: str) -> None:
    assert rpc(debug_hub, request("rpc.ping"), {"Content-Type": kind}).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": ""},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/json; charset=utf-16"},
    ],
)
def test_other_content_types_run_nothing(lab_hub: RunningHub, tmp_path: Path, headers: dict[str, str]) -> None:
    """A page of a foreign origin can send these without asking."""
    marker = tmp_path / "ran"
    answer = rpc(lab_hub, request("lab.counted_run", params={"marker": str(marker)}), headers)
    assert (answer.status, answer.headers["accept-post"]) == (415, "application/json")
    assert rpc(lab_hub, request("rpc.ping")).status == 200
    assert not marker.exists()


def test_fault_07_compressed_bodies_are_not_unpacked(debug_hub: RunningHub) -> None:
    bomb = gzip.compress(b'{"jsonrpc":"2.0","id":1,"method":"debug.echo","params":["' + b"x" * 2**27 + b'"]}')
    before = debug_hub.rss()
    answer = rpc(debug_hub, bomb, JSON | {"Content-Encoding": "gzip"})
    assert (answer.status, answer.headers["accept-encoding"]) == (415, "identity")
    assert debug_hub.rss() - before < 32 * 2**20


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods(debug_hub: RunningHub, method: str) -> None:
    answer = send(debug_hub, "/rpc", b"", {}, method)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://[bad"}],
)
def test_wrong_host_or_origin(debug_hub: RunningHub, headers: dict[str, str]) -> None:
    answer = rpc(debug_hub, request("rpc.ping"), JSON | headers)
    assert answer.status == 403
    require({"jsonrpc": "2.0", "id": None, "error": {"code": ErrorCode.FORBIDDEN}}, answer.json())


def test_the_hubs_own_pages_may(debug_hub: RunningHub) -> None:
    own = {"Host": f"127.0.0.1:{debug_hub.port}", "Origin": f"http://127.0.0.1:{debug_hub.port}"}
    assert rpc(debug_hub, request("rpc.ping"), JSON | own).status == 200


# --- many ---


def test_a_connection_serves_many_requests(debug_hub: RunningHub) -> None:
    with connected(debug_hub) as connection:
        for number in range(50):
            answer = ask(connection, "/rpc", request("debug.echo", id=number, params={"value": number}))
            assert answer.json() == {"jsonrpc": "2.0", "id": number, "result": number}
            socket = connection.sock
            assert ask(connection, "/rpc", b"no json").status == 400
            assert ask(connection, "/rpc", b"{}", {"Content-Type": "text/plain"}).status == 415
            assert connection.sock is socket, "the connection was not kept"


def test_many_at_once_do_not_wait_for_each_other(debug_hub: RunningHub) -> None:
    together = threading.Barrier(40)

    def one(number: int) -> Any:
        with connected(debug_hub) as connection:
            connection.connect()
            together.wait()
            message = request("debug.sleep", id=number, params={"seconds": 0.2})
            reply = ask(connection, "/rpc", message).json()
            assert reply["id"] == number
            return reply["result"]["slept"]

    with ThreadPoolExecutor(40) as threads:
        assert list(threads.map(one, range(40))) == [0.2] * 40


def test_large_both_ways(debug_hub: RunningHub) -> None:
    value = "ä" * 2_000_000
    assert rpc(debug_hub, request("debug.echo", params={"value": value})).json()["result"] == value


@pytest.mark.parametrize("message", [request("debug.echo"), [request("debug.echo")]])
@pytest.mark.parametrize(
    ("header", "value", "member"),
    [
        ("X-Act-As", '{"principal":"ann"}', "act_as"),
        ("X-Priority", "high", "priority"),
        ("X-Timeout-Ms", "50", "timeout_ms"),
        ("Idempotency-Key", "once", "idempotency_key"),
        ("Idempotency-Epoch", "one", "idempotency_epoch"),
    ],
)
def test_headers_of_tasks_are_refused(
    debug_hub: RunningHub, message: Any, header: str, value: str, member: str
) -> None:
    answer = send(debug_hub, "/rpc", message, JSON | {header: value})
    assert answer.status == 400
    require({"id": None, "error": {"code": ErrorCode.INVALID_PARAMS}}, answer.json())
    assert header in answer.json()["error"]["message"]
    assert f"metadata.{member}" in answer.json()["error"]["message"]
