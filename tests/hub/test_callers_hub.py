"""Who calls: methods, jobs, callees, events and the audit are told it by the hub, and nobody can say it of himself."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.hub.callers import as_who, tokens_file
from tests.support.hub import MODULES, RunningHub, ready_hub
from tests.support.jobs import job, until
from tests.support.match import require
from tests.support.peer import Peer
from tests.support.timing import eventually, records_in

ENTRIES: Final = {
    "ann": 'roles = ["reader"]\ntenant = "acme"\nclaims = {team = "blue", floors = [1, 2]}',
    "bob": 'roles = ["callee"]',
    "root": 'roles = ["admin"]',
}
ANN: Final = {"name": "ann", "roles": ["reader"], "tenant": "acme", "claims": {"team": "blue", "floors": [1, 2]}}
BOB: Final = {"name": "bob", "roles": ["callee"], "tenant": "default", "claims": {}}
FORGED: Final = {
    "principal": "root",
    "principals": ["root"],
    "roles": ["admin"],
    "tenant": "other",
    "claims": {"team": "red"},
}


@pytest.fixture(scope="module")
def audit_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit") / "audit.jsonl"


@pytest.fixture(scope="module")
def hub(audit_file: Path) -> Iterator[RunningHub]:
    file = tokens_file(audit_file.parent, '[roles.reader]\nmethods = [">"]\n', ENTRIES)
    env = {
        "TRUNKLINE_TOKENS_FILE": str(file),
        "TRUNKLINE_AUDIT_FILE": str(audit_file),
        "TRUNKLINE_UNSIGNED_TOPICS": "secret.>",
        "TRUNKLINE_SHARED_TOPICS": "news.>,secret.>",
        "TRUNKLINE_SHARED_METHODS": "desk.>",
    }
    with ready_hub("callers", cwd=MODULES, env=env) as running:
        yield running


def posted(hub: RunningHub, path: str, body: dict[str, Any]) -> Any:
    """The JSON that the hub answers ann with."""
    request = urllib.request.Request(
        f"http://{hub.host}:{hub.port}{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": "Bearer ann"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


NESTED: Final[list[tuple[str, dict[str, Any]]]] = [
    ("who.calls", {}),
    ("who.plain", {}),
    ("who.below", {}),
    ("who.below", {"method": "who.plain"}),
    ("who.below", {"method": "who.below"}),
    ("who.own", {}),
    ("who.own", {"method": "who.below"}),
    ("who.below", {"method": "who.own", "params": {"method": "who.below"}}),
]


@pytest.mark.parametrize(("method", "params"), NESTED)
async def test_a_method_is_told_however_deep(hub: RunningHub, method: str, params: dict[str, Any]) -> None:
    async with as_who(hub, "ann") as ann, as_who(hub, "bob") as bob:
        assert await ann.result(method, params, metadata=FORGED) == ANN
        assert await bob.result(method, params) == BOB
        made = await job(ann, method, params)
        require({"status": "succeeded", "result": ANN, "tenant": "acme"}, await until(ann, made["id"]))


async def test_a_stream_is_told(hub: RunningHub) -> None:
    async with as_who(hub, "ann") as ann:
        await ann.call("who.streams", {}, metadata=FORGED)
        assert ann.others[0]["params"]["data"] == ANN


async def test_nothing_in_a_request_makes_another_of_its_sender(hub: RunningHub) -> None:
    async with as_who(hub, "bob") as bob:
        await bob.send(
            {"jsonrpc": "2.0", "id": 1, "method": "who.calls", "principal": ANN, "metadata": {"principal": ANN}}
        )
        assert (await bob.reply(1))["result"] == BOB


def test_requests_over_http_are_told(hub: RunningHub) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "who.below", "params": {}, "metadata": FORGED}
    assert posted(hub, "/rpc", call)["result"] == ANN
    assert posted(hub, "/api/v1/who/below", {}) == ANN


async def test_a_resumed_session_is_still_its_principals(hub: RunningHub) -> None:
    async with as_who(hub, "ann") as first:
        session = (await first.result("session.open"))["session"]
    async with as_who(hub, "ann") as again:
        resumed = await again.result("session.open", {"resume": {"session": session, "received": 0}})
        assert resumed["resumed"] is True
        await again.send({"jsonrpc": "2.0", "id": 7, "seq": 1, "method": "who.calls"})
        assert (await again.reply(7))["result"] == ANN


async def serve(callee: Peer, name: str) -> None:
    await callee.result("method.register", {"method": name, "idempotent": True})


async def answered(callee: Peer) -> Any:
    """Answer the next request; returns it."""
    request = await callee.receive()
    await callee.send({"jsonrpc": "2.0", "id": request["id"], "result": True})
    return request


async def test_a_client_that_serves_a_method_is_told(hub: RunningHub) -> None:
    async with as_who(hub, "bob") as bob, as_who(hub, "ann") as ann:
        await serve(bob, "desk.ask")
        for method, params in [
            ("desk.ask", {}),
            ("who.below", {"method": "desk.ask"}),
            ("who.own", {"method": "desk.ask"}),
        ]:
            asked = await ann.request(method, params, metadata=FORGED)
            request = await answered(bob)
            assert request["principal"] == ANN
            assert request["metadata"]["principal"] == "root", "what the caller says of itself stays what it says"
            await ann.reply(asked)
        made = await job(ann, "who.below", {"method": "desk.ask"})
        assert (await answered(bob))["principal"] == ANN
        require({"status": "succeeded"}, await until(ann, made["id"]))


async def test_events_name_who_published_them(hub: RunningHub) -> None:
    async with as_who(hub, "bob") as reader, as_who(hub, "ann") as ann:
        subscribed = [await reader.result("subscribe", {"topic": topic}) for topic in ("news.a", "secret.a")]
        await ann.result("publish", {"topic": "news.a", "data": 1}, metadata=FORGED)
        await ann.result("who.publishes", {"topic": "news.a"})
        await ann.result("publish", {"topic": "secret.a", "data": 1})
        events = [(await reader.receive())["params"] for _ in range(3)]
        assert [event.get("publisher") for event in events] == ["ann", "ann", None]
        assert [event.get("tenant") for event in events] == ["acme", "acme", None]
        recover = {"epoch": subscribed[0]["epoch"], "offset": 0}
        await ann.request("subscribe", {"topic": "news.a", "recover": recover})
        replayed = [message for message in [await ann.receive() for _ in range(3)] if "method" in message]
        assert [event["params"]["publisher"] for event in replayed] == ["ann", "ann"], "so does the history"


async def test_the_hubs_own_events_name_nobody(hub: RunningHub, tmp_path: Path) -> None:
    async with as_who(hub, "ann") as ann:
        made = await job(ann, "who.waits", {"begun": str(tmp_path / "begun")})
        await ann.result("subscribe", {"topic": f"jobs.{made['id']}"})
        (tmp_path / "begun.go").touch()
        event = await ann.receive()
        assert (event["method"], event["params"].get("publisher")) == ("event", None)


async def test_audit_and_tables_tell_the_tenant(hub: RunningHub, audit_file: Path) -> None:
    async with as_who(hub, "ann") as ann, as_who(hub, "root") as root:
        await root.result("subscribe", {"topic": "system.connections"})
        await ann.result("who.below")
        peers: dict[str, str] = {}
        while "ann" not in peers:
            data = (await root.receive())["params"]["data"]
            peers |= {row["principal"]: row["tenant"] for row in data["connections"] or ()}
        assert (peers["ann"], peers["root"]) == ("acme", "default")

    def audited() -> bool:
        lines = records_in(audit_file)
        named = {
            (line["event"], line.get("method"), line["tenant"]) for line in lines if line.get("principal") == "ann"
        }
        wanted = {("call", "who.below", "acme"), ("call", "who.calls", "acme"), ("connected", None, "acme")}
        return wanted <= named and {tenant for _, _, tenant in named} == {"acme"}

    eventually(audited, "every line of ann's names her tenant")


async def test_a_job_is_its_principals_after_a_restart(tmp_path: Path) -> None:
    file, begun = tokens_file(tmp_path, '[roles.reader]\nmethods = [">"]\n', ENTRIES), tmp_path / "begun"
    arguments = ["--data", str(tmp_path / "data")]
    env = {"TRUNKLINE_TOKENS_FILE": str(file)}
    with ready_hub("callers", cwd=MODULES, env=env, arguments=arguments) as first:
        async with as_who(first, "ann") as ann:
            made = await job(ann, "who.waits", {"begun": str(begun)})
            await asyncio.to_thread(eventually, begun.exists, "the job runs")
        first.process.kill()
        first.wait_ended(-9)
    begun.with_suffix(".go").touch()
    with ready_hub("callers", cwd=MODULES, env=env, arguments=arguments) as second:
        async with as_who(second, "ann") as ann:
            over = await until(ann, made["id"])
            require({"status": "succeeded", "tenant": "acme", "attempts": 2, "result": ANN}, over)
