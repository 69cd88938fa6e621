"""``python -m tests.simulation``: runs seeds, and says what they have met; or shows that it finds what is broken.

``--seeds 2000 [--first 1] [--jobs 2]``, ``--seed N [--log]``, ``--planted [--seeds 500]``.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.faults.recorder import checker
from tests.simulation.coverage import Coverage
from tests.simulation.planted import PLANTED, first_seed
from tests.simulation.run import Outcome, simulate

COLLECT_EVERY = 50
"""Seeds between two collections of garbage."""


def main() -> int:
    """Returns the exit code: 1 where something was wrong, or was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=None, help="how many; 2000, or 500 for each planted bug")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seconds", type=float, default=None, help="begin no other seed after so many")
    parser.add_argument("--seed", type=int, help="this one alone, and what it does")
    parser.add_argument("--log", action="store_true", help="with --seed: everything that arrives anywhere")
    parser.add_argument("--planted", action="store_true", help="find the bugs of tests/simulation/planted.py")
    options = parser.parse_args()
    if options.planted:
        return _find_planted(options.first, options.seeds or 500)
    if options.seed is not None:
        outcome = simulate(options.seed, print if options.log else None)
        print(f"seed {outcome.seed}: log hash {outcome.digest}")
        print(_faults(outcome) or "nothing is wrong")
        return int(not outcome.is_clean)
    return _run(range(options.first, options.first + (options.seeds or 2000)), options.jobs, options.seconds)


def _run(seeds: range, jobs: int, seconds: float | None) -> int:
    coverage, began, spent, bad = Coverage(), time.monotonic(), time.process_time(), 0
    for outcome in _outcomes(seeds, jobs):
        coverage.add(outcome)
        if not outcome.is_clean:
            bad += 1
            print(f"seed {outcome.seed}: log hash {outcome.digest}\n{_faults(outcome)}")
            print(f"again: python -m tests.simulation --seed {outcome.seed} --log", flush=True)
        if seconds is not None and time.monotonic() - began > seconds:
            break
    took = time.monotonic() - began
    print(coverage.described())
    print(
        f"{coverage.runs} seeds, {bad} with faults; {coverage.operations} operations and {coverage.faults} faults at "
        f"least in each; {took:.1f} s, {1000 * took / coverage.runs:.1f} ms a seed "
        f"({time.process_time() - spent:.1f} s of CPU in this process)"
    )
    return int(bad > 0)


def _outcomes(seeds: range, jobs: int) -> Iterator[Outcome]:
    if jobs == 1:
        yield from map(_simulate, seeds)
        return
    with ProcessPoolExecutor(jobs, initializer=gc.freeze) as pool:
        yield from pool.map(_simulate, seeds, chunksize=10)


def _simulate(seed: int) -> Outcome:
    gc.disable()
    if not seed % COLLECT_EVERY:
        gc.collect()
    return simulate(seed)


def _faults(outcome: Outcome) -> str:
    return "\n".join([*outcome.faults, *([checker.described(outcome.violations)] if outcome.violations else [])])


def _find_planted(first: int, seeds: int) -> int:
    missed = 0
    for name, bug in PLANTED.items():
        began = time.monotonic()
        found = first_seed(bug, range(first, first + seeds))
        missed += found is None
        words = f"not found in {seeds} seeds" if found is None else f"seed {found.seed}: {_words(found)}"
        print(f"{name}: {words}; {time.monotonic() - began:.1f} s", flush=True)
    return int(missed > 0)


def _words(outcome: Outcome) -> str:
    """What was found, in one line."""
    return "; ".join([*(violation.rule for violation in outcome.violations), *outcome.faults])[:160]


if __name__ == "__main__":
    gc.freeze()
    sys.exit(main())
