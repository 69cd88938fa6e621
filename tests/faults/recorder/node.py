"""A worker in Node: ``workload.mjs`` as a process of its own, told what to do over its standard input."""

from __future__ import annotations

import asyncio
import json
import shutil
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from tests.faults.recorder.workload import RECONNECT_SECONDS, Part
from tests.support.timing import PATIENCE

WORKLOAD: Final = Path(__file__).with_name("workload.mjs")
CLIENT: Final = Path(__file__).parents[3] / "clients" / "js" / "dist" / "index.js"


def missing_for_node() -> str | None:
    """What the JavaScript client lacks to run here; None if nothing."""
    if shutil.which("node") is None:
        return "node is missing: install Node.js 20 or newer"
    if not CLIENT.exists():
        return "the JavaScript client is not built: make setup"
    return None


class NodeWorker:
    """A :class:`tests.faults.recorder.workload.Worker` in another language."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def start(self) -> None:
        """Serve, subscribe, begin; returns when the subscriptions stand."""
        await self._said("started", PATIENCE)

    async def settle(self, within: float) -> None:
        """Begin nothing new, and let what is open end."""
        await self._order({"do": "settle", "within": within}, "settled")

    async def finish(self, last: Mapping[str, str], within: float) -> None:
        """Hear the last event of each topic, and end."""
        await self._order({"do": "finish", "within": within, "last": dict(last)}, "finished")
        await asyncio.wait_for(self._process.wait(), PATIENCE)

    async def _order(self, order: dict[str, Any], answer: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await self._process.stdin.drain()
        await self._said(answer, order["within"] + PATIENCE)

    async def _said(self, word: str, within: float) -> None:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), within)
        assert line.decode().strip() == word, (
            f"{WORKLOAD.name} ended, or said {line!r} where {word!r} was due: see its log"
        )


@asynccontextmanager
async def node_worker(url: str, part: Part, log: Path) -> AsyncIterator[NodeWorker]:
    """Start one; whatever happens, it is gone in the end.

    Args:
        log: for what it says on standard error.
    """
    milliseconds = [round(seconds * 1000) for seconds in RECONNECT_SECONDS]
    reconnect = dict(zip(("minDelayMs", "maxDelayMs"), milliseconds, strict=True))
    told = {
        "name": part.name,
        "seed": part.seed,
        "served": list(part.served),
        "history": str(part.history),
        "ledger": str(part.ledger),
        "url": url,
        "reconnect": reconnect,
    }
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            "node", str(WORKLOAD), json.dumps(told), stdin=PIPE, stdout=PIPE, stderr=errors
        )
    try:
        yield NodeWorker(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
