"""What a foreign web page can have a browser send by itself: forms, requests with cookies. None of it is a call."""

from __future__ import annotations

import pytest

from tests.edge.conftest import ORIGIN, TOKEN
from tests.edge.http.http_client import JSON, request, send
from tests.support.hub import RunningHub

SIMPLE = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "")
"""Types of bodies that a page may send anywhere, without asking before."""

PUBLISH = request("publish", params={"topic": "cross.site", "data": "forged"})


@pytest.mark.parametrize("kind", SIMPLE)
@pytest.mark.parametrize("path", ["/rpc", "/mcp"])
def test_a_form_of_a_foreign_page_is_no_call(debug_hub: RunningHub, kind: str, path: str) -> None:
    for origin in ({}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
        headers = origin | ({"Content-Type": kind} if kind else {})
        answer = send(debug_hub, path, PUBLISH, headers)
        assert answer.status in (400, 403, 406, 415), answer
        assert b'"result"' not in answer.body


@pytest.mark.parametrize("path", ["/rpc", "/api/v1/debug/echo", "/mcp", "/events?topic=a"])
def test_a_foreign_page_is_refused_whatever_it_sends(debug_hub: RunningHub, path: str) -> None:
    method = "GET" if path.startswith("/events") else "POST"
    answer = send(debug_hub, path, PUBLISH, JSON | {"Origin": "https://evil.example"}, method)
    assert answer.status == 403
    assert "access-control-allow-origin" not in {name.lower() for name in answer.headers}


@pytest.mark.parametrize("path", ["/rpc", "/health/detailed", "/metrics", "/openapi.json", "/events?topic=a"])
def test_cookies_are_no_credentials(token_hub: RunningHub, path: str) -> None:
    cookies = "; ".join(f"{name}={TOKEN}" for name in ("token", "access_token", "Authorization", "trunkline.bearer"))
    method = "POST" if path == "/rpc" else "GET"
    answer = send(token_hub, path, request("rpc.ping"), JSON | {"Cookie": cookies}, method)
    assert answer.status == 401
    allowed = send(token_hub, path.partition("?")[0], request("rpc.ping"), JSON | {"Origin": ORIGIN}, "OPTIONS")
    assert "access-control-allow-credentials" not in {name.lower() for name in allowed.headers}


def test_no_answer_sets_a_cookie(debug_hub: RunningHub) -> None:
    for path in ("/", "/health", "/health/detailed", "/openapi.json", "/metrics"):
        answer = send(debug_hub, path, method="GET")
        assert answer.status == 200
        assert "set-cookie" not in {name.lower() for name in answer.headers}
