"""``GET /events``: topics as server-sent events, recovered by ``Last-Event-ID``."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.edge.http.http_client import send
from tests.support.hub import RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE, eventually
from trunkline_protocol.errors import ErrorCode


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    env = {"TRUNKLINE_PING_INTERVAL": "0.2", "TRUNKLINE_HISTORY_EVENTS": "5"}
    with ready_hub(env=env) as running:
        yield running


@pytest.fixture
async def publisher(hub: RunningHub) -> AsyncIterator[Peer]:
    async with peer(hub.url) as connected:
        yield connected


@dataclass
class Told:
    """One server-sent event."""

    id: str
    kind: str
    data: Any


async def lines_of(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    """The lines of a chunked body."""
    rest = b""
    while size := int((await reader.readuntil(b"\r\n")).strip() or b"0", 16):
        rest += await reader.readexactly(size)
        await reader.readexactly(2)
        *lines, rest = rest.split(b"\n")
        for line in lines:
            yield line.decode()


class Events:
    """The events of one response."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._lines = lines_of(reader)

    async def next(self) -> Told | None:
        """The next event; None at the end of the response."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(PATIENCE):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if name in ("id", "event", "data"):
                    fields[name] = value
                elif not line and "data" in fields:
                    return Told(fields["id"], fields.get("event", "message"), json.loads(fields["data"]))
        return None

    async def heartbeat(self) -> None:
        """The next line, which is a comment."""
        async with asyncio.timeout(PATIENCE):
            while not (line := await anext(self._lines)):
                pass  # the end of what came before
        assert line == ":"


@asynccontextmanager
async def source(
    hub: RunningHub, *topics: str, last: str | None = None, token: str | None = None
) -> AsyncIterator[Events]:
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    try:
        query = "&".join(f"topic={quote(topic)}" for topic in topics)
        more = "" if last is None else f"Last-Event-ID: {last}\r\n"
        more += "" if token is None else f"Authorization: Bearer {token}\r\n"
        writer.write(f"GET /events?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n{more}\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert head.startswith("http/1.1 200")
        assert "content-type: text/event-stream" in head
        yield Events(reader)
    finally:
        writer.close()


async def told(events: Events) -> Told:
    found = await events.next()
    assert found is not None
    return found


async def test_events_come_with_the_positions_of_all_topics(hub: RunningHub, publisher: Peer) -> None:
    async with source(hub, "sse.a", "sse.b", "sse.p.*") as events:
        begun = await told(events)
        assert begun.kind == "subscribed"
        assert [reply["topic"] for reply in begun.data] == ["sse.a", "sse.b", "sse.p.*"]
        epoch = begun.data[0]["epoch"]
        assert begun.id == f"{epoch}:0,{epoch}:0,-"
        await publisher.result("publish", {"topic": "sse.b", "data": {"line\nend": "ü"}})
        await publisher.result("publish", {"topic": "sse.p.x", "data": 2})
        first, second = await told(events), await told(events)
        assert (first.kind, first.id) == ("message", f"{epoch}:0,{epoch}:1,-")
        require({"topic": "sse.b", "data": {"line\nend": "ü"}, "offset": 1, "publisher": "anonymous"}, first.data)
        assert (second.data["topic"], second.data["data"], second.id) == ("sse.p.x", 2, first.id)


async def test_what_was_missed_comes_first_or_a_gap_says_so(hub: RunningHub, publisher: Peer) -> None:
    async with source(hub, "sse.missed") as events:
        last = (await told(events)).id
    for n in range(1, 4):
        await publisher.result("publish", {"topic": "sse.missed", "data": n})
    async with source(hub, "sse.missed", last=last) as events:
        assert (await told(events)).data[0]["recovered"]
        got = [await told(events) for _ in range(3)]
        assert [event.data["data"] for event in got] == [1, 2, 3]
        last = got[0].id
    for n in range(4, 12):
        await publisher.result("publish", {"topic": "sse.missed", "data": n})
    async with source(hub, "sse.missed", last=last) as events:
        begun, gap = await told(events), await told(events)
        assert not begun.data[0]["recovered"]
        assert (gap.kind, gap.data["from"], gap.data["to"], gap.data["reason"]) == ("gap", 2, 11, "history")
        await publisher.result("publish", {"topic": "sse.missed", "data": 12})
        assert (await told(events)).data["offset"] == 12
        assert gap.id.endswith(":11")


@pytest.mark.parametrize("last", ["", "nonsense", "a:b", "x:1,y:2", ":5", "e:99999999999999999999999"])
async def test_an_id_of_another_stream_is_no_position(hub: RunningHub, last: str) -> None:
    async with source(hub, "sse.other", last=last) as events:
        assert (await told(events)).data[0]["recovered"] is False


def connections(hub: RunningHub) -> float:
    """How many streams of events the hub counts."""
    found = re.search(rb'^trunkline_connections_by_transport{transport="sse"} (.*)$', hub.get("/metrics").body, re.M)
    return 0 if found is None else float(found[1])


async def test_a_silent_stream_has_heartbeats_and_is_one_connection(hub: RunningHub, publisher: Peer) -> None:
    async with source(hub, "sse.silent") as events:
        await told(events)
        for _ in range(2):
            await events.heartbeat()
        await publisher.result("publish", {"topic": "sse.silent", "data": 1})
        await told(events)
        await asyncio.to_thread(eventually, lambda: connections(hub) == 1, "it is one, and those before have left")
    await asyncio.to_thread(eventually, lambda: connections(hub) == 0, "who has left is no connection")


async def test_when_the_hub_stops_the_stream_ends_and_is_not_cut() -> None:
    with RunningHub() as stopping:
        stopping.ready()
        async with source(stopping, "sse.a") as events:
            await told(events)
            stopping.process.send_signal(signal.SIGTERM)
            assert await events.next() is None
        await asyncio.to_thread(stopping.wait_ended, 0)


@pytest.mark.parametrize(
    ("path", "code", "status"),
    [
        ("/events", ErrorCode.INVALID_PARAMS, 422),
        ("/events?" + "&".join(f"topic=t{n}" for n in range(33)), ErrorCode.INVALID_PARAMS, 422),
        ("/events?topic=a..b", ErrorCode.INVALID_PARAMS, 422),
    ],
)
def test_what_cannot_be_subscribed_to_is_an_http_error(
    hub: RunningHub, path: str, code: ErrorCode, status: int
) -> None:
    answer = send(hub, path, method="GET")
    assert (answer.status, answer.json()["error"]["code"]) == (status, code)
    assert send(hub, "/events?topic=a", method="POST").status == 405


def test_who_may_not_is_refused(tmp_path: Path) -> None:
    secret = "a-readers-token-0001"
    tokens = tmp_path / "tokens.toml"
    digest = hashlib.sha256(secret.encode()).hexdigest()
    tokens.write_text(f'[[tokens]]\nname = "reader"\nsha256 = "{digest}"\nsubscribe = ["open.>"]\n')
    tokens.chmod(0o600)
    with ready_hub(env={"TRUNKLINE_TOKENS_FILE": str(tokens)}) as guarded:
        assert send(guarded, "/events?topic=open.a", method="GET").status == 401
        bearer = {"Authorization": f"Bearer {secret}"}
        refused = send(guarded, "/events?topic=secret.a", headers=bearer, method="GET")
        assert (refused.status, refused.json()["error"]["code"]) == (403, ErrorCode.FORBIDDEN)
