"""What peers make the hub keep has totals by principal and in all: messages that came in part, what waits for clients
that are away, batches. Who goes beyond is closed or refused, typed; others notice nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import select
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.support.framed import packet
from tests.support.hub import DEBUG_METHODS, RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import peer
from tests.support.timing import PATIENCE, until
from trunkline_protocol.errors import ErrorCode

MIB = 2**20
SHARE, TOTAL = 4 * MIB, 7 * MIB
PART = 3 * MIB // 2
ANNOUNCED = SHARE - 1000
NAMES = ("ann", "bob", "carl")
TOO_MUCH = "TRUNKLINE_PARTIAL_BYTES_PER_PRINCIPAL"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """With small totals; a token is its principal's name."""
    folder = tmp_path_factory.mktemp("totals")
    (folder / "tokens.toml").write_text(
        "".join(
            f'[[tokens]]\nname = "{name}"\nroles = ["admin", "callee"]\n'
            f'sha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\n'
            for name in NAMES
        )
    )
    env = {
        "TRUNKLINE_TOKENS_FILE": str(folder / "tokens.toml"),
        "TRUNKLINE_PARTIAL_BYTES": str(TOTAL),
        "TRUNKLINE_PARTIAL_BYTES_PER_PRINCIPAL": str(SHARE),
        "TRUNKLINE_DETACHED_BYTES": str(TOTAL),
        "TRUNKLINE_DETACHED_BYTES_PER_PRINCIPAL": str(SHARE),
        "TRUNKLINE_OUTBOX_BYTES": str(3 * MIB),
        "TRUNKLINE_MAX_MESSAGE_BYTES": str(SHARE),
    }
    with ready_hub(DEBUG_METHODS, env=env) as running:
        yield running


def as_who(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


class Sender:
    """A connection on which a message begins and does not end."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._sent, self._going_on = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self._send())

    async def _send(self) -> None:
        async def fragments() -> AsyncIterator[str]:
            yield json.dumps({"jsonrpc": "2.0", "id": 1, "method": "rpc.ping", "params": {}})
            yield " " * PART
            self._sent.set()
            await self._going_on.wait()
            yield " "

        await self._socket.send(fragments())

    async def finish(self) -> Any:
        self._going_on.set()
        await self.task
        return json.loads(await self._socket.recv())

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self._socket.close()

    async def closed_with(self) -> tuple[int, str]:
        await self._socket.wait_closed()
        return self._socket.close_code, self._socket.close_reason

    async def arrived(self) -> None:
        """The hub has what was sent before."""
        await asyncio.wait_for(self._sent.wait(), PATIENCE)
        await (await self._socket.ping())


@asynccontextmanager
async def sender(hub: RunningHub, name: str) -> AsyncIterator[Sender]:
    socket = await websockets.connect(hub.url, additional_headers=as_who(name))
    sending = Sender(socket)
    try:
        yield sending
    finally:
        await sending.close()


async def part_of_a_frame(hub: RunningHub, name: str, size: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection with one frame of 4 MiB, of which ``size`` bytes come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    writer.write(
        (
            f"GET /ws HTTP/1.1\r\nHost: localhost:{hub.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"Authorization: Bearer {name}\r\n\r\n"
        ).encode()
    )
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    writer.write(b"\x81\xff" + ANNOUNCED.to_bytes(8, "big") + bytes(4) + b" " * size)
    await writer.drain()
    return reader, writer


async def has_read(hub: RunningHub, writer: asyncio.StreamWriter) -> None:
    """Wait until the hub has read what was sent: neither end's kernel holds anything of it, as far as it tells."""
    own, hubs = (f":{port:04X}" for port in (writer.get_extra_info("sockname")[1], hub.port))

    def held(table: Path = Path("/proc/net/tcp")) -> bool:
        rows = [line.split()[1:5] for line in table.read_text().splitlines()[1:]] if table.exists() else []
        queues = [queue for local, remote, _, queue in rows if {local[-5:], remote[-5:]} == {own, hubs}]
        return any(int(each, 16) for queue in queues for each in queue.split(":"))

    await until(lambda: not writer.transport.get_write_buffer_size() and not held(), "the hub has read it")


async def close_code(reader: asyncio.StreamReader) -> tuple[int, str]:
    head = await reader.readexactly(2)
    assert head[0] == 0x88
    payload = await reader.readexactly(head[1])
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()


async def body_in_part(hub: RunningHub, name: str, size: int, path: str = "/rpc") -> tuple[Any, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: localhost:{hub.port}\r\nAuthorization: Bearer {name}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {ANNOUNCED}\r\n\r\n".encode()
        + b" " * size
    )
    await writer.drain()
    return reader, writer


async def test_fragments_of_one_principal(hub: RunningHub) -> None:
    """The newest goes; those before it, and others', are whole in the end."""
    async with AsyncExitStack() as stack, peer(hub.url, as_who("bob")) as other:
        kept = [await stack.enter_async_context(sender(hub, "ann")) for _ in range(2)]
        for each in kept:
            await each.arrived()
        await other.result("debug.echo", {"value": 1})
        late = await stack.enter_async_context(sender(hub, "ann"))
        code, reason = await late.closed_with()
        assert code == 1013
        assert TOO_MUCH in reason
        bobs = await stack.enter_async_context(sender(hub, "bob"))
        for each in (*kept, bobs):
            assert "result" in await each.finish()
        again = await stack.enter_async_context(sender(hub, "ann"))
        assert "result" in await again.finish(), "nothing is counted any more"


@pytest.mark.parametrize("path", ["/rpc", "/api/v1/debug/echo"])
async def test_frames_fragments_and_bodies_have_one_total(hub: RunningHub, path: str) -> None:
    async with sender(hub, "ann") as fragments, peer(hub.url, as_who("ann")) as ann:
        await fragments.arrived()
        _, frame = await part_of_a_frame(hub, "ann", PART)
        await has_read(hub, frame)
        await ann.result("debug.echo", {"value": 1})
        body, writer = await body_in_part(hub, "ann", 3 * MIB, path)
        answer = await body.readuntil(b"\r\n\r\n")
        assert b" 503 " in answer.partition(b"\r\n")[0]
        assert TOO_MUCH.encode() in await body.read()
        writer.close()
        reader, late = await part_of_a_frame(hub, "ann", 3 * MIB)
        code, reason = await close_code(reader)
        assert code == 1013
        assert TOO_MUCH in reason
        late.close()
        frame.close()
        assert "result" in await fragments.finish()


async def test_where_all_is_too_much_who_has_most_gives_way(hub: RunningHub) -> None:
    anns, first = await body_in_part(hub, "ann", 7 * MIB // 2)
    reader, second = await part_of_a_frame(hub, "bob", 2 * MIB)
    for each in (first, second):
        await has_read(hub, each)
    async with peer(hub.url, as_who("carl")) as carl, sender(hub, "carl") as fragments:
        await fragments.arrived()
        _, more = await part_of_a_frame(hub, "carl", PART)
        assert b" 503 " in await anns.readline(), "ann's body was the largest part of who had most"
        assert await carl.result("debug.echo", {"value": 1}) == 1
        assert "result" in await fragments.finish()
        more.close()
    assert not reader.at_eof()
    first.close()
    second.close()


def test_frames_of_framed_peers(tmp_path: Path) -> None:
    """The one that would be too much is told why; those before it go on."""
    path = tmp_path / "framed.sock"
    env = {
        "TRUNKLINE_MAX_MESSAGE_BYTES": str(SHARE),
        "TRUNKLINE_PARTIAL_BYTES_PER_PRINCIPAL": str(SHARE),
        "TRUNKLINE_PARTIAL_BYTES": str(TOTAL),
    }
    whole = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "rpc.ping", "params": {}}).encode() + b" " * PART
    with ready_hub(arguments=["--uds-framed", str(path)], env=env), ExitStack() as stack:
        peers = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(3)]
        for each in peers:
            each.settimeout(PATIENCE)
            each.connect(str(path))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the hub may be quicker to refuse it
                each.sendall(packet(whole)[:-1000])
        told, _, _ = select.select(peers, [], [], PATIENCE)
        (refused,) = told
        error = frame_of(refused)["error"]
        assert error["data"]["close"] == 1013
        assert TOO_MUCH in error["message"]
        with contextlib.suppress(ConnectionResetError):
            assert refused.recv(1) == b""
        for each in peers:
            if each is not refused:
                each.sendall(packet(whole)[-1000:])
                assert "result" in frame_of(each)


def frame_of(connected: socket.socket) -> Any:
    size = int.from_bytes(connected.recv(4, socket.MSG_WAITALL), "big")
    return json.loads(connected.recv(size, socket.MSG_WAITALL))


async def nobody_has(hub: RunningHub, name: str) -> None:
    """The hub has seen that the principal's last connection is gone."""
    async with peer(hub.url, as_who("ann" if name != "ann" else "bob")) as admin:
        await admin.result("subscribe", {"topic": "system.connections"})
        while True:
            table = (await admin.receive())["params"]["data"]["connections"]
            if table is not None and all(row["principal"] != name for row in table):
                return


async def test_what_waits_for_clients_that_are_away(hub: RunningHub) -> None:
    """The session that would be too much ends, and its client is told; the others go on."""
    sessions = []
    for _ in range(3):
        async with peer(hub.url, as_who("ann")) as client:
            sessions.append((await client.result("session.open", {}))["session"])
            await client.send(
                {"jsonrpc": "2.0", "id": 1, "method": "debug.echo", "params": {"value": "x" * PART}, "seq": 1}
            )
            await client.reply(1)
            client.socket.transport.abort()
            await client.socket.wait_closed()
        await nobody_has(hub, "ann")
    async with peer(hub.url, as_who("bob")) as bob:
        bobs = (await bob.result("session.open", {}))["session"]
        bob.socket.transport.abort()
    await nobody_has(hub, "bob")
    resumed = []
    for session, name in [*((session, "ann") for session in sessions), (bobs, "bob")]:
        async with peer(hub.url, as_who(name)) as client:
            opened = await client.result("session.open", {"resume": {"session": session, "received": 0}})
            resumed.append((opened["resumed"], opened.get("reason")))
            if opened["resumed"] and name == "ann":
                assert len((await client.receive())["result"]) == PART
    assert resumed == [(True, None), (True, None), (False, "overflow"), (True, None)]


async def test_answers_that_come_while_the_client_is_away_are_counted(hub: RunningHub) -> None:
    sessions = []
    async with peer(hub.url, as_who("bob")) as bob:
        await bob.result("method.register", {"method": "later.value"})
        for _ in range(3):
            async with peer(hub.url, as_who("carl")) as client:
                sessions.append((await client.result("session.open", {}))["session"])
                await client.send({"jsonrpc": "2.0", "id": 1, "method": "later.value", "params": {}, "seq": 1})
                asked = (await bob.receive())["id"]
                client.socket.transport.abort()
                await client.socket.wait_closed()
            await nobody_has(hub, "carl")
            await bob.send({"jsonrpc": "2.0", "id": asked, "result": "x" * PART})
            await bob.result("rpc.ping")
    resumed = []
    for session in sessions:
        async with peer(hub.url, as_who("carl")) as client:
            opened = await client.result("session.open", {"resume": {"session": session, "received": 0}})
            resumed.append((opened["resumed"], opened.get("reason")))
    assert resumed == [(True, None), (True, None), (False, "overflow")]


async def test_a_batch_whose_replies_are_too_large(hub: RunningHub) -> None:
    async with peer(hub.url, as_who("ann")) as client:
        value = "x" * (6 * MIB // 5)
        calls = [
            {"jsonrpc": "2.0", "id": number, "method": "debug.echo", "params": {"value": value}} for number in range(3)
        ]
        await client.send(calls)
        replies = await client.receive()
        assert len(replies) == 3
        refused = [reply["error"] for reply in replies if "error" in reply]
        assert len(refused) == 1, "two of them have 2.4 of 3 MiB"
        data = {"limit": "TRUNKLINE_OUTBOX_BYTES", "maybe_executed": True}
        for error in refused:
            require({"code": ErrorCode.RESOURCE_EXHAUSTED, "data": data}, error)
        assert await client.result("debug.echo", {"value": 1}) == 1
