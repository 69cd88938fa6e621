"""Search and upserts through the hub, beside bare faiss: ``python -m bench.vectors``.

Random vectors of length 1 are upserted in batches, each acknowledged on disk, into a collection; then the same queries
go, one at a time and by turns, to the hub and to a faiss index of the same kind and parameters in this process, on one
thread, as in the executor. An HNSW index is built by ``collections.rebuild`` of the same collection.

Targets: at every size, p50 and p99 of the hub at most 1.3 times those of faiss + 1 ms; 10,000 vectors a minute; an item
is found by a search at most 100 ms after its upsert was acknowledged.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.servers import process
from trunkline.client import Hub, connect
from trunkline.methods.vectors.structures import IndexSpec, build, faiss  # faiss with what its stubs do not know

RATIO, DIFFERENCE_MS = 1.3, 1.0
VECTORS_PER_MINUTE = 10_000
FOUND_MS = 100.0
HOURS_MS = 24 * 3_600_000
TOP_K = 10


@dataclass
class Latencies:
    """In milliseconds."""

    name: str
    hub: list[float]
    bare: list[float]
    agreement: float

    def check(self) -> bool:
        """Print them beside the target; returns whether it was met."""
        parts = []
        met = True
        for percent in (50, 99):
            hub, bare = np.percentile(self.hub, percent), np.percentile(self.bare, percent)
            met &= bool(hub <= RATIO * bare + DIFFERENCE_MS)
            parts.append(f"p{percent} {hub:8.2f} / {bare:8.2f} ms  {hub / bare:5.2f}x  {hub - bare:+6.2f} ms")
        verdict = "" if met else "   MISSED"
        print(f"{self.name:<18} {'   '.join(parts)}   same results {self.agreement:.0%}{verdict}", flush=True)
        return met


@contextmanager
def bar(what: str, total: int) -> Iterator[Any]:
    """Called with how much was done; shown on a terminal only."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.advance(task, done)


def unit_vectors(count: int, dimension: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    rows = random.standard_normal((count, dimension), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1)[:, None]
    return rows


def text_of(vector: np.ndarray) -> str:
    return base64.b64encode(vector.tobytes()).decode()


async def load(hub: Hub, name: str, vectors: np.ndarray, first: int, batch: int) -> float:
    """Upsert rows from ``first`` on, two batches at a time. Returns the seconds it took."""
    gate = asyncio.Semaphore(2)

    async def put(start: int) -> None:
        async with gate:
            rows = range(start, min(start + batch, len(vectors)))
            items = [{"id": f"{row}", "vector": text_of(vectors[row]), "metadata": {"n": row % 100}} for row in rows]
            await hub.call("vectors.upsert", {"collection": name, "items": items}, timeout_ms=600_000)
            advance(len(rows))

    started = time.perf_counter()
    with bar(f"loading {len(vectors):,}", len(vectors) - first) as advance:
        await asyncio.gather(*(put(start) for start in range(first, len(vectors), batch)))
    return time.perf_counter() - started


async def compare(hub: Hub, name: str, label: str, bare: Any, queries: np.ndarray, kind: str) -> Latencies:
    params = faiss.SearchParametersHNSW(efSearch=100) if kind == "hnsw" else None
    latencies = Latencies(label, [], [], 0.0)
    same = 0
    faiss.omp_set_num_threads(1)
    for at, query in enumerate(queries):
        asked = {"collection": name, "vector": text_of(query), "top_k": TOP_K}
        started = time.perf_counter()
        matches = (await hub.call("vectors.search", asked))["matches"]
        between = time.perf_counter()
        _, rows = bare.search(query.reshape(1, -1), TOP_K, params=params)
        ended = time.perf_counter()
        if at >= len(queries) // 10:  # the first ones warm up
            latencies.hub.append((between - started) * 1000)
            latencies.bare.append((ended - between) * 1000)
        same += len({int(match["id"]) for match in matches} & {*rows[0].tolist()})
    latencies.agreement = same / (len(queries) * TOP_K)
    return latencies


async def time_to_be_found(hub: Hub, name: str, dimension: int, rounds: int) -> float:
    """The longest time, in milliseconds, from an acknowledged upsert to the answer that has the item."""
    longest = 0.0
    for row, vector in enumerate(unit_vectors(rounds, dimension, seed=3)):
        item = {"id": f"new {row}", "vector": text_of(vector)}
        await hub.call("vectors.upsert", {"collection": name, "items": [item]})
        started = time.perf_counter()
        found = await hub.call("vectors.search", {"collection": name, "vector": item["vector"], "top_k": 1})
        longest = max(longest, (time.perf_counter() - started) * 1000)
        if found["matches"][0]["id"] != item["id"]:
            raise SystemExit(f"{item['id']} was acknowledged and is not found")
    await hub.call("vectors.delete", {"collection": name, "ids": [f"new {row}" for row in range(rounds)]})
    return longest


async def measure(hub: Hub, options: argparse.Namespace) -> bool:
    vectors = unit_vectors(max(options.sizes), options.dimension, seed=1)
    queries = unit_vectors(options.queries, options.dimension, seed=2)
    met, loaded, seconds = True, 0, 0.0
    await hub.call("collections.create", {"name": "bench", "dimension": options.dimension})
    print(f"{'':<18} hub / bare faiss, {options.dimension} dimensions, top {TOP_K}")
    for size in sorted(options.sizes):
        seconds += await load(hub, "bench", vectors[:size], loaded, options.batch)
        loaded = size
        for kind in options.kinds:
            spec = IndexSpec(options.dimension, "cosine", kind)
            rebuild = {"name": "bench", "index": {"kind": kind}}
            stats = await hub.call("collections.rebuild", rebuild, timeout_ms=HOURS_MS)
            faiss.omp_set_num_threads(os.cpu_count() or 1)
            structure = await asyncio.to_thread(build, spec, vectors[:size], lambda: True)  # pings go on
            searched = "hnsw" if stats["search"] == "approximate" else "flat"
            label = f"{size:>9,} {kind}" + ("" if searched == kind else " (as flat)")
            met &= (await compare(hub, "bench", label, structure._index, queries, searched)).check()
        await hub.call("collections.rebuild", {"name": "bench", "index": {"kind": "flat"}}, timeout_ms=HOURS_MS)
    rate = loaded / seconds * 60
    found = await time_to_be_found(hub, "bench", options.dimension, rounds=50)
    print(f"upserts: {rate:,.0f} vectors/minute in batches of {options.batch} (target {VECTORS_PER_MINUTE:,} or more)")
    print(f"found after an acknowledged upsert: {found:.1f} ms at most (target below {FOUND_MS:.0f} ms)")
    return met and rate >= VECTORS_PER_MINUTE and found < FOUND_MS


async def run(options: argparse.Namespace) -> bool:
    command = [
        sys.executable, "-m", "trunkline.cli", "serve", "--port", "0", "--packs", "vectors", "--no-demo",
        "--executors", "1", "--data",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(dir=options.folder) as data, process(*command, data) as server:
        async with connect(server.url, reconnect=False) as hub:
            return await measure(hub, options)


def sizes(text: str) -> list[int]:
    return [int(part.replace("_", "")) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=sizes, default=[1000, 10_000, 100_000, 1_000_000], help="with commas between")
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=["flat", "hnsw"], help="flat,hnsw")
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--batch", type=int, default=1024, help="items of one upsert")
    parser.add_argument("--folder", help="where the collection is written; by default where temporary files go")
    if not asyncio.run(run(parser.parse_args())):
        sys.exit(1)


if __name__ == "__main__":
    main()
