"""Prints streams and events as they arrive, methods as a table, checks as a list."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, Literal

from rich.table import Table
from rich.text import Text

from trunkline.cli.checks import Check
from trunkline.cli.show.console import TextConsole
from trunkline.cli.show.terminal import plain_json
from trunkline.client import Event, Gap
from trunkline.terminal_text import plain, plain_lines
from trunkline_protocol.catalogue import Catalogue, MethodInfo, MethodLimits

EventForm = Literal["pretty", "json", "ndjson", "data"]

_GAP_REASONS: Final = {
    "slow_consumer": "this connection was read too slowly",
    "history": "the hub no longer keeps them",
    "epoch": "the topic has a new epoch, in which offsets start again",
    "client_slow": "they arrived faster than they could be printed",
    "missing": "the hub skipped them",
}
_STYLES = {"ok": "green", "warning": "yellow", "failed": "red", "low": "", "medium": "yellow", "high": "red"}


UNWRAPPED: Final = 10_000
"""Columns of a pipe or a file: more than any row has."""
NO_CHUNKS: Final = {"chunks": 0}
"""The result of a stream that ended without a chunk and has no summary of its own."""


class StreamPrinter:
    """Prints chunks as they arrive: partial answers as running text, other chunks as one line each."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console = TextConsole(stderr=True)
        self._chunks = 0

    def chunk(self, chunk_type: str, data: Any, index: int) -> None:
        """Print one chunk."""
        self._chunks += 1
        if self._as_json:
            self._line({"chunk_type": chunk_type, "index": index, "data": data})
        elif chunk_type == "partial_answer":
            write(data["text"] if isinstance(data, dict) and "text" in data else str(data))
        elif (
            chunk_type == "document"
            and isinstance(data, dict)
            and isinstance(score := data.get("score", 0), float | int)
        ):
            self._faint(f"[{data.get('rank', index)}] {data.get('id', '')}  {score:.3f}")
        elif chunk_type == "metadata":
            self._faint(plain_json(data))
        else:
            self._line(data)

    def result(self, result: Any) -> None:
        """Print the result that follows the last chunk: the whole of it, where a method that is no stream sent none."""
        if self._as_json:
            self._line({"result": result})
            return
        if not self._chunks and result != NO_CHUNKS:
            self._line(result)
            return
        write("\n")
        match result:
            case {"performance": {"total_time_ms": float() | int() as performance}}:
                self._faint(f"{performance:.0f} ms")

    def _faint(self, text: str) -> None:
        self._console.print(Text(text, "dim"))

    @staticmethod
    def _line(value: Any) -> None:
        write(plain_json(value) + "\n")


class EventPrinter:
    """Prints a line per event. Gaps are reported on stderr, and also among the events unless the form is ``data``.

    Args:
        form: ``pretty``: time, topic, data. ``ndjson``: one JSON object a line, ``{"type": "event", ...}`` or
            ``{"type": "gap", ...}``, named as on the wire. ``json``: the same, indented. ``data``: the event's data.
    """

    def __init__(self, form: EventForm) -> None:
        self._form = form
        on_terminal = sys.stdout.isatty() and form == "pretty"
        self._console = TextConsole() if on_terminal else None
        self._errors = TextConsole(stderr=True)

    def event(self, event: Event) -> None:
        """Print one event."""
        if self._form == "data":
            write(_compact(event.data) + "\n")
            return
        if self._form != "pretty":
            who = {} if event.publisher is None else {"publisher": event.publisher}
            who |= {} if event.tenant is None else {"tenant": event.tenant}
            self._object("event", event, {"offset": event.offset, "published_at": event.published_at, **who})
            return
        time = datetime.fromtimestamp(event.published_at / 1000).strftime("%H:%M:%S.%f")[:-3]
        if self._console is None:
            write(f"{time}  {plain(event.topic)}  {_compact(event.data)}\n")
        else:
            said = Text.assemble((time, "dim"), "  ", (plain(event.topic), "cyan"), "  ", _compact(event.data))
            self._console.print(said, soft_wrap=True)

    def gap(self, gap: Gap) -> None:
        """Report events that were not delivered."""
        if self._form in ("json", "ndjson"):
            rest = {"from": gap.start, "to": gap.end, "count": gap.count, "reason": gap.reason}
            self._object("gap", gap, rest)
        elif self._form == "pretty" and self._console is None:
            write(f"{'gap':<12}  {plain(f'{gap.topic}  {gap.start}-{gap.end} {gap.reason}')}\n")
        self._errors.print(Text(plain(f"trunkline: gap: {describe_gap(gap)}"), "yellow"), soft_wrap=True)

    def _object(self, kind: str, item: Event | Gap, rest: dict[str, Any]) -> None:
        data = {"data": item.data} if isinstance(item, Event) else {}
        told = {"type": kind, "topic": item.topic, **data, "epoch": item.epoch, **rest}
        if self._form == "json":
            write(plain_json(told, indent=2) + "\n")
        else:
            write(_compact(told) + "\n")


def describe_gap(gap: Gap) -> str:
    """A gap as a sentence."""
    number = "some" if gap.count is None else gap.count
    which = f" ({gap.start} to {gap.end})" if gap.end >= gap.start > 0 else ""
    events = "event was" if gap.count == 1 else "events were"
    return f"{gap.topic}: {number} {events} not delivered{which}: {_GAP_REASONS.get(gap.reason, gap.reason)}"


def _compact(value: Any) -> str:
    return plain_json(value, separators=(",", ":"))


def write(text: str) -> None:
    """Write to standard output and flush; to a terminal without control characters.

    Raises:
        BrokenPipeError: the output is not read any more, for example by ``head`` after its last line.
    """
    sys.stdout.write(plain_lines(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


@contextmanager
def while_output_is_read() -> Iterator[None]:
    """Cancel the block, which waits for something to print, as soon as standard output is not read any more.

    Raises:
        BrokenPipeError: the reader of the pipe is gone. Without this only the next write would fail.
    """
    task, loop, output = asyncio.current_task(), asyncio.get_running_loop(), sys.stdout.fileno()
    is_gone = False

    def on_gone() -> None:
        nonlocal is_gone
        is_gone = True
        loop.remove_reader(output)
        if task is not None:
            task.cancel()

    # Linux reports the closed other end of a pipe as an error, which wakes readers; other systems may not.
    watched = sys.platform == "linux" and stat.S_ISFIFO(os.fstat(output).st_mode)
    if watched:
        loop.add_reader(output, on_gone)
    try:
        yield
    except asyncio.CancelledError:
        if not is_gone or task is None or task.uncancel():
            raise
        raise BrokenPipeError("nobody reads standard output") from None
    finally:
        if watched:
            loop.remove_reader(output)


def console_for_tables() -> TextConsole:
    """Standard output. Where it is no terminal, rows are not wrapped: what reads a pipe or a file reads lines."""
    return TextConsole(width=None if sys.stdout.isatty() else UNWRAPPED)


def print_methods(document: dict[str, Any]) -> None:
    """Print the methods of an OpenRPC document as a table."""
    table = Table(box=None, pad_edge=False)
    for heading in ("METHOD", "PARAMS", "", "SUMMARY"):
        table.add_column(heading, overflow="fold")
    for method in document["methods"]:
        extension = method.get("x-trunkline", {})
        params = ", ".join(p["name"] if p.get("required") else f"{p['name']}?" for p in method["params"])
        table.add_row(
            method["name"],
            params,
            "stream" if extension.get("streaming") else "",
            method.get("summary", ""),
        )
    console_for_tables().print(table)


def print_checks(checks: list[Check]) -> None:
    """Print the results of ``trunkline doctor``."""
    console = console_for_tables()
    for check in checks:
        console.print(Text.assemble((f"{check.state:<8}", _STYLES[check.state]), f" {check.name}: {check.detail}"))


def print_findings(findings: list[tuple[str, list[str]]], summary: str) -> None:
    """Print the results of ``trunkline doctor --security``: of each its severity and its lines."""
    console = console_for_tables()
    for severity, (first, *more) in findings:
        console.print(Text.assemble((f"{severity:<8}", _STYLES[severity]), f" {first}"))
        for line in more:
            console.print(Text(f"{'':<8} {line}"))
    console.print(Text(summary))


def print_checked(catalogue: Catalogue, group: str | None) -> None:
    """Print what ``trunkline check`` has found: the methods as a table, then what could not be loaded.

    Args:
        group: whose settings it had; None where there are no groups.
    """
    table = Table(box=None, pad_edge=False)
    for heading in ("METHOD", "KIND", "PARAMS", "OPTIONS"):
        table.add_column(heading, overflow="fold")
    for info in catalogue.methods:
        params = ", ".join(each.name if each.required else f"{each.name}?" for each in info.parameters)
        table.add_row(info.name, _kind(info), params, ", ".join(_options(info)))
    console = console_for_tables()
    if group is not None:
        console.print(Text(f"group {group}", "bold"))
    if catalogue.methods:
        console.print(table)
    for failure in catalogue.failed:
        console.print(Text.assemble(("failed", _STYLES["failed"]), f" {failure.words}"))


def _kind(info: MethodInfo) -> str:
    kind = (info.kind or "").replace("_", " ")
    return kind if info.batch is None else f"{kind}, batch of {info.batch.max_items}"


def _options(info: MethodInfo) -> Iterator[str]:
    """The options that a method has beside its kind, as they are written; not those that have their default."""
    if info.idempotent:
        yield "idempotent"
    if info.input is not None:
        yield "input"
    limits, batch = info.limits or MethodLimits(), info.batch
    given = {
        "routing_key": info.routing_key,
        "technique": info.technique,
        "timeout_ms": info.timeout_ms,
        "max_timeout_ms": info.max_timeout_ms,
        "max_wait_ms": None if batch is None else batch.max_wait_ms or None,
        "max_concurrency": limits.max_concurrency,
        "max_calls": limits.max_calls,
        "rate": limits.rate,
        "recovery": "+".join(info.recovery) or None,
        "http": info.http,
        "runs_as": None if info.runs_as == "caller" else info.runs_as,
    }
    for name, value in given.items():
        if value is not None:
            yield f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
