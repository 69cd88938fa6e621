"""The demo collection while it is indexed: who asks is told, and who stops the hub sees no traceback."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.libraries import skip_without

skip_without("faiss", "semantic_text_splitter")

from tests.support.hub import RunningHub, clean_environment  # noqa: E402
from tests.support.timing import PATIENCE, eventually  # noqa: E402
from trunkline.cli.demo import COLLECTION, reference_passages  # noqa: E402
from trunkline.client import connect  # noqa: E402

ROOT = Path(__file__).parents[2]
METHODS = ("tests.methods.packs.demo_embeddings", "trunkline.methods.vectors", "trunkline.methods.rag")
QUESTION: dict[str, Any] = {"technique": "basic", "query": "how does the with statement work?"}


def demo_hub(signals: Path, folder: Path = ROOT, **env: str) -> RunningHub:
    """Its embeddings hold passages up."""
    return RunningHub(METHODS, cwd=folder, env={"SIGNALS": str(signals), **env}, arguments=("--demo",), executors=2)


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


@pytest.mark.parametrize("place", ["sources", "elsewhere"])
def test_what_to_try_next_works_as_it_is_printed(tmp_path: Path, place: str) -> None:
    """By a shell, in the folder that the hub runs in: with the sources, or installed from a wheel."""
    (tmp_path / "go").touch()
    folder = ROOT if place == "sources" else tmp_path
    if place == "sources" and not (folder / ".venv/bin/trunkline").exists():
        pytest.skip("the sources are not set up by make setup")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with demo_hub(tmp_path, folder, PYTHONPATH=str(ROOT)) as hub:
        hub.ready().wait_for("browser  ", within=6 * PATIENCE)
        script = hub.wait_for(r"^ +(const ws=.*)$")[1]
        tries = [hub.wait_for(rf"^  {name} +(\S.*)$")[1] for name in ("command line", "Node")]
        if shutil.which("node") is None:
            del tries[1:]
        else:  # what a browser has, Node 20 has to be asked for
            tries.append(f"exec node --experimental-websocket -e {shlex.quote(script)}")
        for line in tries:
            said = said_by(line, folder, clean_environment({"PATH": path}))
            assert re.search(r"\bsuccess\b.*true", said), (line, said)
            assert "with" in said


def said_by(line: str, folder: Path, env: dict[str, str]) -> str:
    """What a shell's line says until it has ended, or has told of its success: a WebSocket stays open."""
    with subprocess.Popen(
        line, shell=True, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        assert running.stdout is not None
        said = ""
        for part in running.stdout:
            said += part
            if line.startswith("exec node") and re.search(r"\bsuccess\b.*true", said):
                running.kill()
    return said
