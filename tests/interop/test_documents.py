"""What the tools of OpenRPC, OpenAPI and AsyncAPI make of the documents of a real hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.edge.http.http_client import request, send
from tests.interop.node import node, require_packages
from tests.interop.packages import library
from tests.support.hub import DEBUG_METHODS, RunningHub, ready_hub
from tests.support.timing import PATIENCE

SCRIPTS: Final = Path(__file__).with_name("documents")

RICH = '''
"""Schemas that refer to each other. None to itself: the dereferencer of OpenRPC's tools does not end with such."""

from collections.abc import AsyncIterator
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from trunkline import method


class Leaf(BaseModel):
    size: int
    colour: Literal["green", "red"] = "green"


class Branch(BaseModel):
    leaves: list[Leaf] = []


class Tree(BaseModel):
    leaf: Leaf
    branches: list[Branch] = []


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


@method("rich.grow", http="trees/grow", idempotent=True)
async def grow(trees: list[Tree], pet: Annotated[Cat | Dog, Field(discriminator="kind")]) -> Tree:
    """Grow a tree."""
    return trees[0]


@method("rich.leaves")
async def leaves(tree: Tree | None = None) -> AsyncIterator[Leaf]:
    """Leaves, one by one."""
    yield Leaf(size=1)
'''


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    folder = tmp_path_factory.mktemp("rich")
    (folder / "rich.py").write_text(RICH)
    with ready_hub(DEBUG_METHODS, "rich", cwd=folder, own_interpreters=True) as running:
        yield running


@pytest.mark.timeout(400)  # the first use of npm installs packages
async def test_openrpc_and_asyncapi_are_valid(hub: RunningHub) -> None:
    require_packages("@open-rpc/schema-utils-js", "@open-rpc/meta-schema", "@asyncapi/parser")
    async with node(SCRIPTS / "validate.mjs", f"http://127.0.0.1:{hub.port}") as script:
        assert (await script.says("openrpc", 6 * PATIENCE))["problem"] is None
        verdict = await script.says("meta-schema", 6 * PATIENCE)
        assert (verdict["problem"], verdict["asked"]) == (None, "openrpcDocument")
        whole = await script.says("dereferenced", 6 * PATIENCE)
        assert "rich.grow" in whole["methods"]
        events = await script.says("asyncapi", 6 * PATIENCE)
        assert events["problems"] == []
        assert {"/ws", "system.metrics", "system.requests"} <= set(events["channels"])


@pytest.mark.timeout(400)
async def test_the_generator_of_openrpc_makes_a_client_that_compiles(hub: RunningHub, tmp_path: Path) -> None:
    """It cannot quote names: dots and hyphens in them make TypeScript that is none, whatever the document says."""
    require_packages("@open-rpc/generator", "@open-rpc/client-js", "@types/lodash", "typescript")
    document = hub.get("/openrpc.json").json()
    for method in document["methods"]:
        method["name"] = method["name"].replace(".", "_")
        if method["name"] == "rpc_discover":  # its result is such a document, whose members have hyphens
            method["result"] = json.loads(json.dumps(method["result"]).replace('"x-', '"x_'))
    plain = tmp_path / "openrpc.json"
    plain.write_text(json.dumps(document))
    async with node(SCRIPTS / "generate.mjs", str(plain), str(tmp_path)) as script:
        assert (await script.says("compiled", 12 * PATIENCE))["problems"] == []
    source = (tmp_path / "client" / "typescript" / "src" / "index.ts").read_text()
    assert "public rich_grow" in source


def test_openapi_is_valid(hub: RunningHub) -> None:
    validator = library("openapi_spec_validator")
    document = hub.get("/openapi.json").json()
    validator.validate(document)
    assert document["openapi"] == "3.1.0"
    grow = document["paths"]["/api/v1/trees/grow"]["post"]
    assert grow["operationId"] == "rich.grow"
    assert "text/event-stream" in document["paths"]["/api/v1/rich/leaves"]["post"]["responses"]["200"]["content"]


def test_answers_are_as_openapi_says(hub: RunningHub) -> None:
    """One answer of each kind, checked against the schema that the document gives for it."""
    validators = library("openapi_schema_validator")
    document = hub.get("/openapi.json").json()

    def check(path: str, verb: str, answer: Any) -> None:
        said = document["paths"][path][verb]["responses"][str(answer.status)]
        if "$ref" in said:
            said = document["components"]["responses"][said["$ref"].rpartition("/")[2]]
        schema = said["content"][answer.headers["content-type"]]["schema"]
        validators.OAS31Validator(schema | {"components": document["components"]}).validate(answer.json())

    for path in ("/health", "/ready", "/health/detailed"):
        check(path, "get", hub.get(path))
    tree = {"leaf": {"size": 1}, "branches": [{"leaves": [{"size": 2}]}]}
    grown = send(hub, "/api/v1/trees/grow", {"trees": [tree], "pet": {"kind": "cat"}})
    assert grown.status == 200
    check("/api/v1/trees/grow", "post", grown)
    refused = send(hub, "/api/v1/trees/grow", {"trees": 5})
    assert refused.status == 422
    check("/api/v1/trees/grow", "post", refused)
    for message in (request("rpc.ping"), request("nobody"), [request("rpc.ping")], 5):
        check("/rpc", "post", send(hub, "/rpc", message))
