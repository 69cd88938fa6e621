"""Every HTTP answer has a request id, the caller's or the hub's own; calls, errors, logs and audit have the same."""

from __future__ import annotations

import http.client
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.edge.http.http_client import JSON, ask, request
from tests.support.hub import HttpAnswer
from tests.support.timing import PATIENCE
from trunkline.edge.access.tokens import new_token
from trunkline.testing import MockHub
from trunkline_protocol.errors import ErrorCode

TOKEN, DIGEST = new_token()
HOSTILE = ["x" * 257, "\x1b[2J", "na\u00efve", "a\x7fb", "\u0080"]


class Web:
    """A mock hub, and what is asked of it."""

    def __init__(self, mock: MockHub, audit: Path = Path()) -> None:
        self._address = urlsplit(mock.url).netloc
        self._audit = audit

    def ask(self, path: str, body: Any = b"", method: str = "POST", **headers: str) -> HttpAnswer:
        """One request; names of headers have underscores for dashes."""
        connection = http.client.HTTPConnection(self._address, timeout=PATIENCE)
        try:
            return ask(connection, path, body, JSON | {n.replace("_", "-"): v for n, v in headers.items()}, method)
        finally:
            connection.close()

    def audited(self, **members: Any) -> list[dict[str, Any]]:
        """The audit lines with these members; once the hub has ended they are all there."""
        lines = [json.loads(line) for line in self._audit.read_bytes().splitlines()]
        return [line for line in lines if members.items() <= line.items()]


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with MockHub() as mock:
        mock.method("echo", lambda value=None: value)
        yield Web(mock)


PATHS: Mapping[str, tuple[str, Any]] = {
    "/rpc": ("POST", request("echo")),
    "/api/v1/echo": ("POST", {}),
    "/api/v1/none/such": ("POST", {}),
    "/events?topic=a..b": ("GET", b""),
    "/events": ("POST", b""),
    "/health": ("GET", b""),
    "/ready": ("GET", b""),
    "/metrics": ("GET", b""),
    "/openapi.json": ("GET", b""),
    "/none/such": ("GET", b""),
    "/ws": ("GET", b""),
}


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_has_the_id_it_came_with_or_one_of_its_own(web: Web, path: str) -> None:
    method, body = PATHS[path]
    assert web.ask(path, body, method, X_Request_Id="r 1/2").headers["x-request-id"] == "r 1/2"
    one, other = (web.ask(path, body, method).headers["x-request-id"] for _ in range(2))
    assert one != other


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_id_is_repeated_nowhere_and_no_call_is_made_under_another(web: Web, path: str, text: str) -> None:
    method, body = PATHS[path]
    answer = web.ask(path, body, method, X_Request_Id=text)
    assert text.encode() not in answer.body
    if not text.isprintable() and text.isascii():
        assert (answer.status, answer.headers.get("x-request-id")) == (400, None), "no HTTP parser takes that"
        return
    given = answer.headers["x-request-id"]
    assert given.isascii()
    assert given.isprintable()
    assert given != text
    if path in ("/rpc", "/api/v1/echo"):
        assert answer.json()["error"]["code"] == ErrorCode.INVALID_PARAMS


def test_several_of_them_are_one_answer(web: Web) -> None:
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a\r\nx-request-id: b\r\nConnection: close\r\n\r\n"
    connection = http.client.HTTPConnection(web._address, timeout=PATIENCE)
    connection.connect()
    assert connection.sock is not None
    connection.sock.sendall(head)
    answer = http.client.HTTPResponse(connection.sock)
    answer.begin()
    assert answer.headers.get_all("x-request-id") == ["a"]
    answer.close()
    connection.close()


def test_calls_have_the_id_of_their_request_unless_they_bring_one(audit: Path) -> None:
    with MockHub(audit_file=audit) as mock:
        mock.method("echo", lambda value=None: value)
        web = Web(mock, audit)
        batch = [request("echo"), request("none.such") | {"id": 2}, request("echo", metadata={"request_id": "own"})]
        batch[2]["id"] = 3
        replies = web.ask("/rpc", batch, X_Request_Id="b-1").json()
        assert [call.metadata.get("request_id") for call in mock.calls] == ["b-1", "b-1", "own"]
    (error,) = [reply["error"] for reply in replies if "error" in reply]
    assert error["data"]["request_id"] == "b-1"
    assert sorted(line["request_id"] for line in web.audited(event="call")) == ["b-1", "b-1", "own"]


def test_a_refused_request_is_audited_with_reason_token_digest_and_id(
    audit: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    wrong, digest = new_token()
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(f'[[tokens]]\nname = "ann"\nsha256 = "{DIGEST}"\n')
    tokens.chmod(0o600)
    doors = {
        "/rpc": "POST",
        "/api/v1/echo": "POST",
        "/metrics": "GET",
        "/mcp": "POST",
        "/openapi.json": "GET",
        "/events?topic=a": "GET",
    }
    with MockHub(audit_file=audit, tokens_file=tokens) as mock:
        web = Web(mock, audit)
        for number, (path, method) in enumerate(doors.items()):
            answer = web.ask(path, {}, method, X_Request_Id=f"w-{number}", Authorization=f"Bearer {wrong}")
            assert (answer.status, answer.headers["x-request-id"]) == (401, f"w-{number}")
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13"}
        key = {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==", "Authorization": f"Bearer {wrong}"}
        answer = web.ask("/ws", b"", "GET", X_Request_Id="w-6", **upgrade, **key)
        assert answer.headers["x-request-id"] == "w-6"
        web.ask("/rpc", {}, Authorization="Bearer hunter2")
        web.ask("/rpc", {})
    lines = web.audited(event="refused", code=int(ErrorCode.UNAUTHENTICATED))
    assert [line.get("token_sha256") for line in lines] == [digest[:16]] * 7 + [None, None]
    assert [line["request_id"] for line in lines[:7]] == [f"w-{number}" for number in range(7)]
    assert [line["reason"] for line in lines[:8]] == ["the token is not valid"] * 8
    assert "requires a token" in lines[8]["reason"]
    assert wrong not in audit.read_text()
    assert "hunter2" not in audit.read_text()
    logged = {vars(record).get("request_id") for record in caplog.records if "refused" in record.message}
    assert logged >= {f"w-{number}" for number in range(7)}
