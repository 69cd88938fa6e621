from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import jsonschema
import pytest

from tests.support.exact import require_exactly
from tests.support.hub import RunningHub
from tests.support.openrpc import discover
from tests.support.peer import Peer, peer
from trunkline.client import connect
from trunkline.control.method import listed_methods
from trunkline.control.rpc import describe
from trunkline_protocol.catalogue import MethodInfo, Parameter
from trunkline_protocol.hub_methods import METHODS

HUB_METHODS = {"rpc.ping", "rpc.discover", "health.check", "health.detailed", "system.info", "metrics.get"}

PARAMS: dict[str, dict[str, Any]] = {
    "auth": {"token": "a hub on loopback wants none"},
    "subscribe": {"topic": "discover.test"},
    "history": {"topic": "discover.test"},
    "publish": {"topic": "discover.test", "data": 1},
    "method.register": {"method": "discover.own"},
    "method.unregister": {"method": "discover.own"},
    "unsubscribe": {"topic": "discover.test"},
    "system.cancel": {"call": 0},
    "system.failure": {"failure": 0},
    "jobs.create": {"method": "debug.echo", "params": {"value": 1}},
    "config.validate": {"config": {"executors": 3}},
    "config.update": {"config": {}},
    "pipeline.initialize": {"technique": "plain", "config": {}},
    "executors.assign": {"key": "discover", "worker_id": "executor-0"},
    "executors.drain": {"worker_id": "executor-0"},
    "tenants.create": {"name": "discover"},
    "tenants.usage": {"tenant": "discover"},
}


@pytest.fixture
async def debug_peer(debug_hub: RunningHub) -> AsyncIterator[Peer]:
    """One beside a client that checks pipelines, as the pack does that is not served here."""
    async with connect(debug_hub.url) as checker, peer(debug_hub.url) as connected:
        await checker.register("rag.check", lambda params, _call: params)
        yield connected


async def made(debug_peer: Peer) -> dict[str, dict[str, Any]]:
    """The params of methods about something that was made before."""
    job = {"id": (await debug_peer.result("jobs.create", PARAMS["jobs.create"]))["id"]}
    pipelines = [
        {"pipeline_id": await debug_peer.result("pipeline.initialize", PARAMS["pipeline.initialize"])} for _ in range(2)
    ]
    for tenant in ("kept", "gone"):
        await debug_peer.result("tenants.create", {"name": tenant})
    gone = await debug_peer.result("conversations.create")
    talk = {"conversation_id": (await debug_peer.result("conversations.create"))["conversation_id"]}
    await debug_peer.result("conversations.append", talk | {"question": "why?"})
    await debug_peer.result("conversations.append", talk | {"question": "how?"})
    await debug_peer.result("conversations.answer", talk | {"turn": 1, "status": "answered"})
    return {
        "conversations.get": talk,
        "conversations.append": talk | {"question": "and then?"},
        "conversations.answer": talk | {"turn": 2, "status": "failed"},
        "conversations.delete": {"conversation_id": gone["conversation_id"]},
        "rag.feedback": talk | {"turn": 1, "rating": "up"},
        "tenants.get": {"name": "kept"},
        "tenants.update": {"name": "kept"},
        "tenants.delete": {"name": "gone"},
        "jobs.get": job,
        "jobs.cancel": job,
        "pipeline.get": pipelines[0],
        "pipeline.destroy": pipelines[1],
    }


def require_openrpc(document: dict[str, Any]) -> None:
    """The structure OpenRPC 1.3 asks for."""
    assert document["openrpc"].startswith("1.3.")
    assert {"title", "version"} <= document["info"].keys()
    names = [method["name"] for method in document["methods"]]
    assert len(names) == len(set(names))
    for method in document["methods"]:
        assert method["paramStructure"] in ("by-name", "by-position", "either")
        required = [param.get("required", False) for param in method["params"]]
        assert required == sorted(required, reverse=True), f"{method['name']}: required params come first"
        for param in method["params"]:
            assert isinstance(param["name"], str)
            assert isinstance(param["schema"], dict)
        assert {"name", "schema"} <= method["result"].keys()
        assert not [key for key in method if key.startswith("x-") and key != "x-trunkline"]


async def test_the_document_is_openrpc(lab_peer: Peer) -> None:
    require_openrpc(await lab_peer.result("rpc.discover"))


async def test_every_method_of_the_hub_is_listed_and_can_be_called(debug_peer: Peer) -> None:
    document = await debug_peer.result("rpc.discover")
    listed = {m["name"]: m for m in document["methods"] if m["x-trunkline"]["pack"] == "hub"}
    assert listed.keys() >= HUB_METHODS
    params = PARAMS | await made(debug_peer)
    for name, method in listed.items():
        if any(param["required"] for param in method["params"]):
            assert await debug_peer.result(name, params[name]) is not None
        else:
            assert await debug_peer.result(name) is not None
            assert await debug_peer.result(name, []) is not None


async def test_the_hubs_answers_are_what_their_schemas_say(debug_peer: Peer) -> None:
    document = await debug_peer.result("rpc.discover")
    listed = {m["name"]: m for m in document["methods"] if m["x-trunkline"]["pack"] == "hub"}
    await debug_peer.result("publish", {"topic": "discover.schemas", "data": 1})
    sleeping = await debug_peer.request("debug.sleep", {"seconds": 30})
    further: dict[str, list[dict[str, Any]]] = {
        "metrics.get": [{"time_range": "1m", "series": True}],
        "subscribe": [{"topic": "discover.*"}],
    }
    given = PARAMS | await made(debug_peer)
    for name, method in listed.items():
        schema = method["result"]["schema"] | {"components": document["components"]}
        assert method["result"]["schema"], f"{name} has no schema of its result"
        for params in (given.get(name, {}), *further.get(name, [])):
            result = await debug_peer.result(name, params)
            jsonschema.Draft202012Validator(schema).validate(result)
            require_exactly(result, METHODS[name].result)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(schema).validate({})
    await debug_peer.cancel(sleeping)
    await debug_peer.reply(sleeping)


def test_the_hubs_methods_say_what_their_types_do() -> None:
    listed = {info.name: info for info in listed_methods()}
    assert listed.keys() == METHODS.keys() - {"session.open", "session.close"}
    [topic, recover, history] = listed["subscribe"].parameters
    assert (topic.required, recover.required, history.required) == (True, False, False)
    assert "pattern" in topic.schema["description"]
    assert recover.schema["anyOf"][0]["properties"]["offset"]["minimum"] == 0
    assert listed["system.cancel"].result["description"].startswith("Result of `system.cancel`: ")
    assert '"$ref"' not in json.dumps([[info.result, [p.schema for p in info.parameters]] for info in listed.values()])


async def test_what_the_executors_serve_is_listed(debug_peer: Peer) -> None:
    document = await debug_peer.result("rpc.discover")
    methods = {m["name"]: m for m in document["methods"]}
    assert methods["debug.count"]["x-trunkline"]["streaming"] is True
    assert methods["debug.echo"]["x-trunkline"]["idempotent"] is True
    assert methods["debug.sleep"]["params"][0]["name"] == "seconds"
    assert methods["debug.sleep"]["summary"]


@pytest.mark.parametrize("structure", ["either", "by-name"])
def test_a_method_whose_order_differs_is_by_name_only(structure: str) -> None:
    parameters = [Parameter("a", {}, True), Parameter("b", {}, False)]
    if structure == "by-name":
        parameters.reverse()
    described = describe(MethodInfo("m", parameters=parameters))
    assert described["paramStructure"] == structure
    assert [p["name"] for p in described["params"]] == ["a", "b"]


def test_methods_are_sorted() -> None:
    document = discover([MethodInfo("b"), MethodInfo("a")])
    require_openrpc(document)
    assert [method["name"] for method in document["methods"]] == ["a", "b"]
