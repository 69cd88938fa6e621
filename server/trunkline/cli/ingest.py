"""``trunkline ingest``: reads documents of this machine, or of the hub's, into a collection."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol

import typer

from trunkline.cli.jobs import result_of
from trunkline.cli.prune import prune_documents
from trunkline.cli.show.terminal import say
from trunkline.cli.talk import DEFAULT_URL, EXIT_FAILED, EXIT_USAGE, Tenant, Token, Url, fail, talk

if TYPE_CHECKING:
    from trunkline.client import Hub
    from trunkline.methods.documents.folders import FoundFile

MAX_FILE_BYTES: Final = 11 * 2**20
"""In base64, with its name, a file of this size fits into a message of 16 MiB, the hub's default limit."""
BATCH_BYTES: Final = 4 * 2**20
BATCH_FILES: Final = 256
CALLS_AT_ONCE: Final = 2
"""Two, so that one batch is read and split while another is embedded."""
TIMEOUT_MS: Final = 24 * 60 * 60 * 1000


class Advance(Protocol):
    """Shows the progress of calls."""

    def __call__(self, call: int, progress: dict[str, Any]) -> None:
        """Show a progress report of the call with this number."""


@dataclass(slots=True)
class IngestOutcome:
    """The results of all calls together: totals, and what failed."""

    totals: dict[str, int] = field(default_factory=dict)
    failed: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    def add(self, result: dict[str, Any]) -> None:
        """Add the result of a call."""
        for name, count in result["totals"].items():
            self.totals[name] = self.totals.get(name, 0) + count
        for entry in result["documents"]:
            if "error" in entry:
                self.failed.append((entry["source"], entry["error"]["message"]))
            if "note" in entry:
                self.notes.append((entry["source"], entry["note"]))

    def refuse(self, name: str, reason: str) -> None:
        """Add a file that was not sent, as failed."""
        self.failed.append((name, reason))
        self.totals["failed"] = self.totals.get("failed", 0) + 1
        self.totals["documents"] = self.totals.get("documents", 0) + 1

    def lines(self) -> Iterator[str]:
        """The outcome as lines of text."""
        count = {name: f"{self.totals.get(name, 0):,}" for name in (*self.totals, *_COUNTS)}
        late = f", superseded {count['superseded']}" if self.totals.get("superseded") else ""
        yield f"documents {count['documents']:>9}   failed {count['failed']}, ignored {count['ignored']}{late}"
        yield f"passages  {count['passages']:>9}   embedded {count['embedded']}, skipped {count['skipped']}"
        if self.totals.get("ignored") and not self.totals.get("documents"):
            yield f"\nnothing was read: of a folder, files that end in {_suffixes()}, or those that match --include"
        if self.totals.get("removed"):
            yield f"removed   {count['removed']:>9}   passages of older versions"
        for title, entries in (("notes", self.notes), ("failed", self.failed)):
            if entries:
                yield f"\n{title}:"
                yield from (f"  {name}: {reason}" for name, reason in entries)


_COUNTS: Final = ("documents", "failed", "superseded", "ignored", "passages", "embedded", "skipped", "removed")


def _suffixes() -> str:
    from trunkline.methods.documents.extract import KINDS

    return " ".join(KINDS)


def ingest(
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Files, and folders of documents.")],
    collection: Annotated[str, typer.Option(help="Collection to put the passages into; created if it does not exist.")],
    include: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Only read matching files of folders; may be repeated.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Skip matching files and folders; may be repeated.")
    ] = None,
    server_path: Annotated[
        bool, typer.Option("--server-path", help="PATHs are on the hub's machine, inside TRUNKLINE_DOCUMENTS_ROOT.")
    ] = False,
    job: Annotated[
        bool, typer.Option("--job", help="Run as a job, which goes on when this command ends; needs --server-path.")
    ] = False,
    chunk_tokens: Annotated[int | None, typer.Option(min=8, help="Maximum number of tokens in a passage.")] = None,
    overlap_tokens: Annotated[int, typer.Option(min=0, help="Maximum number of tokens that two passages share.")] = 0,
    prune: Annotated[
        bool, typer.Option("--prune", help="List documents whose file below a PATH is gone; --yes deletes them.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete what --prune lists.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    tenant: Tenant = None,
) -> None:
    """Read documents, split them into passages and add these to a collection; passages already in it are skipped."""
    refusals = {
        "--yes is for --prune": yes and not prune,
        "--prune looks for files on this machine: omit --server-path": prune and server_path,
        "--job needs files on the hub's machine: add --server-path, or omit --job": job and not server_path,
        "--job follows the job's events, which are its tenant's: give a token of that tenant instead": (
            job and tenant is not None
        ),
    }
    for refusal in (why for why, holds in refusals.items() if holds):
        fail(EXIT_USAGE, refusal)
    options = {"overlap_tokens": overlap_tokens} | ({"chunk_tokens": chunk_tokens} if chunk_tokens else {})
    params = {"collection": collection, "options": options}
    globs = {"include": include or [], "exclude": exclude or []}
    outcome = IngestOutcome()
    if server_path:
        sources = [{"path": path, **globs} for path in paths]
        whole = {**params, "sources": sources}
        if job:
            process_as_job(whole, outcome, url, token)
        else:
            talk(url, token, lambda hub: process_there(hub, whole, outcome), tenant)
    else:
        try:
            files = find_files(paths, globs["include"], globs["exclude"], outcome)
        except ValueError as error:
            fail(EXIT_USAGE, str(error))
        talk(url, token, lambda hub: send_files(hub, params, files, outcome), tenant)
    for line in outcome.lines():
        say(line)
    if prune:
        talk(url, token, lambda hub: prune_documents(hub, collection, paths, yes), tenant)
    if outcome.failed:
        raise typer.Exit(EXIT_FAILED)


def name_of(path: Path) -> str:
    """What a path is called: from the working directory on where it is inside, else as a whole: none is there twice."""
    return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else path.as_posix()


def find_files(
    paths: Sequence[str], include: Sequence[str], exclude: Sequence[str], outcome: IngestOutcome
) -> list[FoundFile]:
    """The documents at some paths of this machine, named by these (:func:`name_of`).

    Raises:
        ValueError: a path does not exist.
    """
    from trunkline.methods.documents.folders import FoundFile, walk

    found: dict[str, FoundFile] = {}
    ignored: list[str] = []
    for text in paths:
        path = Path(os.path.abspath(text))
        if not path.exists():
            raise ValueError(f"{text}: no such file or folder")
        for file in walk(FoundFile(name_of(path), path), include, exclude, ignored.append):
            found.setdefault(file.name, file)
    outcome.totals["ignored"] = len(ignored)
    return [*found.values()]


def batches(files: Sequence[FoundFile], outcome: IngestOutcome) -> Iterator[list[dict[str, Any]]]:
    """Batches of files as sources of ``documents.process``, each small enough for one message.

    Files that cannot be sent are added to ``outcome`` as failed.
    """
    from trunkline.methods.documents.blocks import Unreadable
    from trunkline.methods.documents.folders import read_file, source_name

    batch: list[dict[str, Any]] = []
    size = 0
    for file in files:
        name = source_name(file.name)
        try:
            data = read_file(file.path.resolve())
        except (Unreadable, OSError, RuntimeError) as error:  # the last of a link to itself
            outcome.refuse(name, str(error))
            continue
        if len(data) > MAX_FILE_BYTES:
            outcome.refuse(
                name,
                f"it has {len(data):,} bytes, and at most {MAX_FILE_BYTES:,} can be sent: put it inside the hub's "
                "TRUNKLINE_DOCUMENTS_ROOT and use --server-path, or split it",
            )
            continue
        if batch and (size + len(data) > BATCH_BYTES or len(batch) == BATCH_FILES):
            yield batch
            batch, size = [], 0
        batch.append({"bytes": data, "name": name, "file": source_name(file.path.as_posix())})
        size += len(data)
    if batch:
        yield batch


async def send_files(hub: Hub, params: dict[str, Any], files: Sequence[FoundFile], outcome: IngestOutcome) -> None:
    """Send files of this machine to the hub, :data:`CALLS_AT_ONCE` batches at a time.

    Raises:
        RpcError: a call failed; the others are cancelled.
    """
    gate = asyncio.Semaphore(CALLS_AT_ONCE)

    async def send(number: int, sources: list[dict[str, Any]], advance: Advance) -> None:
        try:
            result = await hub.call(
                "documents.process",
                {**params, "sources": sources},
                timeout_ms=TIMEOUT_MS,
                on_progress=lambda value: advance(number, value),
            )
            outcome.add(result)
            advance(number, {"documents_done": len(sources), "passages_done": result["totals"]["passages"]})
        finally:
            gate.release()

    with progress_bar(len(files)) as advance:
        calls: list[asyncio.Task[None]] = []
        try:
            for number, sources in enumerate(batches(files, outcome)):
                await gate.acquire()
                if any(call.done() and call.exception() for call in calls):
                    break
                calls.append(asyncio.create_task(send(number, sources, advance)))
            await asyncio.gather(*calls)
        finally:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)


async def process_there(hub: Hub, params: dict[str, Any], outcome: IngestOutcome) -> None:
    """Have the hub process files of its own machine, in a call that is cancelled if this command ends."""
    with progress_bar() as advance:
        result = await hub.call(
            "documents.process", params, timeout_ms=TIMEOUT_MS, on_progress=lambda value: advance(0, value)
        )
    outcome.add(result)


def process_as_job(params: dict[str, Any], outcome: IngestOutcome, url: str, token: str | None) -> None:
    """Have the hub process files of its own machine as a job, and show the job's progress to its end."""
    started: list[str] = []

    async def start(hub: Hub) -> None:
        answer = await hub.call("documents.process", {**params, "async": True})
        started.append(answer["job"]["id"])

    talk(url, token, start)
    say(f"trunkline: job {started[0]}", error=True)
    outcome.add(result_of(started[0], url, token))


@contextmanager
def progress_bar(total: int | None = None) -> Iterator[Advance]:
    """A progress bar of documents on stderr, if that is a terminal. Without ``total`` the hub reports how many."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from trunkline.cli.show.console import TextConsole

    console = TextConsole(stderr=True)
    columns = (
        TextColumn("documents"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
    )  # fmt: skip
    latest: dict[int, dict[str, Any]] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)

        def advance(call: int, progress: dict[str, Any]) -> None:
            latest[call] = latest.get(call, {}) | progress
            done, passages = (
                sum(each.get(name, 0) for each in latest.values()) for name in ("documents_done", "passages_done")
            )
            known = total if total is not None else progress.get("documents_total")
            bar.update(task, completed=done, total=known, description=f"{passages:,} passages")

        yield advance
