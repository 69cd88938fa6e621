"""One target under atheris: ``python -m tests.fuzz.target NAME [libFuzzer's options]``. ``make fuzz`` runs them all."""

from __future__ import annotations

import importlib
import sys

import atheris

INSTRUMENTED = ["tests.fuzz", "trunkline_protocol", "trunkline.edge.fragments", "trunkline.executors.ipc"]
"""Ours and the models': new branches in either are what libFuzzer looks for."""


def main() -> None:
    """Instrument what is fuzzed, then hand over to libFuzzer, which ends the process."""
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=INSTRUMENTED):
        target = importlib.import_module(f"tests.fuzz.{name}")
    atheris.Setup(sys.argv, target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
