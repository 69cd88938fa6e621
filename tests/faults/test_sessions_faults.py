"""Faults 4, 11, 12, 15, 23, 24 and 30 for clients that have a session."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.faults.survivor import Survivor
from tests.faults.test_slow_peers import MIB, covered, narrow_socket, publish, text
from tests.hub.test_sessions_hub import SessionPeer, session_peer
from tests.support.frames import CLOSE, RawSocket, raw_tcp
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.proxy import Proxy
from tests.support.timing import PATIENCE, SCALE, eventually
from trunkline_protocol.errors import ErrorCode


async def exists(path: Path | str, what: str) -> None:
    await asyncio.to_thread(eventually, Path(path).exists, what)


async def running(client: SessionPeer, method: str, marker: Path, **params: Any) -> Any:
    """Make a call that leaves ``marker.started``; returns its id when it runs."""
    request_id = await client.request(method, {"marker": str(marker), **params})
    await exists(f"{marker}.started", f"{method} runs")
    return request_id


# --- 4: an id in flight ---


async def test_fault_04_an_id_in_flight_is_refused_across_a_resume_too(lab_hub: RunningHub, tmp_path: Path) -> None:
    async with session_peer(lab_hub) as before:
        call = await running(before, "lab.until_cancelled", tmp_path / "m")
        await before.request("debug.echo", {"value": 1}, id=call)
        refusal = {"id": None, "error": {"code": ErrorCode.INVALID_REQUEST, "data": {"duplicate_id": call}}}
        require(refusal, await before.next())
        before.cut()
    async with session_peer(lab_hub, before) as after:
        assert after.opened["resumed"] is True
        await after.request("debug.echo", {"value": 1}, id=call)
        require(refusal, await after.next())
        assert not (tmp_path / "m").exists(), "the first one is unharmed"
        after.sent += 1
        await after.connection.send(
            {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": call}, "seq": after.sent}
        )
        require({"id": call, "error": {"code": ErrorCode.CANCELLED}}, await after.next())
        await after.request("debug.echo", {"value": "free"}, id=call)
        require({"id": call, "result": "free"}, await after.next())


# --- 11: a slow reader ---


class NarrowSession:
    """A session whose client has a small socket and reads when the test says so."""

    def __init__(self, socket: RawSocket) -> None:
        self.socket = socket
        self.sent = 0

    async def open(self) -> str:
        await self.socket.write(text({"jsonrpc": "2.0", "id": "open", "method": "session.open", "params": {}}))
        return str((await self.read())["result"]["session"])

    async def call(self, request_id: Any, method: str, params: Any) -> None:
        self.sent += 1
        message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params, "seq": self.sent}
        await self.socket.write(text(message))

    async def read(self) -> Any:
        """The next message that is no acknowledgement."""
        while (message := json.loads((await self.socket.frame()).payload)).get("method") == "session.ack":
            pass
        return message

    async def acknowledge(self, received: int) -> None:
        await self.socket.write(text({"jsonrpc": "2.0", "method": "session.ack", "params": {"received": received}}))


@pytest.fixture(scope="module")
def forgetful_hub() -> Iterator[RunningHub]:
    """One that keeps no history, and few events for who does not read."""
    with ready_hub(env={"TRUNKLINE_OUTBOX_EVENT_BYTES": str(MIB), "TRUNKLINE_HISTORY_BYTES": "0"}) as hub:
        yield hub


async def test_fault_11_a_slow_reader_with_a_session_loses_events_announced_and_no_calls(
    forgetful_hub: RunningHub,
) -> None:
    hub = forgetful_hub
    async with narrow_socket(hub.port) as socket, peer(hub.url) as publisher:
        slow = NarrowSession(socket)
        await slow.open()
        await socket.write(
            text({"jsonrpc": "2.0", "id": "s", "method": "subscribe", "params": {"topic": "slow.session"}})
        )
        assert (await slow.read())["id"] == "s"
        before = hub.rss()
        for number in range(1, 21):
            await slow.call(number, "debug.echo", {"value": number})
        head = await publish(publisher, "slow.session", 2_000)  # 20 MB for somebody who does not read
        assert hub.rss() - before < 12 * MIB, "what is dropped is not kept: not by the session either"
        messages: list[Any] = []
        while not messages or head not in (
            messages[-1].get("params", {}).get("offset"),
            messages[-1].get("params", {}).get("to"),
        ):
            messages.append(await slow.read())
        replies = [message for message in messages if "id" in message]
        assert [message["seq"] for message in replies] == list(range(1, 21)), "no call was lost, none came twice"
        assert sorted(message["result"] for message in replies) == list(range(1, 21))
        assert covered(messages) == list(range(1, head + 1)), "each event came once, or its gap was announced"
        assert any(message.get("method") == "event.gap" for message in messages)
        await slow.acknowledge(20)
        await slow.call("after", "debug.echo", {"value": "alive"})
        require({"id": "after", "result": "alive", "seq": 21}, await slow.read())


async def test_fault_11_what_a_slow_reader_has_not_acknowledged_is_bounded_and_nothing_of_it_is_lost(
    forgetful_hub: RunningHub,
) -> None:
    hub = forgetful_hub
    async with narrow_socket(hub.port) as socket, peer(hub.url) as other:
        slow = NarrowSession(socket)
        await slow.open()
        await other.result("debug.echo", {"value": "z" * MIB})
        before = hub.rss()
        stream = {"n": 1_000, "size": 100_000}
        await slow.call("stream", "debug.count", stream)  # 100 MB for somebody who does not read
        for number in range(10):
            await slow.call(number, "debug.echo", {"value": "y" * 50_000})
        assert [await other.result("debug.echo", {"value": n}) for n in range(50)] == list(range(50))
        assert hub.rss() - before < 24 * MIB, "the stream waits where it is made"
        seen: list[Any] = []
        while len(seen) < 1_012:  # the chunks, the final one, the summary, ten replies
            message = await slow.read()
            assert message["seq"] == len(seen) + 1
            seen.append(message.get("id", message.get("params", {}).get("index")))
            if not len(seen) % 4:
                await slow.acknowledge(len(seen))
        assert sorted(seen, key=str) == sorted([*range(1_001), "stream", *range(10)], key=str)


async def test_fault_11_more_than_may_wait_ends_the_session_as_overflow() -> None:
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, env={"TRUNKLINE_OUTBOX_BYTES": str(MIB)}) as hub:
        async with narrow_socket(hub.port) as socket, peer(hub.url) as other:
            slow = NarrowSession(socket)
            session = await slow.open()
            for number in range(20):  # 6 MB come at once: one may be unacknowledged, one may wait behind it
                await slow.call(number, "lab.later", {"seconds": 0.3, "size": 300_000})
            received = 0
            while (found := await socket.frame()).opcode != CLOSE:
                received += "id" in json.loads(found.payload)
            assert found.close_code == 1013
            assert received < 20, "more than may wait was not kept"
            resume = {"session": session, "received": 0}
            require({"resumed": False, "reason": "overflow"}, await other.result("session.open", {"resume": resume}))


# --- 12: a client that vanishes ---

TTL = 1.0


@pytest.fixture(scope="module")
def hasty_hub() -> Iterator[RunningHub]:
    """One whose sessions wait a second, and whose executor runs one coroutine at a time."""
    env = {"TRUNKLINE_SESSION_SECONDS": str(TTL), "TRUNKLINE_MAX_CONCURRENCY": "1"}
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, env=env) as hub:
        yield hub


async def test_fault_12_with_a_session_work_is_kept_for_the_ttl_and_then_cancelled(
    hasty_hub: RunningHub, tmp_path: Path
) -> None:
    hub = hasty_hub
    async with session_peer(hub) as before:
        await running(before, "lab.cleanup", tmp_path / "m")
        queued = await before.request("debug.echo", {"value": "behind it"})
        await before.connection.result("rpc.ping", id="ping")
        cut_at = time.monotonic()
        before.cut()
    await exists(tmp_path / "m", "the method was cancelled")
    assert time.monotonic() - cut_at >= TTL - 0.1, "the client might have come back"
    async with peer(hub.url) as other:
        assert await other.result("debug.echo", {"value": 1}) == 1, "the slot is free"
        assert (await other.result("health.check"))["active_requests"] == 1, "the queued call is gone, too"
    async with session_peer(hub, before) as after:
        require({"resumed": False, "reason": "expired"}, after.opened)
        again = await after.request("debug.echo", {"value": 2}, id=queued, seq=1)
        assert (await after.reply(again))["result"] == 2


async def test_fault_12_a_stream_waits_for_its_client_and_is_closed_after_the_ttl(
    hasty_hub: RunningHub, tmp_path: Path
) -> None:
    hub = hasty_hub
    async with session_peer(hub) as before:
        params = {"n": 10**6, "marker": str(tmp_path / "m"), "size": 1000}
        await before.request("lab.flood", params)
        assert (await before.next())["params"]["index"] == 0
        cut_at = time.monotonic()
        before.cut()
    await exists(tmp_path / "m.closed", "the generator was closed")
    assert time.monotonic() - cut_at >= TTL - 0.1
    # What the hub stores for a session, and what a generator may be ahead of it, at a kilobyte each.
    assert int((tmp_path / "m").read_text()) < 4_000, "it did not run on into nothing"


async def test_fault_12_who_comes_back_in_time_finds_the_work_going_on(lab_hub: RunningHub, tmp_path: Path) -> None:
    async with session_peer(lab_hub) as before:
        call = await running(before, "lab.until_cancelled", tmp_path / "m")
        before.cut()
    async with session_peer(lab_hub, before) as after:
        assert after.opened["resumed"] is True
        assert not (tmp_path / "m").exists(), "nobody told it to stop"
        await after.connection.cancel(call)
        require({"error": {"code": ErrorCode.CANCELLED}}, await after.reply(call))
        await exists(tmp_path / "m", "now it was told")


# --- 15: native code that does not end ---


async def test_fault_15_the_outcome_of_a_stuck_executor_waits_for_the_client(tmp_path: Path) -> None:
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, executors=2, env={"TRUNKLINE_KILL_AFTER": "0.3"}) as hub:
        marker = tmp_path / "m"
        pids = hub.executor_pids()
        async with session_peer(hub) as before, peer(hub.url) as other:
            before.sent += 1
            stuck = {"jsonrpc": "2.0", "id": "stuck", "method": "lab.deaf", "params": {"marker": str(marker)}, "seq": 1}
            await before.connection.send(stuck | {"metadata": {"timeout_ms": int(1500 * SCALE)}})
            await exists(marker, "it runs")
            before.cut()
            await asyncio.to_thread(eventually, lambda: pids - hub.executor_pids(), "the stuck executor was killed")
            assert [await other.result("debug.echo", {"value": n}) for n in range(20)] == list(range(20))
        async with session_peer(hub, before) as after:
            require({"resumed": True, "received": 1}, after.opened)
            outcome = await after.next()
            require({"id": "stuck", "error": {"code": ErrorCode.COMMUNICATION_TIMEOUT}}, outcome)
            assert outcome["error"]["data"]["maybe_executed"] is True
            again = await after.request("debug.echo", {"value": 1})
            assert (await after.reply(again))["result"] == 1
        await asyncio.to_thread(eventually, lambda: len(hub.executor_pids()) == 2, "it was replaced")


# --- 23: gaps ---


async def test_fault_23_calls_streams_and_events_over_many_cuts(lab_hub: RunningHub, tmp_path: Path) -> None:
    async with Proxy(lab_hub.port, seed=23) as proxy, peer(lab_hub.url) as publisher:
        proxy.split(700)
        survivor = Survivor(proxy.url, topic="cuts.23")
        await survivor.ping()
        marker = tmp_path / "runs"
        stream = await survivor.call("debug.count", {"n": 300, "interval_ms": 2, "size": 200})
        calls = {}
        for number in range(60):
            # In the middle of a frame more often than not, in one direction or the other.
            if not number % 6:
                proxy.cut_after(1 + number * 97 % 3_000, "to_client" if number % 12 else "to_hub")
            calls[await survivor.call("lab.counted_run", {"marker": str(marker)})] = "done"
            await publisher.result("publish", {"topic": "cuts.23", "data": number})
            await survivor.read_for(0.02)
        await survivor.read_until(lambda: len(survivor.replies) == 61 and len(survivor.events) == 60)
        assert survivor.resumed >= 3, "it was cut often"
        assert {key: reply["result"] for key, reply in survivor.replies.items() if key != stream} == calls
        assert survivor.replies[stream]["result"] == {"chunks": 300}
        assert survivor.chunks == list(range(301))
        assert survivor.events == list(range(60)), "each once, in order"
        assert survivor.gaps == []
        assert marker.read_text() == "x" * 60, "each call ran once"
        await survivor.close()


async def test_fault_23_events_beyond_the_history_are_an_announced_gap_and_calls_are_whole() -> None:
    with ready_hub(env={"TRUNKLINE_HISTORY_EVENTS": "5"}) as hub:
        async with Proxy(hub.port) as proxy, peer(hub.url) as publisher:
            survivor = Survivor(proxy.url, topic="history.23")
            await survivor.ping()
            await publisher.result("publish", {"topic": "history.23", "data": 0})
            await survivor.read_until(lambda: survivor.events == [0])
            call = await survivor.call("debug.sleep", {"seconds": 0.2})
            await survivor.ping()
            proxy.refuse()
            proxy.cut()
            for number in range(1, 21):
                await publisher.result("publish", {"topic": "history.23", "data": number})
            proxy.refuse(False)
            await survivor.read_until(lambda: bool(survivor.gaps) and call in survivor.replies)
            await publisher.result("publish", {"topic": "history.23", "data": "after"})
            await survivor.read_until(lambda: survivor.events[-1:] == ["after"])
            assert [(gap["from"], gap["to"], gap["reason"]) for gap in survivor.gaps] == [(2, 21, "history")]
            assert survivor.events == [0, "after"]
            assert survivor.replies[call]["result"]["slept"] == 0.2
            await survivor.close()


# --- 24: the hub stops ---


async def test_fault_24_sigterm_with_a_session_drains_and_another_hub_says_that_it_is_gone(lab_hub: RunningHub) -> None:
    with ready_hub() as hub:
        async with session_peer(hub) as client:
            call = await client.request("debug.sleep", {"seconds": 0.7})
            await client.connection.result("rpc.ping", id="ping")
            hub.process.send_signal(signal.SIGTERM)
            assert (await client.reply(call))["result"]["slept"] == 0.7, "work in flight finishes"
            assert await client.connection.close_code() == 1012
            await asyncio.to_thread(hub.wait_ended, 0)
    await is_unknown(client, lab_hub)


async def test_fault_24_sigterm_while_a_client_is_away_does_not_wait_for_it() -> None:
    with ready_hub(env={"TRUNKLINE_DRAIN_SECONDS": "0.5"}) as hub:
        async with session_peer(hub) as client:
            await client.request("debug.sleep", {"seconds": 60})
            await client.connection.result("rpc.ping", id="ping")
            client.cut()
        async with peer(hub.url) as other:
            assert await other.result("rpc.ping")
            hub.process.send_signal(signal.SIGTERM)
            assert await other.close_code() == 1012
        await asyncio.to_thread(hub.wait_ended, 0, within=PATIENCE)


async def test_fault_24_after_sigkill_a_session_is_gone_as_well(lab_hub: RunningHub) -> None:
    with ready_hub() as hub:
        async with session_peer(hub) as client:
            await client.request("debug.sleep", {"seconds": 60})
            await client.connection.result("rpc.ping", id="ping")
            hub.process.kill()
            assert await client.connection.close_code() == 1006, "nobody said goodbye"
        await asyncio.to_thread(hub.wait_ended, -signal.SIGKILL)
    await is_unknown(client, lab_hub)


async def is_unknown(client: SessionPeer, hub: RunningHub) -> None:
    """A session is in the memory of its hub: another one, and so one that was restarted, makes a new one."""
    async with session_peer(hub, client) as after:
        require({"resumed": False, "reason": "unknown", "received": 0}, after.opened)
        assert after.session != client.session
        echo = await after.connection.request("debug.echo", {"value": 1})
        require({"result": 1, "seq": 1}, await after.connection.reply(echo))


# --- 30: versions ---


async def test_fault_30_a_client_of_another_version_is_refused_clearly(lab_hub: RunningHub) -> None:
    async with raw_tcp(lab_hub.port) as socket:
        answer = await socket.upgrade(headers={"Sec-WebSocket-Protocol": "trunkline.v9+json"})
    assert answer.status == 400
    assert "trunkline.v1+json" in answer.body.decode(), "it says what it does speak"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["trunkline.v9+json", "trunkline.v1+json"], "trunkline.v1+json"),
        (["trunkline.v1+json", "trunkline.v9+json"], "trunkline.v1+json"),
        (["graphql-ws", "trunkline.v1+json"], "trunkline.v1+json"),
        ([], None),
    ],
)
async def test_fault_30_of_several_versions_one_is_agreed_on(
    lab_hub: RunningHub, offered: list[str], chosen: str | None
) -> None:
    protocols = [websockets.Subprotocol(name) for name in offered] or None
    async with peer(lab_hub.url, subprotocols=protocols) as connection:
        assert connection.socket.subprotocol == chosen
        assert await connection.result("debug.echo", {"value": 1}) == 1


async def test_fault_30_clients_with_and_without_sessions_work_together(lab_hub: RunningHub) -> None:
    async with session_peer(lab_hub) as knows, peer(lab_hub.url) as plain:
        await knows.reply(await knows.request("method.register", {"method": "faults.knows"}))
        await plain.result("method.register", {"method": "faults.plain"})
        to_session = await plain.request("faults.knows", {"n": 1})
        asked = await knows.next()
        knows.sent += 1
        await knows.connection.send({"jsonrpc": "2.0", "id": asked["id"], "result": "with", "seq": knows.sent})
        reply = await plain.reply(to_session)
        assert reply["result"] == "with"
        assert "seq" not in reply, "who has no session gets no numbers"
        to_plain = await knows.request("faults.plain", {"n": 2})
        asked = await plain.receive()
        assert "seq" not in asked
        await plain.send({"jsonrpc": "2.0", "id": asked["id"], "result": "without"})
        require({"result": "without", "seq": 3}, await knows.reply(to_plain))


async def test_fault_30_numbers_without_a_session_mean_nothing(lab_hub: RunningHub) -> None:
    async with peer(lab_hub.url) as plain:
        for number in (7, 7, "x"):
            await plain.send(
                {"jsonrpc": "2.0", "id": 1, "method": "debug.echo", "params": {"value": number}, "seq": number}
            )
            reply = await plain.reply(1)
            assert reply["result"] == number
            assert "seq" not in reply
        await plain.notify("session.ack", {"received": 99})
        assert await plain.result("debug.echo", {"value": 1}) == 1


async def test_fault_30_members_of_a_later_version(lab_hub: RunningHub) -> None:
    """In metadata and inside ``resume`` they are ignored; as params of ``session.open`` they are refused by name."""
    async with peer(lab_hub.url) as newer:
        later = {"later": {"x": 1}, "traceparent": "00-a"}
        assert (await newer.result("lab.where", metadata=later))["metadata"] == later
    async with peer(lab_hub.url) as newer:
        require(
            {"code": ErrorCode.INVALID_PARAMS, "message": {"$contains": "later"}},
            await newer.error("session.open", {"later": True}),
        )
        await without_session(newer)
    async with session_peer(lab_hub) as before:
        before.cut()
    async with peer(lab_hub.url) as newer:
        resume = {"session": before.session, "received": 0, "later": True}
        require({"resumed": True}, await newer.result("session.open", {"resume": resume}))
        await newer.notify("session.ack", {"received": 0, "later": True})
        assert await newer.result("rpc.ping")


async def without_session(connection: Peer) -> None:
    reply = await connection.call("debug.echo", {"value": 1})
    assert "seq" not in reply
