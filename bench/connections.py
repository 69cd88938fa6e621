"""Many connections: ``python -m bench.connections``.

10,000 connections to one hub, 5,000 routed ``debug.echo`` calls a second in all, spread over the connections and
paced; beside it the same rate over 100 connections, in alternating rounds on this machine.

Targets: every call is answered; p99 below 10 ms; at most 25 KB of the hub's memory a connection; the hub's CPU per
call at most 1.5x what it is with 100 connections.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any

from bench.servers import Running, allow_many_files, hub_process

P99_TARGET_MS = 10.0
BYTES_TARGET = 25_000
CPU_TARGET = 1.5
FEW = 100


def load(hub: Running, connections: int, options: argparse.Namespace) -> dict[str, Any]:
    command = [
        sys.executable, "-m", "bench.paced", hub.url, "--pid", str(hub.pid), "--connections", str(connections),
        "--rate", str(options.rate), "--seconds", str(options.seconds),
    ]  # fmt: skip
    limit = options.seconds * 2 + 60 + connections / 100
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=limit)
    result: dict[str, Any] = json.loads(printed.stdout)
    print(
        f"{connections:>6,} connections  {result['rate']:>6,.0f} calls/s   p50 {result['p50_ms']:.2f}  "
        f"p99 {result['p99_ms']:.2f}  max {result['max_ms']:.1f} ms   {result['cpu_us']:.1f} us of CPU a call   "
        f"(connected in {result['connect_seconds']:.1f} s; hub without a CPU for {result['waited']:.0%}, "
        f"generator late by {result['lag_ms']:.1f} ms)",
        flush=True,
    )
    return result


def unanswered(results: list[dict[str, Any]]) -> int:
    """Calls without an answer, or with an error, or whose connection was lost."""
    return sum(result["unanswered"] + sum(result["errors"].values()) + result["lost_connections"] for result in results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=5000.0, help="calls a second, all connections together")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--executors", type=int, default=1)
    options = parser.parse_args()
    allow_many_files()
    with hub_process("--executors", str(options.executors)) as hub:
        pairs = [(load(hub, FEW, options), load(hub, options.connections, options)) for _ in range(options.rounds)]
    many = [pair[1] for pair in pairs]
    failed = unanswered([result for pair in pairs for result in pair])
    p99 = statistics.median(result["p99_ms"] for result in many)
    cpu = statistics.median(result["cpu_us"] / few["cpu_us"] for few, result in pairs)
    # Later rounds find memory that the first one freed.
    first = many[0]
    idle, loaded = ((first[key] - first["rss_before"]) / options.connections for key in ("rss_connected", "rss_loaded"))
    print(f"calls not answered: {failed} (target 0)")
    print(f"p99 at {options.connections:,} connections: {p99:.2f} ms (target below {P99_TARGET_MS:.0f} ms)")
    print(f"memory a connection: {idle / 1000:.1f} KB (target {BYTES_TARGET / 1000:.0f} KB or less)")
    print(f"memory a connection after the load: {loaded / 1000:.1f} KB")
    print(f"CPU a call: {cpu:.2f}x that at {FEW} connections (target {CPU_TARGET}x or less)")
    if failed or p99 >= P99_TARGET_MS or idle > BYTES_TARGET or cpu > CPU_TARGET:
        sys.exit(1)


if __name__ == "__main__":
    main()
