"""A gateway acts as others through every door; what they may not do is refused however deep; the audit has both."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.hub.callers import as_who, tokens_file
from tests.support.hub import MODULES, RunningHub, ready_hub
from tests.support.jobs import until
from tests.support.match import require
from tests.support.timing import eventually, records_in
from trunkline_protocol.errors import ErrorCode

HEAD: Final = """
[roles.tenant]
methods = ["open.*", "own.*", "who.*", "jobs.*", "publish", "closed.reg"]
subscribe = ["news.>"]
publish = ["news.tenant"]
"""
ENTRIES: Final = {
    "gate": 'roles = ["act_as"]\nmethods = ["who.*"]',
    "ten": 'roles = ["tenant"]\ntenant = "acme"\nclaims = {team = "blue"}',
    "root": 'roles = ["admin"]',
    "both": 'roles = ["act_as", "admin"]',
    "all": "",
    "ended": "expires = 2020-01-01",
}
TEN: Final = {"name": "ten", "roles": ["tenant"], "tenant": "acme", "claims": {"team": "blue"}}
AS_TEN: Final = {"act_as": {"principal": "ten"}}
FORBIDDEN: Final = {"code": ErrorCode.FORBIDDEN}


@pytest.fixture(scope="module")
def audit_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit") / "audit.jsonl"


@pytest.fixture(scope="module")
def hub(audit_file: Path) -> Iterator[RunningHub]:
    file = tokens_file(audit_file.parent, HEAD, ENTRIES)
    env = {"TRUNKLINE_TOKENS_FILE": str(file), "TRUNKLINE_AUDIT_FILE": str(audit_file)}
    with ready_hub("callers", "rights", cwd=MODULES, env=env) as running:
        yield running


@pytest.mark.parametrize("method", ["who.calls", "who.below", "who.own", "who.plain"])
async def test_methods_are_told_the_other(hub: RunningHub, method: str) -> None:
    async with as_who(hub, "gate") as gate:
        assert await gate.result(method, metadata=AS_TEN) == TEN
        other = {"principal": "u7", "tenant": "umbrella", "claims": {"plan": "free"}}
        told = {"name": "u7", "roles": [], "tenant": "umbrella", "claims": {"plan": "free"}}
        assert await gate.result(method, metadata={"act_as": other}) == told
        assert (await gate.result(method))["name"] == "gate", "it holds for one call"
        made = await gate.result("jobs.create", {"method": method, "params": {}}, metadata=AS_TEN)
        require(FORBIDDEN, await gate.error("jobs.get", {"id": made["id"]}))  # its patterns have no jobs.get
        async with as_who(hub, "ten") as ten:
            require({"status": "succeeded", "result": TEN, "principal": "ten"}, await until(ten, made["id"]))
        require({"id": made["id"]}, await gate.result("jobs.get", {"id": made["id"]}, metadata=AS_TEN))


@pytest.mark.parametrize("escaped", ['{"act\\u005fas":{"principal":"ten"}}', '{"act_as":{"principal":"te\\u006e"}}'])
async def test_however_it_is_written(hub: RunningHub, escaped: str) -> None:
    async with as_who(hub, "gate") as gate:
        await gate.send(f'{{"jsonrpc":"2.0","id":1,"method":"who.calls","metadata":{escaped}}}')
        assert (await gate.reply(1))["result"] == TEN


@pytest.mark.parametrize("name", ["ten", "root", "all"])
async def test_everyone_else_is_refused(hub: RunningHub, name: str) -> None:
    async with as_who(hub, name) as one:
        for named in ("ten", "u7", name):
            require(FORBIDDEN, await one.error("who.calls", metadata={"act_as": {"principal": named}}))
        below = {"method": "who.calls", "params": {}}
        assert (await one.result("who.below", below))["name"] == name


async def test_who_cannot_be_acted_as(hub: RunningHub) -> None:
    async with as_who(hub, "gate") as gate, as_who(hub, "both") as both:
        for named in ("root", "both", "ended"):
            require(FORBIDDEN, await gate.error("who.calls", metadata={"act_as": {"principal": named}}))
        assert (await both.result("who.calls", metadata={"act_as": {"principal": "root"}}))["name"] == "root"
        invalid = {"code": ErrorCode.INVALID_PARAMS}
        for wrong in ("ten", {}, {"principal": 7}, {"principal": "ten", "roles": ["admin"]}):
            require(invalid, await gate.error("who.calls", metadata={"act_as": wrong}))
        require(invalid, await gate.error("subscribe", {"topic": "news.a"}, metadata=AS_TEN))


BELOW: Final[list[tuple[str, dict[str, Any]]]] = [
    ("open.call", {"method": "closed.secret"}),
    ("open.call", {"method": "open.call", "params": {"method": "closed.secret"}}),
    ("open.call", {"method": "system.failure", "params": {"failure": 1}}),
    ("open.call", {"method": "system.cancel", "params": {"call": 1}}),
    ("open.call", {"method": "executors.drain", "params": {"worker_id": "executor-0"}}),
    ("own.call", {"method": "executors.drain", "params": {"worker_id": "executor-0"}}),
    ("open.call", {"method": "jobs.create", "params": {"method": "closed.secret"}}),
    ("open.read", {"method": "closed.count"}),
    ("open.publish", {"topic": "news.others"}),
    ("own.publish", {"topic": "system.news"}),
]


@pytest.mark.parametrize("gateway", ["gate", "both"])
@pytest.mark.parametrize(("method", "params"), BELOW)
async def test_what_the_other_may_not_is_refused_however_deep(
    hub: RunningHub, gateway: str, method: str, params: dict[str, Any]
) -> None:
    async with as_who(hub, gateway) as gate:
        require(FORBIDDEN, await gate.error(method, params, metadata=AS_TEN))
        made = await gate.result("jobs.create", {"method": method, "params": params}, metadata=AS_TEN)
        async with as_who(hub, "ten") as ten:
            over = await until(ten, made["id"])
        require({"status": "failed", "principal": "ten", "error": {"code": ErrorCode.FORBIDDEN}}, over)


def asked(hub: RunningHub, path: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"http://{hub.host}:{hub.port}{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def test_over_http(hub: RunningHub) -> None:
    gate = {"Authorization": "Bearer gate"}
    call = {"jsonrpc": "2.0", "id": 1, "method": "who.below", "metadata": AS_TEN}
    assert asked(hub, "/rpc", call, gate)[1]["result"] == TEN
    acting = gate | {"X-Act-As": json.dumps(AS_TEN["act_as"])}
    assert asked(hub, "/rpc", call, acting)[0] == 400
    assert asked(hub, "/api/v1/who/below", {}, acting) == (200, TEN)
    assert asked(hub, "/api/v1/who/below", {}, acting | {"Authorization": "Bearer all"})[0] == 403
    assert asked(hub, "/api/v1/who/below", {}, gate | {"X-Act-As": "ten"})[0] == 422


async def test_over_mcp(hub: RunningHub) -> None:
    pytest.importorskip("mcp", reason="the extra [mcp] is not installed")
    from mcp.client.session import ClientSession
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared._httpx_utils import create_mcp_http_client

    for name, named, told in (("gate", "ten", TEN), ("all", "ten", None), ("gate", "root", None)):
        headers = {"Authorization": f"Bearer {name}", "X-Act-As": json.dumps({"principal": named})}
        async with (
            create_mcp_http_client(headers=headers) as http,
            streamable_http_client(f"http://127.0.0.1:{hub.port}/mcp", http_client=http) as streams,
            ClientSession(streams[0], streams[1]) as session,
        ):
            await session.initialize()
            result = await session.call_tool("who.below", {})
            assert (result.structured_content if not result.is_error else None) == told


async def test_its_events_and_keys_are_the_others(hub: RunningHub) -> None:
    params = {"topic": "news.tenant", "data": 1, "idempotency_key": "k"}
    async with as_who(hub, "ten") as ten, as_who(hub, "gate") as gate:
        await ten.result("subscribe", {"topic": "news.tenant"})
        first = await gate.result("publish", params, metadata=AS_TEN)
        assert await ten.result("publish", params) == first, "the same key of the same principal"
        event = ten.others[0] if ten.others else await ten.receive()
        assert event["params"]["publisher"] == "ten"
        require(FORBIDDEN, await gate.error("publish", params | {"topic": "news.others"}, metadata=AS_TEN))
        await gate.send(
            {"jsonrpc": "2.0", "method": "publish", "params": {"topic": "news.tenant", "data": 2}, "metadata": AS_TEN}
        )
        assert (await ten.receive())["params"]["publisher"] == "ten", "by a notification, too"


async def test_the_audit_names_both_at_every_depth(hub: RunningHub, audit_file: Path) -> None:
    async with as_who(hub, "gate") as gate, as_who(hub, "ten") as ten:
        await gate.result("who.own", {"method": "who.below"}, metadata=AS_TEN)
        await gate.error("open.call", {"method": "closed.secret"}, metadata=AS_TEN)
        made = await gate.result("jobs.create", {"method": "who.below", "params": {}}, metadata=AS_TEN)
        await until(ten, made["id"])
    both = {"principal": "ten", "tenant": "acme", "actor": "gate"}
    wanted = [
        {**both, "method": "who.own", "outcome": "ok"},
        {**both, "method": "who.below", "via": "who.own", "runs_as": "who.own"},
        {**both, "method": "who.calls", "via": "who.below"},
        {**both, "method": "closed.secret", "via": "open.call", "outcome": "FORBIDDEN"},
        {**both, "method": "who.below", "peer": f"job:{made['id']}"},
        {**both, "method": "who.calls", "via": "who.below", "peer": f"job:{made['id']}"},
    ]

    def missing() -> list[dict[str, Any]]:
        said = records_in(audit_file)
        return [want for want in wanted if not any(want.items() <= line.items() for line in said)]

    eventually(lambda: not missing(), "each call is in the audit with both")
