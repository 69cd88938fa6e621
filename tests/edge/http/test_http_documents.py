"""Documents, health and CORS of a real hub."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import pytest

from tests.edge.conftest import ORIGIN, TOKEN
from tests.edge.http.http_client import JSON, request, rpc, send
from tests.support.hub import HttpAnswer, RunningHub
from tests.support.match import require
from tests.support.timing import eventually
from trunkline.edge.http.documents import has_tag

T = TypeVar("T")

DOCUMENTS = ["/openapi.json", "/openrpc.json", "/asyncapi.json"]


def get(hub: RunningHub, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> HttpAnswer:
    return send(hub, path, b"", headers or {}, method)


@pytest.mark.parametrize("path", DOCUMENTS)
def test_documents_are_kept_and_asked_about(debug_hub: RunningHub, path: str) -> None:
    def ask() -> tuple[HttpAnswer, HttpAnswer, HttpAnswer]:
        first = get(debug_hub, path)
        tag = first.headers["etag"]
        return first, get(debug_hub, path, {"If-None-Match": tag}), get(debug_hub, path, method="HEAD")

    # Unless meanwhile a method has gone whose client was of a test before.
    first, again, head = well(ask, lambda answers: answers[0].headers["etag"] == answers[2].headers["etag"])
    assert (first.status, first.headers["content-type"]) == (200, "application/json")
    assert first.headers["cache-control"] == "private, no-cache"
    assert (again.status, again.body) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
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
    def are_the_same() -> bool:
        return bool(get(debug_hub, "/openrpc.json").json() == rpc(debug_hub, request("rpc.discover")).json()["result"])

    eventually(are_the_same, "nothing else is in it: unless meanwhile a method has gone, of a test before")


@pytest.mark.parametrize("path", ["/health", "/ready", "/health/detailed"])
def test_health_is_not_kept(debug_hub: RunningHub, path: str) -> None:
    answer = well(lambda: get(debug_hub, path, method="HEAD"), lambda answer: answer.status == 200)
    assert (answer.body, answer.headers["cache-control"]) == (b"", "no-store")


def well(ask: Callable[[], T], is_well: Callable[[T], object]) -> T:
    """The first answer that says so: executors that stand still for a moment change it, and come back."""
    answers: list[T] = []

    def is_so() -> object:
        answers.append(ask())
        return is_well(answers[-1])

    eventually(is_so, "it is well")
    return answers[-1]


def has_latencies(health: Any) -> bool:
    """Each executor has answered a ping, and is heard."""
    others = [service["latencyMs"] for name, service in health["services"].items() if name != "hub"]
    return bool(health["status"] == "healthy" and all(others))


def test_detailed_health(well_hub: RunningHub) -> None:
    health = well(lambda: get(well_hub, "/health/detailed").json(), has_latencies)
    number = {"$type": "number"}
    require({"status": "healthy", "uptime": number, "causes": [], "connections": number}, health)
    assert datetime.fromisoformat(health["timestamp"]).tzinfo is not None
    assert health["services"].keys() == {"hub", "executor-0", "executor-1"}
    for service in health["services"].values():
        assert service.keys() == {"status", "latencyMs"}
        assert service["status"] == "healthy"
        assert 0 <= service["latencyMs"] < 60_000
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
