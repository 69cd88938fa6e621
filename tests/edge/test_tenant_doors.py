"""Topics of tenants through every door, published by whatever may publish: each gets its tenant's and the shared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.edge.http.test_event_source import source, told
from tests.edge.websocket import test_phoenix
from tests.hub.callers import as_who, tokens_file
from tests.support.framed import unix_peer
from tests.support.hub import MODULES, RunningHub, ready_hub
from tests.support.jobs import job, until
from tests.support.match import require
from tests.support.timing import eventually

ENTRIES: Final = {
    "ann": 'tenant = "acme"',
    "bob": 'tenant = "bolt"',
    "dee": "",
    "gate": 'roles = ["act_as"]',
    "root": 'roles = ["admin"]\ntenant = "acme"',
}
Next = Callable[[], Awaitable[Any]]
"""Returns the data of the next event."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tenants")


@pytest.fixture(scope="module")
def hub(folder: Path) -> Iterator[RunningHub]:
    env = {"TRUNKLINE_TOKENS_FILE": str(tokens_file(folder, "", ENTRIES)), "TRUNKLINE_SHARED_TOPICS": "news.>"}
    arguments = ["--uds-framed", str(folder / "f.sock"), "--data", str(folder / "data")]
    with ready_hub("callers", cwd=MODULES, env=env, arguments=arguments) as running:
        yield running


@asynccontextmanager
async def over_websocket(hub: RunningHub, who: str, _folder: Path, topic: str) -> AsyncIterator[Next]:
    async with as_who(hub, who) as peer:
        await peer.result("subscribe", {"topic": topic})

        async def following() -> Any:
            return (await peer.receive())["params"]["data"]

        yield following


@asynccontextmanager
async def over_sse(hub: RunningHub, who: str, _folder: Path, topic: str) -> AsyncIterator[Next]:
    async with source(hub, topic, token=who) as events:
        await told(events)

        async def following() -> Any:
            return (await told(events)).data["data"]

        yield following


@asynccontextmanager
async def over_phoenix(hub: RunningHub, who: str, _folder: Path, topic: str) -> AsyncIterator[Next]:
    headers = {"Authorization": f"Bearer {who}"}
    async with test_phoenix.connect(hub, additional_headers=headers) as client:
        await client.join(f"topic:{topic}")

        async def following() -> Any:
            return (await client.receive())[4]["data"]

        yield following


@asynccontextmanager
async def over_frames(hub: RunningHub, who: str, folder: Path, topic: str) -> AsyncIterator[Next]:
    async with unix_peer(folder / "f.sock") as peer:
        assert (await peer.result("auth", {"token": who}))["principal"] == who
        await peer.result("subscribe", {"topic": topic})

        async def following() -> Any:
            return (await peer.receive())["params"]["data"]

        yield following


Door = Callable[[RunningHub, str, Path, str], AbstractAsyncContextManager[Next]]
DOORS: Final[list[Door]] = [over_websocket, over_sse, over_phoenix, over_frames]


@pytest.mark.parametrize("pattern", ["mail.in", ">"])
@pytest.mark.parametrize("door", DOORS)
async def test_each_door_has_the_topics_of_the_tenant(hub: RunningHub, folder: Path, door: Door, pattern: str) -> None:
    async with (
        door(hub, "ann", folder, pattern) as of_ann,
        door(hub, "bob", folder, pattern) as of_bob,
        door(hub, "dee", folder, pattern) as of_dee,
    ):
        for who in ("dee", "bob", "ann"):
            async with as_who(hub, who) as peer:
                await peer.result("publish", {"topic": "mail.in", "data": who})
        assert [await of_ann(), await of_bob(), await of_dee()] == ["ann", "bob", "dee"]


@pytest.mark.parametrize("door", DOORS)
async def test_each_door_has_what_is_shared(hub: RunningHub, folder: Path, door: Door) -> None:
    async with door(hub, "ann", folder, "news.a") as of_ann, door(hub, "dee", folder, "*.a") as of_dee:
        async with as_who(hub, "bob") as bob:
            await bob.result("publish", {"topic": "news.a", "data": 7})
        assert [await of_ann(), await of_dee()] == [7, 7]


async def test_a_channel_publishes_in_its_tenant(hub: RunningHub) -> None:
    headers = {"Authorization": "Bearer ann"}
    async with (
        test_phoenix.connect(hub, additional_headers=headers) as channel,
        as_who(hub, "ann") as ann,
        as_who(hub, "bob") as bob,
    ):
        for peer in (ann, bob):
            await peer.result("subscribe", {"topic": "chat.1"})
        await channel.join("topic:chat.1")
        await channel.send("1", "2", "topic:chat.1", "publish", "hello")
        assert (await ann.receive())["params"]["data"] == "hello"
        await bob.result("publish", {"topic": "chat.1", "data": "alone"})
        await bob.result("subscribe", {"topic": "after"})
        assert [event["params"]["data"] for event in bob.others] == ["alone"]


PUBLISHED: Final[list[tuple[str, str, dict[str, Any], dict[str, Any]]]] = [
    ("ann", "who.publishes", {"topic": "made.a"}, {}),
    ("ann", "who.below", {"method": "who.publishes", "params": {"topic": "made.a"}}, {}),
    ("ann", "who.own", {"method": "who.publishes", "params": {"topic": "made.a"}}, {}),
    ("gate", "who.publishes", {"topic": "made.a"}, {"act_as": {"principal": "u7", "tenant": "acme"}}),
    ("gate", "publish", {"topic": "made.a", "data": 1}, {"act_as": {"principal": "ann"}}),
]


@pytest.mark.parametrize(("who", "method", "params", "metadata"), PUBLISHED)
async def test_what_is_published_for_a_caller_is_its_tenants(
    hub: RunningHub, who: str, method: str, params: dict[str, Any], metadata: dict[str, Any]
) -> None:
    async with as_who(hub, "ann") as ann, as_who(hub, "dee") as dee, as_who(hub, who) as caller:
        for peer in (ann, dee):
            await peer.result("subscribe", {"topic": "made.a"})
        await caller.result(method, params, metadata=metadata)
        assert (await ann.receive())["params"]["data"] == 1
        await dee.result("publish", {"topic": "made.a", "data": "dee's"})
        await dee.result("subscribe", {"topic": "after"})
        assert [event["params"]["data"] for event in dee.others] == ["dee's"]


async def test_a_job_publishes_and_is_announced_in_the_tenant_of_its_principal(hub: RunningHub, folder: Path) -> None:
    begun = folder / "begun"
    async with as_who(hub, "ann") as ann, as_who(hub, "bob") as bob, as_who(hub, "root") as root:
        made = await job(ann, "who.waits", {"begun": str(begun)})
        await asyncio.to_thread(eventually, begun.exists, "the job runs")
        topic = f"jobs.{made['id']}"
        for peer in (ann, bob, root):
            await peer.result("subscribe", {"topic": topic})
        begun.with_suffix(".go").touch()
        for peer in (ann, root):
            require({"topic": topic, "data": {"status": "succeeded"}}, (await peer.receive())["params"])
        said = await bob.result("history", {"topic": topic})
        assert (said["offset"], bob.others) == (0, [])
        assert (await ann.result("history", {"topic": topic}))["offset"] > 0
        await ann.result("subscribe", {"topic": "made.by.jobs"})
        again = await job(ann, "who.publishes", {"topic": "made.by.jobs"})
        await until(ann, again["id"])
        assert [event["params"]["topic"] for event in ann.others] == ["made.by.jobs"]


async def test_who_operates_the_hub_sees_whose_topics_they_are(hub: RunningHub) -> None:
    async with as_who(hub, "bob") as bob, as_who(hub, "root") as root:
        await bob.result("subscribe", {"topic": "listed.*"})
        await bob.result("publish", {"topic": "listed.a", "data": 1})
        said = await root.result("system.topics", {"limit": 1})
        require({"topic": "listed.a", "tenant": "bolt", "subscribers": 1}, said["topics"][0])
        everything = await root.result("system.topics", {"limit": 500})
        assert {"pattern": "listed.*", "tenant": "bolt", "subscribers": 1} in everything["subscribed"]
        await root.result("subscribe", {"topic": "system.requests"})
        await bob.result("who.calls")
        reports = await root.receive()
        while reports["params"]["data"]["requests"][-1]["method"] != "who.calls":
            reports = await root.receive()
        require({"principal": "bob", "tenant": "bolt"}, reports["params"]["data"]["requests"][-1])
        refused = await bob.call("subscribe", {"topic": "system.requests"})
        assert refused["error"]["code"] == 6002
