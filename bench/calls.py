"""Routed calls beside a bare echo: ``python -m bench.calls``.

Compares ``debug.echo``, which goes from the socket through the hub to an executor process and back, with a picows
server that sends frames back, in alternating runs on this machine. Only the ratios mean something.

Targets: at least 0.35x the echo's rate at 50 connections x 16 in flight, with limits, authentication, audit and metrics
on as well as without; p99 below 3x the echo's at 50 x 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.servers import hub, hub_process, server

RATE_TARGET = 0.35
P99_TARGET = 3.0


TOKEN = secrets.token_urlsafe(32)
ACCESS = """
[roles.caller]
methods = ["debug.*"]
subscribe = ["jobs.>"]
rate = 10000000

[[tokens]]
name = "bench"
sha256 = "%s"
roles = ["caller"]
"""


@contextmanager
def guarded_hub(*options: str) -> Iterator[str]:
    """A hub with everything on that looks at a call: a role with patterns and a rate, the audit file, a scraper."""
    with tempfile.TemporaryDirectory() as folder:
        tokens = Path(folder, "tokens.toml")
        tokens.write_text(ACCESS % hashlib.sha256(TOKEN.encode()).hexdigest())
        tokens.chmod(0o600)
        env = {
            "TRUNKLINE_TOKENS_FILE": str(tokens),
            "TRUNKLINE_AUDIT_FILE": str(Path(folder, "audit.jsonl")),
            "TRUNKLINE_RATE_LIMIT": "10000000",
        }
        with hub_process(*options, env=env) as running, scraped(running.url):
            yield running.url
            lines = Path(folder, "audit.jsonl").read_bytes().count(b"\n")
        print(f"(audit lines written: {lines:,})")


@contextmanager
def scraped(url: str) -> Iterator[None]:
    """Fetch ``/metrics`` once a second, as Prometheus would more rarely."""
    page = url.replace("ws://", "http://").replace("/ws", "/metrics")
    request = urllib.request.Request(page, headers={"Authorization": f"Bearer {TOKEN}"})
    done = threading.Event()

    def scrape() -> None:
        while not done.wait(1.0):
            urllib.request.urlopen(request, timeout=5).read()

    scraper = threading.Thread(target=scrape)
    scraper.start()
    try:
        yield
    finally:
        done.set()
        scraper.join()


def load(url: str, window: int, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.load", url, "--window", str(window), "--seconds", str(seconds)]
    command += ["--token", TOKEN]  # a server that wants none does not look at it
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds * 3 + 30)
    measured: dict[str, float] = json.loads(printed.stdout)
    return measured


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
    executors = ("--executors", str(options.executors))
    with hub(*executors) as hub_url, server("bench.echo_server") as echo_url:
        one = compare(hub_url, echo_url, 1, options.rounds, options.seconds)
        many = compare(hub_url, echo_url, 16, options.rounds, options.seconds)
    with guarded_hub(*executors) as hub_url, server("bench.echo_server") as echo_url:
        guarded = compare(hub_url, echo_url, 16, options.rounds, options.seconds)
    print(
        f"rate at 50 x 16: {many['rate']:.2f}x the echo's (target {RATE_TARGET}x or more); "
        f"at 50 x 1: {one['rate']:.2f}x"
    )
    print(f"with limits, auth, audit and metrics on: {guarded['rate']:.2f}x (target {RATE_TARGET}x or more)")
    print(f"p99 at 50 x 1: {one['p99']:.2f}x the echo's (target below {P99_TARGET}x)")
    if min(many["rate"], guarded["rate"]) < RATE_TARGET or one["p99"] >= P99_TARGET:
        sys.exit(1)


if __name__ == "__main__":
    main()
