"""Documents through a real hub: executors that are killed, and jobs."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

for library in ("faiss", "pypdf", "docx", "reportlab"):
    pytest.importorskip(library)

from tests.methods.document_files import word_model  # noqa: E402
from tests.support.hub import RunningHub, ready_hub  # noqa: E402
from tests.support.timing import PATIENCE, eventually  # noqa: E402
from trunkline.client import Hub, connect  # noqa: E402

ROOT = Path(__file__).parents[2]
METHODS = ("tests.methods.packs.slow_embeddings", "trunkline.methods.vectors", "trunkline.methods.documents")


@pytest.fixture
def books(tmp_path: Path) -> Path:
    folder = tmp_path / "books"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number:02}.md").write_text(f"# Title {number}\n\nThe text with number {number}.")
    return folder


def environment(books: Path) -> dict[str, str]:
    return {
        "TRUNKLINE_MODEL": word_model(books.parent / "model"),
        "TRUNKLINE_DOCUMENTS_ROOT": str(books),
        "SIGNALS": str(books.parent),
    }


def kill_executors(hub: RunningHub) -> None:
    for pid in hub.executor_pids():
        os.kill(pid, signal.SIGKILL)


async def found(hub: Hub) -> list[str]:
    answer = await hub.call("vectors.search", {"collection": "shelf", "text": "text", "top_k": 100})
    return sorted(match["metadata"]["source"] for match in answer["matches"])


async def reached(path: Path) -> None:
    await asyncio.to_thread(eventually, path.exists, f"{path.name} is there", 2 * PATIENCE)


async def test_executors_may_die_while_documents_are_processed(books: Path) -> None:
    (books / "10.md").write_text("These words wait here.")
    params = {"collection": "shelf", "sources": [{"path": "."}]}
    with ready_hub(*METHODS, cwd=ROOT, env=environment(books), executors=2) as hub:
        async with connect(hub.url) as client:
            call = asyncio.create_task(client.call("documents.process", params))
            await reached(books.parent / "waiting")
            kill_executors(hub)
            (books.parent / "go").touch()
            result = await call
            assert result["totals"]["documents"] == result["totals"]["passages"] == 20
            assert await found(client) == sorted([f"{number:02}.md" for number in range(20)])


async def test_a_job_goes_on_where_it_was_when_the_hub_was_killed(books: Path) -> None:
    (books / "19.md").write_text("These words wait here.")
    params = {"collection": "shelf", "sources": [{"path": "."}], "async": True}
    options: dict[str, Any] = {
        "cwd": ROOT, "env": environment(books), "executors": 2, "arguments": ("--data", str(books.parent / "data")),
    }  # fmt: skip
    with ready_hub(*METHODS, **options) as hub:
        async with connect(hub.url) as client:
            job = (await client.call("documents.process", params))["job"]
            await reached(books.parent / "waiting")
        hub.process.kill()
        hub.wait_ended(-signal.SIGKILL)
    (books.parent / "go").touch()
    with ready_hub(*METHODS, **options) as hub:
        async with connect(hub.url) as client:
            result = await finished(client, job["id"])
            assert result["totals"]["documents"] == result["totals"]["passages"] == 20
            assert await found(client) == [f"{number:02}.md" for number in range(20)]


@pytest.mark.parametrize("by", ["documents.process", "jobs.create"])
async def test_a_collection_that_is_deleted_while_a_job_fills_it_stays_deleted(books: Path, by: str) -> None:
    (books / "19.md").write_text("These words wait here.")
    params: dict[str, Any] = {"collection": "shelf", "sources": [{"path": "."}]}
    with ready_hub(*METHODS, cwd=ROOT, env=environment(books), executors=2) as hub:
        async with connect(hub.url) as client:
            if by == "jobs.create":
                job = await client.call("jobs.create", {"method": "documents.process", "params": params})
            else:
                job = (await client.call("documents.process", {**params, "async": True}))["job"]
            await reached(books.parent / "waiting")
            await client.call("collections.delete", {"name": "shelf"})
            (books.parent / "go").touch()
            job = await ended(client, job["id"])
            assert job["status"] == "failed", job
            assert job["error"]["code"] == 4001
            assert "collection 'shelf'" in job["error"]["message"]
            assert (await client.call("collections.list"))["collections"] == []


async def finished(hub: Hub, job_id: str) -> Any:
    job = await ended(hub, job_id)
    assert job["status"] == "succeeded", job
    assert job["progress"]["documents_done"] == 20
    return job["result"]


async def ended(hub: Hub, job_id: str) -> Any:
    async with hub.subscribe(f"jobs.{job_id}") as events:
        job = await hub.call("jobs.get", {"id": job_id})
        while job["status"] in ("queued", "running"):
            await anext(events)
            job = await hub.call("jobs.get", {"id": job_id})
    return job
