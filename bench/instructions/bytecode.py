"""Instructions of Python's bytecode and calls into C, by Python function: callgrind sees only the interpreter's."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Final

from bench.instructions.counting import Counter

BYTECODE: Final = "bytecode"
CALLS: Final = "calls"
SOURCE: Final = Path(__file__).with_name("counter") / "sitecustomize.py"


class Bytecode(Counter):
    """See :class:`bench.instructions.counting.Counter`; in the processes it is ``counter/sitecustomize.py``."""

    kinds = (BYTECODE, CALLS)

    def command(self) -> list[str]:
        shutil.copy(SOURCE, self.folder)
        return []

    def python_path(self) -> list[Path]:
        return [self.folder]

    def start(self, pid: int) -> None:
        self._ask("take", pid)

    def begin(self, pid: int) -> None:
        self._ask("begin", pid)

    def take(self, pid: int) -> dict[str, dict[str, int]]:
        return self._ask("take", pid)

    def _ask(self, request: str, pid: int) -> dict[str, dict[str, int]]:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(self.folder / f"{pid}.socket"))
            asking.sendall(request.encode() + b"\n")
            with asking.makefile("r") as lines:
                found: dict[str, dict[str, int]] = json.loads(lines.readline())
        return found
