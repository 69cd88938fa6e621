"""Documents, health and CORS of a real hub."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.edge.conftest import ORIGIN, TOKEN
from tests.edge.http.http_client import JSON, request, rpc, send
from tests.support.hub import HttpAnswer, RunningHub
from tests.support.match import require
from tests.support.timing import eventually
from trunkline.edge.http.documents import has_tag

DOCUMENTS = ["/openapi.json", "/openrpc.json", "/asyncapi.json"]


def get(hub: RunningHub, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> HttpAnswer:
    return send(hub, path, b"", headers or {}, method)


@pytest.mark.parametrize("path", DOCUMENTS)
def test_documents_are_kept_and_asked_about(debug_hub: RunningHub, path: str) -> None:
    first = get(debug_hub, path)
    assert (first.status, first.headers["content-type"]) == (200, "application/json")
    assert first.headers["cache-control"] == "private, no-cache"
    again = get(debug_hub, path, {"If-None-Match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    head = get(debug_hub, path, method="HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(first.body)))


@pytest.mark.parametrize(
    ("listed", "has"),
    [('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ('"b"', False), ("", False), ("a", False)],
)
def test_tags(listed: str, has: bool) -> None:
    assert has_tag(listed, '"a"') is has


@pytest.mark.parametrize("path", [*DOCUMENTS, "/health/detailed"])
def test_who_may_see_them(token_hub: RunningHub, path: str) -> None:
    assert get(token_hub, path).status == 401
    assert get(token_hub, path, {"Authorization": f"Bearer {TOKEN}"}).status == 200
    assert get(token_hub, path, {"Authorization": f"Bearer {TOKEN}", "Host": "evil.example"}).status == 403


def test_openrpc_is_what_discover_answers(debug_hub: RunningHub) -> None:
    assert get(debug_hub, "/openrpc.json").json() == rpc(debug_hub, request("rpc.discover")).json()["result"]


@pytest.mark.parametrize("path", ["/health", "/ready", "/health/detailed"])
def test_health_is_not_kept(debug_hub: RunningHub, path: str) -> None:
    answer = get(debug_hub, path, method="HEAD")
    assert (answer.status, answer.body, answer.headers["cache-control"]) == (200, b"", "no-store")


def executor_latencies(hub: RunningHub) -> list[float | None]:
    services = get(hub, "/health/detailed").json()["services"]
    return [service["latencyMs"] for name, service in services.items() if name != "hub"]


def test_detailed_health(well_hub: RunningHub) -> None:
    health = get(well_hub, "/health/detailed").json()
    number = {"$type": "number"}
    require({"status": "healthy", "uptime": number, "causes": [], "connections": number}, health)
    assert datetime.fromisoformat(health["timestamp"]).tzinfo is not None
    assert health["services"].keys() == {"hub", "executor-0", "executor-1"}
    for service in health["services"].values():
        assert service.keys() == {"status", "latencyMs"}
        assert service["status"] == "healthy"
    assert 0 <= health["services"]["hub"]["latencyMs"] < 10_000
    eventually(lambda: all(executor_latencies(well_hub)), "each executor has answered a ping")
    assert all(latency is not None and 0 < latency < 60_000 for latency in executor_latencies(well_hub))
    assert [executor["worker_id"] for executor in health["executors"]] == ["executor-0", "executor-1"]


# --- pages of other origins ---


def preflight(hub: RunningHub, origin: str, method: str = "POST", path: str = "/rpc") -> HttpAnswer:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type,x-request-id,idempotency-key",
    }
    return get(hub, path, asked, "OPTIONS")


@pytest.mark.parametrize("path", ["/rpc", "/api/v1/debug/echo", "/openapi.json"])
def test_pages_of_allowed_origins_may_ask_and_read(token_hub: RunningHub, path: str) -> None:
    answer = preflight(token_hub, ORIGIN, path=path)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert all(name in allowed for name in ("authorization", "content-type", "x-request-id", "idempotency-key"))
    asked = JSON | {"Origin": ORIGIN, "Authorization": f"Bearer {TOKEN}"}
    done = rpc(token_hub, request("rpc.ping"), asked)
    assert (done.status, done.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert "Origin" in done.headers["vary"]
    assert "retry-after" in done.headers["access-control-expose-headers"].lower()


def test_a_page_may_read_why_it_was_refused(token_hub: RunningHub) -> None:
    refused = rpc(token_hub, request("rpc.ping"), JSON | {"Origin": ORIGIN})
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, ORIGIN)


def test_pages_of_other_origins_may_not(token_hub: RunningHub, debug_hub: RunningHub) -> None:
    hubs: list[Any] = [(token_hub, 400), (debug_hub, 405)]
    for hub, status in hubs:
        answer = preflight(hub, "https://evil.example")
        assert answer.status == status
        assert "access-control-allow-origin" not in answer.headers
        asked = JSON | {"Origin": "https://evil.example", "Authorization": f"Bearer {TOKEN}"}
        assert rpc(hub, request("rpc.ping"), asked).status == 403
