"""What a hub that is stopping refuses waits for the next one, as if there were no connection."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.client.faults import Changes
from tests.client.scripted import Answer, ScriptedHub, final, opened, reply, scripted_hub, successive
from tests.client.scripted_memory import client_in_memory
from tests.support.framed import relay
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.ports import reserved_port
from tests.support.timing import PATIENCE
from trunkline.client import DisconnectedError, Hub, Reconnect, Retry, connect
from trunkline_protocol.errors import ErrorCode, RpcError, draining_error

SOON = Reconnect(0.001, 0.05)
LONG_MS = 10 * 60_000
"""For a hub to start again, however busy the machine is."""


def stopping(*, maybe_executed: bool = False, of: int = 1) -> Answer:
    """The first ``of`` connections' hub is stopping, the next one answers."""

    def answer(hub: int, message: dict[str, Any]) -> list[dict[str, Any]]:
        if hub < of:
            error = draining_error(maybe_executed=maybe_executed).to_wire()
            return [{"jsonrpc": "2.0", "id": message["id"], "error": error}]
        result = reply(message, message.get("metadata", {}))
        return [final(message["id"], 0), result] if "window" in message.get("metadata", {}) else [result]

    return successive(answer)


@asynccontextmanager
async def client_of(answer: Answer, **options: Any) -> AsyncIterator[tuple[ScriptedHub, Hub]]:
    async with (
        scripted_hub(answer, sessions=True) as hub,
        connect(hub.url, reconnect=options.pop("reconnect", SOON), **options) as client,
    ):
        yield hub, client


async def test_a_call_waits_for_the_next_connection_and_spends_no_attempt() -> None:
    async with client_of(stopping(of=4)) as (hub, client), asyncio.timeout(PATIENCE):
        call = asyncio.create_task(client.call("work", {"n": 1}))
        for number in range(1, 5):
            await hub.wait_for("work", number)
            await hub.cut()
        assert await call == {}
        assert len(hub.calls("work")) == 5, "more often than there are attempts, once a connection"


async def test_it_is_asked_nothing_twice_on_one_connection() -> None:
    async with client_of(stopping()) as (hub, client), asyncio.timeout(PATIENCE):
        call = asyncio.create_task(client.call("work"))
        await hub.wait_for("work")
        for _ in range(5):
            with pytest.raises(RpcError):
                await client.call("other", retry=False)
        assert len(hub.calls("work")) == 1
        await hub.cut()
        assert await call == {}


@pytest.mark.virtual_time
async def test_its_deadline_goes_on_and_the_next_hub_is_told_what_is_left() -> None:
    reconnect = Reconnect(2, 2)
    async with client_in_memory(stopping(), sessions=True, reconnect=reconnect) as (hub, client):
        call = asyncio.create_task(client.call("work", timeout_ms=20_000))
        await hub.wait_for("work")
        await asyncio.sleep(5)  # of its deadline
        await hub.cut()
        assert (await call)["timeout_ms"] == pytest.approx(14_000, abs=1), "one second until the next connection"


@pytest.mark.virtual_time
async def test_it_does_not_wait_longer_than_its_deadline() -> None:
    async with client_in_memory(stopping(), sessions=True) as (hub, client):
        begun = asyncio.get_running_loop().time()
        call = asyncio.create_task(client.call("work", timeout_ms=100))
        await hub.wait_for("work")
        with pytest.raises(RpcError) as caught:
            await call
        assert (caught.value.code, caught.value.maybe_executed) == (ErrorCode.COMMUNICATION_TIMEOUT, False)
        assert asyncio.get_running_loop().time() - begun == pytest.approx(0.1)


NOT_YET = RpcError(ErrorCode.WORKER_UNAVAILABLE, "still starting", maybe_executed=False, retry_after_ms=20)


@pytest.mark.virtual_time
@pytest.mark.parametrize("refusal", [draining_error(maybe_executed=False), NOT_YET], ids=["stopping", "starting"])
async def test_a_refusal_that_comes_after_its_deadline_ends_it_at_once(refusal: RpcError) -> None:
    """The grace that a hub has for its own words about a deadline is for calls that it may have executed."""
    async with client_in_memory(successive(lambda _hub, _message: []), sessions=True) as (hub, client):
        call = asyncio.create_task(client.call("work", timeout_ms=1000))
        asked = await hub.wait_for("work")
        await asyncio.sleep(1.5)
        refused_at = asyncio.get_running_loop().time()
        await hub.send({"jsonrpc": "2.0", "id": asked["id"], "error": refusal.to_wire()})
        with pytest.raises(RpcError) as caught:
            await call
        assert (caught.value.code, caught.value.maybe_executed) == (ErrorCode.COMMUNICATION_TIMEOUT, False)
        assert asyncio.get_running_loop().time() == pytest.approx(refused_at)
        assert len(hub.calls("work")) == 1


async def test_a_stream_waits_too() -> None:
    async with client_of(stopping()) as (hub, client), asyncio.timeout(PATIENCE):
        stream = await client.stream("work")
        await hub.wait_for("work")
        await hub.cut()
        assert [chunk async for chunk in stream] == []
        assert stream.result["window"] == {"items": 64, "bytes": 262_144}


async def test_whoever_leaves_meanwhile_is_not_asked_for() -> None:
    async with client_of(stopping()) as (hub, client), asyncio.timeout(PATIENCE):
        call = asyncio.create_task(client.call("work"))
        await hub.wait_for("work")
        with pytest.raises(RpcError):
            await client.call("behind", retry=False)
        call.cancel()
        await asyncio.wait([call])
        changes = Changes(client)
        await hub.cut()
        await changes.wait_for("connected")
        assert await client.call("last") == {}
        assert len(hub.calls("work")) == 1


async def fed() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("options", "connection", "maybe_executed"),
    [
        ({"retry": False}, {}, False),
        ({}, {"retry": False}, False),
        ({}, {"reconnect": False, "retry": Retry(2, 0.001)}, False),
        ({"input": fed()}, {}, False),
        ({}, {}, True),
    ],
)
async def test_what_is_not_to_be_made_again_is_refused_at_once(
    options: dict[str, Any], connection: dict[str, Any], maybe_executed: bool
) -> None:
    answer = stopping(maybe_executed=maybe_executed)
    async with client_of(answer, **connection) as (_hub, client):
        with pytest.raises(RpcError, match="stopping") as caught:
            await asyncio.wait_for(client.call("work", **options), 4 * PATIENCE)
        assert caught.value.maybe_executed == maybe_executed
        assert caught.value.data == {"draining": True}


async def test_what_waits_ends_when_the_client_is_closed() -> None:
    async with client_of(stopping()) as (hub, client):
        call = asyncio.create_task(client.call("work"))
        await hub.wait_for("work")
        with pytest.raises(RpcError):
            await client.call("behind", retry=False)
    with pytest.raises(DisconnectedError) as caught:
        await call
    assert not caught.value.maybe_executed


async def test_behind_a_relay_what_waits_can_be_cancelled_and_is_not_fed() -> None:
    async with scripted_hub(stopping(), sessions=True) as hub, relay(hub.url) as program:
        cancelled = await program.request("work")
        dropped = await program.request("work")
        fed_late = await program.request("work")
        expiring = await program.request("work", metadata={"timeout_ms": 1})
        kept = await program.request("work", metadata={"timeout_ms": 60_000})
        await hub.wait_for("work", 5)
        require({"error": {"code": 1001, "data": {"draining": True}}}, await program.reply(expiring))
        await program.cancel(cancelled)
        require({"error": {"code": -32800, "data": {"maybe_executed": False}}}, await program.reply(cancelled))
        await program.notify("notifications/cancelled", {"requestId": dropped})
        await program.notify("stream.push", {"request_id": fed_late, "index": 0, "data": 1})
        require({"error": {"code": 1001, "data": {"draining": True}}}, await program.reply(fed_late))
        await hub.cut()
        assert (await program.reply(kept))["result"]["timeout_ms"] < 60_000
        assert len(hub.calls("work")) == 6
        assert program.others == []


def deaf(*, last: bool) -> Answer:
    """The first hub reads calls of "work" no more, and says so (or not) before it is gone; the next one answers."""

    def answer(hub: int, message: dict[str, Any]) -> list[dict[str, Any]]:
        if hub == 0 and message["method"] == "read":
            return [{"jsonrpc": "2.0", "method": "session.ack", "params": {"received": message["seq"], "last": last}}]
        return [] if hub == 0 else [reply(message, message["method"])]

    return successive(answer)


async def test_what_a_stopping_hub_did_not_read_goes_to_the_next_one() -> None:
    async with client_of(deaf(last=True)) as (hub, client), asyncio.timeout(PATIENCE):
        read = asyncio.create_task(client.call("read"))
        await hub.wait_for("read")
        unread = asyncio.create_task(client.call("work", retry=False))
        await hub.wait_for("work")
        await hub.cut()
        assert await unread == "work"
        with pytest.raises(DisconnectedError) as caught:
            await read
        assert caught.value.maybe_executed, "it has read that one"


async def test_what_it_may_have_read_does_not() -> None:
    async with client_of(deaf(last=False)) as (hub, client), asyncio.timeout(PATIENCE):
        read = asyncio.create_task(client.call("read"))
        await hub.wait_for("read")
        unknown = asyncio.create_task(client.call("work"))
        await hub.wait_for("work")
        await hub.cut()
        for call in (read, unknown):
            with pytest.raises(DisconnectedError) as caught:
                await call
            assert caught.value.maybe_executed


async def test_behind_a_relay_it_goes_to_the_next_one_too() -> None:
    async with scripted_hub(deaf(last=True), sessions=True) as hub, relay(hub.url) as program:
        read = await program.request("read")
        await hub.wait_for("read")
        unread = await program.request("work")
        await hub.wait_for("work")
        await hub.cut()
        require({"result": "work"}, await program.reply(unread))
        require({"error": {"code": 2001, "data": {"maybe_executed": True}}}, await program.reply(read))


async def test_not_now_keeps_the_session_and_its_calls() -> None:
    attempts = itertools.count()

    def answer(message: dict[str, Any]) -> list[dict[str, Any]] | None:
        if message["method"] == "session.open":
            number = next(attempts)
            if number in (1, 2):
                error = {"code": 1001, "message": "the owner's fate is unknown"}
                error["data"] = {"retryable": True, "maybe_executed": False, "retry_after_ms": 100}
                return [{"jsonrpc": "2.0", "id": message["id"], "error": error}]
            resumed = number > 0
            done = {"seq": 1, "jsonrpc": "2.0", "id": 1, "result": "done"}
            return [opened(message, resumed=resumed, received=int(resumed)), *([done] if resumed else [])]
        return []

    async with client_of(answer) as (hub, client), asyncio.timeout(PATIENCE):
        changes = Changes(client)
        call = asyncio.create_task(client.call("work"))
        await hub.wait_for("work")
        await hub.cut()
        assert await call == "done"
        assert [change.state for change in changes.seen] == ["reconnecting"] * 3 + ["connected"]
        assert all(change.delay >= 0.1 for change in changes.reconnecting()[1:]), "not before the hub wants it"


def starting(times: int, **data: Any) -> Answer:
    """Executors that cannot take a call yet, so many times; ``data`` is more of what the error says."""
    left = itertools.count(1)

    def answer(message: dict[str, Any]) -> list[dict[str, Any]] | None:
        if message["method"] != "work":
            return None if "id" in message else []
        if next(left) <= times:
            error = {"code": 1001, "message": "the executors are still starting"}
            error["data"] = {"retryable": True, "maybe_executed": False, "retry_after_ms": 20, **data}
            return [{"jsonrpc": "2.0", "id": message["id"], "error": error}]
        result = reply(message, "done")
        return [final(message["id"], 0), result] if "window" in message.get("metadata", {}) else [result]

    return answer


async def test_a_stream_that_executors_cannot_take_yet_is_put_to_them_again() -> None:
    async with scripted_hub(starting(3)) as hub, connect(hub.url) as client, asyncio.timeout(PATIENCE):
        assert await client.stream("work").wait() == "done"
        assert len(hub.calls("work")) == 4


async def test_without_retries_it_is_not() -> None:
    async with scripted_hub(starting(3)) as hub, connect(hub.url, retry=False) as client, asyncio.timeout(PATIENCE):
        with pytest.raises(RpcError, match="still starting"):
            await client.stream("work").wait()


async def test_so_is_a_call_more_often_than_there_are_attempts() -> None:
    async with scripted_hub(starting(9)) as hub, connect(hub.url) as client, asyncio.timeout(PATIENCE):
        assert await client.call("work") == "done"
        assert len(hub.calls("work")) == 10


@pytest.mark.parametrize(
    ("options", "data"),
    [
        ({"retry": False}, {}),
        ({"input": [1], "retry": Retry(2, 0.001)}, {}),
        ({"retry": Retry(2, 0.001)}, {"maybe_executed": True}),
        ({"retry": Retry(2, 0.001)}, {"breaker": "open"}),
    ],
)
async def test_other_calls_are_told(options: dict[str, Any], data: dict[str, Any]) -> None:
    async with scripted_hub(starting(3, **data)) as hub, connect(hub.url) as client, asyncio.timeout(PATIENCE):
        with pytest.raises(RpcError, match="still starting"):
            await client.call("work", **options)
        assert len(hub.calls("work")) <= 2


@pytest.mark.virtual_time
async def test_it_waits_as_long_as_its_deadline_allows_and_says_for_what() -> None:
    async with client_in_memory(starting(10_000)) as (hub, client):
        begun = asyncio.get_running_loop().time()
        with pytest.raises(RpcError, match="it was not taken in time: the executors are still starting") as caught:
            await client.call("work", timeout_ms=200)
        assert (caught.value.code, caught.value.maybe_executed) == (ErrorCode.COMMUNICATION_TIMEOUT, False)
        deadlines = [call["metadata"]["timeout_ms"] for call in hub.calls("work")]
        assert deadlines[:10] == pytest.approx([*range(200, 0, -20)], abs=1)
        assert asyncio.get_running_loop().time() - begun == pytest.approx(0.2)


# --- real hubs ---


async def noting_acks(client: Peer, acks: list[Any]) -> None:
    while True:
        message = await client.receive()
        if message.get("method") == "session.ack":
            acks.append(message["params"])


async def test_a_hub_that_stops_says_how_far_it_has_read() -> None:
    with ready_hub() as hub:
        async with peer(hub.url) as client:
            await client.result("session.open")
            await client.send({"seq": 1, "jsonrpc": "2.0", "id": "a", "method": "debug.echo", "params": {"value": 1}})
            require({"result": 1}, await client.reply("a"))
            hub.process.terminate()
            acks: list[Any] = []
            with pytest.raises(ConnectionClosed) as closed:
                await noting_acks(client, acks)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
            assert acks[-1] == {"received": 1, "last": True}
        await asyncio.to_thread(hub.wait_ended, 0)


@asynccontextmanager
async def restarted_at_work(hub: RunningHub, call: Callable[[int], Awaitable[Any]]) -> AsyncIterator[list[Any]]:
    """Calls all the time, before and while the hub is stopped with work in flight, and when it was started again."""
    async with peer(hub.url) as worker:
        await worker.request("debug.sleep", {"seconds": 1})
        await worker.result("rpc.ping")
        calls = [asyncio.ensure_future(call(number)) for number in range(5)]
        hub.process.terminate()
        next_hub = asyncio.create_task(asyncio.to_thread(follow, hub))
        while not next_hub.done():
            calls.append(asyncio.ensure_future(call(len(calls))))
            await asyncio.wait([next_hub], timeout=0.05)
        calls += [asyncio.ensure_future(call(number)) for number in range(len(calls), len(calls) + 5)]
        with await next_hub:
            yield calls


def follow(hub: RunningHub) -> RunningHub:
    """The next hub at the same address, when this one has ended."""
    hub.wait_ended(0)
    return RunningHub(arguments=("--port", str(hub.port))).__enter__()


@pytest.fixture
def hub() -> Iterator[RunningHub]:
    """One that the test stops: nobody else gets its port before the next one does."""
    with reserved_port() as port, ready_hub(arguments=("--port", str(port))) as running:
        yield running


async def test_a_restart_with_work_in_flight_fails_no_call(hub: RunningHub) -> None:
    async with (
        connect(hub.url, reconnect=SOON, timeout_ms=LONG_MS) as client,
        restarted_at_work(hub, lambda number: client.call("debug.echo", {"value": number})) as calls,
    ):
        assert await asyncio.wait_for(asyncio.gather(*calls), 4 * PATIENCE) == list(range(len(calls)))
        assert len(calls) > 10, "the hub was away for a while"


async def test_nor_does_it_behind_a_relay(hub: RunningHub) -> None:
    async with relay(hub.url) as program:
        await program.until_ready()
        ask = functools.partial(program.request, "debug.echo", metadata={"timeout_ms": LONG_MS})
        async with restarted_at_work(hub, lambda number: ask({"value": number})) as ids:
            replies = [await program.reply(await each, 4 * PATIENCE) for each in ids]
    assert [reply["error"] for reply in replies if "error" in reply] == []
    assert [reply["result"] for reply in replies] == list(range(len(ids)))
    assert len(ids) > 10, "the hub was away for a while"


async def test_what_a_stopping_hub_refuses_says_so_and_what_it_answers_itself_goes_on(tmp_path: Path) -> None:
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, env={"TRUNKLINE_DRAIN_SECONDS": "60"}) as hub:
        async with peer(hub.url) as client:
            running = await client.request("lab.calls_later", {"folder": str(tmp_path), "method": "debug.echo"})
            await client.result("rpc.ping")
            hub.process.terminate()
            async with asyncio.timeout(PATIENCE):
                while (await client.result("health.check"))["status"] != "stopping":
                    await asyncio.sleep(0.01)
            refusal = {"code": 1001, "data": {"draining": True, "maybe_executed": False, "retryable": True}}
            require(refusal, await client.error("debug.echo", {"value": 1}))
            require(refusal, await client.error("jobs.create", {"method": "debug.echo", "params": {"value": 1}}))
            require({"topic": "a"}, await client.result("subscribe", {"topic": "a"}))
            require({"topic": "a"}, await client.result("publish", {"topic": "a", "data": 1}))
            require({"method": "mine"}, await client.result("method.register", {"method": "mine"}))
            (tmp_path / "go").touch()
            assert "result" in await client.reply(running)
            await asyncio.to_thread(hub.wait_ended, 0)
