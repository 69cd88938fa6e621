"""Reading one document takes no longer than the hub's operator says, and its neighbours are unharmed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.libraries import skip_without

skip_without("faiss", "trafilatura", "pypdf")

from tests.methods.document_files import word_model  # noqa: E402
from tests.support.hub import RunningHub, ready_hub  # noqa: E402
from tests.support.timing import PATIENCE, SCALE  # noqa: E402
from trunkline.client import connect  # noqa: E402
from trunkline.methods.documents.reading_time import AGAIN_EVERY, ReadingTime  # noqa: E402
from trunkline_protocol.errors import ErrorCode, RpcError  # noqa: E402

ROOT = Path(__file__).parents[2]
METHODS = (
    "tests.methods.packs.word_embeddings", "trunkline.methods.vectors", "trunkline.methods.documents",
    "tests.methods.packs.hostile_parsers",
)  # fmt: skip
SECONDS = 1.0 * SCALE
HOURS = 24 * 3_600_000


def pdf(does: str) -> bytes:
    return b"%PDF-1.7 " + does.encode()


def sources(*does: str) -> list[dict[str, Any]]:
    """Good documents, and between them some that do things."""
    found: list[dict[str, Any]] = [{"text": "A first text.", "source": "first"}]
    for each in does:
        found += [{"bytes": pdf(each), "name": f"{each}.pdf"}, {"text": f"Behind {each}.", "source": f"behind {each}"}]
    return found


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """Each test makes a collection of its own, and some of them end its executor."""
    model = word_model(tmp_path_factory.mktemp("reading") / "model")
    env = {"TRUNKLINE_MODEL": model, "TRUNKLINE_DOCUMENT_SECONDS": str(SECONDS)}
    with ready_hub(*METHODS, cwd=ROOT, env=env, executors=1) as running:
        yield running
        running.executor_pids()


@pytest.mark.parametrize(("does", "as_job"), [("loop", False), ("deaf", True), ("hold", True), ("sleep", False)])
async def test_a_document_that_never_ends_is_given_up_and_others_go_on(
    hub: RunningHub, does: str, as_job: bool
) -> None:
    async with connect(hub.url) as client:
        params: dict[str, Any] = {"collection": does, "sources": sources(does, "read")}
        began = time.monotonic()
        if as_job:
            job = await client.call("jobs.create", {"method": "documents.process", "params": params})
            async with client.subscribe(f"jobs.{job['id']}") as events:
                while (job := await client.call("jobs.get", {"id": job["id"]}))["status"] in ("queued", "running"):
                    await anext(events)
            assert job["status"] == "succeeded", job
            result = job["result"]
        else:
            result = await client.call("documents.process", params, timeout_ms=HOURS)
        assert time.monotonic() - began < 2 * SECONDS + PATIENCE
        errors = {entry["source"]: entry["error"] for entry in result["documents"] if "error" in entry}
        assert list(errors) == [f"{does}.pdf"]
        assert errors[f"{does}.pdf"]["code"] == ErrorCode.PIPELINE_EXECUTION_ERROR
        assert result["totals"]["failed"] == 1
        found = await client.call("vectors.search", {"collection": does, "text": "a text", "top_k": 9})
        assert {match["metadata"]["source"] for match in found["matches"]} == {
            "first", f"behind {does}", "read.pdf", "behind read",
        }  # fmt: skip


def test_what_is_over_in_time_is_not_disturbed() -> None:
    limit = ReadingTime(0.05)
    for _ in range(200):
        began = time.monotonic()
        try:
            assert limit.run("a", lambda: 1) == 1
        except RpcError:
            assert time.monotonic() - began >= 0.05, "it was over in time"
    for _ in range(10):  # the exception comes when it is nearly over, or just after
        with contextlib.suppress(RpcError):
            limit.run("a", lambda: time.sleep(0.0499))
    last = time.monotonic()
    while time.monotonic() < last + 2.5 * AGAIN_EVERY:
        pass  # nothing is raised here


def test_an_error_of_the_parser_is_its_own() -> None:
    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        ReadingTime(5).run("a", fail)
