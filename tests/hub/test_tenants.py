"""What is kept by principal: two of one name, of two tenants, share nothing of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.hub.tenants import as_one_of, hub_of_tenants
from tests.support import jobs
from tests.support.peer import Peer
from tests.support.timing import until
from trunkline.hub.sessions import EndReason, SessionOwner, SessionTable
from trunkline.jobs.job import Created, Job
from trunkline.jobs.queue import JobQueue
from trunkline.jobs.retention import superfluous
from trunkline.testing import MockHub
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.tenants import key_in

MEBI: Final = 2**20
PING: Final = b'{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}'
LARGE: Final = 700_000
"""Bytes, of which two do not fit into a mebibyte."""

ONE_EACH: Final[dict[str, Any]] = {
    "max_sessions_per_principal": 1,
    "max_subscriptions_per_principal": 1,
    "max_pipelines_per_principal": 1,
    "jobs_waiting_per_principal": 1,
    "idempotency_keys_per_principal": 1,
    "partial_bytes_per_principal": MEBI,
    "max_message_bytes": MEBI,
    "detached_bytes_per_principal": MEBI,
}


@pytest.fixture
async def mock(tmp_path: Path) -> AsyncIterator[MockHub]:
    async with hub_of_tenants(tmp_path) as mock:
        yield mock


@pytest.fixture
async def narrow(tmp_path: Path) -> AsyncIterator[MockHub]:
    """A hub where each principal may have one of everything."""
    async with hub_of_tenants(tmp_path, **ONE_EACH) as mock:
        yield mock


async def test_an_idempotency_key_is_its_tenants(mock: MockHub) -> None:
    runs = []

    def work(n: int) -> int:
        runs.append(n)
        return len(runs)

    mock.method("work.do", work)
    async with as_one_of(mock, "acme") as acme, as_one_of(mock, "bolt") as bolt, as_one_of(mock, "default") as other:
        anns = (acme, bolt, other, acme, bolt, other)
        results = [await ann.result("work.do", {"n": 1}, metadata={"idempotency_key": "k"}) for ann in anns]
        foreign = await bolt.result("work.do", {"n": 2}, metadata={"idempotency_key": "k2"})
        own = await acme.result("work.do", {"n": 3}, metadata={"idempotency_key": "k2"})
    assert (results, foreign, own) == ([1, 2, 3, 1, 2, 3], 4, 5)


async def test_a_session_is_resumed_by_its_own_tenants_principal_alone(mock: MockHub) -> None:
    async with as_one_of(mock, "acme") as acme:
        session = (await acme.result("session.open"))["session"]
        asked = {"resume": {"session": session, "received": 0}}
        async with as_one_of(mock, "bolt") as bolt, as_one_of(mock, "default") as other:
            for stranger in (bolt, other):
                refused = await stranger.result("session.open", asked)
                assert (refused["resumed"], refused["reason"]) == (False, "unknown")
        assert await acme.result("rpc.ping")  # nobody has taken its place
    async with as_one_of(mock, "acme") as again:
        assert (await again.result("session.open", asked))["resumed"]


async def test_how_a_session_has_ended_is_told_in_its_own_tenant_alone(narrow: MockHub) -> None:
    async with as_one_of(narrow, "acme") as acme:
        first = (await acme.result("session.open"))["session"]
    async with as_one_of(narrow, "acme") as acme, as_one_of(narrow, "bolt") as bolt:
        await acme.result("session.open")  # which ends the first one, of which there may be one
        asked = {"resume": {"session": first, "received": 0}}
        assert (await bolt.result("session.open", asked))["reason"] == "unknown"


async def test_what_one_may_have_is_counted_by_tenant(narrow: MockHub) -> None:
    """Each ann has one of everything, and each is refused a second one, in words that name no tenant's key."""
    gate = asyncio.Event()
    narrow.method("work.wait", gate.wait, idempotent=True)
    narrow.method("rag.check", lambda technique, config: None)
    narrow.method("work.do", lambda: 1)
    for tenant in ("acme", "bolt", "default"):
        async with as_one_of(narrow, tenant) as ann:
            await ann.result("subscribe", {"topic": "news"})
            await ann.result("pipeline.initialize", {"technique": "basic"})
            await ann.result("jobs.create", {"method": "work.wait", "params": {}})
            await ann.result("work.do", metadata={"idempotency_key": "a"})
            await ann.result("publish", {"topic": "shared", "data": 1, "idempotency_key": "a"})
            refused = [
                await ann.error("subscribe", {"topic": "other"}),
                await ann.error("pipeline.initialize", {"technique": "basic"}),
                await ann.error("jobs.create", {"method": "work.wait", "params": {}}),
                await ann.error("work.do", metadata={"idempotency_key": "b"}),
                await ann.error("publish", {"topic": "shared", "data": 1, "idempotency_key": "b"}),
            ]
            assert [error["code"] for error in refused] == [ErrorCode.RESOURCE_EXHAUSTED] * len(refused)
            assert all("ann" in error["message"] and "acme" not in error["message"] for error in refused)
    gate.set()


FOUR_OF_ALL: Final[dict[str, Any]] = dict.fromkeys(("max_pipelines", "jobs_waiting", "idempotency_keys"), 4)


async def test_a_tenant_may_have_half_of_what_all_share(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with hub_of_tenants(tmp_path, **FOUR_OF_ALL) as mock:
        mock.method("work.wait", gate.wait, idempotent=True)
        mock.method("rag.check", lambda technique, config: None)
        mock.method("work.do", lambda: 1)

        async def take(ann: Peer, key: str) -> list[Any]:
            """One of everything: the results, or the errors."""
            asked: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
                ("pipeline.initialize", {"technique": "basic"}, {}),
                ("jobs.create", {"method": "work.wait", "params": {}}, {}),
                ("work.do", {}, {"metadata": {"idempotency_key": key}}),
                ("publish", {"topic": "news", "data": 1, "idempotency_key": key}, {}),
            ]
            return [await ann.call(method, params, **rest) for method, params, rest in asked]

        async with as_one_of(mock, "acme") as acme, as_one_of(mock, "bolt") as bolt, as_one_of(mock, "default") as own:
            for key in ("a", "b"):
                assert all("result" in reply for reply in await take(acme, key))
            for reply in await take(acme, "c"):
                data = reply["error"]["data"]
                assert (reply["error"]["code"], data["of"], data["max"]) == (ErrorCode.RESOURCE_EXHAUSTED, "tenant", 2)
            assert all("result" in reply for reply in (await take(acme, "a"))[2:3]), "what is kept is answered"
            for ann in (bolt, own):
                assert all("result" in reply for reply in await take(ann, "a"))
        gate.set()


def test_a_tenant_may_have_half_of_the_sessions() -> None:
    table: SessionTable[Owner] = SessionTable(4, 4, 60.0)
    kept = [table.open(f"acme-{number}", key_in("acme", f"u{number}"), Owner(), 0.0) for number in range(2)]
    with pytest.raises(RpcError, match="the principals of tenant acme have half of all sessions"):
        table.open("acme-2", key_in("acme", "u2"), Owner(), 0.0)
    table.open("bolt-0", key_in("bolt", "u0"), Owner(), 0.0)
    table.end(kept[0], "closed")
    table.open("acme-3", key_in("acme", "u3"), Owner(), 0.0)
    table.open("default-0", "u0", Owner(), 0.0)


class Owner(SessionOwner):
    """Whose sessions are only counted."""

    def detach(self, reason: str) -> None:
        """Nothing."""

    def end(self, reason: EndReason) -> None:
        """Nothing."""


async def test_jobs_of_another_tenant_do_not_exist(mock: MockHub) -> None:
    mock.method("work.do", lambda n: n, idempotent=True)
    params = {"method": "work.do", "params": {"n": 1}, "idempotency_key": "k"}
    async with as_one_of(mock, "acme") as acme, as_one_of(mock, "bolt") as bolt, as_one_of(mock, "root") as root:
        made = await acme.result("jobs.create", params)
        other = await bolt.result("jobs.create", params | {"params": {"n": 2}})
        assert made["id"] != other["id"]
        for method in ("jobs.get", "jobs.cancel"):
            unknown = await bolt.error(method, {"id": "0" * 32})
            foreign = await bolt.error(method, {"id": made["id"]})
            assert foreign == {**unknown, "message": foreign["message"]}
            assert foreign["message"] == unknown["message"].replace("0" * 32, made["id"])
        listed = {who: (await one.result("jobs.list"))["jobs"] for who, one in (("bolt", bolt), ("root", root))}
        assert [job["id"] for job in listed["bolt"]] == [other["id"]]
        assert [(job["id"], job["principal"], job["tenant"]) for job in listed["root"]] == [
            (other["id"], "ann", "bolt"),
            (made["id"], "ann", "acme"),
        ]
        assert (await jobs.until(acme, made["id"], "succeeded"))["result"] == 1


def job_of(tenant: str, number: int) -> Job:
    """A job of ann's of a tenant."""
    created = Created(
        id=f"{number:032x}",
        number=number,
        method="m",
        principal="ann",
        tenant=tenant,
        created_at=0,
        digest="",
        size=0,
        crc=0,
    )
    return Job(created)


def test_jobs_of_tenants_take_turns_and_are_kept_apart() -> None:
    queue, ours, theirs = JobQueue(), [job_of("acme", n) for n in range(3)], job_of("bolt", 9)
    for job in (*ours, theirs):
        queue.push(job)
    assert [queue.pop(), queue.pop()] == [ours[0], theirs]
    assert superfluous([theirs, *ours], 3, -1) == [ours[0]]  # the oldest of whoever has most, not the oldest


async def test_pipelines_of_another_tenant_do_not_exist(mock: MockHub) -> None:
    mock.method("rag.check", lambda technique, config: None)
    async with as_one_of(mock, "acme") as acme, as_one_of(mock, "bolt") as bolt, as_one_of(mock, "root") as root:
        made = await acme.result("pipeline.initialize", {"technique": "basic"})
        assert await bolt.result("pipeline.list") == []
        for method in ("pipeline.get", "pipeline.destroy"):
            foreign = await bolt.error(method, {"pipeline_id": made})
            unknown = await bolt.error(method, {"pipeline_id": "0" * 32})
            assert foreign["code"] == unknown["code"] == ErrorCode.PIPELINE_NOT_FOUND
            assert foreign["message"].replace(made, "0" * 32) == unknown["message"]
        assert await root.result("pipeline.list") == [made]
        shown = await root.result("pipeline.get", {"pipeline_id": made})
        assert (shown["principal"], shown["tenant"]) == ("ann", "acme")
        assert (await acme.result("pipeline.destroy", {"pipeline_id": made}))["destroyed"]


async def test_operators_see_the_tenant_beside_the_name(mock: MockHub) -> None:
    gate = asyncio.Event()
    mock.method("work.wait", gate.wait)
    async with as_one_of(mock, "acme") as acme, as_one_of(mock, "root") as root:
        await root.result("subscribe", {"topic": "system.requests"})
        waiting = await acme.request("work.wait")
        (call,) = (await root.result("system.calls"))["calls"]
        assert (call["principal"], call["tenant"]) == ("ann", "acme")
        gate.set()
        await acme.reply(waiting)
        while True:
            event = await root.receive()
            ended = [each for each in event["params"]["data"]["requests"] or () if each["method"] == "work.wait"]
            if ended:
                break
        assert [(each["principal"], each["tenant"]) for each in ended] == [("ann", "acme")]


async def test_unfinished_messages_are_counted_by_tenant(narrow: MockHub) -> None:
    """Of each ann most of a message has arrived, through two doors: one more would be too much for either."""
    begun = []
    for tenant in ("acme", "bolt", "default"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(narrow))
        begun.append((reader, writer))
        head = f"POST /rpc HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {tenant}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {LARGE + len(PING)}\r\n\r\n".encode())
        writer.write(b" " * LARGE)
    await until(lambda: held(narrow) >= 3 * LARGE, "all of them are held")
    for tenant in ("acme", "bolt", "default"):
        async with as_one_of(narrow, tenant) as ann:
            waiting: asyncio.Future[str] = asyncio.get_running_loop().create_future()

            async def parts(rest: asyncio.Future[str] = waiting) -> AsyncIterator[str]:
                yield " " * LARGE
                yield await rest

            sending = asyncio.ensure_future(ann.socket.send(parts()))
            assert await ann.close_code() == 1013  # its own body is there already
            sending.cancel()
    for reader, writer in begun:
        writer.write(PING)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


def port_of(mock: MockHub) -> int:
    """The port that the hub listens on."""
    return int(mock.url.split(":")[2].split("/")[0])


def held(mock: MockHub) -> int:
    """Bytes of unfinished messages that the hub holds."""
    return mock._running().parts.context.partial.used


async def test_what_waits_for_detached_sessions_is_counted_by_tenant(narrow: MockHub) -> None:
    gate = asyncio.Event()

    async def large() -> str:
        await gate.wait()
        return "x" * LARGE

    narrow.method("work.large", large)
    sessions = {}
    for tenant in ("acme", "bolt", "default"):
        async with as_one_of(narrow, tenant) as ann:
            sessions[tenant] = (await ann.result("session.open"))["session"]
            await ann.request("work.large", id=f"of {tenant}")
            await ann.result("rpc.ping")  # the call before has arrived
    table = narrow._running().parts.sessions
    await until(lambda: table.table.counts().detached == 3, "all are detached")
    gate.set()
    await until(lambda: table._detached.used >= 3 * LARGE, "the results wait")
    for tenant, session in sessions.items():
        async with as_one_of(narrow, tenant) as ann:
            resumed = await ann.result("session.open", {"resume": {"session": session, "received": 0}})
            assert resumed["resumed"]
            assert len((await ann.reply(f"of {tenant}"))["result"]) == LARGE
