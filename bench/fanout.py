"""What it costs a server to deliver one event to many: ``python -m bench.fanout``.

One publisher sends 100-byte events to one topic with 500, then 5,000 subscribers: the hub beside Node `ws`, Socket.IO
on Node and NATS over WebSocket, and beside a bare Python loop of ``socket.send``, which speaks no protocol. All get
the same bounded rate, in alternating rounds on this machine; every subscriber checks that each event comes once and in
order. Measured is CPU time (user and system) of the server's process per delivery. Only the ratios mean something;
where the kernel's part is large, the bare loop tells how far down a server with one socket a subscriber can come.

Target: the hub at most 0.8x the best of ws, Socket.IO and NATS, with 500 and with 5,000 subscribers.

What is not installed is left out by name. For ws and Socket.IO: ``npm ci`` in bench/competitors.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from bench.servers import Running, allow_many_files, hub_process, process

TARGET = 0.8
HUB = "hub"
BARE = "bare"
NAMES = {HUB: "hub", "ws": "Node ws", "socketio": "Socket.IO", "nats": "NATS", BARE: "bare loop"}
COMPETITORS = Path(__file__).parent / "competitors"

Measured = dict[tuple[int, str], list[dict[str, float]]]
"""By number of subscribers and server: what each round measured."""


def competitors() -> dict[str, tuple[str, ...]]:
    """The commands of those servers that are installed here; says which are not."""
    commands: dict[str, tuple[str, ...]] = {}
    node, modules = shutil.which("node"), COMPETITORS / "node_modules"
    for name, script, module in (("ws", "ws_server.mjs", "ws"), ("socketio", "socketio_server.mjs", "socket.io")):
        if node is None:
            print(f"left out: {NAMES[name]} (node is not installed)")
        elif not (modules / module).is_dir():
            print(f"left out: {NAMES[name]} (run `npm ci` in bench/competitors)")
        else:
            commands[name] = (node, str(COMPETITORS / script))
    # Debian puts it where only root looks.
    nats = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin")
    if nats is None:
        print("left out: NATS (nats-server is not installed)")
    else:
        commands["nats"] = (nats, "-c", str(COMPETITORS / "nats.conf"), "-l", "/dev/stdout")
    return commands


def measure(name: str, server: Running, subscribers: int, events: int, rate: float) -> dict[str, float]:
    command = [
        sys.executable, "-m", "bench.subscribers", name, server.url, "--pid", str(server.pid),
        "--subscribers", str(subscribers), "--events", str(events), "--rate", str(rate),
    ]  # fmt: skip
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=events / rate * 2 + 150)
    result: dict[str, float] = json.loads(printed.stdout)
    if result["missing"] or result["out_of_order"]:
        raise SystemExit(
            f"{NAMES[name]}, {subscribers:,} subscribers: {result['missing']:,} deliveries missing, "
            f"{result['out_of_order']:,} out of order"
        )
    return result


def measure_all(servers: dict[str, Running], options: argparse.Namespace) -> Measured:
    """Rounds over sizes over servers; each round begins with another server."""
    measured: Measured = defaultdict(list)
    names = list(servers)
    for number in range(options.rounds):
        for subscribers in options.subscribers:
            rate = options.deliveries / subscribers
            events = max(options.min_events, round(rate * options.seconds))
            for name in names[number % len(names) :] + names[: number % len(names)]:
                if sys.stderr.isatty():
                    progress = f"round {number + 1}/{options.rounds}: {subscribers} subscribers, {NAMES[name]}"
                    print(f"\r{progress:<70}", end="", file=sys.stderr)
                measured[subscribers, name].append(measure(name, servers[name], subscribers, events, rate))
    if sys.stderr.isatty():
        print(f"\r{'':<70}\r", end="", file=sys.stderr)
    return measured


def report(measured: Measured, names: list[str], subscribers: int) -> bool:
    """Print one table; returns whether the target was met, or could not be checked."""
    cpu = {name: statistics.median(one["cpu_us"] for one in measured[subscribers, name]) for name in names}
    print(f"{subscribers:>6,} subscribers   us a delivery   in the kernel   of the hub's       p50       p99")
    for name in names:
        rounds = measured[subscribers, name]
        kernel, p50, p99 = (statistics.median(one[key] for one in rounds) for key in ("kernel_us", "p50_ms", "p99_ms"))
        print(
            f"  {NAMES[name]:<16} {cpu[name]:>14.2f} {kernel:>15.2f} {cpu[name] / cpu[HUB]:>13.2f}x "
            f"{p50:>6.1f} ms {p99:>6.1f} ms"
        )
    print(f"  hub / bare loop: {cpu[HUB] / cpu[BARE]:.2f}x")
    others = [name for name in names if name not in (HUB, BARE)]
    if not others:
        print("  target not checked: there is nothing here to compare with")
        return True
    best = min(others, key=cpu.__getitem__)
    ratio = cpu[HUB] / cpu[best]
    print(f"  hub / best of the others ({NAMES[best]}): {ratio:.2f}x (target at most {TARGET}x; ", end="")
    print(f"the bare loop is at {cpu[BARE] / cpu[best]:.2f}x)")
    return ratio <= TARGET


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--subscribers", type=int, nargs="+", default=[500, 5000])
    parser.add_argument(
        "--deliveries", type=float, default=20_000, help="deliveries a second, all subscribers together"
    )
    parser.add_argument("--seconds", type=float, default=6.0, help="of publishing in each round")
    parser.add_argument("--min-events", type=int, default=30, help="in each round, however many subscribers there are")
    parser.add_argument("--without", nargs="+", default=[], choices=[*NAMES][1:-1], help="servers to leave out")
    parser.add_argument("--json", action="store_true", help="print what each round measured, too")
    options = parser.parse_args()
    allow_many_files()
    with ExitStack() as stack:
        servers = {HUB: stack.enter_context(hub_process(methods=None))}
        for name, command in competitors().items():
            if name not in options.without:
                servers[name] = stack.enter_context(process(*command))
        servers[BARE] = stack.enter_context(process(sys.executable, "-m", "bench.competitors.bare_loop"))
        measured = measure_all(servers, options)
    if options.json:
        print(
            json.dumps([{"subscribers": n, "server": name, "rounds": rounds} for (n, name), rounds in measured.items()])
        )
    met = [report(measured, list(servers), subscribers) for subscribers in options.subscribers]
    if not all(met):
        sys.exit(1)


if __name__ == "__main__":
    main()
