"""OpenAPI, OpenRPC and AsyncAPI, as far as they can be judged without tools of theirs (tests/interop has those)."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
import websockets
from pydantic import BaseModel, TypeAdapter

from tests.support.exact import require_exactly
from tests.support.health import empty_view as view
from tests.support.openrpc import discover
from tests.support.peer import Peer
from trunkline.control.api_documents import documents
from trunkline.control.asyncapi import FROM_CLIENT, FROM_HUB, MESSAGES, asyncapi
from trunkline.control.health import HealthWatch
from trunkline.control.monitoring import CONNECTIONS, EXECUTORS, HEALTH, LOGS, METRICS, REQUESTS
from trunkline.control.monitoring_topics import TOPICS
from trunkline.control.openapi import openapi
from trunkline.control.schemas import COMPONENTS, Components
from trunkline.hub.principal import ANONYMOUS
from trunkline_protocol.binary import BASE64
from trunkline_protocol.binary import SCHEMA as SCHEMA_OF_BYTES
from trunkline_protocol.catalogue import MethodInfo, Parameter
from trunkline_protocol.health_reports import Health


class Leaf(BaseModel):
    size: int


class Tree(BaseModel):
    leaf: Leaf
    others: list[Tree] = []


SCHEMA = TypeAdapter(list[Tree]).json_schema()


def other_leaf() -> dict[str, Any]:
    """A schema whose Leaf is another."""
    schema: dict[str, Any] = json.loads(json.dumps(SCHEMA))
    schema["$defs"]["Leaf"]["properties"]["size"]["type"] = "string"
    return schema


def require_no_loose_ends(document: dict[str, Any]) -> None:
    """Every reference leads somewhere in the document."""
    for reference in re.findall(r'"\$ref": "([^"]*)"', json.dumps(document)):
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step.replace("~1", "/")]
        assert isinstance(place, dict)


def test_definitions_move_to_the_components() -> None:
    components = Components()
    added = components.add(SCHEMA)
    assert added == {"type": "array", "items": {"$ref": COMPONENTS + "Tree"}}
    assert components.schemas.keys() == {"Leaf", "Tree"}
    assert components.schemas["Tree"]["properties"]["leaf"] == {"$ref": COMPONENTS + "Leaf"}
    assert components.schemas["Tree"]["properties"]["others"]["items"] == {"$ref": COMPONENTS + "Tree"}
    assert components.add(SCHEMA) == added
    assert len(components.schemas) == 2


def test_definitions_of_one_name_that_differ() -> None:
    components = Components({"Tree": {}})
    first, second = components.add(SCHEMA), components.add(other_leaf())
    assert (first["items"]["$ref"], second["items"]["$ref"]) == (COMPONENTS + "Tree_2", COMPONENTS + "Tree_3")
    assert components.schemas["Tree_3"]["properties"]["leaf"] == {"$ref": COMPONENTS + "Leaf_2"}
    assert components.schemas["Leaf_2"]["properties"]["size"]["type"] == "string"
    require_no_loose_ends({"components": {"schemas": components.schemas}, "x": [first, second]})


def test_what_is_data_is_no_reference() -> None:
    schema = {"$defs": {"A": {}}, "default": {"$ref": "#/$defs/A"}, "const": "#/$defs/A", "title": "#/$defs/B"}
    assert Components().add(schema) == {key: value for key, value in schema.items() if key != "$defs"}


INFOS = [
    MethodInfo("tree.grow", "Grow", "tree", parameters=[Parameter("trees", SCHEMA, True)], result=other_leaf()),
    MethodInfo("tree.rustle", "Rustle", "tree", streaming=True, chunk=SCHEMA, http="leaves/rustle"),
    MethodInfo("tree.feed", "Feed", "tree", input={}),
    MethodInfo("tree{odd}", "", "client"),
    MethodInfo("client.own", "", "client"),
    MethodInfo("subscribe", "", "hub"),
]


def test_openapi() -> None:
    document = openapi(INFOS)
    require_no_loose_ends(document)
    tasks = {path for path in document["paths"] if path.startswith("/api/v1/")}
    assert tasks == {"/api/v1/tree/grow", "/api/v1/leaves/rustle", "/api/v1/client/own"}
    grow, rustle = (document["paths"][f"/api/v1/{path}"]["post"] for path in ("tree/grow", "leaves/rustle"))
    body = grow["requestBody"]["content"]["application/json"]["schema"]
    assert (body["required"], body["additionalProperties"]) == (["trees"], False)
    assert "406" in rustle["responses"]
    assert "406" not in grow["responses"]
    assert rustle["responses"]["200"]["content"].keys() == {"text/event-stream"}


BYTES = {"anyOf": [SCHEMA_OF_BYTES, BASE64]}
FILE = {"type": "string", "contentMediaType": "application/octet-stream"}


def test_openapi_of_files() -> None:
    audio, number = Parameter("audio", BYTES, True), Parameter("speed", {"type": "number"}, False)
    text, several = (
        Parameter("language", {"type": "string"}, False),
        Parameter("all", {"type": "array", "items": BYTES}, False),
    )
    infos = [
        MethodInfo("files.one", parameters=[audio, number, text, several], result=SCHEMA_OF_BYTES),
        MethodInfo("files.two", parameters=[audio, Parameter("other", BYTES, False)]),
        MethodInfo("files.anything", parameters=[Parameter("value", {}, False), text]),
    ]
    paths = openapi(infos)["paths"]
    one, two, anything = (paths[f"/api/v1/files/{name}"]["post"] for name in ("one", "two", "anything"))
    content = one["requestBody"]["content"]
    assert content.keys() == {"application/json", "multipart/form-data", "application/octet-stream"}
    form = content["multipart/form-data"]["schema"]
    assert (form["required"], form["additionalProperties"]) == (["audio"], False)
    as_json = {"type": "string", "contentMediaType": "application/json", "contentSchema": {"type": "number"}}
    assert form["properties"] == {
        "audio": FILE, "speed": as_json, "language": {"type": "string"}, "all": {"type": "array", "items": FILE}
    }  # fmt: skip
    assert "application/octet-stream" in one["responses"]["200"]["content"]
    assert two["requestBody"]["content"].keys() == {"application/json", "multipart/form-data"}
    assert "application/octet-stream" not in two["responses"]["200"]["content"]
    assert anything["requestBody"]["content"].keys() == {"application/json"}


def test_openrpc() -> None:
    document = discover(INFOS)
    require_no_loose_ends(document)
    assert document["components"]["schemas"].keys() == {"Leaf", "Tree", "Leaf_2", "Tree_2"}
    rustle = next(method for method in document["methods"] if method["name"] == "tree.rustle")
    assert rustle["x-trunkline"]["http"] == "leaves/rustle"


def test_asyncapi() -> None:
    document = asyncapi()
    require_no_loose_ends(document)
    assert {*FROM_CLIENT, *FROM_HUB, "requestBatch", "responseBatch"} == MESSAGES.keys()
    assert TOPICS.keys() == {METRICS, EXECUTORS, HEALTH, REQUESTS, CONNECTIONS, LOGS}


async def test_what_a_module_declares_of_topics_is_discovered(lab_peer: Peer) -> None:
    told = (await lab_peer.result("rpc.discover"))["x-trunkline"]["topics"]["lab.parcels.*"]
    assert told["summary"] == "When a parcel is somewhere else."
    assert "place" in json.dumps(told["data"]) or "$ref" in told["data"]
    assert (await lab_peer.result("publish", {"topic": "lab.parcels.1", "data": 7}))["topic"] == "lab.parcels.1", (
        "unchecked"
    )


@pytest.mark.parametrize("path", ["/openapi.json", "/openrpc.json", "/asyncapi.json"])
def test_a_hub_without_executors_has_documents_too(path: str) -> None:
    require_no_loose_ends(json.loads(documents(view())[path](ANONYMOUS)))


def test_health_is_as_described() -> None:
    require_exactly(msgspec.to_builtins(HealthWatch(view()).check(None)), Health)


async def test_events_of_the_hub_are_as_described(debug_peer: Peer) -> None:
    for topic in TOPICS:
        await debug_peer.result("subscribe", {"topic": topic})
    seen: dict[str, Any] = {}
    while seen.keys() != TOPICS.keys():
        await debug_peer.result("debug.sleep", {"seconds": 0.3})
        for message in debug_peer.others:
            if message.get("method") == "event":
                seen.setdefault(message["params"]["topic"], message["params"]["data"])
        debug_peer.others.clear()
        if CONNECTIONS not in seen:
            await _come_and_go(debug_peer)
        await debug_peer.notify("no.such.method")  # which is logged
    for topic, (_words, data) in TOPICS.items():
        if topic == LOGS:  # records have members of their own
            msgspec.convert(seen[topic], data)
        else:
            require_exactly(seen[topic], data)


async def _come_and_go(debug_peer: Peer) -> None:
    host, port = debug_peer.socket.remote_address[:2]
    async with websockets.connect(f"ws://{host}:{port}/ws", proxy=None):
        pass
