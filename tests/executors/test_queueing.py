from __future__ import annotations

import msgspec
import pytest

from tests.support.doubles import Asked
from trunkline.executors.queueing import PREFETCH_LIMIT, LaneLoad, RoutingKeys, default_of
from trunkline.hub.principal import Principal
from trunkline_protocol.catalogue import MethodInfo, Parameter
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.tenants import SharedNames, key_in


def learned(slots: int, run_seconds: float) -> LaneLoad:
    lane = LaneLoad(slots)
    for _ in range(100):
        lane.observe(run_seconds)
    return lane


@pytest.mark.parametrize("slots", [1, 32])
def test_slow_calls_are_not_sent_ahead(slots: int) -> None:
    assert learned(slots, 0.1).limit == slots


@pytest.mark.parametrize("slots", [1, 32])
def test_quick_calls_are_sent_ahead_within_bounds(slots: int) -> None:
    assert slots < learned(slots, 0.0001).limit <= slots + PREFETCH_LIMIT
    assert learned(slots, 0).limit == slots + PREFETCH_LIMIT


def test_at_first_nothing_is_known_and_little_is_sent_ahead() -> None:
    assert LaneLoad(1).limit == 1


def test_one_slow_call_after_many_quick_ones_shrinks_it_at_once() -> None:
    lane = learned(1, 0.00005)
    lane.observe(1.0)
    assert lane.limit == 1


INFO = MethodInfo(
    "vectors.search",
    routing_key="collection",
    parameters=[Parameter("query", {}, True), Parameter("collection", {}, True)],
)


@pytest.mark.parametrize(
    "params",
    [
        b'{"collection":"docs"}',
        b'{"query":[1,{"collection":"other"}],"collection":"docs","more":null}',
        b' {"\\u0063ollection":"d\\u006fcs"}',
        b'["what","docs"]',
        b' [ [1] , "docs", 3]',
    ],
)
def test_the_key_is_found_by_name_and_by_position(params: bytes) -> None:
    assert RoutingKeys().value(INFO, params) == "docs"


@pytest.mark.parametrize(
    "params",
    [b"{}", b'{"collection":5}', b'{"collection":null}', b"[]", b'["q"]', b'["q",5]', b'{"collection":"x"', b"[1,"],
)
def test_a_missing_key_is_named(params: bytes) -> None:
    with pytest.raises(RpcError, match="collection") as caught:
        RoutingKeys().value(INFO, params)
    assert caught.value.code == ErrorCode.INVALID_PARAMS


VECTORS = msgspec.structs.replace(INFO, pack="vectors")
OTHER_PACKS = msgspec.structs.replace(INFO, pack="graph")


@pytest.mark.parametrize(
    ("tenant", "collection", "key"),
    [
        ("default", "docs", "docs"),
        ("acme", "docs", key_in("acme", "docs")),
        ("bolt", "docs", key_in("bolt", "docs")),
        ("acme", "wiki.a", "wiki.a"),
    ],
)
async def test_a_collection_is_routed_as_its_tenants(tenant: str, collection: str, key: str) -> None:
    keys = RoutingKeys(SharedNames(("wiki.*",)))
    who = Principal("ann", tenant=tenant, collections=("docs", "wiki.>"))
    assert keys.allowed(VECTORS, Asked("m", {"collection": collection}, who)) == key
    assert keys.allowed(OTHER_PACKS, Asked("m", {"collection": collection}, who)) == collection, (
        "the key of another pack's method is its own"
    )
    with pytest.raises(RpcError, match="may not use the collection other"):
        keys.allowed(VECTORS, Asked("m", {"collection": "other"}, who))


def test_decoders_of_methods_do_not_mix() -> None:
    keys = RoutingKeys()
    other = MethodInfo("graph.walk", routing_key="start", parameters=[Parameter("start", {}, True)])
    assert keys.value(INFO, b'{"collection":"a","start":"b"}') == "a"
    assert keys.value(other, b'{"collection":"a","start":"b"}') == "b"


TECHNIQUE = MethodInfo(
    "rag.execute",
    technique="technique",
    parameters=[Parameter("query", {}, True), Parameter("technique", {"type": "string", "default": "basic"}, False)],
)


@pytest.mark.parametrize(
    ("params", "value"),
    [
        (b'{"query":"q","technique":"hybrid"}', "hybrid"),
        (b'["q","hybrid"]', "hybrid"),
        (b'{"query":"q"}', None),
        (b'["q"]', None),
        (b"{}", None),
        (b'{"technique":null}', None),
        (b'["q",null]', None),
    ],
)
def test_what_may_be_left_out(params: bytes, value: str | None) -> None:
    keys = RoutingKeys()
    assert keys.optional(TECHNIQUE, "technique", params) == value
    assert keys.optional(TECHNIQUE, "query", params) in ("q", None), "one decoder a method and parameter"


def test_defaults_are_strings_or_none() -> None:
    assert default_of(TECHNIQUE, "technique") == "basic"
    assert default_of(TECHNIQUE, "query") is None
    assert default_of(TECHNIQUE, "unknown") is None
    assert default_of(MethodInfo("m", parameters=[Parameter("n", {"default": 5}, False)]), "n") is None


def test_what_is_no_string_is_refused() -> None:
    with pytest.raises(RpcError, match=r"rag\.execute: technique must be given as a string"):
        RoutingKeys().optional(TECHNIQUE, "technique", b'{"technique":5}')
