"""Figures by tenant: a customer is told of its own calls alone, an operator of those that call most."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.hub.tenants import ENTRIES, as_one_of, fetched, hub_of_tenants
from tests.support.doubles import TenantCall
from trunkline import ErrorCode, RpcError
from trunkline.observe.metrics import CallStats
from trunkline.observe.tenant_calls import MAX_METHODS, MAX_TENANTS, OTHER_TENANTS, RANKED_SECONDS, TenantCalls
from trunkline.testing import MockHub


async def work(n: int) -> int:
    if n < 0:
        raise RpcError(ErrorCode.RESOURCE_EXHAUSTED, "no room")
    return n


@pytest.fixture
async def mock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MockHub]:
    monkeypatch.setattr("trunkline.control.sampling.SECONDS", 0.02)
    async with hub_of_tenants(tmp_path, metrics_tenants=2) as mock:
        mock.method("work.do", work)
        yield mock


async def _used(mock: MockHub) -> None:
    """Ann of acme makes 3 calls, of which one fails; that of bolt 5."""
    for token, numbers in (("acme", (1, 2, -1)), ("bolt", (1, 2, 3, 4, 5))):
        async with as_one_of(mock, token) as peer:
            for n in numbers:
                await peer.call("work.do", {"n": n})


@pytest.mark.parametrize("params", [{}, {"time_range": "1h", "series": True}], ids=["since the start", "of an hour"])
async def test_a_customer_is_told_of_its_own_calls(mock: MockHub, params: dict[str, Any]) -> None:
    await _used(mock)
    await asyncio.sleep(0.1)
    async with as_one_of(mock, "acme") as acme, as_one_of(mock, "root") as root:
        await root.result("tenants.create", {"name": "city"})
        said = await acme.result("metrics.get", params)
        assert said["methods"]["work.do"]["count"] == 3
        assert said["methods"]["work.do"]["errors"] == {"RESOURCE_EXHAUSTED": 1}
        assert said["request_count"] == sum(each["count"] for each in said["methods"].values())
        assert (said["workers"], said["tenants"]) == ({}, {})
        (own,) = said["by_tenant"].values()
        assert (own["count"], own["failed"], own["refused"]) == (said["request_count"], 1, 1)
        assert not any(name.startswith("tenants.") for name in said["methods"])
        if params:
            assert sum(each["calls"] for each in said["series"]) == said["request_count"]
        everything = await root.result("metrics.get", params)
        assert everything["methods"]["work.do"]["count"] == 8
        assert everything["by_tenant"]["bolt"]["count"] >= 5
        assert sum(each["count"] for each in everything["by_tenant"].values()) == everything["request_count"]


async def test_customers_are_not_told_what_operators_of_the_same_tenant_do(mock: MockHub) -> None:
    await _used(mock)
    async with as_one_of(mock, "default") as ann, as_one_of(mock, "root") as root:
        await root.result("tenants.create", {"name": "city"})
        assert "tenants.create" in (await root.result("metrics.get"))["methods"]
        for said in (json.dumps(await ann.result("metrics.get")), await fetched(mock, "/metrics", "default")):
            assert "tenants.create" not in said
            assert "work.do" not in said, "acme and bolt alone have called it"


async def test_the_page_of_a_customer_has_nothing_of_others(mock: MockHub) -> None:
    await _used(mock)
    page = await fetched(mock, "/metrics", "acme")
    families = {family.name: family for family in text_string_to_metric_families(page)}
    assert {
        (sample.labels["method"], sample.labels["outcome"]): sample.value
        for sample in families["trunkline_calls"].samples
        if sample.labels["method"] == "work.do"
    } == {
        ("work.do", "ok"): 2,
        ("work.do", "RESOURCE_EXHAUSTED"): 1,
    }
    others = {name for name in families if not name.startswith(("trunkline_call_", "trunkline_calls"))}
    assert others <= {
        "trunkline_ready", "trunkline_health", "trunkline_method_failing", "trunkline_method_unavailable",
        "trunkline_uptime_seconds", "trunkline_start_time_seconds",
    }  # fmt: skip


async def test_the_operators_page_has_those_that_call_most(mock: MockHub) -> None:
    await _used(mock)
    page = await fetched(mock, "/metrics", "root")
    calls = {
        sample.labels["tenant"]: sample.value
        for family in text_string_to_metric_families(page)
        if family.name == "trunkline_tenant_calls"
        for sample in family.samples
    }
    assert len(calls) == 3
    assert OTHER_TENANTS in calls


async def test_sums_of_health_are_the_own_tenants(mock: MockHub) -> None:
    async with as_one_of(mock, "default") as ann:
        await ann.call("work.do", {"n": 1})
        alone = json.loads(await fetched(mock, "/health", ""))
        assert alone["request_count"] == 1, "there is but one tenant"
    await _used(mock)
    async with as_one_of(mock, "acme") as acme, as_one_of(mock, "root") as root:
        told = await acme.result("health.check")
        assert (told["request_count"], told["error_count"]) == (3, 1)
        detailed = await acme.result("health.detailed")
        assert (detailed["connections"], detailed["executors"], detailed["waiting_requests"]) == (1, [], 0)
        assert detailed["request_count"] == 4
        assert [group["waiting_requests"] for group in detailed["groups"]] == [None] * len(detailed["groups"])
        everything = await root.result("health.detailed")
        assert everything["request_count"] >= 9
        assert everything["connections"] == 2
    everybody = json.loads(await fetched(mock, "/health", ""))
    assert [everybody[name] for name in ("request_count", "error_count", "error_rate", "active_requests")] == [None] * 4
    services = json.loads(await fetched(mock, "/health/detailed", "acme"))
    assert services["services"]


async def fail(n: int) -> int:
    raise RpcError(ErrorCode.INTERNAL_ERROR, f"{n}")


async def test_what_fails_for_one_tenant_is_told_to_it(mock: MockHub) -> None:
    mock.method("work.fail", fail)
    async with as_one_of(mock, "acme") as acme, as_one_of(mock, "bolt") as bolt:
        for n in range(6):
            await acme.call("work.fail", {"n": n})
        health = mock._running().parts.health
        health._of_tenants.take(health._clock())
        (method,) = (await acme.result("health.detailed"))["methods"]
        assert (method["method"], method["status"], method["failed"]) == ("work.fail", "failing", 6)
        assert method["last_error"]["message"] is None
        assert (await bolt.result("health.detailed"))["methods"] == []


# --- the counts by themselves ---


def counted(calls: TenantCalls, tenant: str, number: int, method: str = "m", code: int = 0) -> None:
    for _ in range(number):
        calls.count(TenantCall(tenant), method, 0.5, code, {ErrorCode.INTERNAL_ERROR})


def shown(calls: TenantCalls, name: str = "trunkline_tenant_calls") -> dict[str, float]:
    return next(dict(each.values) for each in calls.readings() if each.name == name)


def test_what_came_before_was_the_only_tenants() -> None:
    so_far, calls = CallStats(), TenantCalls(2)
    so_far.record("m", 1.0, 0)
    assert list(calls.readings()) == []
    calls.begin(so_far)
    counted(calls, "acme", 2)
    assert shown(calls) == {"default": 1, "acme": 2, OTHER_TENANTS: 0}
    assert shown(calls, "trunkline_tenant_call_seconds")["acme"] == 1.0


def test_labels_are_those_that_call_most_and_no_series_goes_back() -> None:
    calls = TenantCalls(2)
    calls.begin(CallStats())
    counted(calls, "small", 1)
    for n in range(50):
        counted(calls, f"t{n}", 2)
    counted(calls, "large", 100)
    before = shown(calls)
    assert before == {"default": 0, "small": 1, OTHER_TENANTS: 200}
    calls.rank(RANKED_SECONDS)
    counted(calls, "large", 3)
    now = shown(calls)
    assert len(now) == 3
    assert now["large"] == 3, "counted apart from now on"
    assert now[OTHER_TENANTS] == 200
    calls.forget("large")
    assert "large" not in shown(calls)


def test_without_labels_all_are_others() -> None:
    calls = TenantCalls(0)
    so_far = CallStats()
    so_far.record("m", 1.0, 0)
    calls.begin(so_far)
    counted(calls, "acme", 2)
    calls.rank(RANKED_SECONDS)
    counted(calls, OTHER_TENANTS, 1)
    assert shown(calls) == {OTHER_TENANTS: 4}


def test_what_is_counted_by_method_is_bounded() -> None:
    calls = TenantCalls(2)
    calls.begin(CallStats())
    for n in range(MAX_METHODS + 10):
        counted(calls, "acme", 1, f"m{n}")
    for n in range(MAX_TENANTS + 10):
        counted(calls, f"t{n}", 1)
    assert calls.stats.methods["acme\n(other)"].count == 10
    assert len(calls.stats.methods) == MAX_METHODS + 1 + MAX_TENANTS - 1
    assert calls.counts("acme")
    assert not calls.counts(f"t{MAX_TENANTS}")
    calls.forget("acme")
    assert calls.counts("somebody")


def test_breakers_are_told_of_what_all_have_in_common() -> None:
    calls = TenantCalls(2)
    calls.begin(CallStats())
    counted(calls, "acme", 2, code=ErrorCode.INTERNAL_ERROR)
    counted(calls, "bolt", 1, code=ErrorCode.INVALID_PARAMS)
    counted(calls, "bolt", 1, "bolt\nown")
    assert calls.ended() == {"m": {"acme": (2, 2), "bolt": (1, 0)}}
    assert calls.ended() == {}


async def test_a_tenant_beyond_those_that_are_counted_is_told_so(mock: MockHub) -> None:
    assert "acme" in ENTRIES
    async with as_one_of(mock, "acme") as acme:
        counts = mock._running().parts.tenant_calls
        for n in range(MAX_TENANTS):
            counts.count(TenantCall(f"t{n}"), "m", 0.0, 0, ())
        error = await acme.error("metrics.get")
        assert (error["code"], "are not" in error["message"]) == (ErrorCode.RESOURCE_EXHAUSTED, True)
