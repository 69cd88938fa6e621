"""``system.topics``."""

from __future__ import annotations

import time

from tests.support.hub import RunningHub
from tests.support.match import require
from tests.support.peer import Peer, peer


async def test_topics_that_spoke_last_come_first(debug_hub: RunningHub, debug_peer: Peer) -> None:
    async with peer(debug_hub.url) as other:
        for listener in (debug_peer, other):
            await listener.result("subscribe", {"topic": "listed.*"})
        await other.result("subscribe", {"topic": "awaited"})
        for topic in ("listed.a", "listed.b", "listed.a", "unheard"):
            position = await debug_peer.result("publish", {"topic": topic, "data": 1})
        answer = await debug_peer.result("system.topics", {"limit": 3})
    listed = answer["topics"]
    assert [row["topic"] for row in listed] == ["unheard", "listed.a", "listed.b"]
    assert [row["subscribers"] for row in listed] == [0, 2, 2]
    assert [row["kept"] for row in listed] == [1, 2, 1]
    require({"epoch": position["epoch"], "offset": 1}, listed[0])
    assert listed[1]["offset"] == 2
    assert listed[1]["kept_bytes"] > listed[2]["kept_bytes"] > 0
    assert abs(listed[0]["oldest_at"] - 1000 * time.time()) < 60_000
    assert answer["more"] >= 0
    assert {"pattern": "awaited", "subscribers": 1, "tenant": "default"} in answer["subscribed"]
    assert {"pattern": "listed.*", "subscribers": 2, "tenant": "default"} in answer["subscribed"]


async def test_a_limit_that_cannot_be_is_refused(debug_peer: Peer) -> None:
    for limit in (0, 501, "3"):
        assert (await debug_peer.error("system.topics", {"limit": limit}))["code"] == -32602
