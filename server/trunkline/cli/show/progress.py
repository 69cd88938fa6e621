"""Shows the progress that methods report by ``$/progress``: as a bar on a terminal, or as lines.

A report is any JSON. Understood are a number from 0 to 1; ``{done, total}``; ``{documents_done, documents_total,
passages_done, passages_total, stage, current}``; and ``{kind, title, message, percentage}`` of the Language Server
Protocol. Anything else is shown as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from trunkline.cli.show.console import TextConsole
from trunkline.terminal_text import plain
from trunkline_protocol.binary import to_member

LINE_SECONDS: Final = 1.0
"""Seconds between two lines, where there is no terminal."""

COUNTED: Final = ("documents", "passages")
"""Things counted by ``<thing>_done`` and ``<thing>_total``, the coarsest first."""

Report = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class ProgressReading:
    """A progress report, interpreted: the fraction done (0 to 1, None where it is not known), and the rest as text."""

    fraction: float | None
    words: str

    def __str__(self) -> str:
        percent = "" if self.fraction is None else f"{100 * self.fraction:.0f} %"
        return "  ".join(part for part in (percent, self.words) if part)


def read_report(value: Any) -> ProgressReading:
    """The reading of a progress report, which may be any JSON."""
    if _is_number(value) and 0 <= value <= 1:
        return ProgressReading(float(value), "")
    if not isinstance(value, dict):
        return ProgressReading(None, value if isinstance(value, str) else _compact(value))
    fraction: float | None = None
    counts: list[str] = []
    for thing in (*COUNTED, None):
        done, total = (value.get(f"{thing}_{end}" if thing else end) for end in ("done", "total"))
        if _is_number(done):
            counts.append(
                (f"{done:,} of {total:,}" if _is_number(total) else f"{done:,}") + (f" {thing}" if thing else "")
            )
            fraction = _share(done, total) if _is_number(total) and total > 0 else fraction
    if _is_number(percentage := value.get("percentage")):
        fraction = _share(percentage, 100)
    what = [value[name] for name in ("title", "stage") if isinstance(value.get(name), str)]
    which = [value[name] for name in ("message", "current") if isinstance(value.get(name), str)]
    if fraction is None and not (what or which or counts):
        return ProgressReading(None, "" if value.keys() <= {"kind"} else _compact(value))
    return ProgressReading(fraction, ", ".join([*what, *counts, *which]))


def _share(done: float, total: float) -> float:
    return min(1.0, max(0.0, done / total))


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _compact(value: Any) -> str:
    return json.dumps(value, default=to_member, ensure_ascii=False, separators=(",", ":"))


class Lines:
    """Writes a line for each new report, at most one in :data:`LINE_SECONDS`, and always the last one.

    Args:
        write: gets each line, without its end.
        clock: monotonic, in seconds.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._write = write
        self._clock = clock
        self._next_at = 0.0
        self._written = ""
        self._waiting: str | None = None

    def report(self, value: Any) -> None:
        """Show the value of ``$/progress``."""
        self._waiting = plain(str(read_report(value)))
        if self._clock() >= self._next_at:
            self.flush()

    def flush(self) -> None:
        """Write the last report, if it was held back."""
        line, self._waiting = self._waiting, None
        if line and line != self._written:
            self._write(line)
            self._written = line
            self._next_at = self._clock() + LINE_SECONDS


class Bar:
    """A progress bar that appears with the first report and is removed at the end."""

    def __init__(self, console: TextConsole, method: str) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[words]}", markup=False, table_column=Column(no_wrap=True, ratio=1)),
            console=console,
            transient=True,
            expand=True,
        )
        self._method = plain(method)
        self._task: TaskID | None = None

    def report(self, value: Any) -> None:
        """Show the value of ``$/progress``."""
        self.show(read_report(value))

    def show(self, reading: ProgressReading) -> None:
        """Show a reading."""
        if self._task is None:
            self._task = self._progress.add_task(self._method, total=None, words="")
            self._progress.start()
        total = None if reading.fraction is None else 1.0
        self._progress.update(self._task, total=total, completed=reading.fraction or 0.0, words=plain(reading.words))

    def end(self) -> None:
        """Remove the bar."""
        if self._task is not None:
            self._progress.stop()


@contextmanager
def shown_progress(method: str, wanted: bool | None, clock: Callable[[], float]) -> Iterator[Report | None]:
    """Show a call's progress on stderr for the length of the block; gives the function that takes its reports, or None.

    Args:
        wanted: None for a bar where stderr is a terminal; True for lines where it is not; False for neither.
        clock: monotonic, in seconds.
    """
    console = TextConsole(stderr=True)
    if wanted is False or not (wanted or console.is_terminal):
        yield None
    elif console.is_terminal:
        bar = Bar(console, method)
        try:
            yield bar.report
        finally:
            bar.end()
    else:
        lines = Lines(_write_line, clock)
        try:
            yield lines.report
        finally:
            lines.flush()


def _write_line(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
