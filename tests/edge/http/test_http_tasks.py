"""``POST /api/v1/...`` of a real hub: one method a path."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers

from tests.edge.http.http_client import EVENTS, JSON, ServerEvent, events, send
from tests.support.hub import RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import peer
from trunkline.edge.http.answer import Refused
from trunkline.edge.http.tasks import PROBLEM, TaskPaths, metadata_of
from trunkline.methods.declaration import RegistrationError, method
from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.errors import ErrorCode, RpcError

PATHS = """
from trunkline import method

@method("paths.difficulty", http="ml/predict/difficulty")
async def difficulty(grade: int, subject: str = "maths") -> dict:
    return {"grade": grade, "subject": subject}
"""


@pytest.fixture(scope="module")
def paths_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    folder = tmp_path_factory.mktemp("paths")
    (folder / "paths.py").write_text(PATHS)
    with ready_hub("paths", cwd=folder) as hub:
        yield hub


def task(hub: RunningHub, path: str, params: Any = b"", **headers: str) -> Any:
    return send(hub, f"/api/v1/{path}", params, JSON | {k.replace("_", "-"): v for k, v in headers.items()})


def test_the_answer_is_the_result(debug_hub: RunningHub) -> None:
    answer = task(debug_hub, "debug/echo", {"value": {"a": [1, None, "ä"]}})
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {"a": [1, None, "ä"]}


@pytest.mark.parametrize("body", [b"", b"{}", b" { } \n"])
def test_no_params(debug_hub: RunningHub, body: bytes) -> None:
    answer = task(debug_hub, "debug/echo", body)
    assert (answer.status, answer.json()) == (200, None)


def test_without_a_body_no_content_type_is_needed(debug_hub: RunningHub) -> None:
    assert send(debug_hub, "/api/v1/rpc/ping", b"", {}).json()["pong"] is True


def test_a_path_of_its_own(paths_hub: RunningHub) -> None:
    assert task(paths_hub, "ml/predict/difficulty", {"grade": 3}).json() == {"grade": 3, "subject": "maths"}
    assert task(paths_hub, "paths/difficulty", {"grade": 3}).status == 404


@pytest.mark.parametrize("path", ["health/check", "health/detailed", "system/info", "metrics/get", "rpc/discover"])
def test_methods_of_the_hub(debug_hub: RunningHub, path: str) -> None:
    assert task(debug_hub, path).status == 200


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_methods_that_clients_serve(debug_hub: RunningHub, accept: str) -> None:
    async with peer(debug_hub.url) as callee:
        await callee.result("method.register", {"method": "http.served"})
        asking = asyncio.create_task(asyncio.to_thread(task, debug_hub, "http/served", {"a": 1}, Accept=accept))
        call = await callee.receive()
        assert call["params"] == {"a": 1}
        reply = json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": {"spread": "over\nlines"}}, indent=2)
        await callee.send(reply)
        body = (await asking).body.decode()
    assert json.loads(body.removeprefix("event: result\ndata: ")) == {"spread": "over\nlines"}


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("nobody/serves/this", {}, 404, ErrorCode.METHOD_NOT_FOUND),
        ("debug.echo", {}, 404, ErrorCode.METHOD_NOT_FOUND),
        ("debug/echo/", {}, 404, ErrorCode.METHOD_NOT_FOUND),
        ("debug//echo", {}, 404, ErrorCode.METHOD_NOT_FOUND),
        ("../rpc", {}, 404, ErrorCode.METHOD_NOT_FOUND),
        ("", {}, 404, ErrorCode.METHOD_NOT_FOUND),
        ("debug/sleep", {"seconds": "x"}, 422, ErrorCode.INVALID_PARAMS),
        ("debug/echo", [1], 422, ErrorCode.INVALID_PARAMS),
        ("debug/echo", 5, 422, ErrorCode.INVALID_PARAMS),
        ("debug/echo", b'{"value":', 400, ErrorCode.PARSE_ERROR),
        ("debug/echo", b'{"value":1} {}', 400, ErrorCode.PARSE_ERROR),
        ("debug/echo", b'{"value":1},"method":"debug.crash","x":{}', 400, ErrorCode.PARSE_ERROR),
        ("debug/echo", b'{"value":"\xff"}', 400, ErrorCode.PARSE_ERROR),
        ("debug/echo", b'{"value":' + b"[" * 100_000, 400, ErrorCode.PARSE_ERROR),
        ("debug/fail", {}, 500, ErrorCode.INTERNAL_ERROR),
        ("debug/unserializable", {}, 500, ErrorCode.SERIALIZATION_ERROR),
        ("debug/count", {"n": 1}, 406, ErrorCode.INVALID_REQUEST),
        ("subscribe", {"topic": "a"}, 400, ErrorCode.INVALID_REQUEST),
    ],
)
def test_errors_are_problems_with_a_status(debug_hub: RunningHub, path: str, body: Any, status: int, code: int) -> None:
    answer = task(debug_hub, path, body)
    assert (answer.status, answer.headers["content-type"]) == (status, PROBLEM)
    problem = answer.json()
    require({"status": status, "title": ErrorCode(code).name, "error": {"code": code}}, problem)
    assert problem["type"] == f"urn:trunkline:error:{ErrorCode(code).name}"
    assert problem["detail"] == problem["error"]["message"]


@pytest.mark.parametrize(("path", "status", "code"), [("lab/typed_error", 400, 4001), ("lab/own_code", 500, 4242)])
def test_errors_of_methods_keep_their_code(lab_hub: RunningHub, path: str, status: int, code: int) -> None:
    answer = task(lab_hub, path)
    assert (answer.status, answer.json()["error"]["code"]) == (status, code)


def test_other_methods_and_types(debug_hub: RunningHub) -> None:
    for verb in ("GET", "PUT", "DELETE"):
        answer = send(debug_hub, "/api/v1/debug/echo", b"", {}, verb)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert send(debug_hub, "/api/v1/nobody/serves", b"", {}, "GET").status == 404
    assert send(debug_hub, "/api/v1/debug/echo", b"{}", {"Content-Type": "text/plain"}).status == 415
    assert send(debug_hub, "/api/v1/debug/echo", b"{}", {}).status == 415
    assert task(debug_hub, "debug/echo", b"x", Content_Encoding="gzip").status == 415


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}])
def test_wrong_host_or_origin_runs_nothing(lab_hub: RunningHub, tmp_path: Path, headers: dict[str, str]) -> None:
    marker = tmp_path / "ran"
    answer = task(lab_hub, "lab/counted_run", {"marker": str(marker)}, **headers)
    assert (answer.status, answer.json()["error"]["code"]) == (403, ErrorCode.FORBIDDEN)
    assert not marker.exists()


# --- headers ---


def test_headers_become_metadata(lab_hub: RunningHub) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = task(lab_hub, "lab/where", {}, X_Request_Id="r-1", traceparent=trace, X_Priority="high")
    assert answer.headers["x-request-id"] == "r-1"
    require({"request_id": "r-1", "traceparent": trace, "priority": "high"}, answer.json()["metadata"])


def test_errors_repeat_the_request_id(lab_hub: RunningHub) -> None:
    assert task(lab_hub, "lab/typed_error", {}, X_Request_Id="r-2").headers["x-request-id"] == "r-2"
    assert task(lab_hub, "lab/where", b"{", X_Request_Id="r-3").headers["x-request-id"] == "r-3"


@pytest.mark.parametrize(
    ("headers", "timeout_ms", "applied"),
    [
        ({"X-Timeout-Ms": "50"}, 50.0, None),
        ({"Prefer": "respond-async, wait=2"}, 2000, "wait=2"),
        ({"Prefer": 'wait="3"; x=y'}, 3000, "wait=3"),
        ({"X-Timeout-Ms": "50.5", "Prefer": "wait=2"}, 50.5, None),
        ({"Prefer": "wait=0"}, None, None),
        ({"Prefer": "await=5"}, None, None),
        ({"Prefer": "wait=" + "9" * 40}, None, None),
    ],
)
def test_deadlines(headers: dict[str, str], timeout_ms: float | None, applied: str | None) -> None:
    echoed: dict[str, str] = {}
    assert metadata_of(Headers(headers), echoed).get("timeout_ms") == timeout_ms
    assert echoed.get("Preference-Applied") == applied


def test_a_deadline_that_passes(debug_hub: RunningHub) -> None:
    answer = task(debug_hub, "debug/sleep", {"seconds": 30}, X_Timeout_Ms="50")
    assert (answer.status, answer.json()["error"]["code"]) == (504, ErrorCode.COMMUNICATION_TIMEOUT)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Timeout-Ms": "soon"},
        {"X-Timeout-Ms": "-1"},
        {"X-Timeout-Ms": "0"},
        {"X-Timeout-Ms": "9" * 100},
        {"X-Priority": "urgent"},
        {"X-Request-Id": "x" * 257},
        {"Idempotency-Key": ""},
        {"Idempotency-Key": '""'},
        {"X-Request-Id": "ä"},
    ],
)
def test_headers_that_make_no_sense(debug_hub: RunningHub, headers: dict[str, str]) -> None:
    answer = send(debug_hub, "/api/v1/debug/echo", {}, JSON | headers)
    assert (answer.status, answer.json()["error"]["code"]) == (422, ErrorCode.INVALID_PARAMS)


def test_idempotency_keys(lab_hub: RunningHub, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    for key in ("http-key", '"http-key"', "http-key"):
        assert task(lab_hub, "lab/counted_run", {"marker": str(marker)}, Idempotency_Key=key).json() == "done"
    assert marker.read_text() == "x"
    answer = task(lab_hub, "lab/counted_run", {"marker": "another"}, Idempotency_Key="http-key")
    assert (answer.status, answer.json()["error"]["code"]) == (422, ErrorCode.INVALID_PARAMS)


def test_a_repetition_names_the_hub_that_knows_the_key(lab_hub: RunningHub, tmp_path: Path) -> None:
    epoch = send(lab_hub, "/api/v1/rpc/ping", b"", {}).json()["idempotency_epoch"]
    marker = tmp_path / "ran"
    key = {"Idempotency_Key": str(marker)}
    answer = task(lab_hub, "lab/counted_run", {"marker": str(marker)}, **key, Idempotency_Epoch="gone")
    assert (answer.status, answer.json()["error"]["data"]["idempotency"]) == (502, "epoch")
    assert not marker.exists()
    answer = task(lab_hub, "lab/counted_run", {"marker": str(marker)}, **key, Idempotency_Epoch=epoch)
    assert (answer.json(), marker.read_text()) == ("done", "x")


# --- events ---


def test_a_stream_has_named_events(debug_hub: RunningHub) -> None:
    with events(debug_hub, "/api/v1/debug/count", {"n": 2}) as stream:
        assert stream.status == 200
        assert list(stream) == [
            ServerEvent("chunk", {"chunk_type": "data", "data": {"index": 0}, "index": 0}),
            ServerEvent("chunk", {"chunk_type": "data", "data": {"index": 1}, "index": 1}),
            ServerEvent("result", {"chunks": 2}),
        ]


def test_types_of_chunks(lab_hub: RunningHub) -> None:
    with events(lab_hub, "/api/v1/lab/typed", {}) as stream:
        *chunks, result = list(stream)
    assert [chunk.data["chunk_type"] for chunk in chunks] == ["metadata", "document", "partial_answer"]
    assert result == ServerEvent("result", {"answer": "hello"})


def test_progress_is_an_event(lab_hub: RunningHub) -> None:
    with events(lab_hub, "/api/v1/lab/progress", {"steps": 2}) as stream:
        assert [(event.name, event.data) for event in stream] == [
            ("progress", {"step": 1}),
            ("progress", {"step": 2}),
            ("progress", {"step": "done"}),
            ("result", 2),
        ]


def test_a_failure_in_the_middle_is_an_event(debug_hub: RunningHub) -> None:
    with events(debug_hub, "/api/v1/debug/count", {"n": 5, "fail_at": 2}) as stream:
        *chunks, last = list(stream)
    assert [chunk.name for chunk in chunks] == ["chunk", "chunk"]
    assert last.name == "error"
    require({"code": ErrorCode.PIPELINE_EXECUTION_ERROR, "data": {"chunks": 2}}, last.data)


@pytest.mark.parametrize(
    ("path", "params", "status"), [("debug/count", {"n": "x"}, 422), ("nobody", {}, 404), ("debug/fail", {}, 500)]
)
def test_a_failure_before_the_first_event_has_a_status(
    debug_hub: RunningHub, path: str, params: Any, status: int
) -> None:
    with events(debug_hub, f"/api/v1/{path}", params, EVENTS | {"X-Request-Id": "r-4"}) as stream:
        assert (stream.status, stream.headers["content-type"]) == (status, PROBLEM)
        assert stream.headers["x-request-id"] == "r-4"
        assert stream.body()["status"] == status


# --- paths ---


def info(name: str, http: str | None = None) -> MethodInfo:
    return MethodInfo(name, http=http)


def paths(*infos: MethodInfo) -> TaskPaths:
    def known(name: str, _tenant: str) -> object:
        if name == "hub.own":
            return True
        raise RpcError(ErrorCode.METHOD_NOT_FOUND, name)

    return TaskPaths(lambda: {each.name: each for each in infos}, known)


@pytest.mark.parametrize(
    ("path", "name"), [("a/b", "a.b"), ("ml/x", "c.d"), ("hub/own", "hub.own"), ("c.d/e", "odd"), ("one", "one")]
)
def test_what_a_path_stands_for(path: str, name: str) -> None:
    served = paths(info("a.b"), info("c.d", "ml/x"), info("odd", "c.d/e"), info("one"))
    assert served.method_at(path, "default") == name


@pytest.mark.parametrize("path", ["c/d", "a.b", "", "/", "a", "a/b/", "hub.own"])
def test_what_a_path_does_not_stand_for(path: str) -> None:
    with pytest.raises(RpcError) as refused:
        paths(info("a.b"), info("c.d", "ml/x")).method_at(path, "default")
    assert refused.value.code == ErrorCode.METHOD_NOT_FOUND


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", "../a", "a/..", "a b", "a?b", "ä", "a/{b}", ".a"])
def test_paths_that_cannot_be(path: str) -> None:
    with pytest.raises(RegistrationError, match="no path under /api/v1/"):
        method("x.y", http=path)


def test_fault_two_methods_at_one_path(tmp_path: Path) -> None:
    module = tmp_path / "twins.py"
    module.write_text(
        "from trunkline import method\n"
        '@method("first.one", http="same/path")\nasync def first() -> int:\n    return 1\n'
        '@method("same.path")\nasync def second() -> int:\n    return 2\n'
    )
    with RunningHub(("twins",), cwd=tmp_path) as hub:
        found = hub.wait_for(r"first\.one and same\.path are both at /api/v1/same/path")
        assert "give one of them another http=" in found.string
        assert hub.get("/ready").status == 503


def test_refusals_name_the_header() -> None:
    with pytest.raises(Refused, match="X-Priority"):
        metadata_of(Headers({"X-Priority": "9"}), {})
