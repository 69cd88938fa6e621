"""Collections, documents and answers of tenants: the same names, and nothing of one in what the other gets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

pytest.importorskip("numpy")
pytest.importorskip("faiss")

from tests.hub.callers import tokens_file
from tests.methods.packs import word_embeddings
from tests.methods.test_collection_rights import LOOK_AT_NONE, key_of, params_of, refusal, resolved
from tests.support.timing import until
from trunkline import Hub, RpcError
from trunkline.methods import documents, rag, vectors
from trunkline.methods.local import LocalMethods
from trunkline.storage.tenant_folders import tenant_folder
from trunkline.testing import MockHub
from trunkline_protocol.principals import Principal

TENANTS: Final = ("default", "acme", "Bolt & Co/..")
ENTRIES: Final = {
    "dora": "",
    "ann": f'tenant = "{TENANTS[1]}"',
    "bob": f'tenant = "{TENANTS[2]}"\nroles = ["admin"]',
    "gate": 'roles = ["act_as"]',
}
WHO: Final = ("dora", "ann", "bob")


@pytest.fixture
async def mock(tmp_path: Path) -> AsyncIterator[MockHub]:
    file = tokens_file(tmp_path, "", ENTRIES)
    settings: dict[str, Any] = {
        "data": tmp_path / "data",
        "tokens_file": file,
        "shared_collections": ("common.>", "wiki"),
    }
    async with MockHub(word_embeddings, vectors, documents, rag, **settings) as running:
        yield running


def text_of(who: str) -> str:
    return f"The cat of {who} sleeps."


async def fill(hub: Hub, who: str, name: str = "docs") -> None:
    await hub.call("collections.create", {"name": name, "metadata": {"of": who}})
    items = [{"id": "a", "text": text_of(who)}, {"id": who, "text": "A dog barks."}]
    await hub.call("vectors.upsert", {"collection": name, "items": items})


async def contents(hub: Hub, name: str = "docs") -> dict[str, str]:
    stream = await hub.stream("collections.export", {"name": name})
    return {item["id"]: item["text"] async for chunk in stream for item in chunk.data["items"]}


MORE: Final[dict[str, dict[str, Any]]] = {"vectors.delete": {"ids": ["a"]}, "vectors.search": {"text": "a"}}
"""What these need besides what is required."""


async def naming_methods(hub: Hub) -> dict[str, dict[str, Any]]:
    said = await hub.call("rpc.discover")
    methods = [resolved(each, said["components"]["schemas"]) for each in said["methods"]]
    served = {each["name"]: each for each in methods if "x-trunkline" in each and each["name"] not in LOOK_AT_NONE}
    return {name: each for name, each in served.items() if key_of(each) is not None}


async def error_of(hub: Hub, method: str, params: dict[str, Any]) -> tuple[int, str]:
    try:
        if method in ("collections.export", "rag.stream"):
            async for _ in await hub.stream(method, params):
                pass
        elif method == "collections.import":
            await hub.call(method, params, input=[{"id": "x", "text": "x"}])
        else:
            await hub.call(method, params)
    except RpcError as error:
        return error.code, error.message
    return 0, ""


async def test_the_same_name_is_another_collection_for_each_tenant(mock: MockHub, tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        hubs = {who: await stack.enter_async_context(mock.connect(token=who)) for who in WHO}
        for who, hub in hubs.items():
            assert (await hub.call("collections.list"))["collections"] == []
            await fill(hub, who)
        for tenant, (who, hub) in zip(TENANTS, hubs.items(), strict=True):
            assert await contents(hub) == {"a": text_of(who), who: "A dog barks."}
            stats = await hub.call("collections.stats", {"name": "docs"})
            (listed,) = (await hub.call("collections.list"))["collections"]
            for each in (stats, listed):
                assert (each["metadata"], each.get("tenant", "default")) == ({"of": who}, tenant)
            assert (tenant_folder(tmp_path / "data", tenant) / "collections" / "docs" / "collection.sqlite").is_file()
            query = {"collection": "docs", "text": text_of("ann"), "top_k": 10}
            for method in ("vectors.search", "vectors.lexical", "vectors.hybrid"):
                found = (await hub.call(method, query))["matches"]
                assert found, method
                assert {match["text"] for match in found} <= {text_of(who), "A dog barks."}, method
            got = await hub.call("vectors.get", {"collection": "docs", "ids": [*WHO, "a"]})
            assert [None if each is None else each["text"] for each in got["items"]] == [
                *("A dog barks." if each == who else None for each in WHO), text_of(who),
            ]  # fmt: skip
            missing = await hub.call("vectors.missing", {"collection": "docs", "ids": [*WHO]})
            assert missing["ids"] == [each for each in WHO if each != who]


async def test_answers_and_documents_are_made_of_its_own(mock: MockHub) -> None:
    options = {"collection": "docs", "cache": True}
    question = {"technique": "basic", "query": "a cat sleeps", "options": options}
    async with mock.connect(token="ann") as ann, mock.connect(token="bob") as bob, mock.connect(token="dora") as dora:
        for who, hub in (("ann", ann), ("bob", bob)):
            sources = [{"text": text_of(who), "source": "cats.txt"}]
            await hub.call("documents.process", {"collection": "docs", "sources": sources, "create": True})
        for _ in range(2):  # the second answer may be a kept one
            for who, hub in (("ann", ann), ("bob", bob)):
                result = await hub.call("rag.execute", question)
                assert [each["text"] for each in result["retrieved_documents"]] == [text_of(who)]
                stream = await hub.stream("rag.stream", question)
                found = [chunk.data["text"] async for chunk in stream if chunk.type == "document"]
                assert found == [text_of(who)]
        nothing = await refusal(dora, "rag.execute", question)
        assert (nothing.code, "no collection 'docs'" in nothing.message) == (4001, True)
        job = await bob.call(
            "jobs.create", {"method": "documents.delete", "params": {"collection": "docs", "source": "cats.txt"}}
        )

        async def has_succeeded() -> bool:
            return bool((await bob.call("jobs.get", {"id": job["id"]}))["status"] == "succeeded")

        await until(has_succeeded, "the job has deleted bob's")
        assert (await bob.call("rag.execute", question))["retrieved_documents"] == []
        assert (await ann.call("rag.execute", question))["retrieved_documents"][0]["text"] == text_of("ann")


async def test_no_method_tells_or_changes_anything_of_another_tenant(mock: MockHub) -> None:
    async with mock.connect(token="ann") as ann, mock.connect(token="bob") as bob, mock.connect(token="dora") as dora:
        for name in ("docs", "only-acme"):
            await fill(ann, "ann", name)
        naming = await naming_methods(ann)
        assert len(naming) >= 15
        before = {name: await contents(ann, name) for name in ("docs", "only-acme")}
        stats = await ann.call("collections.stats", {"name": "only-acme"})
        for hub in (bob, dora):
            for method, described in naming.items():
                if method in ("collections.create", "documents.process"):
                    continue  # make one of one's own
                told = {
                    name: await error_of(hub, method, params_of(described, name) | MORE.get(method, {}))
                    for name in ("only-acme", "no-such1")
                }
                assert told["only-acme"][0] == 4001, (method, told)
                assert told["only-acme"] == (4001, told["no-such1"][1].replace("no-such1", "only-acme")), method
            await fill(hub, "other")
            assert [each["name"] for each in (await hub.call("collections.list"))["collections"]] == ["docs"]
            for method, described in naming.items():
                if method != "collections.delete":
                    await error_of(hub, method, params_of(described, "docs") | MORE.get(method, {}))
            assert await error_of(hub, "collections.delete", {"name": "docs"}) == (0, "")
        assert {name: await contents(ann, name) for name in before} == before
        assert await ann.call("collections.stats", {"name": "only-acme"}) == stats


async def test_what_is_shared_belongs_to_default_whoever_says_it(mock: MockHub) -> None:
    async with mock.connect(token="dora") as dora, mock.connect(token="ann") as ann, mock.connect(token="bob") as bob:
        await fill(dora, "dora", "wiki")
        await fill(ann, "ann", "common.faq")
        await fill(ann, "ann", "wikis")
        for hub in (dora, ann, bob):
            assert await contents(hub, "wiki") == {"a": text_of("dora"), "dora": "A dog barks."}
            assert (await contents(hub, "common.faq"))["a"] == text_of("ann")
            assert "tenant" not in await hub.call("collections.stats", {"name": "common.faq"})
        await bob.call("vectors.upsert", {"collection": "wiki", "items": [{"id": "a", "text": "of bob"}]})
        assert (await contents(dora, "wiki"))["a"] == "of bob"
        names = [
            [each["name"] for each in (await hub.call("collections.list"))["collections"]] for hub in (dora, ann, bob)
        ]
        assert names == [["common.faq", "wiki"], ["common.faq", "wiki", "wikis"], ["common.faq", "wiki"]]


async def test_a_gateway_acts_in_the_tenant_that_it_names(mock: MockHub) -> None:
    async with mock.connect(token="ann") as ann, mock.connect(token="gate") as gate:
        await fill(ann, "ann")
        found = await gate.call("collections.list", metadata={"act_as": {"principal": "x", "tenant": "acme"}})
        assert [each["name"] for each in found["collections"]] == ["docs"]
        assert (await gate.call("collections.list"))["collections"] == []


async def test_a_purge_removes_a_tenants_collections_and_no_others(mock: MockHub, tmp_path: Path) -> None:
    async with mock.connect(token="ann") as ann, mock.connect(token="bob") as bob:
        await fill(ann, "ann", "wiki")
        for who, hub in (("ann", ann), ("bob", bob)):
            await fill(hub, who)
        await ann.call("collections.create", {"name": "broken", "dimension": 2})
        folder = tenant_folder(tmp_path / "data", "acme") / "collections"
        (folder / "broken" / "collection.sqlite").write_bytes(b"damaged" * 1000)
        deleted = await bob.call("tenants.delete", {"name": "acme", "purge": True})
        assert (deleted["removed"]["collections"], folder.exists()) == (2, False)
        assert (await contents(bob))["a"] == text_of("bob")
        assert (await contents(bob, "wiki"))["a"] == text_of("ann"), "it is default's"
    async with mock.connect(token="ann") as ann:
        assert [each["name"] for each in (await ann.call("collections.list"))["collections"]] == ["wiki"]
        await ann.call("collections.create", {"name": "docs"})
        assert await contents(ann) == {}


async def test_a_damaged_one_is_its_tenants_and_named_with_its_file(tmp_path: Path) -> None:
    ann, bob = Principal("ann", tenant="acme"), Principal("bob", tenant="bolt")
    settings = {"data_dir": str(tmp_path)}
    async with LocalMethods(vectors, settings=settings) as methods:
        for who in (ann, bob):
            await methods.call("collections.create", {"name": "docs", "dimension": 2}, principal=who)
    file = tmp_path / "tenants" / "acme" / "collections" / "docs" / "collection.sqlite"
    file.write_bytes(b"damaged" * 1000)
    async with LocalMethods(vectors, settings=settings) as methods:
        with pytest.raises(RpcError, match="tenants/acme/collections/docs") as caught:
            await methods.call("collections.stats", {"name": "docs"}, principal=ann)
        assert caught.value.code == 3002
        (listed,) = (await methods.call("collections.list", principal=ann))["collections"]
        assert "tenants/acme" in listed["error"]
        assert (await methods.call("collections.stats", {"name": "docs"}, principal=bob))["count"] == 0
        assert (await methods.call("collections.list"))["collections"] == []


WRITER: Final = """
import asyncio, sys
from trunkline.methods import vectors
from trunkline.methods.local import LocalMethods
from trunkline_protocol.principals import Principal

async def main():
    people = [Principal("x", tenant=each) for each in sys.argv[2:]]
    async with LocalMethods(vectors, settings={"data_dir": sys.argv[1]}) as methods:
        for who in people:
            await methods.call("collections.create", {"name": "docs", "dimension": 2}, principal=who)
        for number in range(1_000_000):
            for who in people:
                items = [{"id": str(number), "vector": [1, 0], "metadata": {"of": who.tenant}}]
                await methods.call("vectors.upsert", {"collection": "docs", "items": items}, principal=who)
                print(number, flush=True)

asyncio.run(main())
"""


def write_until_killed(folder: Path) -> int:
    """How many of its changes, in turn those of each tenant, a process acknowledged before it was killed."""
    command = [sys.executable, "-c", WRITER, str(folder), *TENANTS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(3 * 20)]
        os.kill(process.pid, signal.SIGKILL)
        said += process.stdout.readlines()
    return len([each for each in said if each.endswith("\n")])


async def test_what_each_tenant_was_told_is_there_after_a_kill(tmp_path: Path) -> None:
    acknowledged = await asyncio.to_thread(write_until_killed, tmp_path)
    assert acknowledged >= 60
    async with LocalMethods(vectors, settings={"data_dir": str(tmp_path)}) as methods:
        for place, tenant in enumerate(TENANTS):
            who = Principal("y", tenant=tenant)
            told = (acknowledged + 2 - place) // 3
            stats = await methods.call("collections.stats", {"name": "docs"}, principal=who)
            assert stats["count"] in (told, told + 1)
            ids = [str(each) for each in range(told)]
            items = (await methods.call("vectors.get", {"collection": "docs", "ids": ids}, principal=who))["items"]
            assert [item["metadata"] for item in items] == [{"of": tenant}] * told
