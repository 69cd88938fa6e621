"""Runs ``make test`` a number of times in a row, and prints which tests failed, in which runs, and how long each took.

``python -m scripts.repeat_tests --runs 10``; the words of each run stay in ``build/test-repeat/run-N.log``. Fails where
a run did, and stops at none: a test that fails once in ten runs races, and its name is what is looked for.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from scripts.sources import ROOT

FOLDER: Final = ROOT / "build" / "test-repeat"
FAILED: Final = re.compile(
    r"^(?:FAILED|ERROR) (\S+?(?:\[.*?\])?)(?: - .*)?$|^\s*✖ (?!failing tests:)(.+?)(?: \([\d.]+ms\))?$", re.MULTILINE
)
"""Matches the line that pytest's summary, or the runner of Node.js, has for each test that failed."""


class Run(NamedTuple):
    """How one run went.

    Attributes:
        status: the exit status.
        seconds: how long it took.
        failed: the names of the tests that failed, each once.
    """

    status: int
    seconds: float
    failed: tuple[str, ...]


def failures(words: str) -> tuple[str, ...]:
    """The names of the tests that a run says have failed, each once, in its order."""
    found = (python or script for python, script in FAILED.findall(words))
    return tuple(dict.fromkeys(found))


def run(command: Sequence[str], log: Path) -> Run:
    """Run a command to its end, its outputs to a file."""
    began = time.monotonic()
    with log.open("wb") as file:
        done = subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, check=False)  # noqa: S603  # ours
    return Run(done.returncode, time.monotonic() - began, failures(log.read_text(errors="replace")))


def summary(runs: Sequence[Run]) -> str:
    """The times, and each test that failed with the numbers of its runs; a run that failed without one says so."""
    times = sorted(each.seconds for each in runs)
    green = sum(each.status == 0 for each in runs)
    lines = [f"{green} of {len(runs)} runs green; {times[0]:.0f} to {times[-1]:.0f} s"]
    by_test: dict[str, list[int]] = defaultdict(list)
    for number, each in enumerate(runs, 1):
        for name in each.failed or (["(no test: see its log)"] if each.status else []):
            by_test[name].append(number)
    lines += [f"{name}: in {', '.join(map(str, numbers))}" for name, numbers in sorted(by_test.items())]
    return "\n".join(lines)


def main() -> int:
    """Run, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10, help="how many")
    parser.add_argument("command", nargs="*", default=["make", "test"], help="instead of make test")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs has to be 1 or more")
    FOLDER.mkdir(parents=True, exist_ok=True)
    runs: list[Run] = []
    for number in range(1, options.runs + 1):
        runs.append(each := run(options.command, FOLDER / f"run-{number}.log"))
        print(f"run {number}: {'green' if each.status == 0 else 'red'}, {each.seconds:.0f} s", *each.failed, flush=True)
    print(summary(runs))
    return int(any(each.status for each in runs))


if __name__ == "__main__":
    sys.exit(main())
