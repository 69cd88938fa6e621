"""What a backup of 50,000 items x 384 costs a hub at work: its seconds, and upserts meanwhile and without it."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.servers import process
from trunkline.client import Hub, connect
from trunkline.methods.vectors import rows
from trunkline.methods.vectors.changes import Item
from trunkline.methods.vectors.manifest import Manifest

SHAPE = 50_000, 384
COMMAND = (sys.executable, "-m", "trunkline.cli")


async def upsert(hub: Hub, durations: list[float]) -> None:
    item = {"id": "new", "text": "x", "vector": [0.5] * SHAPE[1]}
    while True:
        began = time.perf_counter()
        await hub.call("vectors.upsert", {"collection": "c", "items": [item]})
        durations.append(1000 * (time.perf_counter() - began))


async def measure(url: str, data: str) -> None:
    backup = (*COMMAND, "backup", f"{data}/file.tar", "--data", data)
    async with connect(url) as hub:
        await hub.call("collections.stats", {"name": "c"}, timeout_ms=300_000)
        for what, program in (("warm", ("sleep", "1")), ("without", ("sleep", "10")), ("backup", backup)):
            durations: list[float] = []
            task = asyncio.create_task(upsert(hub, durations))
            began = time.perf_counter()
            beside = await asyncio.create_subprocess_exec(*program)
            assert await beside.wait() == 0
            taken = time.perf_counter() - began
            task.cancel()
            p50, p99, longest = np.percentile(durations, [50, 99, 100])
            print(f"{what}: {taken:.1f} s; upserts: p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {longest:.1f} ms")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "collections", "c", rows.FILE)
        path.parent.mkdir(parents=True)
        vectors = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
        items = [Item(str(number), f"text {number}" * 20) for number in range(SHAPE[0])]
        rows.make(path, Manifest(name="c", dimension=SHAPE[1], model=None, metadata={}), (0, 0), items, vectors)
        serve = ("serve", "--port", "0", "--packs", "vectors", "--no-demo", "--data", folder)
        with process(*COMMAND, *serve) as hub:
            asyncio.run(measure(hub.url, folder))


if __name__ == "__main__":
    main()
