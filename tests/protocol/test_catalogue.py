from __future__ import annotations

import msgspec

from trunkline_protocol.catalogue import Catalogue, MethodInfo, Parameter


def test_round_trip() -> None:
    info = MethodInfo(
        "vectors.search",
        summary="Search",
        pack="vectors",
        streaming=True,
        lane="thread",
        idempotent=True,
        routing_key="collection",
        timeout_ms=5,
        max_timeout_ms=6,
        parameters=[Parameter("collection", {"type": "string"}, True)],
        result={"type": "object"},
        chunk={"type": "string"},
    )
    catalogue = Catalogue([info], ["vectors"], {"device": "cpu"})
    assert msgspec.json.decode(msgspec.json.encode(catalogue), type=Catalogue) == catalogue


def test_defaults_are_the_careful_ones() -> None:
    info = MethodInfo("m")
    assert not info.idempotent
    assert not info.streaming
    assert info.routing_key is None


def test_a_newer_executor_may_say_more() -> None:
    data = b'{"methods":[{"name":"m","colour":"red"}],"news":1}'
    assert msgspec.json.decode(data, type=Catalogue).methods == [MethodInfo("m")]
