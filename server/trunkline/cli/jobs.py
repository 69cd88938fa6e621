"""``trunkline jobs list | get | cancel | watch``: shows and cancels jobs."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from trunkline.cli.show.terminal import say
from trunkline.cli.talk import (
    DEFAULT_URL,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    Token,
    Url,
    fail,
    print_json,
    read,
    talk,
    with_hub,
)

if TYPE_CHECKING:
    from trunkline.cli.show.progress import Bar, ProgressReading
    from trunkline.client import Hub, Subscription
    from trunkline_protocol.hub_messages import JobEvent, JobView, JobWithResult

FINAL: Final = frozenset({"succeeded", "failed", "cancelled"})
MAX_PAGE: Final = 200

JobId = Annotated[str, typer.Argument(metavar="ID", help="Id of the job.")]
Raw = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


class Status(StrEnum):
    """The states of a job."""

    queued = "queued"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"


jobs_app = typer.Typer(no_args_is_help=True, help="List, watch and cancel jobs: calls that go on without their caller.")


@jobs_app.command("list")
def list_jobs(
    status: Annotated[Status | None, typer.Option(help="Only jobs with this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_PAGE, help="How many jobs to list, the newest first.")] = 50,
    url: Url = DEFAULT_URL,
    token: Token = None,
    raw: Raw = False,
) -> None:
    """List your jobs (role admin: everybody's)."""

    async def run(hub: Hub) -> None:
        from trunkline_protocol.hub_messages import JobPage

        answer = await hub.call("jobs.list", {"limit": limit, "status": None if status is None else status.value})
        if raw:
            print_json(answer)
        else:
            page = read(answer, JobPage)
            _print_table(page.jobs)
            if page.cursor is not None:
                say("trunkline: there are more jobs; --limit lists up to 200", error=True)

    talk(url, token, run)


@jobs_app.command("get")
def get(job_id: JobId, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Print a job, with its result, as JSON."""

    async def run(hub: Hub) -> None:
        print_json(await hub.call("jobs.get", {"id": job_id}))

    talk(url, token, run)


@jobs_app.command("cancel")
def cancel(job_id: JobId, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Cancel a job that has not ended."""

    async def run(hub: Hub) -> None:
        from trunkline_protocol.hub_messages import CancelledJob

        said = read(await hub.call("jobs.cancel", {"id": job_id}), CancelledJob)
        say("cancelled" if said.cancelled else f"not cancelled, the job has ended already: {said.status}")

    talk(url, token, run)


@jobs_app.command("watch")
def watch(job_id: JobId, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Show a job's progress until it ends, and print its result as JSON. Ctrl-C leaves the job running."""
    print_json(result_of(job_id, url, token))


def result_of(job_id: str, url: str, token: str | None) -> Any:
    """Show a job's progress until it ends; returns its result, or exits where it did not succeed, and at Ctrl-C."""
    over: list[JobWithResult] = []

    async def run() -> None:
        from trunkline.client import connect

        async with connect(url, token=token) as hub:
            over.append(await follow(hub, job_id))

    try:
        with_hub(url, run)
    except typer.Exit as end:
        if end.exit_code == EXIT_INTERRUPTED:
            say(
                f"\ntrunkline: the job keeps running; watch it again with: trunkline jobs watch {job_id}\n"
                f"trunkline: cancel it with: trunkline jobs cancel {job_id}",
                error=True,
            )
        raise
    (job,) = over
    if job.status != "succeeded":
        why = f": {job.error['message']} ({job.error['code']})" if job.error else ""
        fail(EXIT_FAILED, f"the job {job.status}{why}" if why else f"the job was {job.status}")
    return job.result


async def follow(hub: Hub, job_id: str) -> JobWithResult:
    """Show a job's progress until it ends; returns the job as ``jobs.get`` does."""
    from trunkline.cli.show.console import TextConsole
    from trunkline.cli.show.progress import Bar

    async with hub.subscribe(f"jobs.{job_id}") as events:
        # The job is read after subscribing, so that no change is missed in between.
        job = await _read(hub, job_id)
        if job.status not in FINAL:
            bar = Bar(TextConsole(stderr=True), job.method)
            try:
                bar.show(_reading(job))
                await _until_over(hub, events, job_id, bar)
            finally:
                bar.end()
            job = await _read(hub, job_id)
    return job


async def _read(hub: Hub, job_id: str) -> JobWithResult:
    from trunkline_protocol.hub_messages import JobWithResult

    return read(await hub.call("jobs.get", {"id": job_id}, idempotent=True), JobWithResult)


async def _until_over(hub: Hub, events: Subscription, job_id: str, bar: Bar) -> None:
    from trunkline.client import Gap
    from trunkline_protocol.hub_messages import JobEvent

    async for item in events:
        # Missed events, for example while the hub restarted, are replaced by reading the job itself.
        job = await _read(hub, job_id) if isinstance(item, Gap) else read(item.data, JobEvent)
        bar.show(_reading(job))
        if job.status in FINAL:
            return


def _reading(job: JobView | JobEvent) -> ProgressReading:
    """What the bar shows of a job: the fraction done, its status, and its last progress report."""
    from trunkline.cli.show.progress import ProgressReading, read_report

    said = ProgressReading(None, "") if job.progress is None else read_report(job.progress)
    attempt = f", attempt {job.attempts}" if job.attempts > 1 else ""
    return ProgressReading(said.fraction, f"{job.status}{attempt}{said.words and ': ' + said.words}")


def _print_table(jobs: list[JobView]) -> None:
    from rich.table import Table

    from trunkline.cli.show.progress import read_report
    from trunkline.cli.show.tables import console_for_tables

    table = Table(box=None, pad_edge=False)
    for heading in ("ID", "METHOD", "STATUS", "CREATED", "PROGRESS"):
        table.add_column(heading, no_wrap=heading == "ID", overflow="fold")
    for job in jobs:
        created = datetime.fromtimestamp(job.created_at / 1000).strftime("%Y-%m-%d %H:%M:%S")
        said = "" if job.progress is None else str(read_report(job.progress))
        words = job.error["message"] if job.error else said
        table.add_row(job.id, job.method, job.status, created, words)
    console_for_tables().print(table)
