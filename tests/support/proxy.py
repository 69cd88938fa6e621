"""A TCP proxy in front of a hub that cuts, stalls, splits and delays what goes through it, on command."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Final, Literal, cast

from tests.support.timing import PATIENCE

Direction = Literal["to_hub", "to_client"]
DIRECTIONS: Final[tuple[Direction, Direction]] = ("to_hub", "to_client")
READ_BYTES: Final = 64 * 1024
RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends RST and drops what was not sent yet."""


class Proxy:
    """Listens on a free port of the loopback and passes everything on, for the length of an ``async with`` block.

    >>> async with Proxy(hub.port) as proxy, connect(proxy.url) as client:
    ...     proxy.cut()

    What is set (a stall, a split, a delay, a refusal) also holds for connections that come later, until it is unset.
    Where chance plays a part it comes from ``seed``.

    Args:
        target_port: of the hub, on the loopback.
        seed: of the sizes that :meth:`split` chooses.

    Attributes:
        port: where it listens; the same all the time.
        target_port: may be changed, for a hub that was started again elsewhere. Connections that are open stay.
        accepted: how many connections came so far, refused ones not counted.
        arrived: how many bytes came so far, by direction, over all connections.
        passed: how many of them went on.
    """

    def __init__(self, target_port: int, *, seed: int = 0) -> None:
        self.target_port = target_port
        self.port = 0
        self.accepted = 0
        self.refused = 0
        self.arrived: dict[Direction, int] = dict.fromkeys(DIRECTIONS, 0)
        self.passed: dict[Direction, int] = dict.fromkeys(DIRECTIONS, 0)
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._pairs: dict[_Pair, None] = {}
        self._gates = {direction: asyncio.Event() for direction in DIRECTIONS}
        for gate in self._gates.values():
            gate.set()
        self._max_bytes: int | None = None
        self._delay = 0.0
        self._refuses = False
        self._cut_at: dict[Direction, int] = {}
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = next(iter(self._server.sockets)).getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        pairs = list(self._pairs)
        self.cut()
        if pairs:
            await asyncio.wait([pair.task for pair in pairs])
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """Where a client has to connect."""
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def open(self) -> int:
        """How many connections there are now."""
        return len(self._pairs)

    # --- faults ---

    def cut(self) -> int:
        """Reset every connection (RST on both sides). What was on its way is lost. Returns how many there were."""
        pairs = list(self._pairs)
        self._cut_at.clear()
        for pair in pairs:
            pair.reset()
        return len(pairs)

    def sever(self) -> int:
        """Reset the hub's side only, as a router does that forgets a connection: the client's side stays open and
        silent until it is cut, or ends by itself. Returns how many there were.
        """
        pairs = [pair for pair in self._pairs if not pair.is_severed]
        for pair in pairs:
            pair.sever()
        return len(pairs)

    def cut_after(self, count: int, direction: Direction) -> None:
        """Cut by itself once so many more bytes went that way, in the middle of a frame if that is where they end."""
        self._cut_at[direction] = self.passed[direction] + count

    def calm(self) -> None:
        """Take back all that was set: pass everything on, whole, at once, and take new connections."""
        self._cut_at.clear()
        self.resume()
        self.split(None)
        self.delay(0)
        self.refuse(False)

    def stall(self, direction: Direction | None = None) -> None:
        """Pass nothing on, in one direction or in both, until :meth:`resume`. Connections stay open; what was read
        before and not passed on waits, and behind it the sender's own socket fills up.
        """
        for each in DIRECTIONS if direction is None else (direction,):
            self._gates[each].clear()

    def resume(self) -> None:
        """Pass everything on again."""
        for gate in self._gates.values():
            gate.set()

    def split(self, max_bytes: int | None) -> None:
        """Pass on pieces of 1 to ``max_bytes`` bytes, each in a segment of its own; None: as it comes."""
        self._max_bytes = max_bytes

    def delay(self, seconds: float) -> None:
        """Let whatever comes wait so long, in each direction, before it is passed on; 0: not at all."""
        self._delay = seconds

    def refuse(self, on: bool = True) -> None:
        """Reset new connections as soon as they come, or take them again."""
        self._refuses = on

    # --- what to wait for ---

    async def wait_accepted(self, number: int, *, within: float = PATIENCE) -> None:
        """Wait until so many connections came, refused ones not counted."""
        await self._wait(lambda: self.accepted >= number, f"{number} connections", within)

    async def wait_refused(self, number: int, *, within: float = PATIENCE) -> None:
        """Wait until so many connections were refused."""
        await self._wait(lambda: self.refused >= number, f"{number} refusals", within)

    async def wait_open(self, number: int, *, within: float = PATIENCE) -> None:
        """Wait until exactly so many connections are open."""
        await self._wait(lambda: self.open == number, f"{number} open connections", within)

    async def wait_passed(self, count: int, direction: Direction, *, within: float = PATIENCE) -> None:
        """Wait until so many bytes, counted from the beginning, went that way."""
        await self._wait(lambda: self.passed[direction] >= count, f"{count} bytes {direction}", within)

    async def _wait(self, condition: Callable[[], bool], what: str, within: float) -> None:
        try:
            async with asyncio.timeout(within), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            raise AssertionError(
                f"the proxy still has not seen {what}: {self.accepted} accepted, {self.refused} refused, "
                f"{self.open} open, {self.passed}"
            ) from None

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # --- inside ---

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            self.refused += 1
            _reset(writer)
            await self._tell()
            return
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        pair = _Pair(task, writer)
        self._pairs[pair] = None
        try:
            await self._tell()
            await self._serve(pair, reader, writer)
        finally:
            pair.reset()
            del self._pairs[pair]
            await self._tell()

    async def _serve(self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_hub, to_hub = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            return  # nobody listens there: the client is reset
        pair.writers.append(to_hub)
        if pair.was_cut.is_set():
            return
        pumps = [
            asyncio.create_task(self._pump(reader, to_hub, "to_hub")),
            asyncio.create_task(self._pump(from_hub, writer, "to_client")),
        ]
        pair.pumps = pumps
        # One side may end first and the other still have something to say (the closing handshake). One that was
        # reset takes the other along.
        done, pending = await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
        for pump in pending:
            pump.cancel()
        await asyncio.gather(*done, *pending, return_exceptions=True)
        if pair.is_severed:
            await pair.was_cut.wait()
        elif not pending and not any(pump.cancelled() or pump.exception() for pump in done):
            await pair.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Direction) -> None:
        gate = self._gates[way]
        while data := await reader.read(READ_BYTES):
            self.arrived[way] += len(data)
            if self._delay:
                await asyncio.sleep(self._delay)
            while data:
                await gate.wait()
                size = self._piece(len(data), way)
                writer.write(data[:size])
                await writer.drain()
                data = data[size:]
                await self._count(size, way)
        await gate.wait()
        writer.write_eof()

    def _piece(self, available: int, way: Direction) -> int:
        size = available if self._max_bytes is None else min(available, self._random.randint(1, self._max_bytes))
        limit = self._cut_at.get(way)
        return size if limit is None else max(1, min(size, limit - self.passed[way]))

    async def _count(self, size: int, way: Direction) -> None:
        self.passed[way] += size
        await self._tell()
        if self._max_bytes is not None:
            await asyncio.sleep(0)  # or the kernel would join the pieces again
        limit = self._cut_at.get(way)
        if limit is not None and self.passed[way] >= limit:
            self.cut()
            await asyncio.sleep(0)


class _Pair:
    """One client and its connection to the hub."""

    def __init__(self, task: asyncio.Task[None], client: asyncio.StreamWriter) -> None:
        self.task = task
        self.writers = [client]
        self.pumps: list[asyncio.Task[None]] = []
        self.was_cut = asyncio.Event()
        self.is_severed = False

    def reset(self) -> None:
        """End both sides at once."""
        self.was_cut.set()
        for pump in self.pumps:
            pump.cancel()
        for writer in self.writers:
            _reset(writer)

    def sever(self) -> None:
        """End the hub's side."""
        self.is_severed = True
        for pump in self.pumps:
            pump.cancel()
        for writer in self.writers[1:]:
            _reset(writer)

    async def close(self) -> None:
        """Both sides have said all they had to say."""
        for writer in self.writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self.writers), return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = cast(socket.socket, writer.get_extra_info("socket"))
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
