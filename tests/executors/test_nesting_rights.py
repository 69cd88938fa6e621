"""What a principal may not do it may not do through methods and jobs either, however deep; and the audit names it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.jobs import job, until
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import eventually
from trunkline_protocol.errors import ErrorCode

TOKENS: Final = """
[roles.tenant]
methods = ["open.*", "own.*", "jobs.*", "closed.reg"]
subscribe = ["news.>"]
publish = ["news.tenant"]
"""

FORBIDDEN: Final = {"code": ErrorCode.FORBIDDEN, "data": {"maybe_executed": True}}


@pytest.fixture(scope="module")
def audit_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit") / "audit.jsonl"


@pytest.fixture(scope="module")
def hub(audit_file: Path) -> Iterator[RunningHub]:
    """``ten`` has rights of a tenant, ``root`` is an admin, ``all`` has no role and no limits. Tokens are the names."""
    tokens = audit_file.with_name("tokens.toml")
    roles = {"ten": '["tenant"]', "root": '["admin"]', "all": "[]"}
    tokens.write_text(
        TOKENS
        + "".join(
            f'[[tokens]]\nname = "{name}"\nroles = {role}\nsha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\n'
            for name, role in roles.items()
        )
    )
    env = {"TRUNKLINE_TOKENS_FILE": str(tokens), "TRUNKLINE_AUDIT_FILE": str(audit_file)}
    with ready_hub(DEBUG_METHODS, "rights", cwd=MODULES, env=env) as running:
        yield running


def as_who(hub: RunningHub, name: str) -> AbstractAsyncContextManager[Peer]:
    return peer(hub.url, headers={"Authorization": f"Bearer {name}"})


BELOW: Final[list[tuple[str, dict[str, Any]]]] = [
    ("open.call", {"method": "closed.secret"}),
    ("open.call", {"method": "open.call", "params": {"method": "closed.secret"}}),
    ("open.call", {"method": "open.publish", "params": {"topic": "news.others"}}),
    ("open.call", {"method": "health.detailed"}),
    ("open.call", {"method": "system.failure", "params": {"failure": 1}}),
    ("open.call", {"method": "system.cancel", "params": {"call": 1}}),
    ("open.call", {"method": "system.calls"}),
    ("open.call", {"method": "system.topics"}),
    ("open.call", {"method": "executors.drain", "params": {"worker_id": "executor-0"}}),
    ("open.call", {"method": "jobs.create", "params": {"method": "closed.secret"}}),
    ("open.read", {"method": "closed.count"}),
    ("open.publish", {"topic": "news.others"}),
    ("own.call", {"method": "system.calls"}),
    ("own.call", {"method": "executors.drain", "params": {"worker_id": "executor-0"}}),
    ("own.call", {"method": "open.call", "params": {"method": "system.calls"}}),
    ("own.publish", {"topic": "system.news"}),
]


@pytest.mark.parametrize(("method", "params"), BELOW)
async def test_what_a_principal_may_not_is_refused_one_call_deeper(
    hub: RunningHub, method: str, params: dict[str, Any]
) -> None:
    async with as_who(hub, "ten") as tenant:
        require(FORBIDDEN, await tenant.error(method, params))


@pytest.mark.parametrize(("method", "params"), BELOW)
async def test_the_same_as_a_job(hub: RunningHub, method: str, params: dict[str, Any]) -> None:
    async with as_who(hub, "ten") as tenant:
        made = await job(tenant, method, params)
        over = await until(tenant, made["id"])
        require({"status": "failed", "error": {"code": ErrorCode.FORBIDDEN}}, over)


async def test_roles_are_asked_for_below_where_nothing_else_is_limited(hub: RunningHub) -> None:
    async with as_who(hub, "all") as one:
        require(FORBIDDEN, await one.error("open.call", {"method": "system.calls"}))
        assert await one.result("open.call", {"method": "closed.secret"}) == "secret"


async def test_an_admin_is_one_below_too(hub: RunningHub) -> None:
    async with as_who(hub, "root") as root:
        listed = await root.result("open.call", {"method": "open.call", "params": {"method": "system.calls"}})
        calls = {call["depth"]: call for call in listed["calls"]}
        assert sorted(calls) == [0, 1]
        assert {call["principal"] for call in calls.values()} == {"root"}


async def test_what_it_may_do_it_may_do_below(hub: RunningHub) -> None:
    async with as_who(hub, "ten") as tenant:
        await tenant.result("open.publish", {"topic": "news.tenant"})
        nested = {"method": "open.publish", "params": {"topic": "news.tenant"}}
        over = await until(tenant, (await job(tenant, "open.call", nested))["id"])
        require({"status": "succeeded"}, over)


async def test_a_method_may_run_with_its_own_rights(hub: RunningHub) -> None:
    async with as_who(hub, "ten") as tenant:
        assert await tenant.result("own.call", {"method": "closed.secret"}) == "secret"
        await tenant.result("own.publish", {"topic": "news.others"})
        # What it calls has its rights, down to the next that is asked.
        deeper = {"method": "open.call", "params": {"method": "closed.secret"}}
        assert await tenant.result("own.call", deeper) == "secret"
        made = await tenant.result("own.call", {"method": "jobs.create", "params": {"method": "closed.secret"}})
        require({"status": "succeeded", "principal": "ten"}, await until(tenant, made["id"]))


async def test_keys_of_what_methods_publish_are_their_callers(hub: RunningHub) -> None:
    params = {"topic": "news.tenant", "key": "k"}
    async with as_who(hub, "ten") as tenant, as_who(hub, "root") as root:
        first = await tenant.result("open.publish", params)
        assert await tenant.result("open.publish", params) == first, "the same key of the same principal is one event"
        assert (await root.result("open.publish", params))["offset"] > first["offset"], "another's is its own"


async def test_discovery_tells_which_methods_do(hub: RunningHub) -> None:
    async with as_who(hub, "ten") as tenant:
        document = await tenant.result("rpc.discover")
    said = {method["name"]: method["x-trunkline"].get("runs_as") for method in document["methods"]}
    assert (said["own.call"], said["open.call"]) == ("method", None)


async def test_the_audit_names_the_principal_at_every_depth(hub: RunningHub, audit_file: Path) -> None:
    async with as_who(hub, "ten") as tenant:
        await tenant.error("open.call", {"method": "closed.secret", "params": {"mark": 1}})
        await tenant.result("own.call", {"method": "closed.secret"})
        made = await job(tenant, "open.publish", {"topic": "news.tenant"})
        await until(tenant, made["id"])

    def lines() -> list[dict[str, Any]]:
        whole, _, _being_written = audit_file.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    wanted: list[dict[str, Any]] = [
        {"principal": "ten", "method": "closed.secret", "via": "open.call", "outcome": "FORBIDDEN"},
        {"principal": "ten", "method": "closed.secret", "via": "own.call", "runs_as": "own.call", "outcome": "ok"},
        {"principal": "ten", "method": "open.publish", "connection": 0, "peer": f"job:{made['id']}", "outcome": "ok"},
        {"principal": "ten", "method": "publish", "via": "open.publish", "peer": f"job:{made['id']}", "outcome": "ok"},
    ]

    def missing() -> list[dict[str, Any]]:
        said = lines()
        return [want for want in wanted if not any(want.items() <= line.items() for line in said)]

    eventually(lambda: not missing(), "each call of a method or a job is in the audit")
    origins = {(line["connection"] > 0, line["peer"][:4]) for line in lines() if wanted[0].items() <= line.items()}
    assert (True, "127.") in origins, "the connection is that of the outermost call"
    assert origins <= {(True, "127."), (False, "job:")}
