"""What one tenant could tell of others, or left behind: by request ids, documents, keys, names."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub.tenants import ENTRIES, as_one_of, fetched, hub_of_tenants
from tests.methods.packs import ordering
from tests.support.timing import until
from trunkline import ErrorCode
from trunkline.testing import MockHub
from trunkline_protocol.request_ids import new_request_id

NARROW = ENTRIES | {
    "clerk": 'name = "clerk"\ntenant = "acme"\nsubscribe = ["archive.orders.1.*"]\npublish = ["orders.seen"]',
}


@pytest.fixture
async def mock(tmp_path: Path) -> AsyncIterator[MockHub]:
    async with hub_of_tenants(tmp_path, ordering, entries=NARROW) as mock:
        yield mock


async def test_documents_name_the_topics_of_the_reader(mock: MockHub) -> None:
    declared = {"orders.*", "archive.orders.>", "orders.total", "orders.seen", "orders.gone"}
    for token, told in (("clerk", {"orders.*", "archive.orders.>", "orders.seen"}), ("acme", declared)):
        channels = json.loads(await fetched(mock, "/asyncapi.json", token))["channels"]
        found = {channel["messages"]["data"]["name"] for key, channel in channels.items() if key != "ws"}
        assert found & declared == told
        async with as_one_of(mock, token) as peer:
            topics = (await peer.result("rpc.discover"))["x-trunkline"]["topics"]
        assert topics.keys() & declared == told


async def test_calls_over_http_of_a_suspended_tenant_are_forbidden(mock: MockHub) -> None:
    gate = asyncio.Event()
    mock.method("work.wait", gate.wait)
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "work.wait"})
    async with as_one_of(mock, "root") as root:
        await root.result("tenants.create", {"name": "acme"})
        waiting = asyncio.create_task(fetched(mock, "/api/v1/work/wait", "acme", "{}"))
        as_rpc = asyncio.create_task(fetched(mock, "/rpc", "acme", body))
        await until(lambda: len(mock.calls) == 2, "both wait")
        await root.result("tenants.update", {"name": "acme", "state": "suspended"})
        problem = json.loads(await waiting)
        assert (problem["status"], problem["error"]["code"]) == (403, ErrorCode.FORBIDDEN)
        assert "suspended" in problem["error"]["message"]
        assert json.loads(await as_rpc)["error"]["code"] == ErrorCode.FORBIDDEN
        refused = json.loads(await fetched(mock, "/rpc", "acme", body))
        assert refused["error"]["code"] == ErrorCode.FORBIDDEN


def test_request_ids_do_not_tell_how_many_there_were() -> None:
    made = [new_request_id() for _ in range(1000)]
    assert len(set(made)) == 1000
    for position in range(len(made[0])):
        assert len({each[position] for each in made}) > 8, "a part of them is the same, or a number that grows"
    assert made != sorted(made)


async def test_keys_of_publications_go_with_their_tenant(mock: MockHub) -> None:
    async def published() -> Any:
        async with as_one_of(mock, "acme") as ann:
            return await ann.result("publish", {"topic": "news", "data": 1, "idempotency_key": "k"})

    keys = mock._running().parts.broker._common.keys
    async with as_one_of(mock, "bolt") as bolt, as_one_of(mock, "root") as root:
        theirs = await bolt.result("publish", {"topic": "news", "data": 1, "idempotency_key": "k"})
        first = await published()
        assert await published() == first
        assert len(keys) == 2
        await root.result("tenants.create", {"name": "acme"})
        await root.result("tenants.delete", {"name": "acme", "purge": True})
        assert len(keys) == 1
        assert (await published())["epoch"] != first["epoch"]
        again = await bolt.result("publish", {"topic": "news", "data": 1, "idempotency_key": "k"})
        assert again == theirs, "those of others are kept"


@pytest.mark.parametrize("name", ["a\x1b[2J", "a\nb", "\u202eevil", "\x9b31m", "a\u2028b"])
async def test_names_that_are_shown_are_printable(mock: MockHub, name: str) -> None:
    async with as_one_of(mock, "root") as root:
        await root.result("tenants.create", {"name": "acme"})
        for asked, params in (("tenants.create", {"name": "city"}), ("tenants.update", {"name": "acme"})):
            error = await root.error(asked, params | {"display_name": name})
            assert error["code"] == ErrorCode.INVALID_PARAMS
            assert error["message"].startswith(f"{asked}: display_name: ")
        await root.result("tenants.update", {"name": "acme", "display_name": "Acme \u00e9\u4e2d & Co"})
        await root.result("tenants.update", {"name": "acme", "display_name": None})
