"""Machine instructions, counted by ``valgrind --tool=callgrind``: by C function, whatever else the machine does."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections import Counter as Tally
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Final

from bench.instructions.counting import Counter

INSTRUCTIONS: Final = "instructions"
TIMERS: Final = "__pyx_f_6uvloop_4loop___uvtimer_callback"
"""Where uvloop runs what is due. It is left out: how often that is depends on how fast the machine is."""

_NAME: Final = re.compile(r"^(c?fn|c?ob)=\((\d+)\)(?: (.*))?$")
_COST: Final = re.compile(r"^(?:[+-]?\d+|\*|0x[0-9a-f]+) (\d+)$")


class Names:
    """Names as callgrind writes them: once with a number, from then on by that alone."""

    def __init__(self) -> None:
        self._objects: dict[str, str] = {}
        self._functions: dict[str, str] = {}
        self._object = ""
        self._callee_object: str | None = None

    def read(self, which: str, number: str, name: str | None) -> str:
        """Take what a line says, and return the name of the object or function it says it of.

        Args:
            which: ``ob`` or ``fn``, of what is called ``cob`` or ``cfn``.
        """
        if which.endswith("ob"):
            found = self._objects.setdefault(number, PurePath(name or "").name)
            if which == "ob":
                self._object = found
            else:
                self._callee_object = found
            return found
        where = self._object
        if which == "cfn" and self._callee_object is not None:
            where, self._callee_object = self._callee_object, None
        return self._functions.setdefault(number, _function_name(name or "", where))


def _function_name(name: str, where: str) -> str:
    """Without the number of a recursion; the library's name where that tells no names."""
    return where if name.startswith("0x") else name.partition("'")[0]


def read_profile(lines: Iterable[str]) -> dict[str, int]:
    """Read callgrind's own format.

    Args:
        lines: of one dump, with lines of the source as positions and instructions as the only event.

    Returns:
        The instructions of each function, without those of what it calls.
    """
    names = Names()
    found: Tally[str] = Tally()
    function, is_callee = "", False
    for line in lines:
        text = line.rstrip("\n")
        if text.startswith("calls="):
            is_callee = True  # the next line is what the callee cost
        elif cost := _COST.match(text):
            if not is_callee:
                found[function] += int(cost[1])
            is_callee = False
        elif match := _NAME.match(text):
            name = names.read(*match.groups())
            if match[1] == "fn":
                function = name
    return dict(found)


class Callgrind(Counter):
    """See :class:`bench.instructions.counting.Counter`."""

    kinds = (INSTRUCTIONS,)

    def command(self) -> list[str]:
        options = ["--tool=callgrind", "--trace-children=yes", "--instr-atstart=no"]
        options += [f"--toggle-collect={TIMERS}", "--collect-atstart=yes"]
        # Where things lie in memory decides, by the hashes of objects, in what order sets and dicts have them.
        return ["setarch", platform.machine(), "-R", "valgrind", *options, f"--callgrind-out-file={self.folder}/out.%p"]

    def python_path(self) -> list[Path]:
        return []

    def start(self, pid: int) -> None:
        self._control("--instr=on", pid)

    def begin(self, pid: int) -> None:
        self._control("--zero", pid)

    def take(self, pid: int) -> dict[str, dict[str, int]]:
        self._control("--dump", pid)
        (path,) = self.folder.glob(f"out.{pid}.*")
        with path.open(errors="replace") as lines:
            found = read_profile(lines)
        path.unlink()
        return {INSTRUCTIONS: found}

    def _control(self, request: str, pid: int) -> None:
        done = subprocess.run(
            ["callgrind_control", request, str(pid)], capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode or "OK." not in done.stdout:
            raise SystemExit(f"callgrind_control {request}: {done.stdout}{done.stderr}")


def missing() -> list[str]:
    """Name the programs that this needs and that are not here."""
    return [name for name in ("valgrind", "callgrind_control", "setarch") if shutil.which(name) is None]
