"""Methods that clients serve are their tenant's: two tenants serve one name without meeting, and see nothing of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from tests.hub.tenants import ENTRIES, as_one_of, fetched, hub_of_tenants
from tests.support.match import require
from tests.support.peer import Peer
from tests.support.timing import until
from trunkline import Context
from trunkline.testing import MockHub
from trunkline_protocol.errors import ErrorCode

NAME: Final = "orders.price"
UNKNOWN: Final = {"code": ErrorCode.METHOD_NOT_FOUND}
GATEWAY: Final = 'name = "gate"\nroles = ["act_as", "callee"]'
LIMITED: Final = 'name = "lim"\ntenant = "acme"\nmethods = ["orders.*"]'


class Callee:
    """A client that serves methods, and what it was asked."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    async def serve(self, name: str = NAME, **options: Any) -> Any:
        return await self.peer.result("method.register", {"method": name, **options})

    async def asked(self) -> Any:
        """The next request of the hub."""
        if self.peer.others:
            return self.peer.others.pop(0)
        return await self.peer.receive()

    async def answer(self, result: Any) -> Any:
        """Answer the next request, and return it."""
        request = await self.asked()
        await self.peer.send({"jsonrpc": "2.0", "id": request["id"], "result": result})
        return request


class Hub:
    """A hub, with an ann of each tenant as caller and as callee.

    Attributes:
        callers, callees: by tenant.
    """

    def __init__(self, mock: MockHub) -> None:
        self.mock = mock
        self.callers: dict[str, Peer] = {}
        self.callees: dict[str, Callee] = {}

    async def call(self, tenant: str, name: str = NAME, **more: Any) -> Any:
        """The request that a tenant's callee gets for a call of that tenant, which it answers with the tenant."""
        request = await self.callers[tenant].request(name, {"of": tenant}, **more)
        got = await self.callees[tenant].answer(tenant)
        assert (await self.callers[tenant].reply(request))["result"] == tenant
        return got


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    entries = ENTRIES | {"gate": GATEWAY, "lim": LIMITED}
    settings = {"callee_grace": 30.0, "shared_methods": "weather.>", "breaker_ratio": 0.5, "breaker_calls": 2}
    async with (
        hub_of_tenants(tmp_path, entries=entries, **settings) as mock,
        AsyncExitStack() as connections,
    ):
        hub = Hub(mock)
        for tenant in ("acme", "bolt", "default"):
            hub.callers[tenant] = await connections.enter_async_context(as_one_of(mock, tenant))
            hub.callees[tenant] = Callee(await connections.enter_async_context(as_one_of(mock, tenant)))
        yield hub


async def test_each_tenant_has_its_own_method_of_a_name(hub: Hub) -> None:
    assert (await hub.callees["acme"].serve(idempotent=True)) == {"method": NAME, "callees": 1}
    for other in ("bolt", "default"):
        require(UNKNOWN, await hub.callers[other].error(NAME))
    unknown = await hub.callers["bolt"].error("orders.prize")
    assert (await hub.callers["bolt"].error(NAME))["message"] == unknown["message"].replace("prize", "price")
    assert (await hub.callees["bolt"].serve(streaming=True)) == {"method": NAME, "callees": 1}
    assert (await hub.callees["default"].serve()) == {"method": NAME, "callees": 1}
    for tenant in ("acme", "bolt", "default"):
        got = await hub.call(tenant)
        assert (got["method"], got["params"]) == (NAME, {"of": tenant}), "no key leaves the hub"
        assert (got["principal"]["name"], got["principal"]["tenant"]) == ("ann", tenant)


async def test_documents_show_the_methods_of_the_own_tenant(hub: Hub) -> None:
    async with as_one_of(hub.mock, "root") as root:
        for tenant in ("acme", "bolt"):
            schema = {"type": "object", "properties": {f"of_{tenant}": {"type": "string"}}}
            await hub.callees[tenant].serve(summary=f"What {tenant} asks", params=schema)
        await hub.callees["acme"].serve("orders.secret")
        for tenant in ("acme", "bolt", "default"):
            tools = {info.name for info in hub.mock._running().parts.served(tenant)}
            assert (NAME in tools, "orders.secret" in tools) == (tenant != "default", tenant == "acme")
            told = {each["name"]: each for each in (await hub.callers[tenant].result("rpc.discover"))["methods"]}
            assert ("orders.secret" in told) is (tenant == "acme")
            summary = told[NAME]["summary"] if NAME in told else None
            assert summary == (None if tenant == "default" else f"What {tenant} asks")
            texts = [await fetched(hub.mock, path, tenant) for path in ("/openrpc.json", "/openapi.json")]
            for text in (*texts, json.dumps(told)):
                for other in ("acme", "bolt"):
                    assert (f"of_{other}" in text) is (other == tenant), "nothing of another tenant's"
                assert "\\n" not in text.split("orders")[0][-10:], "no key"
        assert "orders" not in json.dumps(await root.result("rpc.discover"))


async def test_documents_show_what_one_may_call(hub: Hub) -> None:
    await hub.callees["acme"].serve()
    await hub.callees["acme"].serve("stock.level")
    hub.mock.method("text.upper", lambda text: text)
    async with as_one_of(hub.mock, "lim") as limited:
        told = {each["name"] for each in (await limited.result("rpc.discover"))["methods"]}
    assert NAME in told
    assert not told & {"stock.level", "text.upper", "jobs.create", "system.calls", "method.register", "config.get"}
    everybodys = {each["name"] for each in (await hub.callers["acme"].result("rpc.discover"))["methods"]}
    assert {NAME, "stock.level", "text.upper", "jobs.create", "method.register"} <= everybodys
    assert not everybodys & {"system.calls", "config.get", "cache.clear"}, "an admin's"
    for path in ("/openrpc.json", "/openapi.json"):
        text = await fetched(hub.mock, path, "lim")
        assert "orders" in text
        assert "stock" not in text
        assert "system.calls" not in text


async def test_over_http_each_tenant_has_its_own(hub: Hub) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": NAME, "params": {}})
    for tenant in ("acme", "bolt"):
        await hub.callees[tenant].serve()
    for tenant in ("acme", "bolt"):
        for path, sent in (("/rpc", body), ("/api/v1/orders/price", "{}")):
            answer = asyncio.ensure_future(fetched(hub.mock, path, tenant, sent))
            assert (await hub.callees[tenant].answer(f"of {tenant}"))["principal"]["tenant"] == tenant
            assert f"of {tenant}" in await answer
    for path, sent in (("/rpc", body), ("/api/v1/orders/price", "{}")):
        assert "METHOD_NOT_FOUND" in await fetched(hub.mock, path, "default", sent)


async def test_a_gateway_calls_in_the_tenant_that_it_acts_in(hub: Hub) -> None:
    await hub.callees["acme"].serve()
    acting = {"principal": "ann", "tenant": "acme"}
    async with as_one_of(hub.mock, "gate") as gate:
        require(UNKNOWN, await gate.error(NAME))
        for padding in ("", "x" * 200_000):  # large ones are looked at before they are read
            request = await gate.request(NAME, {"padding": padding}, metadata={"act_as": acting})
            assert (await hub.callees["acme"].answer("here"))["principal"]["tenant"] == "acme"
            assert (await gate.reply(request))["result"] == "here"
        require(UNKNOWN, await gate.error(NAME, metadata={"act_as": acting | {"tenant": "bolt"}}))
    headers = {"X-Act-As": json.dumps(acting)}
    answer = asyncio.ensure_future(fetched(hub.mock, "/api/v1/orders/price", "gate", "{}", headers))
    await hub.callees["acme"].answer("there")
    assert "there" in await answer


async def test_methods_of_executors_reach_those_of_their_callers_tenant(hub: Hub) -> None:
    async def outer(ctx: Context) -> Any:
        return await ctx.call(NAME, {})

    hub.mock.method("code.outer", outer)
    for tenant in ("acme", "bolt"):
        await hub.callees[tenant].serve()
    for tenant in ("acme", "bolt"):
        request = await hub.callers[tenant].request("code.outer")
        await hub.callees[tenant].answer(tenant)
        assert (await hub.callers[tenant].reply(request))["result"] == tenant
    require(UNKNOWN, await hub.callers["default"].error("code.outer"))


async def test_names_of_the_executors_and_the_hub_are_everybodys(hub: Hub) -> None:
    hub.mock.method("text.upper", lambda text: text.upper())
    for name in ("text.upper", "jobs.list"):
        require(
            {"code": ErrorCode.FORBIDDEN}, await hub.callees["acme"].peer.error("method.register", {"method": name})
        )
    assert await hub.callers["acme"].result("text.upper", {"text": "a"}) == "A"


async def test_a_shared_name_is_one_for_all(hub: Hub) -> None:
    await hub.callees["acme"].serve("weather.now")
    refused = await hub.callees["bolt"].peer.error("method.register", {"method": "weather.now"})
    assert (refused["code"], "acme" in refused["message"]) == (ErrorCode.FORBIDDEN, False)
    for tenant in ("bolt", "default", "acme"):
        request = await hub.callers[tenant].request("weather.now")
        assert (await hub.callees["acme"].answer(1))["principal"]["tenant"] == tenant
        assert (await hub.callers[tenant].reply(request))["result"] == 1
        assert "weather.now" in json.dumps(await hub.callers[tenant].result("rpc.discover"))


async def test_unregistering_concerns_the_own_one(hub: Hub) -> None:
    for tenant in ("acme", "bolt"):
        await hub.callees[tenant].serve()
    gone = await hub.callees["bolt"].peer.result("method.unregister", {"method": NAME})
    assert gone["unregistered"]
    require(UNKNOWN, await hub.callers["bolt"].error(NAME))
    assert not (await hub.callees["default"].peer.result("method.unregister", {"method": NAME}))["unregistered"]
    await hub.call("acme")


async def test_a_callee_that_is_gone_leaves_its_own_tenants_calls_waiting(hub: Hub) -> None:
    for tenant in ("acme", "bolt"):
        await hub.callees[tenant].serve()
    await hub.callees["acme"].peer.socket.close()
    registrations = hub.mock._running().parts.registrations
    await until(lambda: registrations._vacant, "it is vacant")
    waits = await hub.callers["acme"].request(NAME)
    await until(lambda: registrations.waiting == 1, "the call waits")
    await hub.call("bolt")
    require(UNKNOWN, await hub.callers["default"].error(NAME))
    async with as_one_of(hub.mock, "acme") as back:
        callee = Callee(back)
        await callee.serve()
        await callee.answer("back")
        assert (await hub.callers["acme"].reply(waits))["result"] == "back"


async def test_each_has_its_own_queue_and_limit(hub: Hub) -> None:
    await hub.callees["acme"].serve(max_concurrency=1)
    await hub.callees["bolt"].serve(max_concurrency=2)
    first, second = [await hub.callers["acme"].request(NAME, {"n": n}) for n in (1, 2)]
    asked = await hub.callees["acme"].asked()
    await hub.call("bolt")
    await hub.callers["acme"].cancel(second)
    require({"code": ErrorCode.CANCELLED}, (await hub.callers["acme"].reply(second))["error"])
    await hub.callees["acme"].peer.send({"jsonrpc": "2.0", "id": asked["id"], "result": 1})
    assert (await hub.callers["acme"].reply(first))["result"] == 1
    await hub.call("acme")  # its place is free


async def test_a_breaker_is_its_tenants(hub: Hub) -> None:
    for tenant in ("acme", "bolt"):
        await hub.callees[tenant].serve()
    for _ in range(4):
        request = await hub.callers["acme"].request(NAME)
        asked = await hub.callees["acme"].asked()
        await hub.callees["acme"].peer.send(
            {"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -32603, "message": "it broke"}}
        )
        await hub.callers["acme"].reply(request)
    breakers = hub.mock._running().parts.router.breakers
    await until(lambda: breakers.tripped, "it is open")
    refused = await hub.callers["acme"].error(NAME)
    assert (refused["data"]["breaker"], refused["message"].split()[0]) == ("open", NAME)
    await hub.call("bolt")
    async with as_one_of(hub.mock, "root") as root:
        words = json.dumps((await root.result("health.detailed"))["causes"])
        assert f"the breaker of {NAME} for tenant acme is open" in words
    for tenant, told in (("acme", True), ("bolt", False), ("default", False)):
        said = await hub.callers[tenant].result("health.detailed")
        assert ("breaker" in json.dumps(said["causes"])) is told
        assert (said["status"] == "degraded") is told


async def test_figures_name_the_methods_of_the_own_tenant(hub: Hub) -> None:
    await hub.callees["acme"].serve("orders.secret")
    for tenant in ("acme", "bolt", "default"):
        await hub.callees[tenant].serve()
        await hub.call(tenant)
    await hub.call("acme", "orders.secret")
    for tenant in ("acme", "bolt", "default"):
        said = await hub.callers[tenant].result("metrics.get")
        assert (said["methods"][NAME]["count"], said["tenants"]) == (1, {})
        assert ("orders.secret" in said["methods"]) is (tenant == "acme")
        assert "(other)" not in said["methods"]
        page = await fetched(hub.mock, "/metrics", tenant)
        assert ("orders.secret" in page) is (tenant == "acme")
        assert page.count(f'trunkline_calls_total{{method="{NAME}",outcome="ok"') == 1
    async with as_one_of(hub.mock, "root") as root:
        said = await root.result("metrics.get")
        assert said["methods"][NAME]["count"] == 1
        assert {tenant: [*methods] for tenant, methods in said["tenants"].items()} == {
            "acme": [NAME, "orders.secret"],
            "bolt": [NAME],
        }
    page = await fetched(hub.mock, "/metrics", "root")
    assert f'trunkline_calls_total{{method="{NAME}",outcome="ok"}} 1.0' in page
    assert f'trunkline_calls_total{{method="{NAME}",outcome="ok",tenant="bolt"}} 1.0' in page


async def test_who_is_away_is_told_in_its_tenant(hub: Hub) -> None:
    await hub.callees["acme"].serve()
    await hub.callees["acme"].peer.socket.close()
    async with as_one_of(hub.mock, "root") as root:

        async def away() -> Any:
            return (await root.result("health.detailed"))["methods"]

        (told,) = await until(away, "it is away")
        assert (told["method"], told["tenant"], told["status"]) == (NAME, "acme", "unavailable")
    (own,) = (await hub.callers["acme"].result("health.detailed"))["methods"]
    assert own["method"] == NAME
    for other in ("bolt", "default"):
        assert (await hub.callers[other].result("health.detailed"))["methods"] == []


async def test_schemas_of_one_tenant_leave_room_for_those_of_others(hub: Hub) -> None:
    large = {"type": "object", "properties": {f"p{n}": {"description": "x" * 1000} for n in range(60)}}
    for n in range(17):
        await hub.callees["acme"].serve(f"large.m{n}", params=large)
    refused = await hub.callees["acme"].peer.error("method.register", {"method": "large.more", "params": large})
    require({"code": ErrorCode.RESOURCE_EXHAUSTED}, refused)
    await hub.callees["bolt"].serve("large.more", params=large)
