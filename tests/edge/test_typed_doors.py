"""Random values of random types through each door of a real hub: out is what went in, and what the schemas say."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.typing import Subprotocol

from tests.edge.websocket.test_msgpack_door import PackedPeer
from tests.support.drawing import reader_of, values_of
from tests.support.framed import relay
from tests.support.hub import MODULES, RunningHub, ready_hub
from tests.support.jobs import job, until
from tests.support.modules.drawn import HINTS
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE
from trunkline.methods.wire_values import decode, encode
from trunkline_protocol.codecs.msgpack import SUBPROTOCOL

ROUNDS: Final = 20
"""Values of one example, over one connection."""

Case = tuple[int, Any]
CASES: Final = st.lists(
    st.integers(0, len(HINTS) - 1).flatmap(lambda index: st.tuples(st.just(index), values_of(HINTS[index]))),
    min_size=ROUNDS,
    max_size=ROUNDS,
)


@pytest.fixture(scope="module")
def typed_hub() -> Iterator[RunningHub]:
    with ready_hub("drawn", cwd=MODULES) as hub:
        yield hub


class Door:
    """A way to call a method: takes and gives values as its wire has them."""

    async def call(self, method: str, value: Any) -> Any:
        """The result of a method with this ``value``, both as Python has them from JSON with bytes."""
        raise NotImplementedError


class PeerDoor(Door):
    """A peer that speaks JSON-RPC, in text or, with bytes as they are, in MessagePack."""

    def __init__(self, connected: Peer, *, binary: bool = False) -> None:
        self.peer = connected
        self._binary = binary

    async def call(self, method: str, value: Any) -> Any:
        return await self.peer.result(method, {"value": decode(value) if self._binary else json.loads(value)})


class JobDoor(PeerDoor):
    """Jobs, made over a peer."""

    async def call(self, method: str, value: Any) -> Any:
        made = await job(self.peer, method, {"value": json.loads(value)})
        over = await until(self.peer, made["id"])
        assert over["status"] == "succeeded", over
        return over["result"]


class HttpDoor(Door):
    """``POST /api/v1/...``."""

    def __init__(self, hub: RunningHub) -> None:
        self._hub = hub

    async def call(self, method: str, value: Any) -> Any:
        url = self._hub.url.replace("ws://", "http://").removesuffix("/ws") + "/api/v1/" + method.replace(".", "/")
        body = b'{"value":' + value + b"}"
        request = urllib.request.Request(url, body, {"content-type": "application/json"})

        def ask() -> Any:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.load(answer)

        return await asyncio.to_thread(ask)


@asynccontextmanager
async def opened(name: str, hub: RunningHub) -> AsyncIterator[Door]:
    """A door of the hub, by name."""
    if name == "http":
        yield HttpDoor(hub)
    elif name == "stdio":
        async with relay(hub.url, framing="ndjson") as program:
            yield PeerDoor(program)
    elif name == "msgpack":
        async with peer(hub.url, kind=PackedPeer, subprotocols=[Subprotocol(SUBPROTOCOL)]) as packed:
            yield PeerDoor(packed, binary=True)
    else:
        async with peer(hub.url) as connected:
            yield JobDoor(connected) if name == "job" else PeerDoor(connected)


async def through(name: str, hub: RunningHub, cases: list[Case]) -> None:
    """Send values through a door, and hold what comes back against them and against ``rpc.discover``."""
    async with peer(hub.url) as asking:
        document = await asking.result("rpc.discover")
    described = {entry["name"]: entry for entry in document["methods"]}
    async with opened(name, hub) as door:
        for index, value in cases:
            method = f"drawn.m{index}"
            sent = encode(value, "the test gave", large_integers=True)
            result = encode(await door.call(method, sent), "the method gave")
            assert reader_of(HINTS[index]).read(result) == value, method
            for given, schema in (
                (sent, described[method]["params"][0]["schema"]),
                (result, described[method]["result"]["schema"]),
            ):
                jsonschema.validate(json.loads(given), schema | {"components": document["components"]})


@pytest.mark.parametrize(("door", "examples"), [("json", 5), ("msgpack", 5), ("http", 2), ("stdio", 2), ("job", 1)])
def test_out_is_what_went_in(typed_hub: RunningHub, door: str, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(CASES)
    def property_of(cases: list[Case]) -> None:
        asyncio.run(through(door, typed_hub, cases))

    property_of()
