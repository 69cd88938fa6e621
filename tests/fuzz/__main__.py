"""``make fuzz``: each target under atheris for a bounded time, a line each, and an exit status.

What was found interesting is kept in ``build/fuzz/NAME/corpus`` and is where the next run begins.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
BUILD: Final = ROOT / "build" / "fuzz"
TARGETS: Final = ("jsonrpc", "fragments", "ipc", "topics")
GRACE: Final = 60.0
"""Seconds beyond its time until a run counts as hanging; loading and instrumenting take some."""

MISSING: Final = """\
make fuzz needs atheris, which is not installed (make test does not need it). Get it with

    {python} -m pip install -e '.[fuzz]'

There are wheels for CPython 3.11 to 3.14 on Linux x86_64 only. Elsewhere `pip install atheris` builds it, and needs
a clang that has libFuzzer."""


@dataclass(frozen=True)
class Outcome:
    """What became of one target."""

    name: str
    executions: int
    per_second: int
    corpus: int
    crashes: list[Path]
    status: int
    log: Path

    @property
    def failed(self) -> bool:
        return self.status != 0 or bool(self.crashes)

    def __str__(self) -> str:
        return (
            f"{self.name:<10} {self.executions:>10,} executions {self.per_second:>8,}/s   corpus {self.corpus:>5}   "
            f"crashes {len(self.crashes)}"
        )


def main() -> int:
    """Run the targets; 1 if any of them failed, 2 if atheris is missing."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("targets", nargs="*", default=TARGETS, metavar="target", help=", ".join(TARGETS))
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print(MISSING.format(python=os.path.relpath(sys.executable)))
        return 2
    failed = False
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for outcome in pool.map(lambda name: fuzz(name, options.seconds), options.targets):
            print(outcome, flush=True)
            if outcome.failed:
                failed = True
                report(outcome)
    return int(failed)


def fuzz(name: str, seconds: int) -> Outcome:
    """Run one target in a process of its own."""
    folder = BUILD / name
    corpus, crashes, log = folder / "corpus", folder / "crashes", folder / "log.txt"
    prepare(name, folder)
    command = [
        sys.executable, "-m", "tests.fuzz.target", name, str(corpus), f"-max_total_time={seconds}", "-max_len=4096",
        f"-dict={folder / 'tokens.txt'}", f"-artifact_prefix={crashes}/", "-timeout=10", "-rss_limit_mb=2048",
        "-print_final_stats=1",
    ]  # fmt: skip
    with log.open("wb") as out:
        try:
            status = subprocess.run(
                command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, timeout=seconds + GRACE, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            status = -1
    text = log.read_text(errors="replace")
    return Outcome(
        name,
        _stat(text, "number_of_executed_units"),
        _stat(text, "average_exec_per_sec"),
        sum(1 for _ in corpus.iterdir()),
        sorted(crashes.iterdir()),
        status,
        log,
    )


def prepare(name: str, folder: Path) -> None:
    """Write the seeds and the dictionary, which are Python literals in the target, where libFuzzer reads them."""
    target = importlib.import_module(f"tests.fuzz.{name}")
    for part in ("corpus", "crashes"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for old in (folder / "crashes").iterdir():
        old.unlink()
    for seed in target.SEEDS:
        (folder / "corpus" / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    tokens = ('"' + "".join(f"\\x{byte:02x}" for byte in token) + '"\n' for token in target.TOKENS)
    (folder / "tokens.txt").write_text("".join(tokens))


def _stat(log: str, name: str) -> int:
    found = re.search(rf"stat::{name}:\s*(\d+)", log)
    return int(found[1]) if found else 0


def report(outcome: Outcome) -> None:
    """The exception, and the input as it goes into the target's SEEDS."""
    text = outcome.log.read_text(errors="replace")
    _, _, failure = text.partition("=== Uncaught Python exception: ===")
    print((failure.partition("==")[0] or text[-2000:]).strip())
    for crash in outcome.crashes:
        print(f"add to SEEDS of tests/fuzz/{outcome.name}.py:\n    {crash.read_bytes()!r},")
    print(f"status {outcome.status}; all of it: {os.path.relpath(outcome.log)}")


if __name__ == "__main__":
    sys.exit(main())
