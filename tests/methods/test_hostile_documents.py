"""Whatever a document does to its parser: it takes the time and memory that the operator says, and others none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

for library in ("faiss", "lxml", "pypdf"):
    pytest.importorskip(library)

from tests.methods.document_files import word_model  # noqa: E402
from tests.support.hub import RunningHub, ready_hub  # noqa: E402
from tests.support.timing import PATIENCE, SCALE, eventually  # noqa: E402
from trunkline.client import Hub, connect  # noqa: E402
from trunkline.methods.documents.blocks import Unreadable  # noqa: E402
from trunkline.methods.documents.parsers import Parsers  # noqa: E402
from trunkline.methods.documents.parsing import Request  # noqa: E402
from trunkline.methods.documents.split import Parsed  # noqa: E402
from trunkline_protocol.errors import ErrorCode, RpcError  # noqa: E402

ROOT = Path(__file__).parents[2]
METHODS = ("tests.methods.packs.word_embeddings", "trunkline.methods.vectors", "trunkline.methods.documents")
SECONDS = 1.0 * SCALE
MEGABYTES = 512
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
    """A hub of one executor, whose parsers for pdf do what the file says. Each test has a collection of its own."""
    model = word_model(tmp_path_factory.mktemp("reading") / "model")
    bad = str(Path(__file__).parent / "packs" / "in_parsers")
    env = {
        "TRUNKLINE_MODEL": model, "TRUNKLINE_DOCUMENT_SECONDS": str(SECONDS), "PYTHONPATH": bad,
        "TRUNKLINE_DOCUMENT_MEGABYTES": str(MEGABYTES),
    }  # fmt: skip
    with ready_hub(*METHODS, cwd=ROOT, env=env, executors=1) as running:
        before = running.executor_pids()
        yield running
        assert running.executor_pids() == before, "no document ended an executor"


async def result_as_job(client: Hub, params: dict[str, Any]) -> Any:
    job = await client.call("jobs.create", {"method": "documents.process", "params": params})
    async with client.subscribe(f"jobs.{job['id']}") as events:
        while (job := await client.call("jobs.get", {"id": job["id"]}))["status"] in ("queued", "running"):
            await anext(events)
    assert job["status"] == "succeeded", job
    return job["result"]


@pytest.mark.parametrize(
    ("does", "says", "as_job"),
    [
        ("loop", "it was not read after", False),
        ("deaf", "it was not read after", True),
        ("hold", "it was not read after", True),
        ("sleep", "it was not read after", False),
        ("grow", f"it takes more than {MEGABYTES} MiB of memory to read", False),
        ("crash", "the process that read it has ended (SIGSEGV)", False),
    ],
)
async def test_a_document_that_does_harm_is_given_up_and_others_go_on(
    hub: RunningHub, does: str, says: str, as_job: bool
) -> None:
    async with connect(hub.url) as client:
        params: dict[str, Any] = {"collection": does, "sources": sources(does, "read")}
        began = time.monotonic()
        if as_job:
            result = await result_as_job(client, params)
        else:
            result = await client.call("documents.process", params, timeout_ms=HOURS)
        assert time.monotonic() - began < 2 * SECONDS + PATIENCE
        errors = {entry["source"]: entry["error"] for entry in result["documents"] if "error" in entry}
        assert list(errors) == [f"{does}.pdf"]
        assert errors[f"{does}.pdf"]["code"] == ErrorCode.PIPELINE_EXECUTION_ERROR
        assert says in errors[f"{does}.pdf"]["message"]
        assert result["totals"]["failed"] == 1
        found = await client.call("vectors.search", {"collection": does, "text": "a text", "top_k": 9})
        assert {match["metadata"]["source"] for match in found["matches"]} == {
            "first", f"behind {does}", "read.pdf", "behind read",
        }  # fmt: skip


async def test_other_callers_do_not_wait_for_a_document_that_never_ends(hub: RunningHub) -> None:
    async with connect(hub.url) as client, connect(hub.url) as other:
        await other.call("documents.process", {"collection": "quick", "sources": sources()})
        bad = {"collection": "slow", "sources": [{"bytes": pdf("hold"), "name": f"{n}.pdf"} for n in range(3)]}
        call = asyncio.create_task(client.call("documents.process", bad, timeout_ms=HOURS))
        slowest = 0.0
        while not call.done():
            began = time.monotonic()
            text = {"text": f"At {began}.", "source": "now"}
            await other.call("documents.process", {"collection": "quick", "sources": [text]})
            await other.call("vectors.search", {"collection": "quick", "text": "at", "top_k": 1})
            slowest = max(slowest, time.monotonic() - began)
            await asyncio.sleep(0.05)
        assert (await call)["totals"]["failed"] == 3
        assert slowest < SECONDS, "no other call waited for a document to be given up"


async def test_what_a_parser_started_ends_with_it(hub: RunningHub) -> None:
    def left() -> list[psutil.Process]:
        return [each for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"] == ["sleep", "3601"]]

    async with connect(hub.url) as client:
        result = await client.call("documents.process", {"collection": "left", "sources": sources("leave")})
    assert result["totals"]["failed"] == 1
    await asyncio.to_thread(eventually, lambda: not left(), "it has ended", PATIENCE)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "notes.txt": lambda: b"<!-- -->" * 40 + b"x",
    "attributes.html": lambda: b"<p " + b" ".join(b"a%d=1" % number for number in range(60_000)) + b">words</p>",
    "deep.html": lambda: b"<div>" * 100_000 + b"words",
    "tables.html": lambda: b"<table><tr><td>" * 5_000 + b"words",
    "quotes.md": lambda: b">" * 50_000 + b"words",
    "brackets.md": lambda: b"[" * 50_000 + b"words",
    "stars.md": lambda: b"*a " * 50_000,
    "entities.xhtml": lambda: (
        b'<?xml version="1.0"?><!DOCTYPE html [<!ENTITY a "aaaaaaaaaa">'
        + b"".join(b'<!ENTITY a%d "%s">' % (n, b"&a%s;" % (b"%d" % (n - 1) if n else b"") * 10) for n in range(12))
        + b"]><html><body>&a11; words</body></html>"
    ),
    "aliases.md": lambda: (
        b"---\na0: &a0 [x]\n"
        + b"".join(b"a%d: &a%d [%s]\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 30))
        + b"---\nwords"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def parsers() -> Iterator[Parsers]:
    made = Parsers(10 * SCALE, 1024)
    yield made
    made.close()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_read_or_given_up_in_time(parsers: Parsers, tmp_path: Path, name: str) -> None:
    request = Request(HOSTILE[name](), name, None, word_model(tmp_path), 30, 0)
    began = time.monotonic()
    try:
        found = parsers.parse(request, lambda: None)
    except (Unreadable, RpcError):
        pass
    else:
        assert isinstance(found, Parsed)
        assert found.passages
    assert time.monotonic() - began < 10 * SCALE + PATIENCE


def test_a_parser_has_no_secrets_of_its_executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_TOKEN", "a-secret-of-the-hub")
    own = Parsers(10 * SCALE, 1024)
    own.parse(Request(b"words", "a.txt", None, word_model(tmp_path), 30, 0), lambda: None)
    (parser,) = own._idle
    pid = parser.pid
    assert "a-secret-of-the-hub" not in psutil.Process(pid).environ().values()
    own.close()
    assert not psutil.pid_exists(pid)


def test_a_cancelled_call_ends_its_parser(tmp_path: Path) -> None:
    own = Parsers(60 * SCALE, 1024)
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks > 2:
            raise RpcError(ErrorCode.CANCELLED, "cancelled")

    page = b"<p>words of it</p>" * 1_000_000
    with pytest.raises(RpcError, match="cancelled"):
        own.parse(Request(page, "a.html", None, word_model(tmp_path), 30, 0), check)
    assert own._idle == []
