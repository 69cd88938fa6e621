"""The demo collection while it is indexed: who asks is told, and who stops the hub sees no traceback."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

for library in ("faiss", "semantic_text_splitter"):
    pytest.importorskip(library)

from tests.support.hub import RunningHub, clean_environment  # noqa: E402
from tests.support.timing import PATIENCE, eventually  # noqa: E402
from trunkline.client import connect  # noqa: E402
from trunkline.demo import COLLECTION, reference_passages  # noqa: E402

ROOT = Path(__file__).parents[2]
METHODS = ("tests.methods.packs.demo_embeddings", "trunkline.methods.vectors", "trunkline.methods.rag")
QUESTION: dict[str, Any] = {"technique": "basic", "query": "how does the with statement work?"}


def demo_hub(folder: Path, **env: str) -> RunningHub:
    """Some of the passages have the word that these embeddings are held up by."""
    return RunningHub(METHODS, cwd=ROOT, env={"SIGNALS": str(folder), **env}, arguments=("--demo",), executors=2)


async def test_who_asks_while_the_demo_is_indexed_is_told(tmp_path: Path) -> None:
    with demo_hub(tmp_path) as hub:
        hub.ready()
        async with connect(hub.url) as client:
            result = await client.call("rag.execute", QUESTION)
            await asyncio.to_thread(eventually, (tmp_path / "waiting").exists, "a batch waits", PATIENCE)
            total = len(reference_passages())
            filling = result["metadata"]["filling"]
            assert filling == {"items": filling["items"], "expected_items": total}
            assert f"is still being indexed: {filling['items']} of {total}." in result["answer"]
            stream = await client.stream("rag.stream", QUESTION)
            texts = [chunk.data["text"] async for chunk in stream if chunk.type == "partial_answer"]
            assert re.search(rf"is still being indexed: \d+ of {total}\.", "".join(texts))
            (tmp_path / "go").touch()
            await asyncio.to_thread(hub.wait_for, "Try next", within=6 * PATIENCE)
            result = await client.call("rag.execute", QUESTION)
            assert "filling" not in result["metadata"]
            assert "still being indexed" not in result["answer"]
            stats = await client.call("collections.stats", {"name": COLLECTION})
            assert stats["count"] == total


def test_a_hub_that_is_stopped_while_it_indexes_the_demo_is_quiet(tmp_path: Path) -> None:
    with demo_hub(tmp_path, TRUNKLINE_DRAIN_SECONDS="0.2") as hub:
        hub.ready()
        eventually((tmp_path / "waiting").exists, "a batch waits", PATIENCE)
        hub.stop()
    assert not [line for line in hub.stderr if "Traceback" in line or "could not be built" in line], hub.words
    assert not any("Try next" in line for line in hub.stdout)


def test_what_to_try_next_works_as_it_is_printed(tmp_path: Path) -> None:
    """The line for the command line, by a shell, from the folder that has the environment in it."""
    (tmp_path / "go").touch()
    with demo_hub(tmp_path) as hub:
        hub.ready().wait_for("Try next", within=6 * PATIENCE)
        line = hub.wait_for(r"^  command line +(\S.*)$")[1]
        command = line.replace(".venv/bin/trunkline", f"{sys.executable} -m trunkline.cli", 1)
        done = subprocess.run(
            command, shell=True, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=6 * PATIENCE
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["success"] is True
