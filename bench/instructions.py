"""Instructions a routed call costs the hub and its executor, counted by ``valgrind --tool=callgrind``.

A fixed dialogue: one connection, one call in flight. It is run with fewer calls, with more, and with a pause, so
that neither start and stop count nor what the hub does as time passes (timers, pings, samples).

    python -m bench.instructions                      # this checkout
    python -m bench.instructions --against ../before  # and another, whose .venv or sources are beside it
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from websockets.asyncio.client import connect

FEW, MANY, PAUSE = 500, 6500, 15.0
SECONDS = 300.0
SUMMARY = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)


async def dialogue(url: str, calls: int, pause: float) -> None:
    """Make so many calls, one after the other, and then none for so many seconds."""
    async with asyncio.timeout(SECONDS), connect(url, ping_interval=None, compression=None) as socket:
        for number in range(calls):
            text = f'{{"jsonrpc":"2.0","id":{number},"method":"debug.echo","params":{{"value":"{"x" * 40}"}}}}'
            await socket.send(text)
            reply = await socket.recv()
            if '"result"' not in reply:
                raise SystemExit(f"call {number} was answered {reply!r}")
        await asyncio.sleep(pause)


def counted(root: Path, calls: int, pause: float) -> tuple[dict[str, int], float]:
    """Run one dialogue against a hub of the sources at ``root``. Returns instructions by process, and its seconds."""
    sources = f"{root / 'server'}{os.pathsep}{root / 'protocol'}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRUNKLINE_")}
    env = kept | {"PYTHONPATH": sources, "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryDirectory(prefix="trunkline-bench-") as folder:
        valgrind = ["valgrind", "--tool=callgrind", "--trace-children=yes", f"--callgrind-out-file={folder}/out.%p"]
        command = [
            *valgrind,
            sys.executable,
            "-m",
            "trunkline.cli",
            "serve",
            "--port",
            "0",
            "--packs",
            "none",
            "--no-demo",
        ]
        command += ["--methods", "trunkline.methods.debug", "--executors", "1", "--data", f"{folder}/data"]
        with subprocess.Popen(
            command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as hub:
            assert hub.stdout is not None
            url = ""
            for line in hub.stdout:
                if "listening on " in line:
                    url = line.split("listening on ")[1].split()[0]
                if line.startswith("ready"):
                    break
            began = time.monotonic()
            asyncio.run(dialogue(url, calls, pause))
            seconds = time.monotonic() - began
            hub.terminate()
            hub.wait(SECONDS)
        return instructions(Path(folder), hub.pid), seconds


def instructions(folder: Path, hub: int) -> dict[str, int]:
    """What callgrind counted, of the hub and of all else."""
    counts = {"hub": 0, "executor": 0}
    for path in folder.glob("out.*"):
        found = SUMMARY.search(path.read_text())
        if found is not None:
            counts["hub" if path.suffix == f".{hub}" else "executor"] += int(found[1])
    return counts


def per_call(root: Path) -> dict[str, float]:
    """Instructions of one call, by process."""
    few, few_seconds = counted(root, FEW, 0.0)
    many, many_seconds = counted(root, MANY, 0.0)
    paused, paused_seconds = counted(root, FEW, PAUSE)
    found = {}
    for name in few:
        a_second = (paused[name] - few[name]) / (paused_seconds - few_seconds)
        found[name] = (many[name] - few[name] - a_second * (many_seconds - few_seconds)) / (MANY - FEW)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout, counted first")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is missing: install it (apt-get install valgrind)")
    here = Path(__file__).resolve().parents[1]
    roots = [here] if options.against is None else [options.against.resolve(), here]
    found = [per_call(root) for root in roots]
    for root, counts in zip(roots, found, strict=True):
        said = ", ".join(f"{name} {count:,.0f}" for name, count in counts.items())
        print(f"{'this checkout' if root == here else 'the other'}: instructions a call: {said}")
    if len(found) == 2:
        changes = ", ".join(f"{name} {100 * (found[1][name] / found[0][name] - 1):+.2f} %" for name in found[0])
        print(f"change: {changes}")


if __name__ == "__main__":
    main()
