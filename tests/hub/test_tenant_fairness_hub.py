"""One customer with many connections, or whose calls fail, does not take the executors from the others."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.hub.tenants import ENTRIES, as_one_of, hub_of_tenants
from tests.support import jobs
from tests.support.timing import until
from trunkline import ErrorCode, RpcError, method
from trunkline.testing import MockHub
from trunkline_protocol.tenants import key_in

MANY = {f"a{n}": f'name = "a{n}"\ntenant = "acme"' for n in range(10)}
"""Principals of acme, beside ann."""


class Started:
    """A method whose calls run one after the other; whose they were is kept, in the order they began."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.whose: list[str] = []

    async def run(self, whose: str) -> str:
        self.whose.append(whose)
        await self.gate.wait()
        await asyncio.sleep(0)
        return whose


@pytest.mark.parametrize("is_first", [True, False], ids=["from the first call", "with calls that wait already"])
async def test_a_hundred_waiting_calls_of_one_tenant_delay_anothers_by_one_each(tmp_path: Path, is_first: bool) -> None:
    entries = ENTRIES | {f"{token}": lines.replace("acme", "default") for token, lines in MANY.items()}
    started = Started()
    async with hub_of_tenants(tmp_path, entries=entries, max_concurrency=1) as mock, AsyncExitStack() as stack:
        mock.method("work.run", started.run)
        if is_first:
            async with as_one_of(mock, "bolt"):
                pass
        crowd = [await stack.enter_async_context(as_one_of(mock, token)) for token in MANY]
        for peer in crowd:
            for _ in range(10):
                await peer.request("work.run", {"whose": "default"})
        await until(lambda: mock._running().parts.pool.waiting > 50, "they wait")
        bolt = await stack.enter_async_context(as_one_of(mock, "bolt"))
        ids = [await bolt.request("work.run", {"whose": "bolt"}) for _ in range(5)]
        await until(lambda: mock._running().parts.pool.waiting > 90, "these, too")
        started.gate.set()
        for each in ids:
            assert (await bolt.reply(each))["result"] == "bolt"
        first = started.whose.index("bolt")
        assert started.whose[first : first + 9].count("bolt") == 5


async def test_jobs_of_ten_principals_of_one_tenant_delay_anothers_by_one(tmp_path: Path) -> None:
    ran: list[str] = []
    gate = asyncio.Event()

    async def run(whose: str) -> None:
        ran.append(whose)
        await gate.wait()

    async with hub_of_tenants(tmp_path, entries=ENTRIES | MANY, jobs_at_once=1) as mock, AsyncExitStack() as stack:
        mock.method("work.run", run, idempotent=True)
        for token in MANY:
            peer = await stack.enter_async_context(as_one_of(mock, token))
            for _ in range(3):
                await peer.result("jobs.create", {"method": "work.run", "params": {"whose": "acme"}})
        bolt = await stack.enter_async_context(as_one_of(mock, "bolt"))
        job = await bolt.result("jobs.create", {"method": "work.run", "params": {"whose": "bolt"}})
        gate.set()
        await jobs.until(bolt, job["id"], "succeeded")
        assert ran.index("bolt") <= 2


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline.control.sampling.SECONDS", 0.05)


async def ask(document: str) -> str:
    if document == "broken":
        raise RpcError(ErrorCode.INTERNAL_ERROR, "it cannot be read")
    return document


async def test_what_one_tenants_documents_break_is_served_to_the_others(tmp_path: Path, often: None) -> None:
    async with hub_of_tenants(tmp_path, breaker_ratio=0.5, breaker_calls=4, breaker_seconds=60.0) as mock:
        mock.method("work.ask", ask)
        async with as_one_of(mock, "acme") as acme, as_one_of(mock, "bolt") as bolt, as_one_of(mock, "root") as root:
            assert await bolt.result("work.ask", {"document": "good"}) == "good"
            for _ in range(20):
                await acme.call("work.ask", {"document": "broken"})
            tripped = mock._running().parts.router.breakers.tripped
            await until(lambda: tripped, "acme's is open")
            refused = await acme.error("work.ask", {"document": "good"})
            assert (refused["code"], refused["data"]["breaker"]) == (ErrorCode.WORKER_UNAVAILABLE, "open")
            for other in (bolt, root):
                assert await other.result("work.ask", {"document": "good"}) == "good"
            assert [*tripped] == [key_in("acme", "work.ask")]
            assert (await bolt.result("health.detailed"))["status"] == "healthy"
            for who in (acme, root):
                said = await who.result("health.detailed")
                assert any("breaker of work.ask for tenant acme" in cause for cause in said["causes"])


@method("quick.take", max_calls=1, rate=1000.0, per_tenant=True)
async def take(hold: bool) -> bool:
    """One call of each tenant at a time."""
    if hold:
        await asyncio.sleep(60)
    return hold


async def test_calls_in_flight_of_a_method_may_be_each_tenants(tmp_path: Path) -> None:
    async with hub_of_tenants(tmp_path) as mock:
        mock.method("quick.take", take)
        await _one_each(mock)


async def _one_each(mock: MockHub) -> None:
    async with as_one_of(mock, "acme") as acme, as_one_of(mock, "bolt") as bolt:
        held = await acme.request("quick.take", {"hold": True})
        await until(lambda: mock.calls, "it runs")
        refused = await acme.error("quick.take", {"hold": False})
        assert refused["code"] == ErrorCode.WORKER_OVERLOADED
        assert "of your tenant" in refused["message"]
        assert await bolt.result("quick.take", {"hold": False}) is False
        await acme.cancel(held)
