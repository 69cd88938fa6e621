"""WebSocket frames by hand, the invalid ones above all (RFC 6455, 5.2)."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from tests.support.timing import PATIENCE

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bool = True) -> bytes:
    """One frame as a client sends it. ``rsv`` is three bits: 4, 2, 1 for RSV1 to RSV3."""
    size = len(payload)
    head = bytes([fin << 7 | rsv << 4 | opcode])
    flag = mask << 7
    if size < 126:
        head += bytes([flag | size])
    elif size < 1 << 16:
        head += bytes([flag | 126]) + struct.pack("!H", size)
    else:
        head += bytes([flag | 127]) + struct.pack("!Q", size)
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + masked(payload, key)


def masked(payload: bytes, key: bytes) -> bytes:
    pad = (key * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(len(payload), "big")


def close_payload(code: int, reason: bytes = b"") -> bytes:
    return struct.pack("!H", code) + reason


@dataclass(frozen=True, slots=True)
class Frame:
    opcode: int
    payload: bytes
    fin: bool

    @property
    def close_code(self) -> int:
        assert self.opcode == CLOSE, f"no close frame: {self}"
        return int(struct.unpack_from("!H", self.payload)[0])


@dataclass(frozen=True, slots=True)
class Upgrade:
    status: int
    headers: Mapping[str, str]
    body: bytes


class RawSocket:
    """A TCP connection that speaks WebSocket as badly as the test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def write(self, data: bytes) -> None:
        """Send bytes as one segment."""
        self._writer.write(data)
        await self._writer.drain()

    async def write_until_cut(self, data: bytes, within: float = PATIENCE) -> None:
        """Send the same again and again until the connection is lost."""
        with suppress(ConnectionError):
            async with asyncio.timeout(within):
                while True:
                    await self.write(data)

    async def upgrade(self, path: str = "/ws", headers: Mapping[str, str] | None = None) -> Upgrade:
        """Ask for the upgrade and read the answer. A header with an empty value is left out."""
        port = self._writer.get_extra_info("peername")[1]
        fields = {
            "Host": f"127.0.0.1:{port}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Version": "13",
        } | dict(headers or {})
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value)]
        await self.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        return await self.http_answer()

    async def http_answer(self) -> Upgrade:
        """Read one HTTP answer, with a body where its length is given."""
        async with asyncio.timeout(PATIENCE):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status_line, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return Upgrade(int(status_line.split()[1]), headers, body)

    async def frame(self, within: float = PATIENCE) -> Frame:
        """The next frame of the server, which must not be masked."""
        async with asyncio.timeout(within):
            first, second = await self._reader.readexactly(2)
            assert not second & 0x80, "the server masked a frame"
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", await self._reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self._reader.readexactly(8))
            return Frame(first & 0x0F, await self._reader.readexactly(size), bool(first & 0x80))

    async def ended(self, within: float = PATIENCE) -> bool:
        """Wait for the end of the TCP stream; False if bytes come first."""
        async with asyncio.timeout(within):
            try:
                return await self._reader.read(1) == b""
            except ConnectionResetError:
                return True


@asynccontextmanager
async def raw_tcp(port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawSocket]:
    """Connect, without an upgrade."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    try:
        yield RawSocket(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def raw_socket(port: int) -> AsyncIterator[RawSocket]:
    """Connect and upgrade."""
    async with raw_tcp(port) as socket:
        answer = await socket.upgrade()
        assert answer.status == 101, answer
        yield socket


def upgraded(port: int) -> socket.socket:
    """Connect and upgrade with a plain, blocking socket."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    plain.sendall(
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += plain.recv(4096)
    assert b" 101 " in answer
    return plain
