"""Routed calls beside a bare echo: ``python -m bench.calls``.

Compares ``debug.echo``, which goes from the socket through the hub to an executor process and back, with a picows
server that sends frames back, in alternating runs on this machine. Only the ratios mean something.

Targets: at least 0.35x the echo's rate at 50 connections x 16 in flight; p99 below 3x the echo's at 50 x 1.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

from bench.servers import hub, server

RATE_TARGET = 0.35
P99_TARGET = 3.0


def load(url: str, window: int, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.load", url, "--window", str(window), "--seconds", str(seconds)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds * 3 + 30)
    return json.loads(printed.stdout)


def compare(hub_url: str, echo_url: str, window: int, rounds: int, seconds: float) -> dict[str, float]:
    """Alternate the two and return the median of the ratios, pair by pair."""
    rates, p99s, pairs = [], [], []
    for _ in range(rounds):
        routed, bare = load(hub_url, window, seconds), load(echo_url, window, seconds)
        if routed["errors"]:
            raise SystemExit(f"{routed['errors']:.0f} calls failed")
        rates.append(routed["rate"] / bare["rate"])
        p99s.append(routed["p99_ms"] / bare["p99_ms"])
        pairs.append((routed, bare))
    routed, bare = pairs[rates.index(statistics.median_low(rates))]
    print(
        f"50 x {window:<3} routed {routed['rate']:>9,.0f}/s  p50 {routed['p50_ms']:.2f}  p99 {routed['p99_ms']:.2f} ms"
        f"   echo {bare['rate']:>9,.0f}/s  p50 {bare['p50_ms']:.2f}  p99 {bare['p99_ms']:.2f} ms"
    )
    return {"rate": statistics.median(rates), "p99": statistics.median(p99s)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--executors", type=int, default=1, help="executors of the hub that is measured")
    options = parser.parse_args()
    with hub("--executors", str(options.executors)) as hub_url, server("bench.echo_server") as echo_url:
        one = compare(hub_url, echo_url, 1, options.rounds, options.seconds)
        many = compare(hub_url, echo_url, 16, options.rounds, options.seconds)
    print(
        f"rate at 50 x 16: {many['rate']:.2f}x the echo's (target {RATE_TARGET}x or more); "
        f"at 50 x 1: {one['rate']:.2f}x"
    )
    print(f"p99 at 50 x 1: {one['p99']:.2f}x the echo's (target below {P99_TARGET}x)")
    if many["rate"] < RATE_TARGET or one["p99"] >= P99_TARGET:
        sys.exit(1)


if __name__ == "__main__":
    main()
