"""Renders a :class:`trunkline.cli.show.top.board.Board` for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from trunkline.cli.show.top.board import CALLS, METHODS, TOPICS, Board
from trunkline.terminal_text import plain
from trunkline_protocol.health_reports import SERVING
from trunkline_protocol.principals import DEFAULT_TENANT
from trunkline_protocol.reports import WorkingExecutor

HEAD_LINES: Final = 4
SECTION_LINES: Final = 2
"""Lines of a section beside its rows: a blank one and the headings."""

ROWS_AT_MOST: Final = 20
STATUS_STYLES: Final = {
    "healthy": "bold green",
    "ready": "green",
    "busy": "bold green",
    "starting": "yellow",
    "stopping": "yellow",
    "degraded": "bold yellow",
    "unhealthy": "bold red",
    "silent": "bold red",
    "down": "bold red",
}

Row = Sequence[str | Text]


def render(board: Board, now: float, height: int | None = None) -> RenderableType:
    """The whole screen, for any width.

    Args:
        now: monotonic, in seconds.
        height: lines of the terminal, which the sections share; None for no limit.
    """
    faded = "" if board.is_live(now) else "dim"
    sections = [
        _executors(board),
        _methods(board),
        _tenants(board),
        _calls(board),
        _topics(board),
    ]
    shown = [section for section in sections if section.rows or section.note]
    space = None if height is None else height - HEAD_LINES - SECTION_LINES * len(shown) - 1
    limits = share(space, [max(1, len(section.rows)) for section in shown])
    parts: list[RenderableType] = [_head(board, now, faded)]
    for section, limit in zip(shown, limits, strict=True):
        if limit:
            parts += [Text(), section.table(limit, faded)]
    return Group(*parts)


def share(space: int | None, wanted: Sequence[int]) -> list[int]:
    """The lines of each section: what it wants, or an equal part of the space."""
    wanted = [min(ROWS_AT_MOST, number) for number in wanted]
    if space is None:
        return list(wanted)
    given = [0] * len(wanted)
    while space > 0 and given != wanted:
        for index, number in enumerate(wanted):
            if given[index] < number and space > 0:
                given[index] += 1
                space -= 1
    return given


class _Section:
    """Headings and rows of one table."""

    def __init__(self, columns: Sequence[str], rows: list[Row], note: str = "", *, wide: int = 0) -> None:
        self.columns = columns
        self.rows = rows
        self.note = note
        self._wide = wide

    def table(self, limit: int, faded: str) -> RenderableType:
        """The table; columns beginning with ``>`` are right-aligned, the wide one gets the rest of the line."""
        if not self.rows:
            return Text(f"{self.columns[0]}: {self.note}", "yellow", no_wrap=True, overflow="ellipsis")
        table = Table(box=None, pad_edge=False, expand=True, padding=(0, 2, 0, 0))
        table.header_style, table.style = "bold cyan", faded
        for index, heading in enumerate(self.columns):
            right = heading.startswith(">")
            table.add_column(
                heading.removeprefix(">"),
                justify="right" if right else "left",
                ratio=1 if index == self._wide else None,
                no_wrap=True,
                overflow="ellipsis",
            )
        for row in self.rows[:limit]:
            # A plain string would be parsed as markup, and names come from other people.
            table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
        return table


def _head(board: Board, now: float, faded: str) -> RenderableType:
    status, why = board.health_in_words()
    title = Table.grid(expand=True)
    title.add_column(no_wrap=True, overflow="ellipsis")
    title.add_column(justify="right", no_wrap=True, overflow="ellipsis", ratio=1)
    freshness = Text(plain(board.freshness(now)), "green" if board.is_live(now) else "bold yellow")
    title.add_row(Text.assemble(("trunkline ", "bold"), plain(board.url), "  "), freshness)
    uptime = "" if board.health is None else f"; up {duration(board.health.uptime_seconds)}"
    health = Text.assemble((status, STATUS_STYLES.get(status, "")), f"  {plain(why)}{uptime}")
    health.no_wrap, health.overflow = True, "ellipsis"
    return Group(title, health, *_figures(board, faded))


def _figures(board: Board, faded: str) -> list[Text]:
    m = board.metrics
    if m is None:
        return [Text("calls/s -   errors/s -   p50 - p95 - p99 - ms   queue -   in flight -", faded, no_wrap=True)]
    first = (
        f"calls/s {count(m.calls_per_second)}   errors/s {count(m.errors_per_second)}   "
        f"p50 {ms(m.p50_ms)} p95 {ms(m.p95_ms)} p99 {ms(m.p99_ms)} ms   "
        f"queue {m.calls_waiting}   in flight {m.calls_in_flight}"
    )
    second = (
        f"events/s {count(m.events_per_second)}   delivered/s {count(m.deliveries_per_second)}   "
        f"connections {m.connections}   streams {m.streams}   hub {m.rss_mb:.0f} MB"
    )
    style = faded or "bold"
    return [
        Text(first, style, no_wrap=True, overflow="ellipsis"),
        Text(second, faded, no_wrap=True, overflow="ellipsis"),
    ]


def _executors(board: Board) -> _Section:
    rows: list[Row] = []
    for row in board.executors:
        memory = row.memory_usage
        rows.append(
            (
                plain(row.worker_id),
                Text(row.status, STATUS_STYLES.get(row.status, "")),
                "-" if row.cpu_percent is None else f"{row.cpu_percent:.0f} %",
                "-" if memory is None else f"{memory.rss_mb:.0f} MB",
                str(row.restarts),
                _failed(row.error_count, row.request_count),
                plain(_doing(row)),
            )
        )
    return _Section(("EXECUTOR", "STATE", ">CPU", ">MEMORY", ">RESTARTS", ">FAILED", "RUNS"), rows, wide=6)


def _failed(errors: int, calls: int) -> Text:
    return Text(f"{100 * errors / calls:.0f} %", "red") if errors else Text("")


def _doing(row: WorkingExecutor) -> str:
    """What an executor runs; where it runs nothing, its last failure or restart."""
    if row.running:
        first, more = row.running[0], row.active_requests - 1
        ran = first.age_ms if first.running_ms is None else first.running_ms
        return f"{first.method} {seconds(ran)}" + (f" + {more}" if more > 0 else "")
    if row.status in SERVING or not row.last_failure:
        last = row.last_restart
        return f"(restarted: {last.words})" if last else ""
    return row.last_failure


def _methods(board: Board) -> _Section:
    rows: list[Row] = []
    for row in board.methods:
        concern = board.concern(row.method, row.tenant)
        rows.append(
            (
                Text(plain(_of(row.method, row.tenant)), "bold red" if concern else ""),
                count(row.per_second),
                _failed(sum(row.errors.values()), row.count),
                ms(row.p50_ms),
                ms(row.p95_ms),
                ms(row.p99_ms),
                ms(row.wait_p95_ms),
            )
        )
    columns = ("METHOD (last minute)", ">CALLS/S", ">FAILED", ">P50 MS", ">P95", ">P99", ">WAIT P95")
    return _Section(columns, rows, board.refused.get(METHODS, ""))


def _tenants(board: Board) -> _Section:
    rows: list[Row] = [
        (
            plain(row.tenant),
            count(row.per_second),
            _failed(row.failed, row.count),
            f"{row.refused:,}",
            f"{row.executor_seconds:,.1f}",
        )
        for row in board.tenants
    ]
    return _Section(("TENANT (last minute)", ">CALLS/S", ">FAILED", ">REFUSED", ">EXECUTOR S"), rows)


def _of(name: str, tenant: str) -> str:
    return name if tenant == DEFAULT_TENANT else f"{name} ({tenant})"


def _calls(board: Board) -> _Section:
    rows: list[Row] = [
        (
            plain(row.method),
            seconds(row.age_ms),
            row.state,
            plain(row.executor or "-"),
            plain(row.principal or "-"),
        )
        for row in board.calls
        if row.method != CALLS
    ]
    heading = f"IN FLIGHT (and {board.calls_more:,} more)" if board.calls_more else "IN FLIGHT"
    return _Section((heading, ">AGE", "STATE", "EXECUTOR", "FOR"), rows, board.refused.get(CALLS, ""))


def _topics(board: Board) -> _Section:
    rows: list[Row] = [
        (
            plain(_of(row.topic, row.tenant)),
            "-" if row.per_second is None else count(row.per_second),
            f"{row.offset:,}",
            f"{row.subscribers:,}",
            f"{row.kept:,}",
        )
        for row in board.topics
    ]
    columns = ("TOPIC", ">EVENTS/S", ">EVENTS", ">SUBSCRIBERS", ">KEPT")
    return _Section(columns, rows, board.refused.get(TOPICS, ""))


def count(number: float) -> str:
    """A rate as text, with a decimal while it is small."""
    return f"{number:,.0f}" if number >= 100 or number == int(number) else f"{number:.1f}"


def ms(milliseconds: float) -> str:
    """Milliseconds as text, with more decimals the smaller they are."""
    if milliseconds >= 100:
        return f"{milliseconds:,.0f}"
    return f"{milliseconds:.1f}" if milliseconds >= 1 else f"{milliseconds:.2f}"


def seconds(milliseconds: float) -> str:
    """An age in milliseconds as text."""
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else duration(milliseconds / 1000)


def duration(passed: float) -> str:
    """Seconds as text, in the two largest units."""
    whole = int(passed)
    if whole < 60:
        return f"{passed:.1f} s" if passed < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
