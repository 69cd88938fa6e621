"""What the hub orders of its executors: caches, replacements, keys; and what it reports of their calls."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.hub.doors import FakeBackend
from tests.support.doubles import Asked
from tests.support.timing import PATIENCE
from trunkline.control.caches import CacheCalls, total
from trunkline.control.executors import ExecutorOrders
from trunkline.hub.dispatch import Handlers
from trunkline.hub.principal import ADMIN, Principal
from trunkline.hub.router import Router
from trunkline_protocol.administration import ClearedCache
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.reports import Assigned, Drained, Reloaded

ADA, ROOT = Principal("ada"), Principal("root", frozenset({ADMIN}))


async def outcome(handlers: Handlers, method: str, params: object, who: Principal = ROOT) -> Any:
    router = Router(FakeBackend(), lambda *_: None)
    router.handle(handlers)
    asked = Asked(method, params, who)
    router.route(asked)
    return await asyncio.wait_for(asked.outcome, PATIENCE)


def test_what_all_have_cleared_is_added_up() -> None:
    answers: dict[str, list[Any]] = {
        "executor-0": [{"kept": {"entries": 1, "bytes": 10}}, {"responses": {"entries": 2, "bytes": 5}}],
        "executor-1": [{"kept": {"entries": 4, "bytes": 30}}],
        "executor-2": [],
    }
    assert total(answers) == {"kept": ClearedCache(5, 40), "responses": ClearedCache(2, 5)}


async def test_a_cache_that_nobody_has_is_a_mistake_unless_packs_may_have_it() -> None:
    async def broadcast(hook: str, _params: dict[str, Any], _seconds: float) -> dict[str, list[Any]]:
        named: list[Any] = [["responses", "pipelines"], ["kept"]] if hook == "cache_names" else []
        return {"executor-0": named, "executor-1": named}

    handlers = CacheCalls(broadcast).methods()
    for name in ("responses", "all"):
        assert (await outcome(handlers, "cache.clear", [name]))["cleared"] == {}
    refused = await outcome(handlers, "cache.clear", ["respones"])
    assert refused.code == ErrorCode.INVALID_PARAMS
    assert refused.message.endswith("no executor has a cache 'respones'; there are: all, kept, pipelines, responses")


async def test_clearing_asks_all_executors_and_tells_how_many() -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    async def broadcast(hook: str, params: dict[str, Any], _seconds: float) -> dict[str, list[Any]]:
        asked.append((hook, params))
        return {"executor-0": [{"kept": {"entries": 1, "bytes": 10}}], "executor-1": []}

    handlers = CacheCalls(broadcast).methods()
    cleared = await outcome(handlers, "cache.clear", ["kept"])
    assert cleared == {"cache_type": "kept", "executors": 2, "cleared": {"kept": {"entries": 1, "bytes": 10}}}
    assert asked == [("clear_cache", {"cache_type": "kept"})]
    assert (await outcome(handlers, "cache.clear", [], ADA)).code == ErrorCode.FORBIDDEN


class Executors:
    """What orders are passed on to."""

    async def drain(self, worker_id: str) -> Drained:
        if worker_id != "executor-0":
            raise RpcError(ErrorCode.INVALID_PARAMS, "no such executor")
        return Drained(worker_id, 64, 7)

    async def reload(self, group: str | None) -> Reloaded:
        if group == "broken":
            raise ZeroDivisionError
        return Reloaded([], 3, [f"of {group}"], [], [])

    async def assign(self, key: str, worker_id: str, tenant: str) -> Assigned:
        return Assigned(key, 5 if tenant == "default" else 6, worker_id)


async def test_orders_are_answered_when_they_are_done(caplog: pytest.LogCaptureFixture) -> None:
    handlers = ExecutorOrders(Executors(), Executors()).methods()
    drained = await outcome(handlers, "executors.drain", {"worker_id": "executor-0"})
    assert drained == {"worker_id": "executor-0", "slots": 64, "pid": 7}
    assert (await outcome(handlers, "executors.drain", ["executor-9"])).message == "no such executor"
    assert (await outcome(handlers, "executors.reload", {}))["added"] == ["of None"]
    assert (await outcome(handlers, "executors.reload", {"group": "gpu"}))["added"] == ["of gpu"]
    assigned = await outcome(handlers, "executors.assign", {"key": "k", "worker_id": "executor-1"})
    assert assigned == {"key": "k", "slot": 5, "worker_id": "executor-1"}
    params = {"key": "k", "worker_id": "executor-1", "tenant": "acme"}
    assert (await outcome(handlers, "executors.assign", params))["slot"] == 6
    broken = await outcome(handlers, "executors.reload", {"group": "broken"})
    assert (broken.code, broken.message) == (ErrorCode.INTERNAL_ERROR, "the hub failed to answer executors.reload")
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("method", ["drain", "reload", "assign"])
async def test_orders_are_for_admins(method: str) -> None:
    params = {"drain": ["executor-0"], "reload": [], "assign": ["k", "executor-0"]}[method]
    handlers = ExecutorOrders(Executors(), Executors()).methods()
    assert (await outcome(handlers, f"executors.{method}", params, ADA)).code == ErrorCode.FORBIDDEN
