"""Faults 7, 9 and 13 at the door of a real hub: too much, too slow, and gone without a word."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress

import pytest
import websockets

from tests.support.frames import CLOSE, PING, PONG, TEXT, Frame, RawSocket, frame, raw_socket, raw_tcp
from tests.support.hub import RunningHub, ready_hub
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE, SCALE
from trunkline.config import Settings
from trunkline.edge.http.protocol import HEAD_TIMEOUT

MIB = 2**20
LIMIT = 2 * MIB
INTERVAL, TIMEOUT = 0.3 * SCALE, 1.25 * SCALE
"""Of a hub's pings. Who does answer them may be late for as long as a process stands still."""


@pytest.fixture(scope="module")
def narrow_hub() -> Iterator[RunningHub]:
    """Takes messages of 2 MiB."""
    with ready_hub(env={"TRUNKLINE_MAX_MESSAGE_BYTES": str(LIMIT)}) as hub:
        yield hub


@pytest.fixture(scope="module")
def watchful_hub() -> Iterator[RunningHub]:
    """Pings often and waits briefly."""
    with ready_hub(env={"TRUNKLINE_PING_INTERVAL": str(INTERVAL), "TRUNKLINE_PING_TIMEOUT": str(TIMEOUT)}) as hub:
        yield hub


# --- 7: too large ---


@pytest.mark.parametrize("fragment", [20 * MIB, 64 * 1024], ids=["one frame", "fragments"])
async def test_fault_07_an_oversize_message_is_1009_and_memory_stays(narrow_hub: RunningHub, fragment: int) -> None:
    """A real client in the middle of sending must get the close code, too, and not a reset."""
    part = "x" * fragment
    before = narrow_hub.rss()
    for _ in range(10):
        async with websockets.connect(narrow_hub.url, compression=None, proxy=None, close_timeout=5) as client:
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await send_and_wait(client, itertools.repeat(part, 20 * MIB // fragment))
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009
    assert narrow_hub.rss() - before < 5 * LIMIT, "what was refused is kept"
    async with peer(narrow_hub.url) as client:
        assert await client.result("debug.echo", {"value": 1}) == 1


async def send_and_wait(client: websockets.ClientConnection, parts: Iterable[str]) -> None:
    await client.send(parts)
    await client.recv()


async def test_fault_07_large_messages_leave_no_memory_behind(debug_hub: RunningHub) -> None:
    size = 16 * MIB
    call = {"jsonrpc": "2.0", "id": 1, "method": "rpc.ping", "params": {"value": "x" * (size - 100)}}
    data = frame(TEXT, json.dumps(call).encode())
    before, grown = debug_hub.rss(), []
    for _ in range(12):
        async with raw_socket(debug_hub.port) as client:
            await client.write(data)
            assert (await client.frame()).opcode == TEXT
        grown.append((debug_hub.rss() - before) / size)
    assert max(grown) < 5, f"buffers of connections that are gone are kept: {grown}"


# --- 9: a handshake that never comes ---


async def drip(port: int, data: bytes, pause: float) -> float:
    """Send a byte now and then; how long the hub stood it."""
    async with raw_tcp(port) as client:
        started = time.monotonic()
        with suppress(ConnectionError):
            for byte in itertools.chain(data, itertools.repeat(ord("x"))):
                await client.write(bytes([byte]))
                with suppress(TimeoutError):
                    assert await client.ended(within=pause)
                    break
                assert time.monotonic() - started < HEAD_TIMEOUT + PATIENCE
        return time.monotonic() - started


async def test_fault_09_slow_handshakes_are_cut_off_on_time(debug_hub: RunningHub) -> None:
    """Bytes that keep coming are no excuse."""
    head = b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    stood = await asyncio.gather(
        drip(debug_hub.port, b"GET /ws?", 1.0),
        drip(debug_hub.port, head + b"Sec-WebSocket-Key: ", 0.1),
    )
    assert max(stood) < HEAD_TIMEOUT + PATIENCE
    async with peer(debug_hub.url) as client:
        assert await client.result("rpc.ping")


async def test_fault_09_a_partial_upgrade_is_refused_at_once(debug_hub: RunningHub) -> None:
    async with raw_tcp(debug_hub.port) as client:
        answer = await client.upgrade(headers={"Sec-WebSocket-Key": ""})
        assert answer.status == 400
        assert await client.ended(within=HEAD_TIMEOUT * 0.8)


async def test_fault_09_a_handshake_in_small_pieces_is_served(debug_hub: RunningHub) -> None:
    async with raw_tcp(debug_hub.port) as client:
        request = (
            b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        for start in range(0, len(request), 5):
            await client.write(request[start : start + 5])
            await asyncio.sleep(0.005)
        assert (await client.http_answer()).status == 101
        await client.write(frame(TEXT, b'{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}'))
        assert b"pong" in (await client.frame()).payload


# --- 13: half-open TCP ---


async def active_calls(witness: Peer) -> int:
    return int((await witness.result("health.check"))["active_requests"])


async def until_active(witness: Peer, count: int, within: float = PATIENCE) -> None:
    async with asyncio.timeout(within):
        while await active_calls(witness) != count:
            await asyncio.sleep(0.02)


def sleep_call(seconds: float) -> bytes:
    call = {"jsonrpc": "2.0", "id": 1, "method": "debug.sleep", "params": {"seconds": seconds}}
    return frame(TEXT, json.dumps(call).encode())


async def test_fault_13_a_peer_that_answers_no_ping_is_closed_and_its_slot_is_free(watchful_hub: RunningHub) -> None:
    started = time.monotonic()
    async with peer(watchful_hub.url) as witness, raw_socket(watchful_hub.port) as gone:
        before = await active_calls(witness)
        await gone.write(sleep_call(60))
        await until_active(witness, before + 1)
        assert (await gone.frame()).opcode == PING
        while (got := await gone.frame()).opcode == PING:
            pass
        assert got.close_code == 1001
        assert b"ping" in got.payload
        assert await gone.ended()
        assert time.monotonic() - started > INTERVAL / 2 + TIMEOUT - 0.1
        await until_active(witness, before)


CLIENT = """
import sys, websockets.sync.client as sync
with sync.connect(sys.argv[1], compression=None) as socket:
    socket.send('{"jsonrpc":"2.0","id":1,"method":"debug.sleep","params":{"seconds":60}}')
    print("sent", flush=True)
    socket.recv()
"""


async def test_fault_13_a_stopped_client_process_is_noticed(watchful_hub: RunningHub) -> None:
    """SIGSTOP: its kernel still acknowledges everything, only nobody answers."""
    async with peer(watchful_hub.url) as witness:
        before = await active_calls(witness)
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLIENT, watchful_hub.url, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert client.stdout is not None
            assert await asyncio.wait_for(client.stdout.readline(), PATIENCE) == b"sent\n"
            await until_active(witness, before + 1)
            await asyncio.sleep(1.5 * (INTERVAL + TIMEOUT))  # it is not to be cut off
            assert await active_calls(witness) == before + 1, "it answered its pings, and was cut off"
            os.kill(client.pid, signal.SIGSTOP)
            await until_active(witness, before)
        finally:
            client.kill()
            await client.wait()


async def test_fault_13_not_a_slow_upload(watchful_hub: RunningHub) -> None:
    """In the middle of a message nobody can answer a ping: bytes are a sign of life, too."""
    call = {"jsonrpc": "2.0", "id": 1, "method": "debug.echo", "params": {"value": "x" * 400}}
    async with raw_socket(watchful_hub.port) as client:
        for part in batched(frame(TEXT, json.dumps(call).encode()), 40):
            await client.write(part)
            await asyncio.sleep((INTERVAL + TIMEOUT) / 8)
        assert json.loads((await next_frame(client, TEXT)).payload)["id"] == 1


def batched(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


async def next_frame(client: RawSocket, opcode: int) -> Frame:
    while (got := await client.frame()).opcode != opcode:
        assert got.opcode != CLOSE, got
    return got


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux tells how much has reached the peer")
async def test_fault_13_not_a_slow_download(watchful_hub: RunningHub) -> None:
    """The ping waits behind what the peer still fetches: it cannot have answered yet."""
    size, step = 1_000_000, 10_000
    call = {"jsonrpc": "2.0", "id": 1, "method": "debug.echo", "params": {"value": "x" * size}}
    async with slow_socket(watchful_hub.port) as client:
        await client.write(frame(TEXT, json.dumps(call).encode()))
        started = time.monotonic()
        head = await client._reader.readexactly(10)
        assert head[:2] == b"\x81\x7f"
        left = int.from_bytes(head[2:], "big")
        while left:
            left -= len(await client._reader.readexactly(min(left, step)))
            if left > size / 4:  # the rest at once: what the peer's kernel has got already, it is expected to read
                await asyncio.sleep((INTERVAL + TIMEOUT) * 3 * step / size)
        assert time.monotonic() - started > 2 * (INTERVAL + TIMEOUT)
        await client.write(frame(TEXT, b'{"jsonrpc":"2.0","id":2,"method":"rpc.ping"}'))
        assert json.loads((await next_frame(client, TEXT)).payload)["id"] == 2


@asynccontextmanager
async def slow_socket(port: int) -> AsyncIterator[RawSocket]:
    """Its kernel takes little in advance."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=plain, limit=8 * 1024)
    try:
        client = RawSocket(reader, writer)
        assert (await client.upgrade()).status == 101
        yield client
    finally:
        writer.transport.abort()


async def test_fault_13_not_a_peer_that_answers(watchful_hub: RunningHub) -> None:
    async with raw_socket(watchful_hub.port) as client:
        for _ in range(math.ceil(1.5 * (INTERVAL + TIMEOUT) / INTERVAL)):
            await client.write(frame(PONG, (await next_frame(client, PING)).payload))
        await client.write(frame(TEXT, b'{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}'))
        assert b"pong" in (await next_frame(client, TEXT)).payload


async def test_fault_29_busy_connections_are_pinged_too(watchful_hub: RunningHub) -> None:
    """A proxy cuts connections that are silent in one direction, however much goes in the other."""
    async with raw_socket(watchful_hub.port) as client:
        limit = time.monotonic() + 4 * INTERVAL
        while time.monotonic() < limit:
            await client.write(frame(TEXT, b'{"jsonrpc":"2.0","method":"rpc.ping"}'))
            await asyncio.sleep(0.02)
        assert (await client.frame()).opcode == PING
        assert (await client.frame()).opcode == PING


def test_fault_13_unless_set_otherwise_after_25_and_20_seconds() -> None:
    """As SPEC.md says, and as the door does where nobody sets it."""
    settings = Settings()
    assert (settings.ping_interval, settings.ping_timeout) == (25, 20)
