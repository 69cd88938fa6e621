"""Supabase's realtime-js, unchanged: joining, leaving, broadcasts, heartbeats and what comes after a cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.interop.node import node, require_packages
from tests.support.hub import RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.proxy import Proxy

SCRIPT: Final = Path(__file__).with_name("phoenix") / "supabase.mjs"


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    require_packages("@supabase/realtime-js", "ws")
    with ready_hub(env={"TRUNKLINE_PHOENIX_CHANNELS": "realtime:*"}) as running:
        yield running


async def event_of(other: Peer) -> Any:
    """The next event that another client of the hub reads."""
    while other.others:
        if (message := other.others.pop(0)).get("method") == "event":
            return message
    while (message := await other.receive()).get("method") != "event":
        pass
    return message


async def test_broadcasts_heartbeats_and_a_cut(hub: RunningHub) -> None:
    async with (
        Proxy(hub.port) as proxy,
        node(SCRIPT, f"ws://127.0.0.1:{proxy.port}/socket") as script,
        peer(hub.url) as other,
    ):
        while (await script.says("status"))["status"] != "SUBSCRIBED":
            pass
        await other.result("subscribe", {"topic": "realtime.a"})
        script.tell("send")
        while {"sent", "shout"} - {said["what"] for said in script.said}:
            await script.line()
        said = {each["what"]: each for each in script.said}
        require({"sent": {"status": "ok"}, "shout": {"payload": {"n": 1}}}, said)
        event = (await event_of(other))["params"]
        sent = {"type": "broadcast", "event": "shout", "payload": {"n": 1}}
        require({"data": {"event": "broadcast", "payload": sent}}, event)
        script.tell("auth")
        await script.says("auth")
        while (await script.says("heartbeat"))["status"] != "ok":
            pass
        proxy.refuse()
        proxy.cut()
        await other.result(
            "publish", {"topic": "realtime.a", "data": {"event": "broadcast", "payload": sent | {"payload": 2}}}
        )
        proxy.refuse(False)
        while (await script.says("shout"))["payload"] != 2:
            pass
        # The token went to nobody: what came after it comes next.
        require({"data": {"payload": {"payload": 2}}}, (await event_of(other))["params"])
        script.tell("leave")
        require({"status": "ok"}, await script.says("left"))
