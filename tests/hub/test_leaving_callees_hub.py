"""Callees that stop serving a method, or start anew, while calls of it run. Through a real hub."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hub.test_registrations_hub import answer, asked, callee, chunk
from tests.hub.test_sessions_hub import SessionPeer, session_peer
from tests.support.hub import RunningHub
from tests.support.jobs import job, until
from tests.support.match import require
from tests.support.peer import Peer
from trunkline_protocol.errors import ErrorCode

CRASHED = {"code": ErrorCode.WORKER_CRASHED, "data": {"maybe_executed": True}}
NEVER = 60_000
"""Milliseconds; the deadline that no outcome here may have to wait for."""


async def call(caller: Peer, name: str, **params: Any) -> Any:
    """Make a call whose deadline is far away."""
    return await caller.request(name, params, metadata={"timeout_ms": NEVER})


async def unregister(node: Peer, method: str) -> None:
    assert (await node.result("method.unregister", {"method": method}))["unregistered"] is True


async def asked_in_session(node: SessionPeer) -> Any:
    """The next request of the hub's to a client with a session."""
    while "method" not in (message := await node.next()):
        pass
    return message


async def test_a_callee_that_unregisters_and_goes_ends_its_calls_at_once(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "leave.polite") as node:
        running = await call(lab_peer, "leave.polite")
        await asked(node)
        await unregister(node, "leave.polite")
        await node.socket.close()
        require({"error": CRASHED}, await lab_peer.reply(running))


async def test_one_that_unregisters_may_still_answer(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "leave.last") as node:
        running = await call(lab_peer, "leave.last")
        request = await asked(node)
        await unregister(node, "leave.last")
        await answer(node, request, "finished")
        assert (await lab_peer.reply(running))["result"] == "finished"


async def test_of_two_methods_both_end_and_only_once(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "leave.one") as node:
        await node.result("method.register", {"method": "leave.two"})
        running = [await call(lab_peer, name) for name in ("leave.one", "leave.two")]
        for _ in running:
            await asked(node)
        await unregister(node, "leave.one")
        node.socket.transport.abort()
        for each in running:
            require({"error": CRASHED}, await lab_peer.reply(each))


async def test_an_idempotent_call_goes_to_another_callee(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "leave.safe", idempotent=True) as first:
        running = await call(lab_peer, "leave.safe")
        await asked(first)
        await unregister(first, "leave.safe")
        async with callee(lab_hub, "leave.safe", idempotent=True) as second:
            first.socket.transport.abort()
            await answer(second, await asked(second), "moved")
            assert (await lab_peer.reply(running))["result"] == "moved"


async def test_it_goes_to_nobody_who_serves_another_kind_of_method(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "leave.other", idempotent=True) as first:
        running = await call(lab_peer, "leave.other")
        await asked(first)
        await unregister(first, "leave.other")
        async with callee(lab_hub, "leave.other", streaming=True):
            first.socket.transport.abort()
            require({"error": CRASHED}, await lab_peer.reply(running))


async def test_a_stream_half_way_ends_with_its_count(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "leave.stream", streaming=True, idempotent=True) as node:
        running = await call(lab_peer, "leave.stream")
        request = await asked(node)
        await chunk(node, request, 0, "before")
        await unregister(node, "leave.stream")
        await chunk(node, request, 1, "after")
        await node.result("rpc.ping")
        node.socket.transport.abort()
        reply = await lab_peer.reply(running)
        require({"error": CRASHED | {"data": {"maybe_executed": True, "chunks": 2}}}, reply)


async def test_calls_of_methods_and_of_jobs_end_too(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "leave.inner") as node:
        outer = {"method": "leave.inner", "params": {}}
        running = await call(lab_peer, "debug.call", **outer)
        made = await job(lab_peer, "debug.call", outer)
        for _ in range(2):
            await asked(node)
        await unregister(node, "leave.inner")
        node.socket.transport.abort()
    require({"error": CRASHED}, await lab_peer.reply(running))
    ended = await until(lab_peer, made["id"], "failed")
    require({"attempts": 2, "error": {"code": ErrorCode.METHOD_NOT_FOUND}}, ended)  # its second found nobody


async def test_members_of_a_batch_end_too(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "leave.batch") as node:
        batch = [{"jsonrpc": "2.0", "id": f"b{n}", "method": "leave.batch", "params": {}} for n in range(2)]
        await lab_peer.send(batch)
        for _ in batch:
            await asked(node)
        await unregister(node, "leave.batch")
        node.socket.transport.abort()
        for error in await lab_peer.receive():
            require({"error": CRASHED}, error)


async def test_who_is_cancelled_meanwhile_is_heard_of_by_its_callee(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "leave.cancel") as node:
        running = await call(lab_peer, "leave.cancel")
        request = await asked(node)
        await unregister(node, "leave.cancel")
        await lab_peer.cancel(running)
        require({"error": {"code": ErrorCode.CANCELLED}}, await lab_peer.reply(running))
        require({"method": "$/cancelRequest", "params": {"id": request["id"]}}, await node.receive())


async def test_what_it_takes_at_once_is_counted_over_both_registrations(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "leave.again", max_concurrency=2) as node:
        old = [await call(lab_peer, "leave.again", n=n) for n in range(2)]
        requests = [await asked(node) for _ in old]
        await unregister(node, "leave.again")
        await node.result("method.register", {"method": "leave.again", "max_concurrency": 2})
        new = await call(lab_peer, "leave.again", n="new")
        await lab_peer.result("rpc.ping")
        await node.result("rpc.ping")
        assert not [m for m in node.others if m.get("method") == "leave.again"], "it works on two already"
        await answer(node, requests[0], "old")
        await answer(node, await asked(node), "new")
        assert (await lab_peer.reply(new))["result"] == "new"
        await answer(node, requests[1], "old")
        assert [(await lab_peer.reply(each))["result"] for each in old] == ["old", "old"]


async def test_calls_of_a_name_that_others_serve_now_end_with_their_own_callee(
    lab_hub: RunningHub, lab_peer: Peer
) -> None:
    async with callee(lab_hub, "leave.handed") as first:
        old = await call(lab_peer, "leave.handed")
        await asked(first)
        await unregister(first, "leave.handed")
        async with callee(lab_hub, "leave.handed") as second:
            first.socket.transport.abort()
            require({"error": CRASHED}, await lab_peer.reply(old))
            new = await call(lab_peer, "leave.handed")
            await answer(second, await asked(second), "second")
            assert (await lab_peer.reply(new))["result"] == "second"


@pytest.mark.parametrize("how", ["closed", "violation", "resumed"])
async def test_sessions(lab_hub: RunningHub, lab_peer: Peer, how: str) -> None:
    """A session that ends takes the calls with it, one that goes on elsewhere keeps them."""
    name = f"leave.session.{how}"
    async with session_peer(lab_hub) as node:
        await node.reply(await node.request("method.register", {"method": name}))
        running = await call(lab_peer, name)
        request = await asked_in_session(node)
        await node.reply(await node.request("method.unregister", {"method": name}))
        if how == "resumed":
            async with session_peer(lab_hub, node) as after:
                after.sent += 1
                result = {"jsonrpc": "2.0", "id": request["id"], "result": "elsewhere", "seq": after.sent}
                await after.connection.send(result)
                assert (await lab_peer.reply(running))["result"] == "elsewhere"
            return
        if how == "closed":
            await node.connection.request("session.close")
        else:
            await node.request("rpc.ping", seq=99)
        require({"error": CRASHED}, await lab_peer.reply(running))


async def test_many_registrations_that_were_left_are_not_kept(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "leave.kept") as node:
        for n in range(300):
            name = f"leave.many.{n}"
            await node.result("method.register", {"method": name})
            running = await call(lab_peer, name)
            request = await asked(node)
            await unregister(node, name)
            await answer(node, request, n)
            assert (await lab_peer.reply(running))["result"] == n
