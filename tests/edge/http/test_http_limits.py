"""What a peer over HTTP may cost, and who it may be: the rules of every door, at the HTTP doors of real hubs."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.edge.conftest import IMPATIENCE, LIMIT
from tests.edge.http.http_client import EVENTS, JSON, connected, encoded, events, request, rpc, send
from tests.support.frames import raw_tcp
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.match import require
from tests.support.timing import PATIENCE, TIMER_GRAIN, eventually, records_in
from trunkline_protocol.errors import ErrorCode

ECHO = request("debug.echo", params={"value": 1})


def of_size(size: int) -> bytes:
    body = encoded(request("debug.echo", params={"value": ""}))
    return body.replace(b'""', b'"' + b"x" * (size - len(body)) + b'"')


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


def head(path: str = "/rpc", *lines: str) -> bytes:
    fields = ["Host: 127.0.0.1", "Content-Type: application/json", *lines]
    return "\r\n".join([f"POST {path} HTTP/1.1", *fields, "", ""]).encode()


# --- bodies ---


def test_a_body_at_the_limit(patient_hub: RunningHub) -> None:
    assert len(rpc(patient_hub, of_size(LIMIT)).json()["result"]) > LIMIT - 200


@pytest.mark.parametrize("path", ["/rpc", "/api/v1/debug/echo"])
def test_fault_07_a_body_above_the_limit(patient_hub: RunningHub, path: str) -> None:
    answer = send(patient_hub, path, of_size(LIMIT + 1))
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    require(
        {"error": {"code": ErrorCode.INVALID_REQUEST, "data": {"limit": "TRUNKLINE_MAX_MESSAGE_BYTES"}}}, answer.json()
    )


def test_fault_07_17_mib_is_refused_before_it_is_kept(debug_hub: RunningHub) -> None:
    before = debug_hub.rss()
    assert send(debug_hub, "/rpc", b"x" * (17 * 2**20)).status == 413
    assert debug_hub.rss() - before < 8 * 2**20


async def test_a_refusal_is_not_lost_on_a_peer_that_still_sends(patient_hub: RunningHub) -> None:
    """A socket closed with bytes unread is reset, and the answer with it."""
    async with raw_tcp(patient_hub.port) as socket:
        await socket.write(head("/rpc", "Content-Length: 5000000"))
        for _ in range(50):
            await socket.write(b"x" * 100_000)
        assert (await socket.http_answer()).status == 413
        assert await socket.ended()


async def test_fault_07_a_body_of_no_length(patient_hub: RunningHub) -> None:
    before = patient_hub.rss()
    async with raw_tcp(patient_hub.port) as socket:
        await socket.write(head("/rpc", "Transfer-Encoding: chunked"))
        for _ in range(40):
            await socket.write(chunked(b"x" * 50_000))
        assert (await socket.http_answer()).status == 413
        assert patient_hub.rss() - before < 8 * 2**20


async def test_fault_07_a_body_that_never_ends_is_cut_off(impatient_hub: RunningHub) -> None:
    before = impatient_hub.rss()
    async with raw_tcp(impatient_hub.port) as socket:
        part = chunked(b"x" * 50_000)
        began = time.monotonic()
        await socket.write(head("/rpc", "Transfer-Encoding: chunked") + part * (LIMIT // 50_000 + 1))
        assert (await socket.http_answer()).status == 413
        await socket.write_until_cut(part, IMPATIENCE + PATIENCE)
        waited = time.monotonic() - began
        assert waited >= IMPATIENCE - TIMER_GRAIN, "what is on its way to the hub gets time to arrive"
        assert impatient_hub.rss() - before < 8 * 2**20


async def test_a_chunked_body(patient_hub: RunningHub) -> None:
    async with raw_tcp(patient_hub.port) as socket:
        body = encoded(ECHO)
        await socket.write(head("/rpc", "Transfer-Encoding: chunked"))
        for at in range(0, len(body), 7):
            await socket.write(chunked(body[at : at + 7]))
        await socket.write(b"0\r\n\r\n")
        assert json.loads((await socket.http_answer()).body)["result"] == 1


@pytest.mark.parametrize("sent", [b"", b'{"jsonrpc"'])
async def test_fault_09_a_body_that_never_comes(impatient_hub: RunningHub, sent: bytes) -> None:
    async with raw_tcp(impatient_hub.port) as socket:
        started = time.monotonic()
        await socket.write(head("/rpc", "Content-Length: 500") + sent)
        assert (await socket.http_answer()).status == 408
        assert time.monotonic() - started >= IMPATIENCE - TIMER_GRAIN
        assert await socket.ended()


async def test_expect_100_continue(patient_hub: RunningHub) -> None:
    async with raw_tcp(patient_hub.port) as socket:
        body = encoded(ECHO)
        await socket.write(head("/rpc", f"Content-Length: {len(body)}", "Expect: 100-continue"))
        assert (await socket.http_answer()).status == 100
        await socket.write(body)
        assert (await socket.http_answer()).status == 200
    async with raw_tcp(patient_hub.port) as socket:
        await socket.write(head("/rpc", f"Content-Length: {LIMIT + 1}", "Expect: 100-continue"))
        assert (await socket.http_answer()).status == 413


async def test_pipelined_requests_are_answered_in_order(patient_hub: RunningHub) -> None:
    async with raw_tcp(patient_hub.port) as socket:
        parts = []
        for number in range(20):
            body = encoded(request("debug.sleep", id=number, params={"seconds": 0.02 if number % 2 else 0}))
            parts.append(head("/rpc", f"Content-Length: {len(body)}") + body)
        await socket.write(b"".join(parts))
        ids = [json.loads((await socket.http_answer()).body)["id"] for _ in range(20)]
    assert ids == list(range(20))


# --- who may ---


def entry(name: str, **grants: Any) -> str:
    lines = [f'[[tokens]]\nname = "{name}"\nsha256 = "{hashlib.sha256(name.encode()).hexdigest()}"']
    return "\n".join([*lines, *(f"{key} = {json.dumps(value)}" for key, value in grants.items()), ""])


def bearer(name: str) -> dict[str, str]:
    return JSON | {"Authorization": f"Bearer {name}"}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("limits") / "tokens.toml"
    file.write_text(entry("all") + entry("echoer", methods=["debug.echo"]) + entry("slow", rate=0.02) + entry("gone"))
    return file


@pytest.fixture(scope="module")
def guarded_hub(tokens: Path) -> Iterator[RunningHub]:
    env = {
        "TRUNKLINE_TOKENS_FILE": str(tokens),
        "TRUNKLINE_AUDIT_FILE": str(tokens.with_name("audit.log")),
        "TRUNKLINE_MAX_CONNECTIONS": "3",
        "TRUNKLINE_AUTH_CALL": "true",
    }
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, env=env) as hub:
        yield hub


def test_fault_10_tokens_roles_rates_and_the_audit_file(guarded_hub: RunningHub, tokens: Path) -> None:
    hub = guarded_hub
    for headers in (JSON, bearer("wrong")):
        answer = rpc(hub, ECHO, headers)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.json()["error"]["code"] == ErrorCode.UNAUTHENTICATED
        assert send(hub, "/api/v1/debug/echo", {}, headers).status == 401
    assert rpc(hub, ECHO, bearer("all")).json()["result"] == 1
    assert rpc(hub, ECHO, bearer("echoer")).json()["result"] == 1
    refused = rpc(hub, request("debug.pid"), bearer("echoer"))
    assert (refused.status, refused.json()["error"]["code"]) == (200, ErrorCode.FORBIDDEN)
    assert send(hub, "/api/v1/debug/pid", {}, bearer("echoer")).status == 403
    assert send(hub, "/health/detailed", b"", bearer("echoer"), "GET").status == 403
    assert rpc(hub, ECHO, bearer("slow")).json()["result"] == 1
    limited = send(hub, "/api/v1/debug/echo", {}, bearer("slow"))
    assert limited.status == 429
    assert 0 < int(limited.headers["retry-after"]) <= 50

    told = {("all", "debug.echo", "ok"), ("echoer", "debug.pid", "FORBIDDEN"), ("slow", "debug.echo", "RATE_LIMITED")}

    def is_written() -> bool:
        lines = records_in(tokens.with_name("audit.log"))
        calls = {(line["principal"], line["method"], line["outcome"]) for line in lines if "method" in line}
        return told <= calls and any(line.get("outcome") == "UNAUTHENTICATED" for line in lines)

    eventually(is_written, "the audit file tells all of it")


def test_connections_of_all_doors_are_counted_together(guarded_hub: RunningHub, tmp_path: Path) -> None:
    hub = guarded_hub
    eventually(lambda: hub.get("/health").json()["active_requests"] == 0, "nothing of other tests runs")
    with connected(hub) as one, connected(hub) as two, connected(hub) as three:
        for number, connection in enumerate((one, two, three)):
            marker = tmp_path / f"cleanup{number}"
            body = encoded(request("lab.cleanup", params={"marker": str(marker)}))
            connection.request("POST", "/rpc", body, bearer("all"))
            eventually(Path(f"{marker}.started").exists, "it runs")
        refused = rpc(hub, ECHO, bearer("all"))
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["error"]["data"]["limit"] == "TRUNKLINE_MAX_CONNECTIONS"
    eventually(lambda: rpc(hub, ECHO, bearer("all")).status == 200, "there is room again")


def test_revoked_credentials_end_a_stream_with_an_error(guarded_hub: RunningHub, tokens: Path) -> None:
    message = request("debug.count", params={"n": 10**6, "interval_ms": 20})
    with events(guarded_hub, "/rpc", message, EVENTS | bearer("gone")) as stream:
        arriving = iter(stream)
        next(arriving)
        tokens.write_text(tokens.read_text().replace(entry("gone"), ""))
        guarded_hub.process.send_signal(signal.SIGHUP)
        *_, last = list(arriving)
    require({"id": 1, "error": {"code": ErrorCode.UNAUTHENTICATED, "data": {"maybe_executed": True}}}, last.data)
    assert rpc(guarded_hub, ECHO, bearer("gone")).status == 401
    wanted = {"event": "credentials", "change": "removed", "of": "token", "name": "gone"}

    def is_written() -> bool:
        lines = records_in(tokens.with_name("audit.log"))
        removed = [line for line in lines if wanted.items() <= line.items()]
        return len(removed) == 1 and any(line["event"] == "reload" and "error" not in line for line in lines)

    eventually(is_written, "the audit file names whose token was removed")


def test_fault_24_stopping_answers_what_is_in_flight(tmp_path: Path) -> None:
    marker = tmp_path / "cleanup"
    with ready_hub("lab", cwd=MODULES, env={"TRUNKLINE_DRAIN_SECONDS": "0.3"}) as hub:
        answers: list[Any] = []
        body = request("lab.cleanup", params={"marker": str(marker)})
        asking = threading.Thread(target=lambda: answers.append(rpc(hub, body)))
        asking.start()
        eventually(Path(f"{marker}.started").exists, "it runs")
        hub.stop()
        asking.join(PATIENCE)
    error = answers[0].json()["error"]
    assert error["code"] in (ErrorCode.WORKER_UNAVAILABLE, ErrorCode.WORKER_CRASHED)
    assert error["data"]["maybe_executed"] is True
