"""From files to vectors, end to end: ``python -m bench.ingest``.

A folder of generated texts (sections of paragraphs, a tenth of them long) goes through ``documents.process`` of a hub
with the default model, and beside it what its parts cost alone, on the same machine with as many executors: embedding
the very same passages through the same hub, putting vectors that are given into a collection, and processing the
folder again when nothing has changed.

Target: vectors that are given go in at 10,000 a minute or more. What documents cost above embedding is printed as a
ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from bench.servers import process
from trunkline.client import Hub, connect
from trunkline.defaults import DEFAULT_MODEL
from trunkline.methods.documents.extract import extract
from trunkline.methods.documents.split import Splitter
from trunkline.methods.documents.tokens import load_tokens

UPSERT_TARGET = 10_000
"""Vectors a minute."""
TIMEOUT_MS = 3_600_000
TEXTS_A_CALL = 32
CALLS_AT_ONCE = 8
ITEMS_A_CALL = 64
UPSERTS_AT_ONCE = 4
DIMENSION = 384


def write_files(folder: Path, count: int, seed: int) -> None:
    """Markdown of 1 to 40 paragraphs, made of words and sentence lengths of Python's language reference."""
    from pydoc_data.topics import topics

    words = [word for topic in sorted(topics.values()) for word in topic.split() if word.isalpha()]
    choose = random.Random(seed)
    for number in range(count):
        paragraphs = [f"# {' '.join(choose.choices(words, k=4))} {number}"]
        for _ in range(choose.randint(1, 8) if number % 10 else choose.randint(20, 40)):
            sentences = (choose.choices(words, k=choose.randint(6, 25)) for _ in range(choose.randint(2, 8)))
            paragraphs.append(" ".join(" ".join(sentence).capitalize() + "." for sentence in sentences))
        path = folder / f"{number // 100:03}" / f"{number:06}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n\n".join(paragraphs))


def split_here(folder: Path) -> tuple[list[str], float]:
    """All passages, and the seconds it takes one process to read and split them."""
    started = time.perf_counter()
    tokens = load_tokens(DEFAULT_MODEL)
    splitter = Splitter(tokens, *tokens.sizes(None, 0))
    texts = [
        passage.text
        for path in sorted(folder.rglob("*.md"))
        for passage in splitter.split(extract(path.read_bytes(), path.name))
    ]
    return texts, time.perf_counter() - started


async def in_parts(hub: Hub, method: str, params: Sequence[dict[str, Any]], at_once: int, label: str) -> float:
    """Seconds for calls of one method, some at once."""
    gate = asyncio.Semaphore(at_once)
    with bar() as progress:
        task = progress.add_task(label, total=len(params))

        async def call(each: dict[str, Any]) -> None:
            async with gate:
                await hub.call(method, each, timeout_ms=TIMEOUT_MS)
            progress.advance(task)

        started = time.perf_counter()
        await asyncio.gather(*map(call, params))
        return time.perf_counter() - started


async def embedding_alone(hub: Hub, texts: list[str]) -> float:
    calls = [
        {"input": texts[at : at + TEXTS_A_CALL], "encoding_format": "base64"}
        for at in range(0, len(texts), TEXTS_A_CALL)
    ]
    return await in_parts(hub, "embeddings.create", calls, CALLS_AT_ONCE, "embedding alone")


async def upserts_alone(hub: Hub, count: int, seed: int) -> float:
    choose = random.Random(seed)
    await hub.call("collections.create", {"name": "given", "dimension": DIMENSION})
    items = [{"id": str(row), "vector": [choose.gauss(0, 1) for _ in range(DIMENSION)]} for row in range(count)]
    calls = [{"collection": "given", "items": items[at : at + ITEMS_A_CALL]} for at in range(0, count, ITEMS_A_CALL)]
    return await in_parts(hub, "vectors.upsert", calls, UPSERTS_AT_ONCE, "upserts alone")


async def processing(hub: Hub, label: str) -> tuple[float, dict[str, int]]:
    with bar() as progress:
        task = progress.add_task(label, total=None)

        def show(value: dict[str, Any]) -> None:
            progress.update(task, completed=value["documents_done"], total=value["documents_total"])

        started = time.perf_counter()
        result = await hub.call(
            "documents.process",
            {"collection": "bench", "sources": [{"path": "."}]},
            timeout_ms=TIMEOUT_MS,
            on_progress=show,
        )
        return time.perf_counter() - started, result["totals"]


def bar() -> Progress:
    console = Console(stderr=True)
    return Progress(console=console, disable=not console.is_terminal, transient=True)


async def measure(folder: Path, texts: list[str], split_seconds: float, options: argparse.Namespace) -> bool:
    with serving(folder, options.executors) as url:
        async with connect(url) as hub:
            embedding = await embedding_alone(hub, texts)
            upserting = await upserts_alone(hub, options.vectors, options.seed)
    with serving(folder, options.executors) as url:  # another one, which has embedded none of the texts
        async with connect(url) as hub:
            whole, totals = await processing(hub, "files to vectors")
            again, unchanged = await processing(hub, "the same again")
    assert totals["embedded"] == len(texts), totals
    assert unchanged["embedded"] == totals["failed"] == 0, unchanged
    files, passages = totals["documents"], totals["passages"]
    rate: float = options.vectors / upserting * 60
    rows = [
        ("files to vectors", whole, f"{files / whole:,.1f} documents/s, {passages / whole * 60:,.0f} vectors/minute"),
        ("embedding alone", embedding, f"{passages / embedding * 60:,.0f} vectors/minute"),
        ("reading and splitting alone", split_seconds, f"{files / split_seconds:,.1f} documents/s, one process"),
        ("the same folder again", again, f"{files / again:,.0f} documents/s"),
        ("upserts of given vectors", upserting, f"{rate:,.0f} vectors/minute (target: {UPSERT_TARGET:,} or more)"),
    ]
    print(f"{files:,} documents, {passages:,} passages, {options.executors} executors")
    for label, seconds, words in rows:
        print(f"{label:<28} {seconds:>8.2f} s   {words}")
    print(f"files to vectors take {whole / embedding:.2f}x of embedding alone")
    return rate >= UPSERT_TARGET


@contextmanager
def serving(folder: Path, executors: int) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as data:
        command = [
            sys.executable, "-m", "trunkline.cli", "serve", "--port", "0", "--packs", "embeddings,vectors,documents",
            "--no-demo", "--data", data, "--executors", str(executors),
        ]  # fmt: skip
        with process(*command, env={"TRUNKLINE_DOCUMENTS_ROOT": str(folder)}) as running:
            yield running.url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--vectors", type=int, default=10_000, help="for the upserts of given vectors")
    parser.add_argument("--executors", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), options.files, options.seed)
        texts, split_seconds = split_here(Path(folder))
        if not asyncio.run(measure(Path(folder), texts, split_seconds, options)):
            sys.exit(1)


if __name__ == "__main__":
    main()
