"""``trunkline collections list | stats | export | import | rebuild | delete``.

A collection's file is JSON lines: first the collection's description, ``{"collection": {...}}``, then one item per
line, ``{"id", "text"?, "metadata", "vector"}``, the vector as base64 of little-endian float32. A file without the first
line can be imported into a collection that exists; its items may have a text instead of a vector.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Final

import typer

from trunkline.cli.talk import DEFAULT_URL, EXIT_FAILED, EXIT_USAGE, Tenant, Token, Url, fail, print_json, talk

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from trunkline.client import Hub

PAGE_ITEMS: Final = 256
PAGE_BYTES: Final = 128 * 1024
DAY_MS: Final = 24 * 3_600_000
DESCRIBED: Final = ("dimension", "metadata", "metric", "index", "model")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the collection.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=NUMBER", help="Setting of the index kind, for example m=32; may be repeated."),
]


collections_app = typer.Typer(
    no_args_is_help=True, help="List, describe, export, import, rebuild and delete collections."
)


@collections_app.command("list")
def list_collections(
    url: Url = DEFAULT_URL,
    token: Token = None,
    tenant: Tenant = None,
    raw: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """List the collections of a hub."""
    found = _ask(url, token, tenant, "collections.list", {})["collections"]
    if raw:
        print_json(found)
    else:
        print_collections(found)


@collections_app.command("stats")
def stats(name: Name, url: Url = DEFAULT_URL, token: Token = None, tenant: Tenant = None) -> None:
    """Print a collection's description and size, as JSON."""
    print_json(_ask(url, token, tenant, "collections.stats", {"name": name}))


@collections_app.command("rebuild")
def rebuild(
    name: Name,
    kind: Annotated[str | None, typer.Option(help="New kind of index: flat, hnsw or ivf.")] = None,
    settings: Settings = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    tenant: Tenant = None,
) -> None:
    """Compact a collection and rebuild its index. Searches keep working meanwhile."""
    if settings and kind is None:
        fail(EXIT_USAGE, "--set needs --kind")
    try:
        index = None if kind is None else {"kind": kind, **read_settings(settings or [])}
    except ValueError as error:
        fail(EXIT_USAGE, str(error))
    params = {"name": name, "index": index}
    print_json(_ask(url, token, tenant, "collections.rebuild", params, timeout_ms=DAY_MS))


@collections_app.command("delete")
def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    tenant: Tenant = None,
) -> None:
    """Delete a collection with all its items."""
    if not yes:
        if not sys.stdin.isatty():
            fail(EXIT_USAGE, "this deletes the collection with all its items; add --yes to confirm")
        typer.confirm(f"Delete collection {name} with all its items?", abort=True, err=True)
    _ask(url, token, tenant, "collections.delete", {"name": name})


@collections_app.command("export")
def export(
    name: Name,
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines. '-' is standard output.")],
    url: Url = DEFAULT_URL,
    token: Token = None,
    tenant: Tenant = None,
) -> None:
    """Write a collection to a file, which gets its name only when it is complete."""

    async def run(hub: Hub) -> None:
        with written(file) as output:
            await export_items(hub, name, output)

    _with_file(url, token, tenant, run)


@collections_app.command("import")
def import_file(
    name: Name,
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines. '-' is standard input.")],
    url: Url = DEFAULT_URL,
    token: Token = None,
    tenant: Tenant = None,
) -> None:
    """Import the items of a file into a collection; one that does not exist is created as the file's first line says.

    Items whose id exists are replaced, so that a file can be imported again, for example after a failure.
    """

    async def run(hub: Hub) -> None:
        with opened(file) as (source, size):
            imported = await import_items(hub, name, source, size, file)
        typer.echo(f"imported {imported} items", err=True)

    _with_file(url, token, tenant, run)


def _with_file(url: str, token: str | None, tenant: str | None, run: Callable[[Hub], Awaitable[None]]) -> None:
    try:
        talk(url, token, run, tenant)
    except FileProblem as problem:
        fail(EXIT_FAILED, str(problem))


def _ask(
    url: str, token: str | None, tenant: str | None, method: str, params: dict[str, Any], timeout_ms: int | None = None
) -> Any:
    answers: list[Any] = []

    async def run(hub: Hub) -> None:
        answers.append(await hub.call(method, params, timeout_ms=timeout_ms))

    talk(url, token, run, tenant)
    return answers[0]


class FileProblem(Exception):
    """A file cannot be read or written; the message says which line, and why."""


@contextmanager
def written(file: str, *, replace: bool = True) -> Iterator[IO[bytes]]:
    """A file to write to, which gets its name when it is complete; only its owner may read it, as the collection.

    Args:
        replace: whether a file that has the name, or gets it meanwhile, is replaced.

    Raises:
        FileProblem: it cannot be written.
    """
    from trunkline.storage.durable import USED_UP, whole_file

    try:
        if file == "-":
            yield sys.stdout.buffer
            sys.stdout.flush()
            return
        with whole_file(Path(file), replace=replace) as output:
            yield output
    except BrokenPipeError:
        raise
    except OSError as error:
        if file == "-" and error.errno in USED_UP:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is not written at the end
            raise FileProblem(f"standard output: {error.strerror}: what was written so far is of no use") from error
        if error.filename is None and error.errno is None:  # an error of the connection, not of the file
            raise
        remedy = ": nothing was changed; free some of it and try again" if error.errno in USED_UP else ""
        raise FileProblem(f"{file}: {error.strerror or error}{remedy}") from error


@contextmanager
def opened(file: str) -> Iterator[tuple[IO[bytes], int | None]]:
    """A file to read from, and its size in bytes (None for standard input)."""
    if file == "-":
        yield sys.stdin.buffer, None
        return
    try:
        source = Path(file).open("rb")  # noqa: SIM115  # closed below; only opening may be the file's fault
    except OSError as error:
        raise FileProblem(f"{file}: {error.strerror}") from error
    with source:
        yield source, os.fstat(source.fileno()).st_size


async def export_items(hub: Hub, name: str, output: IO[bytes]) -> None:
    """Write a collection's description, then all its items."""
    stats = await hub.call("collections.stats", {"name": name})
    described = {"name": name} | {part: stats[part] for part in DESCRIBED}
    output.write(_line({"collection": described}))
    with progress_bar(f"exporting {name}", stats["count"]) as (progress, task):
        async for chunk in await hub.stream("collections.export", {"name": name}):
            output.writelines(map(_line, chunk.data["items"]))
            progress.advance(task, len(chunk.data["items"]))


async def import_items(hub: Hub, name: str, source: IO[bytes], size: int | None, file: str) -> int:
    """Import all items of a file, creating the collection where the file describes it; returns how many were imported.

    Raises:
        FileProblem: a line is not a JSON object.
    """
    lines = _read_lines(source, file)
    first = next(lines, None)
    if first is not None and isinstance(first[1].get("collection"), dict):
        described = first[1]["collection"]
        if not await _is_there(hub, name):
            params = {part: described[part] for part in DESCRIBED if described.get(part) is not None}
            await hub.call("collections.create", {"name": name, **params})
        first = next(lines, None)
    with progress_bar(f"importing {name}", size, in_bytes=True) as (progress, task):
        pages = _pages(first, lines, lambda at: progress.update(task, completed=at))
        result = await hub.call("collections.import", {"name": name}, input=pages, timeout_ms=DAY_MS)
    return int(result["imported"])


async def _is_there(hub: Hub, name: str) -> bool:
    return any(each["name"] == name for each in (await hub.call("collections.list"))["collections"])


Line = tuple[int, dict[str, Any], int]
"""A line of a file: the offset of its end, its JSON object, and its length, both in bytes."""


def _read_lines(source: IO[bytes], file: str) -> Iterator[Line]:
    end = 0
    for number, line in enumerate(source, 1):
        end += len(line)
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise FileProblem(f"{file}: line {number} is not JSON: {error}") from error
        if not isinstance(item, dict):
            raise FileProblem(f"{file}: line {number} is not a JSON object")
        yield end, item, len(line)


def _pages(first: Line | None, rest: Iterator[Line], reached: Callable[[int], None]) -> Iterator[dict[str, Any]]:
    page: list[dict[str, Any]] = []
    size = 0
    while first is not None:
        end, item, length = first
        if page and (len(page) == PAGE_ITEMS or size + length > PAGE_BYTES):
            yield {"items": page}
            reached(end - length)
            page, size = [], 0
        page.append(item)
        size += length
        first = next(rest, None)
    if page:
        yield {"items": page}


def read_settings(texts: list[str]) -> dict[str, int]:
    """The settings of an index, from texts such as ``m=16``.

    Raises:
        ValueError: a text is not of that form.
    """
    settings = {}
    for text in texts:
        name, _, number = text.partition("=")
        if not name or not number.isascii() or not number.isdecimal():
            raise ValueError(f"--set {text}: write it as NAME=NUMBER, for example m=32")
        settings[name] = int(number)
    return settings


@contextmanager
def progress_bar(what: str, total: int | None, *, in_bytes: bool = False) -> Iterator[tuple[Progress, TaskID]]:
    """A progress bar on stderr, shown where that is a terminal."""
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from trunkline.cli.show.console import TextConsole

    console = TextConsole(stderr=True)
    counted = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), counted, TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield progress, progress.add_task(what, total=total)


def print_collections(collections: list[dict[str, Any]]) -> None:
    """Print collections as a table."""
    from rich.table import Table

    from trunkline.cli.show.tables import console_for_tables

    table = Table(box=None, pad_edge=False)
    has_tenants = any("tenant" in each for each in collections)
    for heading in ("name", "dimension", "metric", "index", "model", *(["tenant"] if has_tenants else [])):
        table.add_column(heading, justify="right" if heading == "dimension" else "left", overflow="fold")
    for each in collections:
        if "error" in each:
            table.add_row(each["name"], "", "", "", f"cannot be read: {each['error']}")
        else:
            kind, *settings = each["index"].items()
            index = " ".join([str(kind[1]), *(f"{name}={value}" for name, value in settings)])
            row = (each["name"], str(each["dimension"]), each["metric"], index, each["model"] or "-")
            table.add_row(*row, *([each.get("tenant", "default")] if has_tenants else []))
    console_for_tables().print(table)


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
