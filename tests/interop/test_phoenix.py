"""phoenix.js, unchanged, with ``ws`` for a transport: what Phoenix' own client makes of the hub."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.interop.node import Script, node, require_packages
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import peer
from tests.support.proxy import Proxy
from tests.support.timing import until
from trunkline_protocol.errors import ErrorCode

SCENARIOS: Final = Path(__file__).with_name("phoenix") / "scenarios.mjs"
ROOT: Final = Path(__file__).parents[2]
TOKEN: Final = "s3cret-token"


@pytest.fixture(scope="module", autouse=True)
def packages() -> None:
    require_packages("phoenix", "ws")


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    with ready_hub(DEBUG_METHODS, "binary", cwd=MODULES) as running:
        yield running


def run(scenario: str, port: int, *more: str) -> AbstractAsyncContextManager[Script]:
    return node(SCENARIOS, scenario, f"ws://127.0.0.1:{port}/socket", *more)


async def publish(hub: RunningHub, topic: str, *data: Any) -> None:
    async with peer(hub.url) as other:
        for item in data:
            await other.result("publish", {"topic": topic, "data": item})


async def test_calls_streams_cancel_bytes_and_leaving(hub: RunningHub) -> None:
    async with run("calls", hub.port) as script:
        assert (await script.says("joined"))["response"] == {}
        require({"status": "ok", "response": {"text": "é"}}, await script.says("ok"))
        error = {"code": ErrorCode.METHOD_NOT_FOUND, "data": {"type": "METHOD_NOT_FOUND", "maybe_executed": False}}
        require({"status": "error", "response": error}, await script.says("error"))
        streamed = await script.says("streamed")
        assert {chunk["request_id"] for chunk in streamed["chunks"]} == {streamed["ref"]}
        assert [(chunk["index"], chunk["is_final"]) for chunk in streamed["chunks"]] == [
            (0, False), (1, False), (2, False), (3, True),
        ]  # fmt: skip
        require(
            {"status": "error", "response": {"code": ErrorCode.COMMUNICATION_TIMEOUT}}, await script.says("metadata")
        )
        require({"status": "ok"}, await script.says("cancel"))
        require({"response": {"code": ErrorCode.CANCELLED}}, await script.says("cancelled"))
        require({"status": "ok", "response": [255, 1, 0]}, await script.says("binary"))
        await script.says("channel closed")
        assert (await script.says("left"))["response"] == {}
        require({"state": "closed", "channels": 0}, await script.says("state"))
        await script.says("done")


async def test_heartbeats_are_answered(hub: RunningHub) -> None:
    async with run("heartbeats", hub.port) as script:
        assert (await script.says("pinged"))["isNumber"]
        assert (await script.says("answered"))["connected"]
        assert not [said for said in script.said if said["what"] == "close"]


async def test_topics_patterns_and_publishing(hub: RunningHub) -> None:
    async with run("topics", hub.port) as script:
        require({"response": {"topic": "jobs.42", "offset": 0, "recovered": False}}, await script.says("joined"))
        while len(script.said) < 2 or {said["what"] for said in script.said[-3:]} != {"event", "published"}:
            await script.line()
        events = {said["on"]: said["event"] for said in script.said if said["what"] == "event"}
        assert set(events) == {"topic:jobs.42", "topic:jobs.*"}
        assert events["topic:jobs.42"] == events["topic:jobs.*"]
        require({"topic": "jobs.42", "data": {"done": 7}, "offset": 1}, events["topic:jobs.42"])
        script.said.clear()
        script.tell("leave")
        require({"status": "error", "response": {"code": ErrorCode.INVALID_PARAMS}}, await script.says("refused"))
        assert (await script.says("unmatched"))["response"] == {"reason": "unmatched topic"}
        while not (events_after := [said["on"] for said in script.said if said["what"] == "event"]):
            await script.line()  # a reply may overtake an event
        assert events_after == ["topic:jobs.*"]


async def test_after_a_cut_it_rejoins_and_recovers(hub: RunningHub) -> None:
    async with Proxy(hub.port) as proxy, run("recover", proxy.port) as script:
        await script.says("calls joined")
        await publish(hub, "jobs", 1)
        assert (await script.says("event"))["data"] == 1
        proxy.refuse()
        proxy.cut()
        await script.says("close")
        await publish(hub, "jobs", 2, 3)
        proxy.refuse(False)
        assert (await script.says("joined"))["recovered"] is True
        await publish(hub, "jobs", 4)
        offsets = [(await script.says("event"))["data"] for _ in range(3)]
        assert offsets == [2, 3, 4]
        script.tell("call")
        require({"status": "ok", "response": 1}, await script.says("called"))
        assert not [said for said in script.said if said["what"] in ("channel closed", "gap")]


async def test_after_a_restart_of_the_hub_it_rejoins_and_hears_of_the_gap() -> None:
    with ready_hub() as first:
        async with Proxy(first.port) as proxy, run("recover", proxy.port) as script:
            await script.says("calls joined")
            await publish(first, "jobs", 1)
            await script.says("event")
            with ready_hub() as second:
                proxy.target_port = second.port
                first.stop()
                assert (await script.says("close"))["code"] == 1012
                assert (await script.says("joined"))["recovered"] is False
                assert (await script.says("gap"))["reason"] == "epoch"
                await publish(second, "jobs", 2)
                assert (await script.says("event"))["data"] == 2
                script.tell("call")
                require({"status": "ok", "response": 1}, await script.says("called"))
                assert not [said for said in script.said if said["what"] == "channel closed"]


async def test_a_second_join_closes_the_first_channel(hub: RunningHub) -> None:
    async with run("twice", hub.port) as script:
        assert (await script.says("first cancelled"))["code"] == ErrorCode.CANCELLED
        await script.says("first closed")
        script.tell("again")
        await script.says("second closed")
        require({"response": {"topic": "twice"}}, await script.says("third joined"))
        await script.says("published")
        while "third event" not in (words := [said["what"] for said in script.said]):
            await script.line()  # a reply may overtake an event
        assert words.count("third event") == 1


async def test_a_crash_makes_it_join_again(hub: RunningHub) -> None:
    async with run("crash", hub.port) as script:
        await script.says("joined")
        script.tell("crash")
        assert "join" in (await script.says("channel error"))["reason"]["reason"]
        await script.says("joined")


async def test_auth_token() -> None:
    with ready_hub(env={"TRUNKLINE_TOKEN": TOKEN}) as hub:
        async with run("authenticate", hub.port, TOKEN) as script:
            await script.says("joined")
        for wrong in ("wrong", ""):
            async with run("authenticate", hub.port, wrong) as script:
                assert "403" in (await script.says("error"))["message"]
                assert not [said for said in script.said if said["what"] in ("open", "joined")]


async def test_version_1_is_refused(hub: RunningHub) -> None:
    async with run("version_1", hub.port) as script:
        assert "400" in (await script.says("error"))["message"]


@pytest.fixture(scope="module")
def rooms() -> Iterator[RunningHub]:
    with ready_hub(env={"TRUNKLINE_PHOENIX_CHANNELS": "room:*,lobby,realtime:*"}) as running:
        yield running


async def test_names_and_events_of_its_own_by_configuration(rooms: RunningHub) -> None:
    async with run("room", rooms.port) as script:

        async def said(what: str, times: int) -> list[Any]:
            """All that it has said of a kind, once that is so much, by socket: lines of several come in any order."""
            while len(found := [each for each in script.said if each["what"] == what]) < times:
                await script.line()
            return sorted(found, key=lambda each: int(each.get("at", 0)))

        require({"response": {"topic": "room.42", "offset": 0}}, (await said("joined", 3))[0])
        assert [each["payload"] for each in await said("new_msg", 3)] == [{"body": "hi"}] * 3
        require([{"response": {"code": ErrorCode.INVALID_REQUEST}}], await said("refused", 1))
        await publish(rooms, "room.42", {"event": "new_msg", "payload": {"body": "from the hub"}})
        assert [each["at"] for each in await said("new_msg", 6)] == [0, 0, 1, 1, 2, 2]
        script.tell("bytes")
        assert [each["payload"] for each in await said("bytes", 3)] == [[0, 255], {"$bytes": "AP8="}, [0, 255]]
        await said("pushed", 2)
        script.tell("leave")
        require([{"response": {"reason": "unmatched topic"}}], await said("unmatched", 1))
        require([{"status": "ok", "response": {}}] * 3, await said("pushed", 3))
        found = [(each["at"], each["payload"]["body"]) for each in await said("new_msg", 8)]
        assert [(at, body) for at, body in found if body == "bye"] == [(0, "bye"), (1, "bye")]


@pytest.mark.parametrize("transport", ["websocket", "longpoll"])
async def test_a_client_that_names_itself_goes_on_where_it_was(rooms: RunningHub, transport: str) -> None:
    async with Proxy(rooms.port) as proxy, run("remembers", proxy.port, transport) as script:
        first = await script.says("joined")
        assert "repeats" not in first
        await publish(rooms, f"room.{transport}", {"event": "new_msg", "payload": {"n": 1}})
        assert (await script.says("new_msg"))["n"] == 1
        for _ in range(2):
            script.tell("ping")
            await script.says("pinged")
        proxy.refuse()
        proxy.cut()
        await script.says("close")
        await publish(rooms, f"room.{transport}", *({"event": "new_msg", "payload": {"n": n}} for n in (2, 3)))
        proxy.refuse(False)
        joined = await script.says("joined")
        require({"recovered": True, "repeats": {"$type": "number"}}, joined)
        assert joined["repeats"] <= 2  # the hub may have written both for the socket that was cut
        assert [(await script.says("new_msg"))["n"] for _ in range(2)] == [2, 3]
        assert not [said for said in script.said if said["what"] == "gap"]


BLOCK: Final = re.compile(r"<!-- elsewhere: tests/interop/test_phoenix.py -->\n```js\n(.*?)```", re.DOTALL)


async def test_the_programs_of_the_page(rooms: RunningHub) -> None:
    """The JavaScript of docs/phoenix.md, as one program."""
    blocks = BLOCK.findall((page := ROOT / "docs" / "phoenix.md").read_text())
    assert len(blocks) == 3, page
    program = "\n".join(["import WebSocket from 'ws'; globalThis.WebSocket = WebSocket;", *blocks])
    folder = Path(__file__).parent / "build"
    folder.mkdir(exist_ok=True)
    script = folder / "phoenix_page.mjs"
    script.write_text(program.replace("127.0.0.1:8765", f"127.0.0.1:{rooms.port}"))
    process = await asyncio.create_subprocess_exec("node", str(script), stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    said: set[str] = set()

    async def listen(output: asyncio.StreamReader) -> None:
        async for line in output:
            said.add(line.decode().strip())

    listening = asyncio.create_task(listen(process.stdout))
    try:
        await until(lambda: {"joined false", "new_msg hi", "stored"} <= said, "the room")
        async with peer(rooms.url) as other:

            async def ordered() -> bool:  # nothing says that the channel of orders has joined
                await other.result("publish", {"topic": "orders.42", "data": 7})
                return "order 7" in said

            await until(ordered, "an order")
    finally:
        process.kill()
        await process.wait()
        await listening


# --- long polling ---


async def test_by_long_polling_it_calls_streams_and_reads_topics(hub: RunningHub) -> None:
    async with run("polls", hub.port) as script:
        require({"response": {"topic": "polls", "offset": 0}}, await script.says("joined"))
        require({"status": "ok", "response": {"text": "é\n"}}, await script.says("ok"))
        require({"status": "error", "response": {"code": ErrorCode.METHOD_NOT_FOUND}}, await script.says("error"))
        assert (await script.says("streamed"))["chunks"] == list(range(301))
        require({"status": "ok", "response": {"$bytes": "AQI="}}, await script.says("binary"))
        await publish(hub, "polls", *range(5))
        assert [(await script.says("event"))["event"]["data"] for _ in range(5)] == list(range(5))
        script.tell("crowd")
        assert (await script.says("crowd"))["values"] == list(range(250))
        script.tell("leave")
        assert (await script.says("left"))["response"] == {}


async def test_by_long_polling_it_rejoins_after_a_cut_and_recovers(hub: RunningHub) -> None:
    async with Proxy(hub.port) as proxy, run("recover", proxy.port, "longpoll") as script:
        await script.says("calls joined")
        await publish(hub, "jobs", 1)
        before = (await script.says("event"))["data"]
        proxy.refuse()
        proxy.cut()
        await script.says("close")
        await publish(hub, "jobs", 2, 3)
        proxy.refuse(False)
        while not (await script.says("joined"))["recovered"]:
            pass  # it may have tried while nobody answered
        await publish(hub, "jobs", 4)
        assert [before] + [(await script.says("event"))["data"] for _ in range(3)] == [1, 2, 3, 4]


async def test_by_long_polling_it_says_who_it_is() -> None:
    with ready_hub(env={"TRUNKLINE_TOKEN": TOKEN}) as hub:
        async with run("polls_with_auth_token", hub.port, TOKEN) as script:
            await script.says("joined")
            require({"status": "ok"}, await script.says("ok"))
        async with run("polls_with_auth_token", hub.port, "wrong") as script:
            assert (await script.says("error"))["error"] == 403
            assert not [said for said in script.said if said["what"] in ("open", "joined")]


async def test_where_the_websocket_is_refused_it_falls_back(hub: RunningHub) -> None:
    async with run("falls_back", hub.port) as script:
        assert (await script.says("joined"))["transport"] is True
        await publish(hub, "fallback", 7)
        assert (await script.says("event"))["data"] == 7


async def test_a_hub_that_stops_answers_the_poll_and_another_takes_over() -> None:
    with ready_hub() as first:
        async with Proxy(first.port) as proxy, run("recover", proxy.port, "longpoll") as script:
            await script.says("calls joined")
            with ready_hub() as second:
                proxy.target_port = second.port
                await asyncio.to_thread(first.stop)
                # 3410: the poll was answered that the session is gone; 1011: the next one was on its way, and refused
                assert (await script.says("close"))["code"] in (3410, 1011)
                assert (await script.says("joined"))["recovered"] is False
                await publish(second, "jobs", 2)
                assert (await script.says("event"))["data"] == 2
