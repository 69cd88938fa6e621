"""Which collections a principal may use: the same through every method of the packs, however deep, and in jobs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.hub.callers import tokens_file
from trunkline import Context, ErrorCode, Hub, RpcError
from trunkline.methods import documents, rag, vectors
from trunkline.testing import MockHub

OWN: Final = "acme.x"
OTHERS: Final = "other.x"
HEAD: Final = """
[roles.user]
methods = ["vectors.*", "collections.*", "documents.*", "rag.*", "jobs.*", "who"]
collections = ["{tenant}.*"]
"""
ENTRIES: Final = {
    "ann": 'roles = ["user"]\ntenant = "acme"',
    "gate": 'roles = ["user", "act_as", "admin"]\ntenant = "acme"',
    "all": "",
}

VALUES: Final[dict[str, Any]] = {
    "ids": ["a"],
    "items": [{"id": "a", "vector": [1.0, 0.0]}],
    "text": "a",
    "source": "a",
    "sources": [{"text": "a", "source": "a"}],
    "query": "a",
}
"""What required params are given. A method that has another one needs a value here."""


@pytest.fixture
async def mock(tmp_path: Path) -> AsyncIterator[MockHub]:
    file = tokens_file(tmp_path, HEAD, ENTRIES)
    async with MockHub(vectors, documents, rag, tokens_file=file, shared_collections=(">",)) as running:
        async with running.connect(token="all") as hub:
            for name in (OWN, OTHERS):
                await hub.call("collections.create", {"name": name, "dimension": 2})
        yield running


LOOK_AT_NONE: Final = {"rag.check", "conversations.answer"}
"""Methods that are given the name of a collection, and look at none."""

Method = dict[str, Any]


def resolved(part: Any, schemas: dict[str, Any]) -> Any:
    """A part of ``rpc.discover`` with the schemas of its params in place of references."""
    if isinstance(part, list):
        return [resolved(each, schemas) for each in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return schemas[part["$ref"].rpartition("/")[2]]
    return {name: resolved(value, schemas) for name, value in part.items() if name not in ("result", "errors")}


def key_of(method: Method) -> str | None:
    """The parameter that names a collection, or has a member that does."""
    for param in method["params"]:
        if param["name"] in ("collection", method["x-trunkline"].get("routing_key")):
            return str(param["name"])
        if '"collection": {' in json.dumps(param["schema"]):
            return str(param["name"])
    return None


def params_of(method: Method, collection: str) -> dict[str, Any]:
    key = str(key_of(method))
    needed = [param["name"] for param in method["params"] if param.get("required") and param["name"] != key]
    value = {"collection": collection} if key not in ("collection", "name") else collection
    return {key: value} | {name: VALUES[name] for name in needed}


async def refusal(hub: Hub, method: str, params: dict[str, Any], **metadata: Any) -> RpcError:
    with pytest.raises(RpcError) as caught:
        await hub.call(method, params, metadata=metadata or None)
    return caught.value


async def code_of(hub: Hub, method: str, params: dict[str, Any]) -> int:
    try:
        await hub.call(method, params)
    except RpcError as error:
        return error.code
    return 0


async def test_every_method_that_names_one_refuses_what_is_not_granted(mock: MockHub) -> None:
    async with mock.connect(token="all") as free, mock.connect(token="ann") as ann:
        said = await free.call("rpc.discover")
        methods = [resolved(each, said["components"]["schemas"]) for each in said["methods"]]
        served = {each["name"]: each for each in methods if "x-trunkline" in each}
        naming = {name: each for name, each in served.items() if name not in LOOK_AT_NONE and key_of(each) is not None}
        assert len(naming) >= 15
        assert {
            "vectors.search",
            "collections.delete",
            "documents.process",
            "rag.execute",
            "rag.stream",
        } <= naming.keys()
        for name, method in naming.items():
            error = await refusal(ann, name, params_of(method, OTHERS))
            assert error.code == ErrorCode.FORBIDDEN, f"{name}: {error}"
            assert f"may not use the collection {OTHERS}" in error.message, name
        assert [each["name"] for each in (await free.call("collections.list"))["collections"]] == [OWN, OTHERS]
        for name in ("collections.stats", "vectors.get", "vectors.claim", "documents.delete", "rag.execute"):
            assert await code_of(ann, name, params_of(naming[name], OWN)) != ErrorCode.FORBIDDEN, name


async def test_those_of_others_are_not_listed(mock: MockHub) -> None:
    async with mock.connect(token="ann") as ann:
        assert [each["name"] for each in (await ann.call("collections.list"))["collections"]] == [OWN]


@pytest.mark.parametrize(
    "params",
    [
        f'{{"name":"{OWN}","name":"{OTHERS}"}}',
        f'{{"name":"{OTHERS}","name":"{OWN}"}}',
        f'{{"name":"{OWN}","n\\u0061me":"{OTHERS}"}}',
        f'["{OTHERS}"]',
        '{"name":"other\\u002ex"}',
        f'{{"params":{{"name":"{OWN}"}},"name":"{OTHERS}"}}',
    ],
)
async def test_however_it_is_written(mock: MockHub, params: str) -> None:
    """What the hub reads is what the method reads: nothing of another's collection comes out."""
    import websockets

    headers = {"Authorization": "Bearer ann"}
    async with websockets.connect(mock.url, additional_headers=headers) as socket:
        await socket.send(f'{{"jsonrpc":"2.0","id":1,"method":"collections.stats","params":{params}}}')
        reply = json.loads(await socket.recv())
        assert reply.get("result", {}).get("name") != OTHERS
        assert "result" in reply or reply["error"]["code"] in (ErrorCode.FORBIDDEN, ErrorCode.INVALID_PARAMS)


async def test_jobs_and_those_that_a_gateway_acts_as_have_the_same(mock: MockHub) -> None:
    async with mock.connect(token="ann") as ann:
        for collection, status in ((OWN, "succeeded"), (OTHERS, "failed")):
            made = await ann.call("jobs.create", {"method": "collections.stats", "params": {"name": collection}})
            async with asyncio.timeout(60):
                while (job := await ann.call("jobs.get", {"id": made["id"]}))["status"] in ("queued", "running"):
                    await asyncio.sleep(0.01)
            assert job["status"] == status, job
        assert job["error"]["code"] == ErrorCode.FORBIDDEN
    async with mock.connect(token="gate") as gate:
        params = {"name": OTHERS}
        assert (await refusal(gate, "collections.stats", params)).code == ErrorCode.FORBIDDEN
        user = {"principal": "bob", "tenant": "other"}
        assert (await gate.call("collections.stats", params, metadata={"act_as": user}))["name"] == OTHERS
        assert (await refusal(gate, "collections.stats", {"name": OWN}, act_as=user)).code == ErrorCode.FORBIDDEN


async def test_methods_are_told_which(mock: MockHub) -> None:
    async with mock.connect(token="ann") as ann, mock.connect(token="all") as free:
        mock.method("who", who)
        assert await ann.call("who") == [["acme.*"], True, False]
        assert await free.call("who") == [None, True, True]


async def who(ctx: Context) -> Any:
    principal = ctx.principal
    return [principal.collections, principal.may_use(OWN), principal.may_use(OTHERS)]
