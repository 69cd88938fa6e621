"""Several callees of one method, of which some fail. Through a real hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import websockets

from tests.hub.test_registrations_hub import asked, callee
from tests.hub.test_sessions_hub import SessionPeer, session_peer
from tests.support.hub import RunningHub
from tests.support.match import require
from tests.support.peer import Peer
from tests.support.timing import SCALE
from trunkline_protocol.errors import ErrorCode


class Serves:
    """Answers every call in one way.

    Attributes:
        asked: how many there were.
    """

    def __init__(self, node: Peer | InSession, answer: dict[str, Any] | None) -> None:
        self._node = node
        self.answer = answer
        self.asked = 0

    async def run(self) -> None:
        with suppress(websockets.ConnectionClosed):
            while True:
                message = await asked(self._node)
                self.asked += 1
                if self.answer is not None:
                    await self._node.send({"jsonrpc": "2.0", "id": message["id"], **self.answer})


@asynccontextmanager
async def serving(hub: RunningHub, method: str, answer: dict[str, Any] | None, **options: Any) -> AsyncIterator[Serves]:
    async with callee(hub, method, **options) as node:
        serves = Serves(node, answer)
        task = asyncio.create_task(serves.run())
        try:
            yield serves
        finally:
            task.cancel()


def error(code: int) -> dict[str, Any]:
    return {"error": {"code": code, "message": "no"}}


GOOD = {"result": "good"}


async def test_equally_free_callees_take_turns(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with (
        serving(lab_hub, "turns.work", GOOD) as one,
        serving(lab_hub, "turns.work", GOOD) as two,
        serving(lab_hub, "turns.work", GOOD) as three,
    ):
        for _ in range(30):
            await lab_peer.result("turns.work")
        assert [one.asked, two.asked, three.asked] == [10, 10, 10]


@pytest.mark.parametrize("code", [ErrorCode.INTERNAL_ERROR, ErrorCode.METHOD_NOT_FOUND, -32000, None])
async def test_the_first_always_fails(lab_hub: RunningHub, lab_peer: Peer, code: int | None) -> None:
    name = f"fails.{code}"
    bad = {} if code is None else error(code)  # nothing at all is no answer
    async with serving(lab_hub, name, bad) as first, serving(lab_hub, name, GOOD) as second:
        replies = [await lab_peer.call(name) for _ in range(60)]
    assert (first.asked, second.asked) == (5, 55)
    assert sum("error" in reply for reply in replies) == 5


async def eject(caller: Peer, name: str, bad: Serves) -> None:
    """Call until the bad one is asked no more."""
    while bad.asked < 5:
        await caller.call(name)


async def test_while_all_are_busy_calls_wait_for_those_that_serve(lab_hub: RunningHub, lab_peer: Peer) -> None:
    """The one that fails at once is always the freest."""
    async with (
        serving(lab_hub, "fails.busy", error(ErrorCode.INTERNAL_ERROR)) as bad,
        serving(lab_hub, "fails.busy", GOOD, max_concurrency=1),
    ):
        await eject(lab_peer, "fails.busy", bad)
        calls = [await lab_peer.request("fails.busy") for _ in range(50)]
        assert [(await lab_peer.reply(call)).get("result") for call in calls] == ["good"] * 50


async def test_one_that_never_answers(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with serving(lab_hub, "fails.silent", None) as bad, serving(lab_hub, "fails.silent", GOOD):
        # In one frame: an answer that came between two of them would make the good one the freer.
        metadata = {"timeout_ms": 1200 * SCALE}
        member = {"jsonrpc": "2.0", "method": "fails.silent", "params": {}, "metadata": metadata}
        await lab_peer.send([member | {"id": n} for n in range(10)])
        assert sum("result" in reply for reply in await lab_peer.receive()) == 5
        assert bad.asked == 5
        for _ in range(20):
            assert await lab_peer.result("fails.silent") == "good"


async def test_deadlines_that_nobody_could_keep_eject_nobody(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with serving(lab_hub, "fails.hurried", None) as slow, serving(lab_hub, "fails.hurried", GOOD):
        for _ in range(40):
            await lab_peer.call("fails.hurried", metadata={"timeout_ms": 1})
        assert slow.asked >= 15


async def test_mistakes_of_callers_eject_nobody(lab_hub: RunningHub, lab_peer: Peer) -> None:
    refuses = error(ErrorCode.INVALID_PARAMS)
    async with serving(lab_hub, "fails.refusing", refuses) as one, serving(lab_hub, "fails.refusing", GOOD) as two:
        for _ in range(40):
            await lab_peer.call("fails.refusing")
        assert [one.asked, two.asked] == [20, 20]


async def test_what_makes_all_of_them_fail_ejects_nobody(lab_hub: RunningHub, lab_peer: Peer) -> None:
    failing = error(ErrorCode.INTERNAL_ERROR)
    async with serving(lab_hub, "fails.all", failing) as one, serving(lab_hub, "fails.all", failing) as two:
        for _ in range(40):
            await lab_peer.error("fails.all")
        assert [one.asked, two.asked] == [20, 20]


class InSession:
    """A callee with a session, as far as :class:`Serves` needs one."""

    def __init__(self, client: SessionPeer) -> None:
        self.client = client

    async def receive(self) -> Any:
        return await self.client.next()

    async def send(self, message: dict[str, Any]) -> None:
        self.client.sent += 1
        await self.client.connection.send(message | {"seq": self.client.sent})


@pytest.mark.parametrize("how", ["leaves", "is away"])
async def test_the_only_one_left_is_asked_however_it_fails(lab_hub: RunningHub, lab_peer: Peer, how: str) -> None:
    name = f"fails.left.{how[:2]}"
    async with serving(lab_hub, name, error(ErrorCode.INTERNAL_ERROR)) as bad, session_peer(lab_hub) as client:
        await client.reply(await client.request("method.register", {"method": name, "max_concurrency": 1}))
        good = Serves(InSession(client), GOOD)
        task = asyncio.create_task(good.run())
        await eject(lab_peer, name, bad)
        before, good.answer = good.asked, None
        await lab_peer.request(name)
        waiting = await lab_peer.request(name)
        while good.asked == before:
            await lab_peer.result("rpc.ping")
        assert bad.asked == 5
        if how == "leaves":
            await client.request("method.unregister", {"method": name})
        else:
            client.cut()
        require({"error": {"code": ErrorCode.INTERNAL_ERROR}}, await lab_peer.reply(waiting))
        task.cancel()
