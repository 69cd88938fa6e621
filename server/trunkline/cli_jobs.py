"""``trunkline jobs list | get | cancel | watch``."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, NoReturn, Protocol

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

    from trunkline.client import Hub, Subscription

FINAL: Final = frozenset({"succeeded", "failed", "cancelled"})
MAX_PAGE: Final = 200

Talk = Callable[[str, str | None, "Callable[[Hub], Awaitable[None]]"], None]
WithHub = Callable[[str, Callable[[], Coroutine[Any, Any, None]]], None]

Url = Annotated[str, typer.Option("--url", envvar="TRUNKLINE_URL", help="WebSocket of the hub.")]
Token = Annotated[str | None, typer.Option(envvar="TRUNKLINE_TOKEN", help="Bearer token, where the hub wants one.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]
Raw = Annotated[bool, typer.Option("--json", help="JSON instead of words.")]


class Fail(Protocol):
    """How the command line ends a program that failed."""

    def __call__(self, code: int, *lines: str) -> NoReturn:
        """Say what went wrong on stderr and exit with the code."""


class Status(StrEnum):
    """What a job may be."""

    queued = "queued"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"


class Tools(NamedTuple):
    """What the command line has for all commands.

    Attributes:
        talk: connects to a hub, and ends the program where that fails.
        with_hub: runs something that connects itself, and does the same.
        failed: exit code of a job that did not succeed.
        usage: exit code for what cannot be.
        interrupted: exit code of Ctrl-C.
    """

    talk: Talk
    with_hub: WithHub
    fail: Fail
    print_json: Callable[[Any], None]
    failed: int
    usage: int
    interrupted: int
    url: str


def jobs_app(tools: Tools) -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(no_args_is_help=True, help="Jobs: calls that outlive their caller, and the hub.")
    app.command("list")(_list(tools))
    app.command("get")(_get(tools))
    app.command("cancel")(_cancel(tools))
    app.command("watch")(_watch(tools))
    return app


def _list(tools: Tools) -> Callable[..., None]:
    def list_jobs(
        status: Annotated[Status | None, typer.Option(help="Only those.")] = None,
        limit: Annotated[int, typer.Option(min=1, max=MAX_PAGE, help="How many, the newest first.")] = 50,
        url: Url = tools.url,
        token: Token = None,
        raw: Raw = False,
    ) -> None:
        """List your jobs (role admin: everybody's)."""
        params: dict[str, Any] = {"limit": limit} | ({} if status is None else {"status": status.value})

        async def run(hub: Hub) -> None:
            page = await hub.call("jobs.list", params)
            if raw:
                tools.print_json(page)
            else:
                _print_table(page["jobs"])
                if page["cursor"] is not None:
                    print("trunkline: there are more; --limit shows up to 200", file=sys.stderr)

        tools.talk(url, token, run)

    return list_jobs


def _get(tools: Tools) -> Callable[..., None]:
    def get(job_id: JobId, url: Url = tools.url, token: Token = None) -> None:
        """Print a job, with its result, as JSON."""

        async def run(hub: Hub) -> None:
            tools.print_json(await hub.call("jobs.get", {"id": job_id}))

        tools.talk(url, token, run)

    return get


def _cancel(tools: Tools) -> Callable[..., None]:
    def cancel(job_id: JobId, url: Url = tools.url, token: Token = None) -> None:
        """End a job that is not over."""

        async def run(hub: Hub) -> None:
            said = await hub.call("jobs.cancel", {"id": job_id})
            print("cancelled" if said["cancelled"] else f"it was over already: {said['status']}")

        tools.talk(url, token, run)

    return cancel


def _watch(tools: Tools) -> Callable[..., None]:
    def watch(job_id: JobId, url: Url = tools.url, token: Token = None) -> None:
        """Show a job's progress until it is over, and print its result as JSON. Ctrl-C leaves the job running."""
        tools.print_json(result_of(tools, job_id, url, token))

    return watch


def result_of(tools: Tools, job_id: str, url: str, token: str | None) -> Any:
    """Show a job's progress until it is over; ends the program where it did not succeed, and at Ctrl-C."""
    over: list[dict[str, Any]] = []

    async def run() -> None:
        from trunkline.client import connect

        async with connect(url, token=token) as hub:
            over.append(await follow(hub, job_id))

    try:
        tools.with_hub(url, run)
    except typer.Exit as end:
        if end.exit_code == tools.interrupted:
            print(
                f"\ntrunkline: the job goes on; see it again with: trunkline jobs watch {job_id}\n"
                f"trunkline: end it with: trunkline jobs cancel {job_id}",
                file=sys.stderr,
            )
        raise
    (job,) = over
    if job["status"] != "succeeded":
        why = f": {job['error']['message']} ({job['error']['code']})" if job["error"] else ""
        tools.fail(tools.failed, f"the job {job['status']}{why}" if why else f"the job was {job['status']}")
    return job["result"]


async def follow(hub: Hub, job_id: str) -> dict[str, Any]:
    """Show what a job says until it is over; returns it as ``jobs.get`` does."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        async with hub.subscribe(f"jobs.{job_id}") as events:
            # The question comes after the subscription, so that no change falls between the two.
            job = await _read(hub, job_id)
            bar.add_task(job["method"], total=None, words=job["status"])
            _show(bar, job)
            if job["status"] not in FINAL:
                await _until_over(hub, events, job_id, bar)
                job = await _read(hub, job_id)
    return job


async def _read(hub: Hub, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = await hub.call("jobs.get", {"id": job_id}, idempotent=True)
    return job


async def _until_over(hub: Hub, events: Subscription, job_id: str, bar: Progress) -> None:
    from trunkline.client import Gap

    async for item in events:
        # What was missed, for example while there was no hub, is in the job itself.
        job = await _read(hub, job_id) if isinstance(item, Gap) else item.data
        _show(bar, job)
        if job["status"] in FINAL:
            return


def _show(bar: Progress, job: dict[str, Any]) -> None:
    (task,) = bar.task_ids
    done, total, words = read_progress(job["progress"])
    attempt = f", attempt {job['attempts']}" if job["attempts"] > 1 else ""
    bar.update(task, completed=done, total=total, words=f"{job['status']}{attempt}{words and ': ' + words}")


def read_progress(value: Any) -> tuple[float, float | None, str]:
    """What a method says of its progress, as done, total and words; no total where it does not say.

    Known are a fraction from 0 to 1, ``{done, total}``, and pairs ``{x_done, x_total}``, of which the last counts;
    ``stage`` and ``current`` are words.
    """
    if _is_number(value) and 0 <= value <= 1:
        return value, 1.0, f"{value:.0%}"
    if not isinstance(value, dict):
        return 0.0, None, "" if value is None else str(value)[:60]
    done = 0.0
    total: float | None = None
    counted = ""
    for name, number in value.items():
        prefix = name.removesuffix("done")
        goal: Any = value.get(prefix + "total")
        if prefix != name and _is_number(number) and _is_number(goal) and goal > 0:
            done, total = number, goal
            counted = f"{number:g} of {goal:g} {prefix.replace('_', ' ')}".strip()
    words = [str(value[name])[:40] for name in ("stage", "current") if value.get(name)]
    return done, total, ", ".join(filter(None, [counted, *words]))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _print_table(jobs: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("ID", "METHOD", "STATUS", "CREATED", "PROGRESS"):
        table.add_column(heading, no_wrap=heading == "ID", overflow="fold")
    for job in jobs:
        created = datetime.fromtimestamp(job["created_at"] / 1000).strftime("%Y-%m-%d %H:%M:%S")
        words = job["error"]["message"] if job["error"] else read_progress(job["progress"])[2]
        table.add_row(job["id"], escape(job["method"]), job["status"], created, escape(words))
    Console(highlight=False, soft_wrap=True).print(table)
