"""From the SIGKILL of a collection's executor to an answered search: ``python -m bench.reopening --items 200000``.

The items have random vectors, texts of 200 characters and small metadata. In each round an item is upserted, the
executor that has the collection open is killed, and a search is asked until it is answered: by the next executor, which
has opened the collection, and has to find that item. CPU seconds and memory are this executor's, up to then; they say
more than the time where the machine has other work.

With ``--index hnsw`` (or ``ivf``) and ``--words`` it also says when that structure is used, and when a first search for
words is answered; then once more without the files that keep them.

Target: a million items are searchable after less than 10 s (median).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from bench.servers import cpu_parts, process
from bench.vectors import bar, text_of, unit_vectors
from trunkline import RpcError
from trunkline.client import Hub, connect
from trunkline.methods.vectors.changes import Item, Upsert
from trunkline.methods.vectors.index import IndexSpec, Kind
from trunkline.methods.vectors.kept_structure import NAME as STRUCTURE
from trunkline.methods.vectors.kept_words import NAME as WORDS_FILE
from trunkline.methods.vectors.store import CollectionStore, Manifest

TARGET_SECONDS = 10.0
AT_ONCE = 4096
PAUSE = 0.02
WORDS = ("amber", "basalt", "cedar", "delta", "ember", "fjord", "glacier", "harbor", "island", "juniper", "kelp")


@dataclass
class Round:
    """Seconds and bytes."""

    wall: float
    user: float
    system: float
    peak: int
    structure: float | None = None
    words: float | None = None


def store(folder: Path, count: int, dimension: int, changed: float, kind: Kind) -> None:
    """Make the collection on disk, with an index file that lacks a share of it."""
    collections = CollectionStore(folder / "collections")
    manifest = Manifest(name="bench", dimension=dimension, model=None, metadata={})
    collections.create(manifest.with_spec(IndexSpec(dimension, kind=kind)))
    collection = collections.open("bench")
    assert collection is not None
    random = np.random.default_rng(1)
    with bar(f"storing {count:,}", count) as advance:
        for first in range(0, count, AT_ONCE):
            rows = range(first, min(first + AT_ONCE, count))
            words = random.choice(WORDS, size=(len(rows), 34))
            items = [
                Item(f"{row}", " ".join(text)[:200], {"n": row % 100, "source": f"document {row // 20}"})
                for row, text in zip(rows, words.tolist(), strict=True)
            ]
            if 0 <= (1 - changed) * count - first < AT_ONCE:
                collection.write_index()
            collection.upsert(Upsert(items, unit_vectors(len(rows), dimension, seed=first)))
            advance(len(rows))
    collection.close()


def owner(hub: int) -> int:
    """The process that has the collection open."""
    for each in psutil.Process(hub).children(recursive=True):
        if any(file.path.endswith("collection.sqlite") for file in each.open_files()):
            return each.pid
    raise SystemExit("no executor has the collection open")


def peak_bytes(pid: int) -> int:
    """The most memory a process ever had resident; 0 where the system does not say."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return 1024 * int(found[1]) if found else 0


def remove_index_files(folder: Path) -> None:
    for file in folder.glob("index-*"):
        file.unlink()


async def nearest(hub: Hub, vector: str) -> str:
    """The id of the nearest item, as soon as a search is answered."""
    while True:
        try:
            asked = {"collection": "bench", "vector": vector, "top_k": 1}
            found = await hub.call("vectors.search", asked, timeout_ms=600_000)
            return str(found["matches"][0]["id"])
        except RpcError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(PAUSE)


async def kill_once(hub: Hub, pid: int, number: int, dimension: int, without: Path | None = None) -> Round:
    """One round; the index files in the folder ``without`` are removed before."""
    item = {"id": f"round {number}", "vector": text_of(unit_vectors(1, dimension, seed=2**32 + number)[0])}
    await hub.call("vectors.upsert", {"collection": "bench", "items": [item]}, timeout_ms=600_000)
    killed = psutil.Process(owner(pid))
    if without is not None:
        remove_index_files(without)
    killed.kill()
    started = time.perf_counter()
    found = await nearest(hub, item["vector"])
    wall = time.perf_counter() - started
    if found != item["id"]:
        raise SystemExit(f"{item['id']} was acknowledged and is not found")
    opened = owner(pid)
    return Round(wall, *cpu_parts(opened), peak_bytes(opened))


async def time_structure(hub: Hub) -> float:
    """Seconds from now until the structure is used."""
    started = time.perf_counter()
    while True:
        stats = await hub.call("collections.stats", {"name": "bench"}, timeout_ms=600_000)
        if stats["search"] == "approximate" and not stats["building"]:
            return time.perf_counter() - started
        await asyncio.sleep(PAUSE)


async def time_words(hub: Hub) -> float:
    """Seconds that a search for words takes."""
    started = time.perf_counter()
    asked = {"collection": "bench", "text": " ".join(WORDS[:3]), "top_k": 1}
    found = await hub.call("vectors.lexical", asked, timeout_ms=600_000)
    if not found["matches"]:
        raise SystemExit("no text has one of the words")
    return time.perf_counter() - started


async def with_parts(hub: Hub, options: argparse.Namespace, taken: Round) -> Round:
    """A round, with the seconds from the kill until the structure is used, and those of a first search for words."""
    if options.index != "flat":
        taken.structure = taken.wall + await time_structure(hub)
    if options.words:
        taken.words = await time_words(hub)
    return taken


async def wait_until_kept(hub: Hub, options: argparse.Namespace, folder: Path) -> None:
    """Have structure and words made, and wait for their files."""
    await nearest(hub, text_of(unit_vectors(1, options.dimension, seed=7)[0]))
    await with_parts(hub, options, Round(0, 0, 0, 0))
    wanted = [STRUCTURE] * (options.index != "flat") + [WORDS_FILE] * options.words
    while not all((folder / name).exists() for name in wanted):
        await asyncio.sleep(PAUSE)


async def measure(options: argparse.Namespace, data: Path) -> list[Round]:
    store(data, options.items, options.dimension, options.changed, options.index)
    command = [
        sys.executable, "-m", "trunkline.cli", "serve", "--port", "0", "--packs", "vectors", "--no-demo",
        "--executors", "1", "--data", os.fspath(data),
    ]  # fmt: skip
    with process(*command) as server:
        async with connect(server.url, reconnect=False) as hub:
            folder = data / "collections" / "bench"
            await wait_until_kept(hub, options, folder)
            rounds = []
            for number in range(options.rounds + 1):
                without = folder if number == options.rounds else None
                taken = await kill_once(hub, server.pid, number, options.dimension, without)
                rounds.append(await with_parts(hub, options, taken))
            return rounds


def report_parts(index: str, rounds: list[Round], without: Round) -> None:
    """Print when the structure was used, and what a first search for words took, with their files and without."""
    structures = [each.structure for each in rounds if each.structure is not None]
    if structures and without.structure is not None:
        print(
            f"{index} used {statistics.median(structures):.2f} s after the SIGKILL (median of {len(structures)}); "
            f"without its file {without.structure:.2f} s"
        )
    words = [each.words for each in rounds if each.words is not None]
    if words and without.words is not None:
        print(
            f"the first search for words answered in {statistics.median(words):.2f} s (median of {len(words)}); "
            f"without its file {without.words:.2f} s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--changed", type=float, default=0.1, help="share of the items that are not in the index file")
    parser.add_argument("--index", choices=["flat", "hnsw", "ivf"], default="flat")
    parser.add_argument("--words", action="store_true", help="also search for words")
    parser.add_argument("--folder", help="where the collection is written; by default where temporary files go")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as data:
        *rounds, without = asyncio.run(measure(options, Path(data)))
    seconds = sorted(each.wall for each in rounds)
    median = statistics.median(seconds)
    best = min(rounds, key=lambda each: each.user + each.system)
    print(
        f"{options.items:,} items searchable {median:.2f} s after the executor's SIGKILL (median of {len(rounds)}, "
        f"{seconds[0]:.2f}..{seconds[-1]:.2f}; target < {TARGET_SECONDS:.0f} s); CPU at best {best.user:.2f} s user + "
        f"{best.system:.2f} s system; memory {best.peak / 2**20:,.0f} MiB at most; without the index file "
        f"{without.wall:.2f} s, {without.user:.2f} + {without.system:.2f} s, {without.peak / 2**20:,.0f} MiB"
    )
    report_parts(options.index, rounds, without)
    if median >= TARGET_SECONDS:
        sys.exit(1)


if __name__ == "__main__":
    main()
