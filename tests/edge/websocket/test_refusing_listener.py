"""Refusals that browsers can read: the upgrade is accepted, the error is said, and the connection closed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from tests.edge.websocket.test_door import TOKEN, bearer
from tests.support.frames import raw_tcp
from tests.support.hub import RunningHub, ready_hub
from tests.support.match import require
from tests.support.timing import until
from trunkline.edge.websocket import refusing_listener
from trunkline_protocol.errors import ErrorCode

OFFERED = "trunkline.v1+json, trunkline.refusal"
OTHER = "trunkline.v9, trunkline.refusal"


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    with ready_hub(env={"TRUNKLINE_TOKEN": TOKEN, "TRUNKLINE_MAX_CONNECTIONS": "2"}) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "headers", "code", "close"),
    [
        ("/ws", {"Origin": "https://evil.example"}, ErrorCode.FORBIDDEN, 4502),
        ("/ws", {"Host": "evil.example"}, ErrorCode.FORBIDDEN, 4502),
        ("/ws", {}, ErrorCode.UNAUTHENTICATED, 4501),
        ("/ws", {"Sec-WebSocket-Protocol": f"{OFFERED}, {bearer('wrong')}"}, ErrorCode.UNAUTHENTICATED, 4501),
        ("/wss", {}, ErrorCode.METHOD_NOT_FOUND, 4502),
        ("/ws", {"Sec-WebSocket-Protocol": OTHER, "Authorization": f"Bearer {TOKEN}"}, ErrorCode.INVALID_REQUEST, 4502),
    ],
)
async def test_why_is_said_in_a_message_and_in_the_close(
    hub: RunningHub, path: str, headers: dict[str, str], code: ErrorCode, close: int
) -> None:
    async with raw_tcp(hub.port) as socket:
        answer = await socket.upgrade(path, headers={"Sec-WebSocket-Protocol": OFFERED, **headers})
        assert answer.status == 101
        assert answer.headers["sec-websocket-protocol"] in ("trunkline.v1+json", "trunkline.refusal")
        said = json.loads((await socket.frame()).payload)
        require({"jsonrpc": "2.0", "id": None, "error": {"code": code, "data": {"type": code.name}}}, said)
        closing = (await socket.frame()).payload
        assert int.from_bytes(closing[:2], "big") == close
        assert closing[2:].decode() == said["error"]["message"][: len(closing) - 2]
        assert TOKEN not in json.dumps(said)
        assert await socket.ended(), "without an answer to its close frame, too"


async def test_who_is_let_in_hears_nothing_of_it(hub: RunningHub) -> None:
    async with raw_tcp(hub.port) as socket:
        offered = f"trunkline.refusal, trunkline.v1+json, {bearer(TOKEN)}"
        answer = await socket.upgrade(headers={"Sec-WebSocket-Protocol": offered})
        assert (answer.status, answer.headers["sec-websocket-protocol"]) == (101, "trunkline.v1+json")


async def test_a_full_hub_may_be_asked_again(hub: RunningHub) -> None:
    async with raw_tcp(hub.port) as one, raw_tcp(hub.port) as two, raw_tcp(hub.port) as three:
        for socket in (one, two):
            assert (await socket.upgrade(headers={"Authorization": f"Bearer {TOKEN}"})).status == 101
        await three.upgrade(headers={"Sec-WebSocket-Protocol": OFFERED, "Authorization": f"Bearer {TOKEN}"})
        assert json.loads((await three.frame()).payload)["error"]["code"] == ErrorCode.RESOURCE_EXHAUSTED
        assert int.from_bytes((await three.frame()).payload[:2], "big") == 1013


@pytest.fixture
def patient_refuser() -> Iterator[RunningHub]:
    """One that waits for a minute for the answer to its close frame."""
    with RunningHub(
        env={"TRUNKLINE_TOKEN": TOKEN}, constants={f"{refusing_listener.__name__}:CLOSE_TIMEOUT": 60.0}
    ) as running:
        yield running


async def test_so_many_at_a_time_and_no_more(patient_refuser: RunningHub) -> None:
    hub, statuses = patient_refuser, list[int]()
    all_answered = asyncio.Event()

    async def refused() -> None:
        async with raw_tcp(hub.port) as socket:
            statuses.append((await socket.upgrade(headers={"Sec-WebSocket-Protocol": OFFERED})).status)
            if len(statuses) == 300:
                all_answered.set()
            await all_answered.wait()  # it says nothing, and stays

    await asyncio.gather(*(refused() for _ in range(300)))
    assert statuses.count(101) == 256
    assert statuses.count(403) == 44

    async def is_told() -> bool:
        async with raw_tcp(hub.port) as socket:
            return (await socket.upgrade(headers={"Sec-WebSocket-Protocol": OFFERED})).status == 101

    await until(is_told, "none is kept")
