"""What counting a call costs: ``python -m bench.metrics``.

The hub's own ``CallStats.record`` in a loop, less the same loop without it, for the kinds of calls that there are. Runs
alternate, in CPU time, and of each the quickest counts: what is above it was something else that ran on the machine.

Target: below 500 ns a call, each kind.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from typing import Final

from trunkline.observe.metrics import CallStats

TARGET_NS: Final = 500
CALLS: Final = 100_000
ROUNDS: Final = 21
METHODS: Final = [f"pack.method_{number}" for number in range(16)]
SECONDS: Final = [0.00007, 0.0004, 0.0012, 0.009, 0.03, 0.2, 1.7, 70.0]

Record = Callable[[str | None, float, int, float, float, int, int], None]

KINDS: Final = {
    "answered by the hub": (0, 0.0, 0.0),
    "run at once": (0, 0.0, 0.7),
    "waited and run": (0, 0.2, 0.7),
    "refused": (-32602, 0.0, 0.0),
}
"""Error code, share of the time that it waited, share that it ran."""


def bare(
    _method: str | None, _seconds: float, _code: int, _waited: float, _ran: float, _bytes_in: int, _bytes_out: int
) -> None:
    """What the loop and the call of a function cost by themselves."""


def loop(record: Record, calls: int, code: int, waits: float, runs: float) -> float:
    """Nanoseconds of CPU a call: what else runs on the machine does not count."""
    work = [(METHODS[n % len(METHODS)], SECONDS[n % len(SECONDS)]) for n in range(64)]
    rounds = range(calls // len(work))
    started = time.process_time_ns()
    for _ in rounds:
        for method, seconds in work:
            record(method, seconds, code, seconds * waits, seconds * runs, 100, 200)
    return (time.process_time_ns() - started) / (len(rounds) * len(work))


def measure(calls: int, rounds: int) -> dict[str, tuple[float, float]]:
    """By kind of call: nanoseconds with counting and without."""
    found = dict.fromkeys(KINDS, (math.inf, math.inf))
    for _ in range(rounds):  # all kinds in turn: what disturbs may last for seconds
        for kind, (code, waits, runs) in KINDS.items():
            counted = loop(CallStats().record, calls, code, waits, runs)
            without = loop(bare, calls, code, waits, runs)
            found[kind] = (min(counted, found[kind][0]), min(without, found[kind][1]))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="what counting a call costs")
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    print(f"{'a call that was':<22} {'counted':>9} {'bare':>9} {'costs':>9}   (ns; target below {TARGET_NS})")
    slow = []
    for kind, (counted, without) in measure(options.calls, options.rounds).items():
        costs = counted - without
        print(f"{kind:<22} {counted:>9.0f} {without:>9.0f} {costs:>9.0f}")
        if costs >= TARGET_NS:
            slow.append(kind)
    if slow:
        print(f"above the target: {', '.join(slow)}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
