"""``python -m tests.faults.recorder --seed 7 --seconds 60 --clients 4``; ``make soak`` does it with several seeds."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import Progress

from tests.faults.recorder import checker, summary
from tests.faults.recorder.lives import SESSION_SECONDS
from tests.faults.recorder.node import missing_for_node
from tests.faults.recorder.run import KINDS, Plan, run

SHORT: Final = 0.15
"""Seconds of sessions that may expire: every third seed has these."""

BUILD: Final = Path(__file__).parents[3] / "build" / "recorder"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the seeds one after the other; 1 if any of them found a violation."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.recorder", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="of the first run; from the clock if not given")
    parser.add_argument("--runs", type=int, default=1, help="so many seeds, counting on from the first")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all runs together")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--kinds", default=",".join(KINDS), help="of clients, in turn; the default is all")
    parser.add_argument(
        "--session-seconds", type=float, help="how long sessions outlive connections; by the seed, if not given"
    )
    parser.add_argument("--check", type=Path, help="judge a folder that an earlier run left, and nothing else")
    options = parser.parse_args(arguments)
    if options.check is not None:
        return judge(options.check)
    first = int(time.time()) % 100_000 if options.seed is None else options.seed
    kinds = options.kinds.split(",")
    if "node" in kinds and (missing := missing_for_node()) is not None:
        kinds.remove("node")
        print(f"without node clients: {missing}", flush=True)
    seconds = options.seconds / options.runs
    plans = []
    for seed in range(first, first + options.runs):
        sessions = options.session_seconds or (SHORT if seed % 3 == 0 else SESSION_SECONDS)
        plans.append(Plan(seed, seconds, options.clients, BUILD / str(seed), kinds, sessions))
    return max([attempt(plan) for plan in plans])


def attempt(plan: Plan) -> int:
    """One run, with its summary; 1 if it found a violation."""
    seed, seconds = plan.seed, plan.seconds
    print(f"seed {seed}: {', '.join(plan.names)}, {seconds:.0f} s, sessions {plan.session_seconds:g} s", flush=True)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(f"seed {seed}", total=seconds)
        outcome = asyncio.run(run(plan, lambda passed: bar.update(task, completed=passed)))
    print(summary.described(outcome.record))
    print(f"violations: {len(outcome.violations)}", flush=True)
    if not outcome.violations:
        shutil.rmtree(plan.folder)
        return 0
    print(checker.described(outcome.violations))
    print(f"kept in {os.path.relpath(plan.folder)}; what broke again:")
    print(
        f"    python -m tests.faults.recorder --seed {seed} --seconds {seconds:g} --clients {plan.clients} "
        f"--kinds {','.join(plan.kinds)} --session-seconds {plan.session_seconds:g}",
        flush=True,
    )
    return 1


def judge(folder: Path) -> int:
    """What an earlier run left."""
    record = checker.read_record(folder)
    violations = checker.check(record)
    print(summary.described(record))
    print(f"violations: {len(violations)}\n{checker.described(violations)}")
    return int(bool(violations))


if __name__ == "__main__":
    sys.exit(main())
