"""Sessions against a real hub: what is cut, resumed, superseded, expired."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import Peer, is_reply, peer
from tests.support.timing import SOON, until
from trunkline_protocol.errors import ErrorCode


class SessionPeer:
    """The client's half of a session, by hand. It checks that what comes is numbered without gaps, once."""

    def __init__(self, connection: Peer) -> None:
        self.connection = connection
        self.session = ""
        self.received = 0
        self.sent = 0
        self.opened: dict[str, Any] = {}
        self.inbox: list[Any] = []
        self.acknowledged = 0
        self._ids = itertools.count(1)

    async def open(self, resume: dict[str, Any] | None = None) -> dict[str, Any]:
        self.opened = await self.connection.result("session.open", {} if resume is None else {"resume": resume})
        self.session = self.opened["session"]
        return self.opened

    async def request(self, method: str, params: Any = None, *, id: Any = None, seq: int | None = None) -> Any:
        request_id = next(self._ids) if id is None else id
        if seq is None:
            self.sent += 1
            seq = self.sent
        message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params or {}, "seq": seq}
        await self.connection.send(message)
        return request_id

    async def next(self) -> Any:
        """The next numbered message; acknowledgements and events go by."""
        while True:
            message = await self.connection.receive()
            if isinstance(message, dict) and message.get("method") == "session.ack":
                self.acknowledged = message["params"]["received"]
            elif isinstance(message, dict) and "seq" not in message:
                self.inbox.append(message)
            else:
                first = message[0] if isinstance(message, list) else message
                assert first["seq"] == self.received + 1, (message, self.received)
                self.received += 1
                return message

    async def reply(self, request_id: Any) -> Any:
        for index, message in enumerate(self.inbox):
            if is_reply(message, request_id):
                return self.inbox.pop(index)
        while not is_reply(message := await self.next(), request_id):
            self.inbox.append(message)
        return message

    async def acknowledge(self) -> None:
        await self.connection.notify("session.ack", {"received": self.received})

    def cut(self) -> None:
        self.connection.socket.transport.abort()


@asynccontextmanager
async def session_peer(hub: RunningHub, before: SessionPeer | None = None) -> AsyncIterator[SessionPeer]:
    """A connection with a session: a new one, or the one that ``before`` had."""
    async with peer(hub.url) as connection:
        client = SessionPeer(connection)
        if before is None:
            await client.open()
        else:
            client.received, client._ids = before.received, before._ids
            await client.open({"session": before.session, "received": before.received})
            client.sent = before.sent
        yield client


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    """One of this module's own: the calls in flight are counted."""
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, executors=2) as running:
        yield running


@pytest.fixture(scope="module")
def strict_hub() -> Iterator[RunningHub]:
    """One that forgets soon whoever is away."""
    env = {"TRUNKLINE_SESSION_SECONDS": "2"}
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, env=env) as running:
        yield running


async def until_idle(hub: RunningHub) -> None:
    """Wait until no call is in flight but the one that asks."""
    async with peer(hub.url) as watcher:

        async def is_idle() -> bool:
            return bool((await watcher.result("health.check"))["active_requests"] <= 1)

        await until(is_idle, "no call is in flight")


async def taken(client: SessionPeer) -> None:
    """The hub has everything that the client has sent."""
    assert (await client.connection.result("rpc.ping", id="taken"))["pong"]


async def is_away(caller: Peer, name: str) -> bool:
    """Whether the hub knows that nobody is there who serves a method."""
    methods = (await caller.result("health.detailed"))["methods"]
    return any(each["method"] == name and each["status"] == "unavailable" for each in methods)


async def test_opening_and_numbers(hub: RunningHub) -> None:
    async with session_peer(hub) as client:
        require({"resumed": False, "received": 0, "ttl_ms": 60_000, "session": {"$type": "string"}}, client.opened)
        for value in range(100):
            request_id = await client.request("debug.echo", {"value": value})
            assert (await client.reply(request_id))["result"] == value
        assert client.received == 100
        assert client.acknowledged >= 64, "the hub acknowledges"


async def test_a_call_goes_on_while_its_client_is_away(hub: RunningHub, tmp_path: Path) -> None:
    async with session_peer(hub) as before:
        waiting = await before.request("lab.calls_later", {"folder": str(tmp_path), "method": "debug.echo"})
        done = await before.request("debug.echo", {"value": 1})
        await before.reply(done)
        before.cut()
    (tmp_path / "go").touch()
    await until_idle(hub)
    async with session_peer(hub, before) as after:
        require({"resumed": True, "received": 2, "session": before.session}, after.opened)
        assert (await after.reply(waiting))["result"] == "called while it stopped"
        again = await after.request("debug.echo", {"value": 2})
        assert (await after.reply(again))["result"] == 2


async def test_replies_that_were_lost_on_the_way_come_again_and_only_those(hub: RunningHub) -> None:
    async with session_peer(hub) as before:
        for value in range(10):
            await before.request("debug.echo", {"value": value})
        first = [(await before.next())["result"] for _ in range(4)]
        await until_idle(hub)  # the others are in this client's socket, unread
        before.cut()
    async with session_peer(hub, before) as after:
        assert after.opened["resumed"] is True
        rest = [(await after.next())["result"] for _ in range(6)]
        assert sorted(first + rest) == list(range(10))


async def test_frames_that_the_hub_has_are_not_run_again(hub: RunningHub, tmp_path: Path) -> None:
    marker = tmp_path / "runs"
    async with session_peer(hub) as before:
        await before.reply(await before.request("lab.counted_run", {"marker": str(marker)}, id="r"))
        before.cut()
    async with session_peer(hub, before) as after:
        assert after.opened["received"] == 1
        await after.request("lab.counted_run", {"marker": str(marker)}, id="r", seq=1)
        assert (await after.reply(await after.request("debug.echo", {"value": 1})))["result"] == 1
    assert marker.read_text() == "x"


async def test_a_stream_is_whole_across_cuts(hub: RunningHub) -> None:
    indexes = []
    async with session_peer(hub) as client:
        stream = await client.request("debug.count", {"n": 60, "interval_ms": 10})
        indexes += [(await client.next())["params"]["index"] for _ in range(10)]
        client.cut()
    before = client
    for _ in range(2):
        await asyncio.sleep(0.1)  # some chunks come while nobody is there
        async with session_peer(hub, before) as after:
            assert after.opened["resumed"] is True
            indexes += [(await after.next())["params"]["index"] for _ in range(10)]
            after.cut()
        before = after
    async with session_peer(hub, before) as last:
        while (message := await last.next()).get("id") != stream:
            indexes.append(message["params"]["index"])
    assert indexes == list(range(61)), "sixty chunks and the final one"
    assert message["result"]["chunks"] == 60


async def test_the_newest_resume_wins(hub: RunningHub) -> None:
    async with session_peer(hub) as old:
        waiting = await old.request("debug.sleep", {"seconds": 0.3})
        async with session_peer(hub, old) as new:
            assert new.opened["resumed"] is True
            assert await old.connection.close_code() == 4500
            assert (await new.reply(waiting))["result"]["slept"] == 0.3


async def test_subscriptions_are_made_again_where_the_hub_has_not_heard_of_the_cut(hub: RunningHub) -> None:
    """Else the first event of the new connection would be ahead of those that are to be recovered."""
    async with session_peer(hub) as old, peer(hub.url) as publisher:
        await old.connection.result("subscribe", {"topic": "session.b"})
        first = await publisher.result("publish", {"topic": "session.b", "data": 1})
        async with session_peer(hub, old) as new:
            for data in (2, 3):
                await publisher.result("publish", {"topic": "session.b", "data": data})
            position = {"epoch": first["epoch"], "offset": first["offset"]}
            await new.connection.request("subscribe", {"topic": "session.b", "recover": position}, id="s")
            assert (await new.connection.receive())["id"] == "s", "no event came before"
            assert [(await new.connection.receive())["params"]["data"] for _ in range(2)] == [2, 3]


async def test_an_expired_session_ends_its_calls(strict_hub: RunningHub) -> None:
    async with session_peer(strict_hub) as before:
        await before.request("debug.sleep", {"seconds": 30})
        await taken(before)
        before.cut()
    await until_idle(strict_hub)
    async with session_peer(strict_hub, before) as after:
        require({"resumed": False, "reason": "expired", "received": 0}, after.opened)
        assert after.session != before.session


async def test_what_cannot_be_resumed(hub: RunningHub) -> None:
    async with peer(hub.url) as connection:
        opened = await connection.result("session.open", {"resume": {"session": "made-up", "received": 0}})
        require({"resumed": False, "reason": "unknown"}, opened)
    async with session_peer(hub) as before:
        before.cut()
    before.received = 50
    async with session_peer(hub, before) as after:
        require({"resumed": False, "reason": "unknown"}, after.opened)


async def test_a_jump_is_a_violation(hub: RunningHub) -> None:
    async with session_peer(hub) as client:
        await client.request("debug.echo", {"value": 1}, seq=5)
        assert await client.connection.close_code() == 1002


async def test_an_acknowledgement_of_what_was_never_sent_is_a_violation(hub: RunningHub) -> None:
    async with session_peer(hub) as client:
        await client.connection.notify("session.ack", {"received": 7})
        assert await client.connection.close_code() == 1002


async def test_it_has_to_be_the_first(hub: RunningHub) -> None:
    async with peer(hub.url) as connection:
        await connection.result("rpc.ping")
        require({"code": ErrorCode.INVALID_REQUEST}, await connection.error("session.open"))
        assert await connection.result("debug.echo", {"value": 1}) == 1
    async with peer(hub.url) as connection:
        await connection.result("session.open")
        require({"code": ErrorCode.INVALID_REQUEST}, await connection.error("session.open"))


async def test_closing_ends_it_at_once(hub: RunningHub) -> None:
    async with session_peer(hub) as client:
        await client.request("debug.sleep", {"seconds": 30})
        assert await client.connection.result("session.close") == {}
        assert await client.connection.close_code() == 1000
    await until_idle(hub)
    async with session_peer(hub, client) as after:
        require({"resumed": False, "reason": "unknown"}, after.opened)


async def test_events_are_not_numbered_and_subscriptions_are_made_again(hub: RunningHub) -> None:
    async with session_peer(hub) as client, peer(hub.url) as publisher:
        await client.connection.request("subscribe", {"topic": "session.a"}, id="s")
        subscribed = await client.connection.reply("s")
        assert "seq" not in subscribed
        await publisher.result("publish", {"topic": "session.a", "data": 1})
        event = await client.connection.receive()
        assert event["method"] == "event"
        assert "seq" not in event
        client.cut()
        await publisher.result("publish", {"topic": "session.a", "data": 2})
        async with session_peer(hub, client) as after:
            position = {"epoch": event["params"]["epoch"], "offset": event["params"]["offset"]}
            await after.connection.request("subscribe", {"topic": "session.a", "recover": position}, id="s2")
            assert (await after.connection.reply("s2"))["result"]["recovered"] is True
            assert (await after.connection.receive())["params"]["data"] == 2


async def test_batches_carry_their_number_in_every_member(hub: RunningHub) -> None:
    async with session_peer(hub) as client:
        members = [
            {"jsonrpc": "2.0", "id": number, "method": "debug.echo", "params": {"value": number}, "seq": 1}
            for number in (1, 2)
        ]
        await client.connection.send(json.dumps(members))
        replies = await client.next()
        assert sorted((reply["id"], reply["seq"]) for reply in replies) == [(1, 1), (2, 1)]


async def test_what_waits_for_a_client_that_is_away_is_bounded(hub: RunningHub) -> None:
    async with session_peer(hub) as before:
        for _ in range(4):
            await before.request("debug.call", {"method": "debug.sleep", "params": {"seconds": 0.3}})
        for _ in range(3):
            await before.request("lab.later", {"seconds": 0.3, "size": 6_000_000})
        await taken(before)
        before.cut()
    await until_idle(hub)
    async with session_peer(hub, before) as after:
        require({"resumed": False, "reason": "overflow"}, after.opened)


async def test_a_client_that_does_not_acknowledge_is_waited_for_and_heard(hub: RunningHub) -> None:
    """Its acknowledgements come behind its calls: a hub that stopped reading would wait for ever."""
    async with session_peer(hub) as client:
        for _ in range(40):
            await client.request("debug.echo", {"value": "z" * 100_000})
        await until_idle(hub)
        for _ in range(10):
            await client.next()
        with suppress(TimeoutError):
            while True:  # nothing the hub says could overtake what it holds back
                await asyncio.wait_for(client.next(), SOON / 2)
        assert client.received < 25, "about a megabyte is sent ahead"
        while client.received < 40:
            await client.acknowledge()
            await client.next()


async def test_a_callee_that_is_away_gets_no_calls_until_it_is_back(hub: RunningHub) -> None:
    async with peer(hub.url) as caller:
        async with session_peer(hub) as before:
            await before.reply(await before.request("method.register", {"method": "node.away"}))
            running = await caller.request("node.away", {"n": 1})
            first = await before.next()
            before.cut()
        await until(lambda: is_away(caller, "node.away"), "the hub knows that the callee is away")
        waiting = await caller.request("node.away", {"n": 2})
        async with session_peer(hub, before) as after:
            after.sent += 1
            reply = {"jsonrpc": "2.0", "id": first["id"], "result": "kept", "seq": after.sent}
            await after.connection.send(reply)
            assert (await caller.reply(running))["result"] == "kept"
            second = await after.next()
            assert second["params"] == {"n": 2}
            after.sent += 1
            reply = {"jsonrpc": "2.0", "id": second["id"], "result": "served", "seq": after.sent}
            await after.connection.send(reply)
            assert (await caller.reply(waiting))["result"] == "served"
