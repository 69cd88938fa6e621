"""What modules declare of topics: told as they say it, or refused."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
from typing_extensions import TypedDict

from tests.methods.packs import ordering
from tests.support.openrpc import discover
from trunkline import event
from trunkline.control.asyncapi import asyncapi
from trunkline.generate import GENERATORS
from trunkline.methods.declaration import RegistrationError
from trunkline.methods.loading import load_modules
from trunkline.methods.registry import Registry


def registry_of(*modules: types.ModuleType) -> Registry:
    registry = Registry()
    for module in modules:
        registry.add_module(module)
    return registry


def module_of(name: str, **members: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    vars(made).update(members)
    return made


def declaring(pattern: str, kind: Any) -> Any:
    return event(pattern)(TypedDict("Told", {"value": kind}))  # type: ignore[operator]


def test_a_module_with_types_alone_is_one() -> None:
    catalogue = registry_of(ordering).catalogue()
    told = {topic.pattern: topic for topic in catalogue.topics}
    assert told.keys() == {"orders.*", "archive.orders.>", "orders.total", "orders.seen", "orders.gone"}
    assert {topic.pack for topic in catalogue.topics} == {"tests.methods.packs.ordering"}
    assert [told[name].summary for name in ("orders.*", "orders.total", "orders.seen")] == [
        "When an order changes.",
        "Once a minute.",
        "",
    ]
    assert catalogue.methods == []
    assert ordering.State.SENT.value in str(told["orders.total"].data)
    assert ordering.Special.__mro__[0].__name__ not in str(catalogue), "a subclass declares nothing by itself"


def test_documents_have_them_beside_the_hubs_own() -> None:
    topics = registry_of(ordering).catalogue().topics
    document = discover([], topics)
    told = document["x-trunkline"]["topics"]
    assert "system.metrics" in told
    order, components = told["orders.*"]["data"], document["components"]["schemas"]
    order = components[order["$ref"].rpartition("/")[2]] if "$ref" in order else order
    assert order["properties"]["lines"]["items"] == {"$ref": "#/components/schemas/Line"}
    channels = asyncapi(topics)["channels"]
    assert channels["orders_any"]["address"] == "orders.{token2}"
    assert channels["archive_orders_all"]["address"] == "archive.orders.{rest}"
    assert channels["archive_orders_all"]["parameters"].keys() == {"rest"}
    assert "parameters" not in channels["orders_total"]
    assert channels["orders_total"]["description"].startswith("Once a minute. Sent as")


def test_names_of_the_document_do_not_collide() -> None:
    names = ("orders.any", "orders.*", "orders_any", "Line", "ws", "Error", "größe")
    module = module_of("many", **{f"c{n}": declaring(name, ordering.Line) for n, name in enumerate(names)})
    document = asyncapi(registry_of(module).catalogue().topics)
    found = {channel["messages"]["data"]["name"]: key for key, channel in document["channels"].items() if key != "ws"}
    assert found.keys() >= set(names)
    assert len(set(found.values())) == len(found)
    assert all(key.replace("-", "_").isascii() for key in found.values())
    assert document["components"]["schemas"][found["Line"]]["properties"].keys() == {"value"}
    assert document["components"]["schemas"]["Error"]["properties"].keys() == {"code", "message", "data"}


def test_generated_types_have_them() -> None:
    text = GENERATORS["typescript"](discover([], registry_of(ordering).catalogue().topics))
    topics = " ".join(text.partition("export interface Topics {")[2].partition("\n}\n")[0].split())
    assert '"orders.*": Order;' in topics
    assert '"archive.orders.>": Order;' in topics
    assert "state: " in text
    assert '"open" | "sent"' in text


@pytest.mark.parametrize("pattern", ["system.metrics", "system.*", "system", "jobs." + "0" * 32, "", "a b", "a.>.b", 7])
def test_names_that_are_the_hubs_or_none_are_refused(pattern: Any) -> None:
    with pytest.raises(RegistrationError, match=r"@event: .*(the hub's own|is no topic)"):
        event(pattern)


def test_what_is_no_class_is_refused() -> None:
    with pytest.raises(RegistrationError, match=r"@event\('a'\) is for classes"):
        event("a")(len)  # type: ignore[type-var]


def test_a_type_without_a_form_on_the_wire_is_refused() -> None:
    with pytest.raises(RegistrationError, match=r"@event\('a\.b'\)"):
        registry_of(module_of("bad", Told=declaring("a.b", types.ModuleType)))


async def test_two_modules_that_differ_are_refused_at_load(monkeypatch: pytest.MonkeyPatch) -> None:
    first = module_of("first", Told=declaring("a.*", int), Only=declaring("c", int))
    second = module_of("second", Told=declaring("a.*", str), Other=declaring("b", int))
    for module in (first, second):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    registry = Registry()
    (failure,) = await load_modules(registry, ["first", "second"], {})
    assert failure.module == "second"
    assert "a.* are declared differently in second and in first" in failure.message
    assert [topic.pattern for topic in registry.catalogue().topics] == ["a.*", "c"], "nothing of the second"


def test_a_class_that_another_module_imports_is_the_same() -> None:
    registry = registry_of(ordering, module_of("importing", Order=ordering.Order))
    assert len(registry.catalogue().topics) == 5


def test_one_module_that_differs_from_itself_is_refused() -> None:
    with pytest.raises(RegistrationError, match="declared differently here and before"):
        registry_of(module_of("twice", A=declaring("a", int), B=declaring("a", str)))
