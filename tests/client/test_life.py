"""A client leaves nothing behind: no task, no timer, no warning, no growing memory."""

from __future__ import annotations

import asyncio
import gc
import logging
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.client.faults import Changes, cutting, through_proxy
from tests.client.scripted import opened, scripted_hub
from tests.support.hub import RunningHub
from tests.support.timing import PATIENCE
from trunkline.client import DisconnectedError, Hub, ServedCall, connect
from trunkline_protocol.errors import RpcError


def others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def forever(_params: Any, _call: ServedCall) -> AsyncIterator[int]:
    while True:
        yield 1
        await asyncio.sleep(0.01)


async def busy(client: Hub) -> list[asyncio.Task[Any]]:
    """Some of everything, none of which ends."""
    stream = await client.stream("lab.echo_input", input=iter(int, 1))
    reading = asyncio.Semaphore(0)

    async def read(items: Any) -> None:
        await anext(items)
        reading.release()
        async for _ in items:
            pass

    async def subscribe() -> None:
        async with client.subscribe("life.*", "life") as events:
            reading.release()
            async for _ in events:
                pass

    name = f"life.forever{id(client)}"
    await client.register(name, forever)
    tasks = [
        asyncio.create_task(read(aiter(stream))),
        asyncio.create_task(read(aiter(await client.stream(name)))),
        asyncio.create_task(client.call("debug.sleep", {"seconds": 60})),
        asyncio.create_task(client.call("debug.sleep", {"seconds": 60}, timeout_ms=50_000)),
        asyncio.create_task(subscribe()),
    ]
    async with asyncio.timeout(PATIENCE):
        for _ in range(3):
            await reading.acquire()
    return tasks


@pytest.mark.parametrize("where", ["connected", "away", "cut all the time"])
async def test_after_closing_nothing_is_left(lab_hub: RunningHub, where: str, caplog: pytest.LogCaptureFixture) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    with warnings.catch_warnings(record=True) as warned, caplog.at_level(logging.WARNING):
        warnings.simplefilter("always")
        before = others()
        async with through_proxy(lab_hub.port) as (proxy, client):
            changes = Changes(client)
            tasks = await busy(client)
            if where == "away":
                proxy.refuse()
                proxy.cut()
                await changes.wait_for("reconnecting", 3)
            elif where == "cut all the time":
                async with cutting(proxy, 3, mean=0.03) as cuts, asyncio.timeout(PATIENCE):
                    while cuts() < 10:
                        await asyncio.sleep(0.05)
        outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE)
        del tasks
        *asked, subscribed = outcomes
        assert {type(outcome) for outcome in asked} == {DisconnectedError}, outcomes
        assert subscribed is None, "its loop just ends: who closes knows it"
        async with asyncio.timeout(PATIENCE):
            while others() - before:
                await asyncio.sleep(0.01)
        del outcomes
        gc.collect()
        await asyncio.sleep(0)
    assert complaints == []
    assert [str(warning.message) for warning in warned] == []
    assert [record.getMessage() for record in caplog.records if record.name.startswith("trunkline.client")] == []


async def test_an_idle_client_has_one_task(lab_hub: RunningHub) -> None:
    before = len(others())
    async with connect(lab_hub.url) as client:
        calls = [asyncio.ensure_future(client.call("debug.echo", {"value": n})) for n in range(100)]
        await asyncio.gather(*calls)
        stream = await client.stream("debug.count", {"n": 100})
        assert len([chunk async for chunk in stream]) == 100
        names = {task.get_name() for task in others()}
        assert len(others()) - before <= 2, names  # one of this client, one of websockets' keepalive


async def test_books_are_closed(lab_hub: RunningHub) -> None:
    """Calls, streams, subscriptions and registrations that are over are remembered nowhere."""
    async with through_proxy(lab_hub.port) as (proxy, client):
        for round_ in range(3):
            await asyncio.gather(*(client.call("debug.echo", {"value": n}, timeout_ms=9000) for n in range(200)))
            async for _ in await client.stream("lab.echo_input", input=range(100)):
                pass
            async with client.subscribe("life.a", "life.b.*"), await client.register(f"life.books{round_}", forever):
                await client.publish("life.a", 1)
            proxy.cut()
            await client.call("debug.echo")
        calls, serving = client._callers._calls, client._serving
        assert len(calls) == 0
        assert client._callers._feeders == set()
        assert (serving._served, serving._working, serving._tasks) == ({}, {}, set())
        assert (client._subscriptions._open, client._subscriptions._readers) == ({}, {})
        session = client._conversation.session
        assert session is not None
        async with asyncio.timeout(PATIENCE):
            while session.core.unacknowledged:
                await asyncio.sleep(0.02)


async def test_a_hub_that_breaks_the_rules_of_sessions_is_left_and_a_new_session_begun(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked: list[Any] = []

    def answer(message: dict[str, Any]) -> list[dict[str, Any]]:
        if message["method"] == "session.open":
            asked.append(message["params"])
            return [opened(message, f"s{len(asked)}")]
        if message["method"] == "jump":
            return [{"jsonrpc": "2.0", "id": message["id"], "seq": 5, "result": "from the future"}]
        if message["method"] == "claim":
            return [{"jsonrpc": "2.0", "method": "session.ack", "params": {"received": 99}}]
        return (
            [{"jsonrpc": "2.0", "id": message["id"], "seq": message["seq"], "result": "fine"}]
            if "id" in message
            else []
        )

    async with scripted_hub(answer, sessions=True) as hub, connect(hub.url) as client:
        for number, method in enumerate(("jump", "claim"), 1):
            changes = Changes(client)
            with pytest.raises(DisconnectedError) as caught:
                await asyncio.wait_for(client.call(method), PATIENCE)
            assert caught.value.maybe_executed
            await changes.wait_for("connected")
            assert changes.reconnecting()[0].cause.code == 1002
            assert asked == [{}] * (number + 1), "it does not resume"
            assert await client.call("fine") == "fine"
    assert "broke a rule of sessions" in caplog.text


async def test_frames_that_come_twice_are_taken_once() -> None:
    seen: list[Any] = []

    def answer(message: dict[str, Any]) -> list[dict[str, Any]]:
        if message["method"] == "session.open":
            return [opened(message)]
        if message["method"] != "work":
            return []
        report = {"jsonrpc": "2.0", "seq": 1, "method": "$/progress", "params": {"token": message["id"], "value": 1}}
        reply = {"jsonrpc": "2.0", "seq": 2, "id": message["id"], "result": "done"}
        return [report, report, reply, reply]

    async with scripted_hub(answer, sessions=True) as hub, connect(hub.url) as client:
        assert await client.call("work", on_progress=seen.append) == "done"
        acknowledged = await hub.wait_for("session.ack")
        assert acknowledged["params"] == {"received": 2}
        assert "seq" not in acknowledged
        assert hub.calls("work")[0]["seq"] == 1
    assert seen == [1]
    assert "seq" not in hub.calls("session.close")[0]


async def test_a_message_that_the_hub_refuses_for_its_size_is_not_sent_for_ever(lab_hub: RunningHub) -> None:
    async with through_proxy(lab_hub.port) as (proxy, client):
        with pytest.raises(RpcError, match="17825860 bytes") as caught:
            await asyncio.wait_for(client.call("debug.echo", {"value": "x" * (17 * 2**20)}), 2 * PATIENCE)
        assert not caught.value.maybe_executed
        assert await client.call("debug.echo", {"value": 1}) == 1
        assert proxy.accepted == 1
