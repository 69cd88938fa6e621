"""``python -m tests.faults.restarts --calls 10000 --restarts 12`` prints one JSON object: what failed, and what was
lost of what was safe to keep (nothing has to be).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from tests.faults.restarts.run import Plan, run


def main() -> int:
    """Run the command; 1 if something is not as it has to be."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.restarts", description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--restarts", type=int, default=12, help="of the hub, of the service, and of both, in turn")
    parser.add_argument("--at-once", type=int, default=50, help="calls in flight of each caller")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(run(Plan(options.calls, options.restarts, Path(folder), options.at_once)))
    print(json.dumps(report.as_json()))
    for name, found in report.verdict.faults.items():
        print(f"{name}: {found!s:.2000}", file=sys.stderr)
    return int(bool(report.verdict.faults))


if __name__ == "__main__":
    sys.exit(main())
