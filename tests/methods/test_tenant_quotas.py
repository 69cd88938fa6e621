"""What a tenant may store: items, and bytes of its collections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("faiss")

from tests.hub.tenants import ENTRIES, as_one_of, hub_of_tenants
from tests.methods.packs import word_embeddings
from tests.support.peer import Peer
from trunkline import ErrorCode
from trunkline.methods import documents, vectors
from trunkline.storage.collection_counts import COLLECTION_FILE, CollectionCounts, Stored
from trunkline.testing import MockHub

GATEWAY = ENTRIES | {"gateway": 'name = "gateway"\nroles = ["act_as"]'}


@pytest.fixture
async def mock(tmp_path: Path) -> AsyncIterator[MockHub]:
    packs = (word_embeddings, vectors, documents)
    given = {"data_dir": str(tmp_path / "data")}
    async with hub_of_tenants(
        tmp_path, *packs, entries=GATEWAY, data=tmp_path / "data", pack_settings=given, shared_collections=("common",)
    ) as mock:
        yield mock


@pytest.fixture
async def root(mock: MockHub) -> AsyncIterator[Peer]:
    async with as_one_of(mock, "root") as root:
        yield root


@pytest.fixture
async def acme(mock: MockHub, root: Peer) -> AsyncIterator[Peer]:
    async with as_one_of(mock, "acme") as acme:
        for name in ("docs", "more"):
            await acme.result("collections.create", {"name": name, "dimension": 2})
        yield acme


def items(*ids: str, size: int = 1) -> list[dict[str, Any]]:
    return [{"id": each, "vector": [1, 2], "text": "x" * size} for each in ids]


def put(collection: str, *ids: str, size: int = 1) -> dict[str, Any]:
    return {"collection": collection, "items": items(*ids, size=size)}


def require_refused(error: dict[str, Any], limit: str, most: int, *, executed: bool = False) -> None:
    assert error["code"] == ErrorCode.RESOURCE_EXHAUSTED
    assert error["data"]["limit"] == f"quotas.{limit}"
    assert (error["data"]["of"], error["data"]["max"], error["data"]["retryable"]) == ("tenant", most, True)
    assert error["data"]["maybe_executed"] is executed
    assert "tenant acme" in error["message"]


async def test_items_of_all_its_collections_count(root: Peer, acme: Peer) -> None:
    await acme.result("vectors.upsert", put("docs", "a", "b"))
    await root.result("tenants.create", {"name": "acme", "quotas": {"items": 4}})
    await acme.result("vectors.upsert", put("more", "a"))
    require_refused(await acme.error("vectors.upsert", put("more", "b", "c")), "items", 4)
    await acme.result("vectors.upsert", put("more", "a", "b"))
    await acme.result("vectors.upsert", put("docs", "a"))
    require_refused(await acme.error("vectors.upsert", put("docs", "c")), "items", 4)
    await acme.result("vectors.delete", {"collection": "docs", "ids": ["a"]})
    await acme.result("vectors.upsert", put("docs", "c"))
    used = await root.result("tenants.usage", {"tenant": "acme"})
    assert (used["collections"], used["collection_items"]) == (2, 4)
    assert used["collection_bytes"] > 0
    await acme.result("collections.delete", {"name": "more"})
    await acme.result("vectors.upsert", put("docs", "d"))
    await root.result("tenants.update", {"name": "acme", "quotas": {"items": 0}})
    await acme.result("vectors.upsert", put("docs", *"efghij"))


async def test_others_and_what_is_shared_have_no_part_in_it(mock: MockHub, root: Peer, acme: Peer) -> None:
    await root.result("tenants.create", {"name": "acme", "quotas": {"items": 1}})
    await root.result("collections.create", {"name": "common", "dimension": 2})
    async with as_one_of(mock, "bolt") as bolt:
        await bolt.result("collections.create", {"name": "docs", "dimension": 2})
        await bolt.result("vectors.upsert", put("docs", *"abcdef"))
    await acme.result("vectors.upsert", put("common", *"abc"))
    await acme.result("vectors.upsert", put("docs", "a"))
    require_refused(await acme.error("vectors.upsert", put("docs", "b")), "items", 1)


async def test_bytes_on_the_disk_are_bounded(root: Peer, acme: Peer) -> None:
    await acme.result("vectors.upsert", put("docs", "a"))
    used = (await root.result("tenants.usage", {"tenant": "acme"}))["collection_bytes"]
    most = used + 200_000
    await root.result("tenants.create", {"name": "acme", "quotas": {"bytes": most}})
    require_refused(await acme.error("vectors.upsert", put("docs", "b", size=300_000)), "bytes", most)
    for number in range(20):
        reply = await acme.call("vectors.upsert", put("docs", f"c{number}", size=20_000))
        if "error" in reply:
            break
    require_refused(reply["error"], "bytes", most)
    assert number >= 2
    assert (await root.result("tenants.usage", {"tenant": "acme"}))["collection_bytes"] <= most + 100_000
    require_refused(await acme.error("collections.create", {"name": "third", "dimension": 2}), "bytes", most)
    await acme.result("vectors.delete", {"collection": "docs", "ids": ["a"]})


async def test_it_holds_through_imports_documents_and_gateways(mock: MockHub, root: Peer, acme: Peer) -> None:
    await root.result("tenants.create", {"name": "acme", "quotas": {"items": 2}})
    request = await acme.request("collections.import", {"name": "docs"})
    for index, item in enumerate(items("a", "b", "c")):
        await acme.notify("stream.push", {"request_id": request, "index": index, "data": item, "is_final": False})
    await acme.notify("stream.push", {"request_id": request, "index": 3, "is_final": True})
    require_refused((await acme.reply(request))["error"], "items", 2, executed=True)
    act_as = {"act_as": {"principal": "x", "tenant": "acme"}}
    async with as_one_of(mock, "gateway") as gateway:
        await gateway.result("vectors.upsert", put("docs", "a", "b"), metadata=act_as)
        require_refused(await gateway.error("vectors.upsert", put("docs", "c"), metadata=act_as), "items", 2)
    await acme.result("collections.create", {"name": "texts"})
    text = {"collection": "texts", "sources": [{"source": "a.txt", "text": "A cat sleeps."}]}
    error = await acme.error("documents.process", text)
    assert error["data"]["limit"] == "quotas.items", error


async def test_records_with_quotas_are_told_after_a_restart(tmp_path: Path) -> None:
    made: dict[str, Any] = {"data": tmp_path / "data", "pack_settings": {"data_dir": str(tmp_path / "data")}}
    async with hub_of_tenants(tmp_path, vectors, **made) as mock, as_one_of(mock, "root") as root:
        await root.result("tenants.create", {"name": "acme", "quotas": {"items": 1}})
    async with hub_of_tenants(tmp_path, vectors, **made) as mock, as_one_of(mock, "acme") as acme:
        await acme.result("collections.create", {"name": "docs", "dimension": 2})
        require_refused(await acme.error("vectors.upsert", put("docs", "a", "b")), "items", 1)


async def test_what_is_in_a_folder_is_counted_whoever_has_it_open(tmp_path: Path, root: Peer, acme: Peer) -> None:
    folder, counts = tmp_path / "data" / "tenants" / "acme" / "collections", CollectionCounts()
    assert counts.of(tmp_path / "nothing") == Stored()
    assert counts.of(folder)[:2] == (2, 0)
    await acme.result("vectors.upsert", put("docs", "a", "b"))
    assert counts.of(folder)[:2] == (2, 2)
    await acme.result("collections.delete", {"name": "docs"})
    assert counts.of(folder)[:2] == (1, 0)
    assert (folder / "more" / COLLECTION_FILE).exists()
