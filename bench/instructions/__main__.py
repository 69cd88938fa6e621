"""Count the instructions of two commits for the same dialogue, and fail where the later one needs too many more.

    python -m bench.instructions                  # HEAD^ and HEAD
    python -m bench.instructions --base v0.1.0
    python -m bench.instructions --access         # HEAD without and with tokens, tenant, roles, limits, audit

Two runs for each commit: one under callgrind, which counts, and one with Python's own tracing, which names functions.
Where something is above the limit both are counted once more.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from bench.instructions.access import ACCESS
from bench.instructions.bytecode import BYTECODE, CALLS, Bytecode
from bench.instructions.callgrind import INSTRUCTIONS, Callgrind, missing
from bench.instructions.checkouts import checkouts, git, is_changed
from bench.instructions.compare import (
    WHOLE,
    PerUnit,
    Row,
    above,
    grown,
    grown_table,
    per_unit,
    rows,
    rows_table,
    smaller,
)
from bench.instructions.counting import DEFAULTS, STEPS, Counter, Progress, Setup, count
from bench.instructions.dialogue import PARTS

NAMES: Final = ("before", "after")
LIMIT_PERCENT: Final = 3.0
ACCESS_PERCENT: Final = 8.0
FUNCTIONS: Final = 8
KINDS: Final = (
    (INSTRUCTIONS, "C function (instructions)"),
    (BYTECODE, "Python function (instructions of bytecode)"),
    (CALLS, "Python function -> C function (calls)"),
)
"""What is told of functions: the kind and its title."""

LEAST_GROWTH: Final = 0.01
"""A function is told that grew by this share of what its process needs: less comes and goes by itself."""

LEAST_CULPRIT: Final = 0.002
"""The same where the limit was passed: what grew may be spread over many."""


@contextmanager
def shown(steps: int) -> Iterator[Progress]:
    """Show steps on stderr: a bar on a terminal, else a line each."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        began, done = time.monotonic(), 0

        def line(words: str) -> None:
            nonlocal done
            done += 1
            print(f"{done:>3} of {steps}  {time.monotonic() - began:4.0f} s  {words}", file=sys.stderr, flush=True)

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=steps)
        yield lambda words: bar.update(task, advance=1, description=words)


Found = dict[str, PerUnit]
"""What one commit needs, by the kind of what was counted."""


Subject = tuple[Path, Setup]
"""Sources, and how a hub of them is set up."""


def measure(subjects: Sequence[Subject], ways: Sequence[type[Counter]]) -> list[Found]:
    """Count each subject in each way."""
    found: list[Found] = [{} for _ in subjects]
    with shown(len(ways) * len(subjects) * STEPS) as progress:
        for way in ways:
            for (path, setup), name, kinds in zip(subjects, NAMES, found, strict=True):
                samples = count(path, way, _prefixed(progress, f"{name}, {way.__name__.lower()}: "), setup)
                kinds.update((kind, per_unit(parts)) for kind, parts in samples.items())
    return found


def _prefixed(progress: Progress, prefix: str) -> Progress:
    return lambda words: progress(prefix + words)


def compare(before: Found, after: Found) -> list[Row]:
    """Compare the instructions of two commits."""
    return rows(before[INSTRUCTIONS], after[INSTRUCTIONS], {part.name: part.unit for part in PARTS})


def measure_again(subjects: Sequence[Subject], found: Sequence[Found]) -> None:
    """Count instructions once more, and keep the smaller number of each."""
    for kinds, again in zip(found, measure(subjects, [Callgrind]), strict=True):
        kinds[INSTRUCTIONS] = smaller(kinds[INSTRUCTIONS], again[INSTRUCTIONS])


def report(before: Found, after: Found, limit: float) -> bool:
    """Print the tables; returns whether nothing grew above the limit."""
    found = compare(before, after)
    print("\n".join(rows_table(found)))
    failed = above(found, limit)
    least = LEAST_CULPRIT if failed else LEAST_GROWTH
    where = [(row.process, row.part) for row in failed or found if row.part != WHOLE]
    for kind, title in KINDS:
        functions = grown(before[kind], after[kind], where, least, FUNCTIONS)
        if functions:
            print("\nThose that grew most, for one call, chunk or delivery:")
            print("\n".join(grown_table(functions, title)))
    print()
    for row in failed:
        print(f"{row.process}, {row.part}: {100 * row.change:+.2f} %, and {100 * limit:+.1f} % is allowed")
    if not failed:
        print(f"No process needs {100 * limit:.1f} % more.")
    return not failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="HEAD^", metavar="COMMIT", help="what is compared with (%(default)s)")
    parser.add_argument("--commit", default="HEAD", help="what is compared (%(default)s)")
    limits = f"({LIMIT_PERCENT:g}; with --access {ACCESS_PERCENT:g})"
    parser.add_argument("--limit", type=float, default=None, metavar="PERCENT", help=limits)
    parser.add_argument("--access", action="store_true", help="compare one commit with and without access control")
    options = parser.parse_args()
    limit = (options.limit or (ACCESS_PERCENT if options.access else LIMIT_PERCENT)) / 100
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # hubs and checkouts go as they do after Ctrl-C
    if needed := missing():
        raise SystemExit(f"{' and '.join(needed)} missing: apt-get install valgrind util-linux (make deps-debian)")
    names = (options.commit if options.access else options.base, options.commit)
    commits = [git("rev-parse", "--verify", f"{name}^{{commit}}") for name in names]
    for title, commit in zip(NAMES, commits, strict=True):
        print(f"{title:>6}  {git('log', '-1', '--format=%h %s', commit):.100}")
    if is_changed():
        print("What is not committed is not counted.")
    print(flush=True)
    with checkouts(*commits) as paths:
        subjects = list(zip(paths, (DEFAULTS, ACCESS if options.access else DEFAULTS), strict=True))
        found = measure(subjects, [Callgrind, Bytecode])
        if above(compare(found[0], found[1]), limit):
            print("Above the limit: once more, since what else the machine does mostly adds.\n", flush=True)
            measure_again(subjects, found)
    raise SystemExit(not report(found[0], found[1], limit))


if __name__ == "__main__":
    main()
