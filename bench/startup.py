"""From the command to a hub that is ready, without ML packs: ``python -m bench.startup``.

Target: below 1 s (median). The time counts from starting the interpreter to ``GET /ready`` answering 200, executors
warm.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

TARGET_SECONDS = 1.0


def start_once(data: str) -> float:
    command = [
        sys.executable, "-m", "trunkline.cli", "serve", "--port", "0", "--packs", "none", "--no-demo",
        "--data", data, "--methods", "trunkline.methods.debug",
    ]  # fmt: skip
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"ws://(\S+)/ws", process.stdout.readline())
            if found is None:
                raise SystemExit("the hub did not say where it listens")
            while not is_ready(f"http://{found[1]}/ready"):
                time.sleep(0.005)
            return time.perf_counter() - started
        finally:
            process.terminate()


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as data:
        seconds = [start_once(data) for _ in range(options.rounds)]
    median = statistics.median(seconds)
    print(
        f"ready after {median:.2f} s (median of {options.rounds}, {min(seconds):.2f}..{max(seconds):.2f}; target < 1 s)"
    )
    if median >= TARGET_SECONDS:
        sys.exit(1)


if __name__ == "__main__":
    main()
