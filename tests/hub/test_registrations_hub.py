"""Methods that clients serve, through a real hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from tests.support.hub import RunningHub
from tests.support.match import require
from tests.support.peer import Peer, peer
from trunkline_protocol.errors import ErrorCode


@asynccontextmanager
async def callee(hub: RunningHub, method: str, **options: Any) -> AsyncIterator[Peer]:
    async with peer(hub.url) as connection:
        await connection.result("method.register", {"method": method, **options})
        yield connection


async def asked(connection: Any) -> Any:
    """The next request of the hub's."""
    while True:
        message = await connection.receive()
        if "id" in message and "method" in message:
            return message


async def answer(connection: Peer, request: Any, result: Any) -> None:
    await connection.send({"jsonrpc": "2.0", "id": request["id"], "result": result})


async def chunk(connection: Peer, request: Any, index: int, data: Any) -> None:
    params = {"request_id": request["id"], "chunk_type": "part", "data": data, "index": index, "is_final": False}
    await connection.notify("stream_chunk", params)


async def test_a_call_reaches_the_client_and_its_answer_the_caller(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "node.lookup") as node:
        call = await lab_peer.request(
            "node.lookup", {"key": "a"}, metadata={"timeout_ms": 60_000, "traceparent": "00-x"}
        )
        request = await asked(node)
        require({"method": "node.lookup", "params": {"key": "a"}, "metadata": {"traceparent": "00-x"}}, request)
        assert request["id"].startswith("h:")
        assert 0 < request["metadata"]["timeout_ms"] <= 60_000
        await answer(node, request, {"found": True})
        assert (await lab_peer.reply(call))["result"] == {"found": True}


async def test_a_method_in_an_executor_calls_a_client(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "node.double") as node:
        call = await lab_peer.request("debug.call", {"method": "node.double", "params": {"n": 21}})
        request = await asked(node)
        await answer(node, request, request["params"]["n"] * 2)
        assert (await lab_peer.reply(call))["result"] == 42


async def test_answers_may_come_in_a_batch(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "node.batched") as node:
        calls = [await lab_peer.request("node.batched") for _ in range(2)]
        requests = [await asked(node) for _ in calls]
        await node.send([{"jsonrpc": "2.0", "id": request["id"], "result": 7} for request in requests])
        assert [(await lab_peer.reply(call))["result"] for call in calls] == [7, 7]


async def test_errors_keep_their_code_and_say_that_it_ran(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "node.fails") as node:
        for code, ran in ((4321, True), (-32602, False)):
            call = await lab_peer.request("node.fails")
            request = await asked(node)
            await node.send({"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": "no"}})
            error = (await lab_peer.reply(call))["error"]
            require({"code": code, "message": "no", "data": {"maybe_executed": ran}}, error)


async def test_a_stream_with_credit_back_to_the_callee(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "node.numbers", streaming=True) as node:
        call = await lab_peer.request("node.numbers")
        request = await asked(node)
        for index in range(40):
            await chunk(node, request, index, index)
        await answer(node, request, {"count": 40})
        assert (await lab_peer.reply(call))["result"] == {"count": 40}
        chunks = [m["params"] for m in lab_peer.others if m.get("method") == "stream_chunk"]
        assert [c["index"] for c in chunks] == list(range(41))
        assert chunks[3] == {"request_id": call, "chunk_type": "part", "data": 3, "is_final": False, "index": 3}
        credit = [await node.receive() for _ in range(2)]
        assert [m["params"]["consumed"] for m in credit] == [16, 32]


LIKE_NUMBERS: Final = ("4b03d27afec85e46", 1e16, {"commit 85e461": "1e999"}, 0.5)
"""Values with digits around an e, which may be a number that no double holds, and is none here."""


async def test_chunks_that_look_like_numbers_too_large_pass(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "node.hashes", streaming=True) as node:
        call = await lab_peer.request("node.hashes")
        request = await asked(node)
        for index, value in enumerate(LIKE_NUMBERS):
            await chunk(node, request, index, value)
        await answer(node, request, None)
        assert "error" not in await lab_peer.reply(call)
        chunks = [m["params"]["data"] for m in lab_peer.others if m.get("method") == "stream_chunk"]
        assert chunks == [*LIKE_NUMBERS, None]


async def test_chunks_out_of_order_end_the_call(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "node.broken", streaming=True) as node:
        call = await lab_peer.request("node.broken")
        request = await asked(node)
        await chunk(node, request, 0, 0)
        await chunk(node, request, 2, 2)
        require({"error": {"code": ErrorCode.SERIALIZATION_ERROR, "data": {"chunks": 1}}}, await lab_peer.reply(call))
        require({"method": "$/cancelRequest", "params": {"id": request["id"]}}, await node.receive())


async def test_progress(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "node.slow") as node:
        call = await lab_peer.request("node.slow", metadata={"progress_token": "mine"})
        request = await asked(node)
        for value in LIKE_NUMBERS:
            await node.notify("$/progress", {"token": request["metadata"]["progress_token"], "value": value})
        await answer(node, request, None)
        assert (await lab_peer.reply(call))["result"] is None
        assert [m["params"] for m in lab_peer.others] == [{"token": "mine", "value": value} for value in LIKE_NUMBERS]


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_whoever_gives_up_is_heard_by_the_callee(lab_hub: RunningHub, lab_peer: Peer, how: str) -> None:
    async with callee(lab_hub, "node.wait", max_concurrency=1) as node:
        metadata = {"timeout_ms": 200} if how == "deadline" else None
        call = await lab_peer.request("node.wait", metadata=metadata)
        request = await asked(node)
        if how == "cancel":
            await lab_peer.cancel(call)
        codes = {"cancel": ErrorCode.CANCELLED, "deadline": ErrorCode.COMMUNICATION_TIMEOUT}
        require({"error": {"code": codes[how], "data": {"maybe_executed": True}}}, await lab_peer.reply(call))
        require({"method": "$/cancelRequest", "params": {"id": request["id"]}}, await node.receive())
        await answer(node, request, "too late")
        again = await lab_peer.request("node.wait")
        await answer(node, await asked(node), "free again")
        assert (await lab_peer.reply(again))["result"] == "free again"


async def test_a_deadline_that_passes_in_the_queue_says_what_the_call_waited_for(
    lab_hub: RunningHub, lab_peer: Peer
) -> None:
    async with callee(lab_hub, "node.full", max_concurrency=1) as node:
        running = await lab_peer.request("node.full")
        request = await asked(node)
        error = await lab_peer.error("node.full", metadata={"timeout_ms": 100})
        require({"code": ErrorCode.COMMUNICATION_TIMEOUT, "data": {"maybe_executed": False}}, error)
        assert error["message"].endswith("it was still waiting for a client that serves it")
        await answer(node, request, None)
        await lab_peer.reply(running)


async def test_several_callees_share_by_room_and_what_is_too_much_waits(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with (
        callee(lab_hub, "node.work", max_concurrency=1) as one,
        callee(lab_hub, "node.work", max_concurrency=2) as two,
    ):
        calls = [await lab_peer.request("node.work", {"n": n}) for n in range(4)]
        of_one, of_two = await asked(one), [await asked(two), await asked(two)]
        with pytest.raises(TimeoutError):
            await one.receive(0.2)
        await answer(one, of_one, "one")
        last = await asked(one)
        assert last["params"] == {"n": 3}
        for connection, request in ((one, last), *((two, request) for request in of_two)):
            await answer(connection, request, "done")
        assert [(await lab_peer.reply(call))["result"] for call in calls].count("done") == 3


async def waits(connection: Peer, method: str, n: Any = None, **options: Any) -> Any:
    """Make a call that the hub has when this returns. It is told apart by ``n``."""
    call = await connection.request(method, {"n": n}, **options)
    await connection.result("rpc.ping")
    return call


async def test_callers_take_turns_however_much_one_of_them_wants(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "node.busy", max_concurrency=1) as node, peer(lab_hub.url) as other:
        for _ in range(1000):
            await lab_peer.request("node.busy", {"n": "many"})
        await lab_peer.result("rpc.ping")
        running = await asked(node)
        single = await waits(other, "node.busy", "single")
        served = 0
        while running["params"]["n"] != "single":
            await answer(node, running, None)
            served += 1
            running = await asked(node)
        assert served <= 2, "the one that ran, and one whose turn it was"
        await answer(node, running, "mine")
        assert (await other.reply(single))["result"] == "mine"


async def test_priorities_order_what_waits_for_a_callee_and_starve_nobody(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "node.ranked", max_concurrency=1) as node:
        await lab_peer.request("node.ranked", {"n": "first"})
        running = await asked(node)
        for name in ("low", "normal", *["high"] * 16):
            await lab_peer.request("node.ranked", {"n": name}, metadata={"priority": name})
        await lab_peer.result("rpc.ping")
        order = []
        for _ in range(18):
            await answer(node, running, None)
            running = await asked(node)
            order.append(running["params"]["n"])
        assert order[0] == "high"
        assert order.index("normal") < 8
        assert order.index("low") < 8, "of eight turns low has one"


async def test_who_gives_up_while_it_waits_is_never_asked_for(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "node.queue", max_concurrency=1) as node:
        await lab_peer.request("node.queue", {"n": 0})
        running = await asked(node)
        cancelled = await waits(lab_peer, "node.queue", 1)
        late = await waits(lab_peer, "node.queue", 2, metadata={"timeout_ms": 100})
        last = await waits(lab_peer, "node.queue", 3)
        await lab_peer.cancel(cancelled)
        for call, code in ((cancelled, ErrorCode.CANCELLED), (late, ErrorCode.COMMUNICATION_TIMEOUT)):
            require({"error": {"code": code, "data": {"maybe_executed": False}}}, await lab_peer.reply(call))
        await answer(node, running, None)
        running = await asked(node)
        assert running["params"]["n"] == 3
        await answer(node, running, "three")
        assert (await lab_peer.reply(last))["result"] == "three"


async def test_calls_that_wait_for_the_last_callee_end_when_it_goes(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "node.last", max_concurrency=1) as node:
        calls = [await waits(lab_peer, "node.last", n) for n in range(3)]
        await asked(node)
        node.socket.transport.abort()
        first, *others = [(await lab_peer.reply(call))["error"] for call in calls]
        require({"code": ErrorCode.WORKER_CRASHED, "data": {"maybe_executed": True}}, first)
        for error in others:
            require({"code": ErrorCode.WORKER_UNAVAILABLE, "data": {"maybe_executed": False}}, error)


async def test_a_callee_that_vanishes(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "node.mortal") as node:
        call = await lab_peer.request("node.mortal")
        await asked(node)
        node.socket.transport.abort()
        error = (await lab_peer.reply(call))["error"]
        require({"code": ErrorCode.WORKER_CRASHED, "data": {"maybe_executed": True}}, error)
    late = await lab_peer.call("node.mortal", metadata={"timeout_ms": 50})
    require({"code": ErrorCode.COMMUNICATION_TIMEOUT, "data": {"maybe_executed": False}}, late["error"])


async def test_an_idempotent_call_moves_to_another_callee(lab_hub: RunningHub, lab_peer: Peer) -> None:
    options = {"idempotent": True, "max_concurrency": 1}
    async with callee(lab_hub, "node.safe", **options) as one, callee(lab_hub, "node.safe", **options) as two:
        call = await lab_peer.request("node.safe", {"n": 1})
        asking = {asyncio.create_task(asked(each)): each for each in (one, two)}
        done, waiting = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        (first,) = done
        asking[first].socket.transport.abort()
        (other,) = waiting
        await answer(asking[other], await other, "moved")
        assert (await lab_peer.reply(call))["result"] == "moved"


@pytest.mark.parametrize("name", ["a b", "", "a.*"])
async def test_what_is_no_name_cannot_be_registered(lab_peer: Peer, name: str) -> None:
    require({"code": ErrorCode.INVALID_PARAMS}, await lab_peer.error("method.register", {"method": name}))


@pytest.mark.parametrize(
    "name",
    [
        "rpc.ping", "rpc.mine", "subscribe", "system.info", "system.status", "session.open", "session.x", "jobs.get",
        "event", "event.gap", "stream_chunk", "stream.credit", "$/progress", "notifications/cancelled", "debug.echo",
    ],
)  # fmt: skip
async def test_names_of_the_hub_and_of_executors_cannot_be_registered(lab_peer: Peer, name: str) -> None:
    error = await lab_peer.error("method.register", {"method": name})
    require({"code": ErrorCode.FORBIDDEN, "message": {"$contains": "register another name"}}, error)
    assert name in error["message"]


async def test_unregistering_and_discovering(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async with callee(lab_hub, "node.listed", summary="Looks things up", streaming=True) as node:
        listed = {m["name"]: m for m in (await lab_peer.result("rpc.discover"))["methods"]}
        extension = {"pack": "client", "streaming": True}
        require({"summary": "Looks things up", "x-trunkline": extension}, listed["node.listed"])
        assert (await node.result("method.unregister", {"method": "node.listed"}))["unregistered"] is True
        assert (await node.result("method.unregister", {"method": "node.listed"}))["unregistered"] is False
        require({"code": ErrorCode.METHOD_NOT_FOUND}, await lab_peer.error("node.listed"))


async def test_nobody_answers_for_another(lab_hub: RunningHub, lab_peer: Peer) -> None:
    """The ids of the hub's requests can be guessed: only the connection that was asked may answer."""
    async with callee(lab_hub, "node.mine") as node, peer(lab_hub.url) as stranger:
        call = await lab_peer.request("node.mine")
        request = await asked(node)
        await answer(stranger, request, "forged")
        await stranger.result("rpc.ping")
        await answer(node, request, "true")
        assert (await lab_peer.reply(call))["result"] == "true"


async def test_what_a_client_says_of_params_and_result_is_discovered(lab_hub: RunningHub, lab_peer: Peer) -> None:
    async def said() -> tuple[list[str], Any]:
        found = (await lab_peer.result("rpc.discover"))["methods"]
        method = next(each for each in found if each["name"] == "node.described")
        return [each["name"] for each in method["params"]], method["result"]["schema"]

    schemas = {"params": {"properties": {"key": {"type": "string"}}}, "result": {"type": "integer"}}
    async with callee(lab_hub, "node.described", **schemas) as node:
        assert await said() == (["key"], {"type": "integer"})
        async with callee(lab_hub, "node.described", params={"properties": {"id": {}}}):
            assert await said() == (["id"], {}), "the newest registration is that of the version that stays"
        error = await node.error("method.register", {"method": "node.bad", "params": {"type": "array"}})
        require({"code": -32602}, error)
        assert "type is 'array'" in error["message"]


async def test_the_schemas_of_all_methods_are_bounded(lab_hub: RunningHub, lab_peer: Peer) -> None:
    large = {"description": "x" * 65_000}
    async with callee(lab_hub, "node.large0", result=large) as node:
        for n in range(1, 16):
            await node.result("method.register", {"method": f"node.large{n}", "result": large})
        error = await node.error("method.register", {"method": "node.large16", "result": large})
        require({"code": ErrorCode.RESOURCE_EXHAUSTED}, error)
        await node.result("method.register", {"method": "node.large15", "result": large})
        await node.result("method.register", {"method": "node.large15"})
        await node.result("method.register", {"method": "node.large16", "result": large})
