"""Ten times what the executors can do: ``python -m bench.overload``.

``debug.sleep`` with a fixed duration and a fixed concurrency gives executors of a known capacity, far below what the
hub can route. The peak is the best goodput of several offered loads around that capacity; then ten times the peak is
offered over many connections, at a rate that does not wait for answers.

Targets: goodput within 10 % of the peak; refusals (WORKER_OVERLOADED 2002) arrive less than 5 ms after the request was
sent (99th percentile); every call is answered.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any

from bench.servers import Running, allow_many_files, hub_process

GOODPUT_TARGET = 0.9
REFUSAL_TARGET_MS = 5.0
OVERLOAD = 10
WORKER_OVERLOADED = "2002"
TRIED = (0.9, 1.0, 1.2, 1.5)
"""Offered loads to find the peak with, as parts of the capacity by arithmetic."""


def load(hub: Running, rate: float, options: argparse.Namespace) -> dict[str, Any]:
    params = json.dumps({"seconds": options.milliseconds / 1000})
    command = [
        sys.executable, "-m", "bench.paced", hub.url, "--pid", str(hub.pid), "--method", "debug.sleep",
        "--params", params, "--connections", str(options.connections), "--rate", str(rate),
        "--seconds", str(options.seconds),
    ]  # fmt: skip
    limit = options.seconds * 2 + 60
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=limit)
    result: dict[str, Any] = json.loads(printed.stdout)
    refused = result["errors"].get(WORKER_OVERLOADED, 0)
    print(
        f"offered {result['rate']:>7,.0f}/s   goodput {result['goodput']:>6,.0f}/s  p99 {result['p99_ms']:>6.1f} ms   "
        f"refused {refused / result['requests']:>4.0%}  p50 {result['refusal_p50_ms']:.2f}  "
        f"p99 {result['refusal_p99_ms']:.2f} ms   {result['cpu_us']:.1f} us of CPU a call   "
        f"(hub without a CPU for {result['waited']:.0%}, generator late by {result['lag_ms']:.1f} ms)",
        flush=True,
    )
    return result


def ended_otherwise(result: dict[str, Any]) -> int:
    """Calls that got neither their result nor a refusal, and connections that were lost."""
    other = sum(count for code, count in result["errors"].items() if code != WORKER_OVERLOADED)
    return int(result["unanswered"] + other + result["lost_connections"])


def check(results: list[dict[str, Any]], peak: float) -> bool:
    """Print how the overload went beside the targets (medians of the rounds); returns whether they were met."""
    ratio = statistics.median(result["goodput"] for result in results) / peak
    refusal_p99 = statistics.median(result["refusal_p99_ms"] for result in results)
    lost = sum(map(ended_otherwise, results))
    print(f"goodput at {OVERLOAD}x: {ratio:.2f}x the peak of {peak:,.0f}/s (target {GOODPUT_TARGET}x or more)")
    print(f"p99 of refusals: {refusal_p99:.2f} ms (target below {REFUSAL_TARGET_MS:.0f} ms)")
    print(f"calls that ended otherwise: {lost} (target 0)")
    return ratio >= GOODPUT_TARGET and refusal_p99 < REFUSAL_TARGET_MS and not lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3, help="of overload")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load")
    parser.add_argument("--milliseconds", type=float, default=10.0, help="that one call takes")
    parser.add_argument("--concurrency", type=int, default=10, help="calls at once")
    parser.add_argument("--queue-limit", type=int, default=200, help="calls that may wait in the hub")
    options = parser.parse_args()
    allow_many_files()
    capacity = 1000 * options.concurrency / options.milliseconds
    limits = {"TRUNKLINE_MAX_CONCURRENCY": str(options.concurrency), "TRUNKLINE_QUEUE_LIMIT": str(options.queue_limit)}
    with hub_process("--executors", "1", env=limits) as hub:
        peak = max(load(hub, capacity * part, options)["goodput"] for part in TRIED)
        overloaded = [load(hub, peak * OVERLOAD, options) for _ in range(options.rounds)]
    if not check(overloaded, peak):
        sys.exit(1)


if __name__ == "__main__":
    main()
