"""A pack with state that has one owner: a log a key, which is locked as long as a process has it open."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from trunkline import Context, method


def leave(marker: str | Path) -> None:
    """A file that the test looks for: which process was here."""
    Path(marker).write_text(str(os.getpid()))


def is_there(marker: str | Path) -> bool:
    return Path(marker).exists()


class Keeper:
    """Tests say what it does by files in its folder, ``KEEPER`` of the environment.

    Attributes:
        stall-open-KEY: to open that log takes as long as this is there. ``opening-KEY`` tells that it has begun.
        stall-release-KEY: the same for letting it go; ``releasing-KEY``.
        stall-load: no process of it is ready as long as this is there.
    """

    def load(self, settings: Mapping[str, Any]) -> None:
        self._root = Path(os.environ["KEEPER"])
        while is_there(self._root / "stall-load"):
            time.sleep(0.005)
        self._logs: dict[str, int] = {}

    async def release(self, released: Callable[[str], bool]) -> None:
        for key in [key for key in self._logs if released(key)]:
            if is_there(self._root / f"broken-release-{key}"):
                raise OSError("the disk is gone")
            while self._stalls("release", "releasing", key):
                await asyncio.sleep(0.005)
            os.close(self._logs.pop(key))

    def _stalls(self, what: str, marker: str, key: str) -> bool:
        if not is_there(self._root / f"stall-{what}-{key}"):
            return False
        leave(self._root / f"{marker}-{key}")
        return True

    def _log(self, key: str) -> int:
        """Without patience: whoever gets a key finds it free."""
        if key not in self._logs:
            while self._stalls("open", "opening", key):
                time.sleep(0.005)
            log = os.open(self._root / f"{key}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                (self._root / "two-owners").write_text(key)
                raise
            self._logs[key] = log
        return self._logs[key]

    def _write(self, key: str, number: int) -> None:
        os.write(self._log(key), b"%d %d\n" % (number, os.getpid()))

    @method("keeper.append", routing_key="key")
    async def append(self, key: str, number: int, seconds: float = 0) -> int:
        """Write it down, then take some time."""
        self._write(key, number)
        await asyncio.sleep(seconds)
        return number

    @method("keeper.put", routing_key="key", idempotent=True)
    async def put(self, key: str, number: int, seconds: float = 0) -> int:
        """The same, and may be done twice."""
        return await self.append(key, number, seconds)

    @method("keeper.hold", routing_key="key", timeout_ms=60_000)
    async def hold(self, key: str, marker: str) -> int:
        """Runs until the test lets go: ``marker.go``."""
        self._log(key)
        leave(f"{marker}.started")
        while not is_there(f"{marker}.go"):
            await asyncio.sleep(0.005)
        return os.getpid()

    @method("keeper.hold_once", routing_key="key", idempotent=True, timeout_ms=60_000)
    async def hold_once(self, key: str, marker: str) -> int:
        """Runs for ever the first time, and may run again."""
        self._log(key)
        if not is_there(marker):
            leave(marker)
            await asyncio.sleep(60)
        return os.getpid()

    @method("keeper.hold_then_append", routing_key="key", timeout_ms=60_000)
    async def hold_then_append(self, key: str, number: int, marker: str, ctx: Context, relay: str = "") -> Any:
        """Runs until the test lets go, then calls for its own key, perhaps by way of a method without one."""
        await self.hold(key, marker)
        params = {"key": key, "number": number}
        if relay:
            return await ctx.call(relay, {"method": "keeper.append", "params": params})
        return await ctx.call("keeper.append", params)

    @method("keeper.linger", routing_key="key")
    async def linger(self, key: str) -> None:
        """Cuts the wire, and lives on with what it owns: neither hears the other any more."""
        self._log(key)
        with socket.socket(fileno=os.dup(int(sys.argv[1]))) as wire:
            wire.shutdown(socket.SHUT_RDWR)
        time.sleep(60)  # noqa: ASYNC251  # the loop stands still

    @method("keeper.relay")
    async def relay(self, method: str, params: dict[str, Any], ctx: Context) -> Any:
        return await ctx.call(method, params)

    @method("keeper.read_on", routing_key="key")
    async def read_on(self, key: str) -> AsyncIterator[int]:
        """A stream without end."""
        self._log(key)
        number = 0
        while True:
            yield number
            number += 1
            await asyncio.sleep(0.02)
