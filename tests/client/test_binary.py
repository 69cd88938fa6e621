"""Bytes go and come as bytes, in calls, streams, input, events and served methods."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.timing import PATIENCE
from trunkline.client import connect
from trunkline.client.serving import ServedCall


@pytest.fixture(scope="module")
def binary_hub() -> Iterator[RunningHub]:
    with ready_hub(DEBUG_METHODS, "binary", cwd=MODULES) as hub:
        yield hub


async def test_bytes_in_every_direction(binary_hub: RunningHub) -> None:
    async def served(params: dict[str, Any], _call: ServedCall) -> Any:
        return {"got": type(params["blob"]).__name__, "back": params["blob"] + b"!"}

    async with connect(binary_hub.url) as hub, asyncio.timeout(PATIENCE):
        assert await hub.call("binary.reverse", {"data": b"\x00\xff"}) == b"\xff\x00"
        chunks = [chunk.data async for chunk in await hub.stream("binary.chunks", {"sizes": [2, 0]})]
        assert chunks == [bytes(2), b""]
        assert await hub.call("binary.joined", input=[b"ab", b"\xfe"]) == b"ab\xfe"
        async with hub.subscribe("binary.events") as events:
            await hub.publish("binary.events", {"jpeg": b"\xff\xd8"})
            assert (await anext(events)).data == {"jpeg": b"\xff\xd8"}  # type: ignore[union-attr]
        async with await hub.register("binary.served", served):
            assert await hub.call("binary.served", {"blob": b"x"}) == {"got": "bytes", "back": b"x!"}
