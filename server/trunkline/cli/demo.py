"""The demo collection: Python's language reference, which every CPython contains as ``pydoc_data.topics``."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from trunkline.hosting.lifecycle import HubProcess

Result = TypeVar("Result")

COLLECTION: Final = "python-reference"
EXPECTED: Final = "expected_items"
"""The member of a collection's metadata with the number of items it will have once it is filled."""
COMMAND: Final = Path(".venv/bin/trunkline")
CLIENT: Final = Path("clients/js/dist/index.js")
"""Paths of command and JavaScript client in a clone of the repository, after ``make setup``."""
CHUNK_CHARACTERS: Final = (400, 900)
BATCH: Final = 64
BATCHES_AT_ONCE: Final = 2
"""Two, so that one batch is embedded while another is written."""


class Caller(Protocol):
    """A hub, as far as its methods are called."""

    async def call(self, method: str, params: Any, *, timeout_ms: int | None = None) -> Any:
        """Call a method and return its result."""


async def prepare_demo(hub: HubProcess) -> list[dict[str, Any]] | None:
    """Make sure that the demo collection exists, with the number of its items in its metadata.

    Returns:
        The passages that are missing in it, or None where the packs it needs are not served.
    """
    if not {"vectors.upsert", "embeddings.create"} <= hub.parts.pool.methods.keys():
        return None
    passages = await asyncio.to_thread(reference_passages)
    digest = hashlib.sha256(json.dumps(passages).encode()).hexdigest()[:16]
    await _prepare(hub, {"digest": digest, EXPECTED: len(passages)})
    ids = [passage["id"] for passage in passages]
    missing = set((await hub.call("vectors.missing", {"collection": COLLECTION, "ids": ids}))["ids"])
    return [passage for passage in passages if passage["id"] in missing]


async def _prepare(hub: Caller, metadata: dict[str, Any]) -> None:
    """Create the collection, replacing one that was made from other texts or with another model."""
    model = (await hub.call("embeddings.create", {"input": COLLECTION}))["model"]
    listed = (await hub.call("collections.list", {}))["collections"]
    existing = next((item for item in listed if item["name"] == COLLECTION), None)
    if existing is not None and "error" not in existing:
        if existing["model"] == model and existing["metadata"].get("digest") == metadata["digest"]:
            return
        await hub.call("collections.delete", {"name": COLLECTION})
    await hub.call("collections.create", {"name": COLLECTION, "metadata": metadata})


async def _index(hub: Caller, passages: list[dict[str, Any]]) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from trunkline.cli.show.console import TextConsole

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = TextConsole(file=sys.stdout)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("indexing Python's language reference", total=len(passages))
        gate = asyncio.Semaphore(BATCHES_AT_ONCE)

        async def index(batch: list[dict[str, Any]]) -> None:
            async with gate:
                await hub.call("vectors.upsert", {"collection": COLLECTION, "items": batch}, timeout_ms=300_000)
            progress.advance(task, len(batch))

        await asyncio.gather(*(index(passages[i : i + BATCH]) for i in range(0, len(passages), BATCH)))
    if not console.is_terminal:
        console.print(f"indexed {len(passages)} passages of Python's language reference")


def reference_passages() -> list[dict[str, Any]]:
    """The language reference as passages: ``{id, text, metadata: {source, title, part}}``.

    Some topics repeat others as a whole; each passage is taken once, from the shortest topic that contains it.
    """
    from pydoc_data.topics import topics

    from semantic_text_splitter import TextSplitter

    splitter = TextSplitter(CHUNK_CHARACTERS)
    passages = []
    seen = set()
    for name, text in sorted(topics.items(), key=lambda topic: (len(topic[1]), topic[0])):
        title = text.strip().partition("\n")[0]
        for part, passage in enumerate(splitter.chunks(text)):
            folded = " ".join(passage.split())
            if folded in seen:
                continue
            seen.add(folded)
            metadata = {"source": f"pydoc_data.topics:{name}", "title": title, "part": part}
            passages.append({"id": f"{name}#{part}", "text": passage, "metadata": metadata})
    return passages


def try_next(where: str, collection: str | None) -> str:
    """The text that suggests what to try next: one line each for the command line, Node and a browser's console.

    The lines work in the folder the hub runs in, a clone of the repository or any other.
    """
    if collection is None:
        method, params = "rpc.discover", {}
    else:
        method = "rag.execute"
        params = {"technique": "basic", "query": "how does the with statement work?"}
    body = json.dumps(params)
    message = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    script = (
        f"const ws=new WebSocket('ws://{where}/ws');ws.onmessage=e=>console.log(JSON.parse(e.data).result);"
        f"ws.onopen=()=>ws.send({json.dumps(message)})"
    )
    if CLIENT.exists():
        node = (
            f"import {{connect}} from './{CLIENT}';const hub=await connect('ws://{where}/ws');"
            f"console.log(await hub.call({json.dumps(method)},{body}));await hub.close()"
        )
    else:
        headers = "{'content-type':'application/json'}"
        node = (
            f"const reply=await fetch('http://{where}/rpc',{{method:'POST',headers:{headers},"
            f"body:{json.dumps(message)}}});console.log((await reply.json()).result)"
        )
    command = COMMAND if COMMAND.exists() else "trunkline"
    url = "" if where == "127.0.0.1:8765" else f" --url ws://{where}/ws"
    return (
        f"\nTry next:\n\n  command line    {command} call {method} '{body}'{url}\n\n"
        f'  Node            node --input-type=module -e "{_in_double_quotes(node)}"\n\n'
        f"  browser         open http://{where}/ and paste into its console:\n                  {script}\n"
    )


def _in_double_quotes(script: str) -> str:
    return script.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`")


async def greet(hub: HubProcess, addresses: list[str]) -> None:
    """Wait for the executors, index the demo collection, and print what to try next."""
    await hub.parts.pool.wait_ready()
    if hub.stopping:  # with --strict a module could not be loaded
        return
    missing = await _attempt(hub, prepare_demo(hub)) if hub.settings.demo else None
    print(f"ready: {len(hub.parts.pool.executors)} executors, {len(hub.parts.pool.methods)} methods", flush=True)
    if missing:
        await _attempt(hub, _index(hub, missing))
    if addresses and addresses[0].startswith("ws:") and not hub.parts.router.draining:
        collection = None if missing is None else COLLECTION
        print(try_next(addresses[0].removeprefix("ws://").removesuffix("/ws"), collection), flush=True)


async def _attempt(hub: HubProcess, work: Coroutine[Any, Any, Result]) -> Result | None:
    """The result of a coroutine; None where it failed, which is logged unless the hub is stopping."""
    try:
        return await work
    except Exception:
        if not hub.parts.router.draining:
            logging.getLogger("trunkline").exception("the demo collection could not be built; everything else works")
    return None
