"""Peers that speak frames over a stream, and ``trunkline stdio`` as a child process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import struct
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from tests.support.fork_server import ForkedOnLoop, fits
from tests.support.hub import DEBUG_METHODS, clean_environment, executors_of, is_alive
from tests.support.peer import Peer
from tests.support.timing import PATIENCE, START

STDIO: Final = (sys.executable, "-m", "trunkline.cli", "stdio", "--packs", "none", "--executors", "1")


def packet(payload: bytes) -> bytes:
    """A frame of ``{packet, 4}``."""
    return struct.pack(">I", len(payload)) + payload


class FrameStream:
    """Frames over a pair of streams; what :class:`Peer` needs of a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, framing: str) -> None:
        self.reader = reader
        self.writer = writer
        self._packets = framing == "packet4"

    async def send(self, text: str | bytes) -> None:
        payload = text.encode() if isinstance(text, str) else text
        self.writer.write(packet(payload) if self._packets else payload + b"\n")
        await self.writer.drain()

    async def recv(self) -> bytes:
        if not self._packets:
            line = await self.reader.readuntil(b"\n")
            return line[:-1]
        (size,) = struct.unpack(">I", await self.reader.readexactly(4))
        return await self.reader.readexactly(size)


class FramedPeer(Peer):
    """A bare peer of framed JSON, of whatever dialect."""

    def __init__(self, stream: FrameStream) -> None:
        super().__init__(stream)  # type: ignore[arg-type]  # it has send and recv
        self.stream = stream

    async def raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        self.stream.writer.write(data)
        await self.stream.writer.drain()

    async def ended(self, within: float = PATIENCE) -> None:
        """Nothing more comes."""
        async with asyncio.timeout(within):
            assert await self.stream.reader.read() == b""


class Program(FramedPeer):
    """A running ``trunkline stdio``.

    Attributes:
        log: what it wrote to standard error.
    """

    def __init__(self, process: ForkedOnLoop | Process, framing: str) -> None:
        assert process.stdout is not None
        assert process.stdin is not None
        super().__init__(FrameStream(process.stdout, process.stdin, framing))
        self.process = process
        self.log = b""
        self._reading = asyncio.create_task(self._read_log())

    async def _read_log(self) -> None:
        assert self.process.stderr is not None
        while part := await self.process.stderr.read(65536):
            self.log += part

    async def until_ready(self) -> None:
        """Executors are warm."""
        assert (await self.result("debug.echo", {"value": 1}, within=START)) == 1

    def executor_pids(self) -> set[int]:
        return executors_of(self.process.pid)

    def end_input(self) -> None:
        """EOF."""
        self.stream.writer.close()

    async def started(self) -> None:
        """It answers for itself; its executors may still load."""
        await self.result("rpc.ping", within=START)

    async def exit_code(self, within: float = 2 * PATIENCE, *, failed_methods: bool = False) -> int:
        """Wait for its end, whose log has to be free of tracebacks, but for those of methods that are to fail."""
        code = await asyncio.wait_for(self._ended(), within)
        await asyncio.wait_for(self._reading, PATIENCE)
        assert failed_methods or b"Traceback" not in self.log, self.log.decode()
        return code

    async def _ended(self) -> int:
        if isinstance(self.process, ForkedOnLoop):
            return await self.process.ended()
        return await self.process.wait()

    async def close(self) -> None:
        """Whatever happened: leave nothing behind."""
        if self.process.returncode is None:
            pids = self.executor_pids()
            with suppress(ProcessLookupError):
                self.process.kill()
            await self._ended()
            for pid in filter(is_alive, pids):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.stream.writer.close()
        await asyncio.wait_for(self._reading, PATIENCE)
        if isinstance(self.process, Process):
            self.process._transport.close()  # type: ignore[attr-defined]


async def started(
    command: Sequence[str], cwd: str, env: Mapping[str, str] | None, *, is_hub: bool
) -> ForkedOnLoop | Process:
    """A command of this interpreter as a process with pipes."""
    environment = clean_environment(env)
    if fits(environment):
        return await ForkedOnLoop.start(command[1:], cwd=cwd, env=environment, limit=64 * 2**20, is_hub=is_hub)
    return await asyncio.create_subprocess_exec(
        *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment, cwd=cwd, limit=64 * 2**20
    )


@asynccontextmanager
async def relay(url: str, *arguments: str, framing: str = "packet4") -> AsyncIterator[Program]:
    """Run ``trunkline stdio --connect`` for the length of a ``with`` block."""
    command = [*STDIO[:4], "--framing", framing, "--connect", url, *arguments]
    process = await started(command, str(Path.cwd()), None, is_hub=False)
    running = Program(process, framing)
    try:
        yield running
    finally:
        await running.close()


@asynccontextmanager
async def program(
    *arguments: str,
    framing: str = "packet4",
    methods: tuple[str, ...] = (DEBUG_METHODS,),
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> AsyncIterator[Program]:
    """Run ``trunkline stdio`` for the length of a ``with`` block."""
    named = [part for name in methods for part in ("--methods", name)]
    with tempfile.TemporaryDirectory(prefix="trunkline-test-") as folder:
        command = [*STDIO, "--data", f"{folder}/data", "--framing", framing, *named, *arguments]
        process = await started(command, str(cwd or folder), env, is_hub=True)
        running = Program(process, framing)
        try:
            yield running
        finally:
            await running.close()


@asynccontextmanager
async def unix_peer(path: Path, framing: str = "packet4") -> AsyncIterator[FramedPeer]:
    """Connect to a Unix socket for the length of a ``with`` block."""
    reader, writer = await asyncio.open_unix_connection(path, limit=64 * 2**20)
    try:
        yield FramedPeer(FrameStream(reader, writer, framing))
    finally:
        writer.close()


def json_lines(data: bytes) -> list[Any]:
    return [json.loads(line) for line in data.splitlines()]
