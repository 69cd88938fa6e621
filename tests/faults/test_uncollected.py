"""Connections, sessions and calls that ended are gone at once, without the collector of cycles.

Left to it, they pile up until it runs over everything there is, and everybody waits. The hub here never collects;
through each door peers come and go in every way, and what they leave behind is counted.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.support.framed import packet
from tests.support.hub import clean_environment
from tests.support.timing import PATIENCE, START, eventually

NUMBER = 16
WATCHED = (
    "trunkline.edge",
    "trunkline.hub",
    "trunkline.executors",
    "trunkline_protocol.calls",
    "trunkline_protocol.session",
    "picows",
    "uvicorn",
    "uvloop",
)


class Uncollected:
    """A hub that never collects (tests/support/uncollected_hub.py)."""

    def __init__(self, folder: Path) -> None:
        self.framed = folder / "framed.sock"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.uncollected_hub", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=clean_environment({"PYTHONPATH": os.getcwd()}),
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def census(self) -> Counter[str]:
        """What there is, of the types that a peer brings."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found = json.loads(self._process.stdout.readline())
        return Counter({name: number for name, number in found.items() if name.startswith(WATCHED)})

    def stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            assert self._process.wait(PATIENCE) == 0
        finally:
            self._process.kill()
            self._process.stdout.close()

    def websocket(self, path: str = "/ws", **options: Any) -> Any:
        return websockets.connect(f"ws://127.0.0.1:{self.port}{path}", **options)

    async def http(self, path: str, body: bytes, accept: str = "*/*", *, read: bool = True) -> bytes:
        """One request on a connection of its own; the answer, or nothing where it is not read."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: {accept}\r\n"
        writer.write(f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await reader.read() if read else b""
        writer.close()
        return answer


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Uncollected]:
    running = Uncollected(tmp_path_factory.mktemp("uncollected"))
    asyncio.run(until_ready(running))
    yield running
    running.stop()


async def until_ready(hub: Uncollected) -> None:
    async with asyncio.timeout(START), hub.websocket() as peer:
        while "result" not in await ask(peer, "debug.echo", {"value": 1}):
            await asyncio.sleep(0.05)


def request(method: str, params: Any, **members: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params} | members)


async def ask(peer: Any, method: str, params: Any, **members: Any) -> Any:
    await peer.send(request(method, params, **members))
    return json.loads(await peer.recv())


# --- ways to come and go ---


async def says_nothing(hub: Uncollected) -> None:
    async with hub.websocket():
        pass


async def calls(hub: Uncollected) -> None:
    async with hub.websocket() as peer:
        await ask(peer, "debug.echo", {"value": 1})


async def is_cut(hub: Uncollected) -> None:
    peer = await hub.websocket()
    await ask(peer, "debug.echo", {"value": 1})
    peer.transport.abort()


async def is_refused_everything(hub: Uncollected) -> None:
    async with hub.websocket() as peer:
        wrong = [("no.such", {}), ("debug.echo", {"x": 1}), ("subscribe", {"topic": ""}), ("jobs.get", {"id": "x"})]
        for method, params in wrong:
            assert "error" in await ask(peer, method, params)
        await peer.send("{")
        await peer.recv()


async def sends_a_batch(hub: Uncollected) -> None:
    async with hub.websocket() as peer:
        await peer.send(f"[{request('debug.echo', {'value': 1})},{request('no.such', {}, id=2)}]")
        assert len(json.loads(await peer.recv())) == 2


async def leaves_in_the_middle_of_calls(hub: Uncollected) -> None:
    async with hub.websocket() as peer:
        await peer.send(request("debug.sleep", {"seconds": 60}, id=2))
        await peer.send(f"[{request('debug.sleep', {'seconds': 60}, id=3)}]")
        await ask(peer, "rpc.ping", {})


async def uses_a_key(hub: Uncollected) -> None:
    async with hub.websocket() as peer:
        await ask(peer, "debug.echo", {"value": 1}, metadata={"idempotency_key": "the same"})


async def subscribes(hub: Uncollected) -> None:
    async with hub.websocket() as peer:
        for topic in ("a.b", "a.*", "x.>"):
            await ask(peer, "subscribe", {"topic": topic})
        await peer.send(request("publish", {"topic": "a.b", "data": 1}))
        await peer.recv()
        await peer.recv()


async def reads_a_stream(hub: Uncollected) -> None:
    async with hub.websocket() as peer:
        await peer.send(request("debug.count", {"n": 3}))
        while "id" not in json.loads(await peer.recv()):
            pass


async def leaves_a_session(hub: Uncollected) -> str:
    peer = await hub.websocket()
    session: str = (await ask(peer, "session.open", {}))["result"]["session"]
    await ask(peer, "debug.echo", {"value": 1}, seq=1)
    await peer.send(request("debug.sleep", {"seconds": 60}, id=2, seq=2))
    peer.transport.abort()
    return session


async def resumes_a_session(hub: Uncollected) -> None:
    session = await leaves_a_session(hub)
    async with hub.websocket() as peer:
        opened = await ask(peer, "session.open", {"resume": {"session": session, "received": 1}})
        assert opened["result"]["resumed"]


async def takes_a_session_over(hub: Uncollected) -> None:
    async with hub.websocket() as older, hub.websocket() as newer:
        session = (await ask(older, "session.open", {}))["result"]["session"]
        assert (await ask(newer, "session.open", {"resume": {"session": session, "received": 0}}))["result"]["resumed"]


async def closes_a_session(hub: Uncollected) -> None:
    async with hub.websocket() as peer:
        await ask(peer, "session.open", {})
        await ask(peer, "session.close", {})


async def breaks_the_rules_of_a_session(hub: Uncollected) -> None:
    async with hub.websocket() as peer:
        await ask(peer, "session.open", {})
        await peer.send(request("rpc.ping", {}, seq=7))
        await peer.wait_closed()
        assert peer.close_code == 1002


async def serves_a_method(hub: Uncollected) -> None:
    async with hub.websocket() as callee, hub.websocket() as caller:
        await ask(callee, "method.register", {"method": "served.here"})
        await caller.send(request("served.here", {}))
        asked = json.loads(await callee.recv())
        await callee.send(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": 1}))
        await caller.recv()
        await caller.send(request("served.here", {}))
        await callee.recv()


async def speaks_messagepack(hub: Uncollected) -> None:
    async with hub.websocket(subprotocols=[Subprotocol("trunkline.v1+msgpack")]) as peer:
        await peer.send(msgspec.msgpack.encode(json.loads(request("debug.echo", {"value": 1}))))
        await peer.recv()


async def speaks_phoenix(hub: Uncollected) -> None:
    async with hub.websocket("/socket/websocket?vsn=2.0.0") as peer:
        for frame in (
            ["1", "1", "topic:a", "phx_join", {}],
            ["2", "3", "rpc:x", "phx_join", {}],
            ["2", "4", "rpc:x", "debug.echo", {"value": 1}],
        ):
            await peer.send(json.dumps(frame))
            await peer.recv()


async def sends_a_frame_nobody_takes(hub: Uncollected) -> None:
    async with hub.websocket() as peer:
        await peer.send(b"binary")
        with pytest.raises(ConnectionClosed):
            await peer.recv()


async def is_not_let_in(hub: Uncollected) -> None:
    with pytest.raises(InvalidStatus):
        async with hub.websocket("/nowhere"):
            pass


async def posts(hub: Uncollected) -> None:
    assert b'"result":1' in await hub.http("/rpc", request("debug.echo", {"value": 1}).encode())


async def posts_what_is_refused(hub: Uncollected) -> None:
    assert b"-32601" in await hub.http("/rpc", request("no.such", {}).encode())
    assert b"-32700" in await hub.http("/rpc", b"{")


async def reads_server_sent_events(hub: Uncollected) -> None:
    assert b"stream_chunk" in await hub.http("/rpc", request("debug.count", {"n": 3}).encode(), "text/event-stream")


async def leaves_before_the_answer(hub: Uncollected) -> None:
    await hub.http("/rpc", request("debug.sleep", {"seconds": 60}).encode(), read=False)


async def never_sends_the_body(hub: Uncollected) -> None:
    with socket.create_connection(("127.0.0.1", hub.port)) as connected:
        connected.sendall(b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")


async def speaks_frames(hub: Uncollected) -> None:
    reader, writer = await asyncio.open_unix_connection(hub.framed)
    writer.write(packet(request("debug.echo", {"value": 1}).encode()))
    await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
    writer.close()


WAYS: tuple[Callable[[Uncollected], Awaitable[object]], ...] = (
    says_nothing,
    calls,
    is_cut,
    is_refused_everything,
    sends_a_batch,
    leaves_in_the_middle_of_calls,
    uses_a_key,
    subscribes,
    reads_a_stream,
    leaves_a_session,
    resumes_a_session,
    takes_a_session_over,
    closes_a_session,
    breaks_the_rules_of_a_session,
    serves_a_method,
    speaks_messagepack,
    speaks_phoenix,
    sends_a_frame_nobody_takes,
    is_not_let_in,
    posts,
    posts_what_is_refused,
    reads_server_sent_events,
    leaves_before_the_answer,
    never_sends_the_body,
    speaks_frames,
)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_nothing_is_left_of_who(hub: Uncollected, way: Callable[[Uncollected], Awaitable[object]]) -> None:
    await way(hub)
    before = await asyncio.to_thread(hub.census)
    for _ in range(NUMBER):
        await way(hub)
    left: Counter[str] = Counter()

    def gone() -> bool:
        nonlocal left
        left = Counter({name: grown for name, grown in (hub.census() - before).items() if grown >= NUMBER // 2})
        return not left

    try:
        await asyncio.to_thread(eventually, gone, "what is left")
    except AssertionError:
        pytest.fail(f"after {NUMBER}: {left.most_common(12)}")
