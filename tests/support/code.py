"""A module of methods that is written anew while a hub serves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.support.hub import RunningHub, ready_hub
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE, eventually

RESTART: Final = 3 * PATIENCE
"""Seconds in which an executor has to be there again."""

CODE: Final = '''
import asyncio, atexit, os, pathlib, subprocess, time
from trunkline import Context, method
{top}

HERE = pathlib.Path({folder!r})

def leave(name):
    (HERE / name).write_text(str(os.getpid()))

class Held:
    def load(self, settings):
        atexit.register(leave, "atexit")

    async def close(self):
        leave("closed")
        await asyncio.sleep({closing})

    @method("code.version")
    async def version(self) -> str:
        return {version!r}

    @method("code.{version}")
    async def own(self) -> str:
        """Only this version has it."""
        return {version!r}

    @method("code.hold", timeout_ms=120_000)
    async def hold(self, name: str) -> str:
        leave(name)
        while not (HERE / (name + ".go")).exists():
            await asyncio.sleep(0.005)
        return {version!r}

    @method("code.hold_thread", timeout_ms=120_000)
    def hold_thread(self, name: str) -> str:
        leave(name)
        while not (HERE / (name + ".go")).exists():
            time.sleep(0.005)
        return {version!r}

    @method("code.outer", timeout_ms=120_000)
    async def outer(self, name: str, ctx: Context) -> list[str]:
        await self.hold(name)
        return [{version!r}, await ctx.call("code.version")]

    @method("code.count", timeout_ms=120_000)
    async def count(self, name: str):
        yield {version!r}
        await self.hold(name)
        yield {version!r}

    @method("code.keyed", routing_key="key", timeout_ms=120_000)
    async def keyed(self, key: str, name: str = "") -> str:
        if name:
            await self.hold(name)
        return {version!r}
'''


class Code:
    """A module that is written anew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, version: str, top: str = "", closing: float = 0) -> None:
        """Write a version of it, as editors do."""
        text = CODE.format(version=version, top=top, folder=str(self.folder), closing=closing)
        (self.folder / "code_of_mine.tmp").write_text(text)
        (self.folder / "code_of_mine.tmp").rename(self.folder / "code_of_mine.py")

    async def appears(self, name: str) -> int:
        """Wait for a marker; the process that left it."""
        path = self.folder / name
        await asyncio.to_thread(eventually, lambda: path.exists() and path.read_text(), f"{name} is there")
        return int(path.read_text())

    def let_go(self, name: str) -> None:
        """End what holds."""
        (self.folder / f"{name}.go").touch()

    @asynccontextmanager
    async def served(
        self, executors: int = 1, arguments: tuple[str, ...] = (), **env: str
    ) -> AsyncIterator[tuple[RunningHub, Peer]]:
        """A hub that serves version ``one``. Nothing may be cut by the limits of hand-overs and kills."""
        self.write("one")
        env = {"TRUNKLINE_HAND_OVER_SECONDS": "0.3", **env}
        with ready_hub("code_of_mine", cwd=self.folder, executors=executors, arguments=arguments, env=env) as hub:
            async with peer(hub.url) as connection:
                yield hub, connection
