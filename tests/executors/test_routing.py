from __future__ import annotations

import pytest

from trunkline.executors.routing import RoutingKeys
from trunkline_protocol.catalogue import MethodInfo, Parameter
from trunkline_protocol.errors import ErrorCode, RpcError

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


def test_decoders_of_methods_do_not_mix() -> None:
    keys = RoutingKeys()
    other = MethodInfo("graph.walk", routing_key="start", parameters=[Parameter("start", {}, True)])
    assert keys.value(INFO, b'{"collection":"a","start":"b"}') == "a"
    assert keys.value(other, b'{"collection":"a","start":"b"}') == "b"
