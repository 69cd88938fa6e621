"""The compilers that users of generated files have."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub import clean_environment
from tests.support.timing import SCALE
from trunkline.generate import GENERATORS

CLIENTS = Path(__file__).parents[2] / "clients"
TSC = CLIENTS / "node_modules" / ".bin" / "tsc"

with_tsc = pytest.mark.skipif(
    not (TSC.exists() and (CLIENTS / "js/dist/index.d.ts").exists() and shutil.which("node")),
    reason="the JavaScript client is not built here (make setup)",
)


def compile_typescript(folder: Path) -> str:
    """What the compiler says of all files there."""
    done = subprocess.run([TSC], cwd=folder, capture_output=True, text=True, timeout=120 * SCALE)
    assert (done.returncode == 0) == (done.stdout == ""), done.stdout + done.stderr
    return done.stdout


def tsc(folder: Path, described: Any, use: str) -> set[int]:
    """Compile the client and a program that uses it; the lines of the program that are refused."""
    (folder / "hub.ts").write_text(GENERATORS["typescript"](described))
    lines = ['import type { Hub } from "trunkline";', 'import { typed } from "./hub.js";', "declare const plain: Hub;"]
    (folder / "use.ts").write_text("\n".join([*lines, "const hub = typed(plain);", use, "export { hub };"]))
    said = compile_typescript(folder)
    assert "hub.ts(" not in said, said
    return {int(line) - len(lines) - 1 for line in re.findall(r"^use\.ts\((\d+),", said, re.MULTILINE)}


@dataclass(frozen=True)
class Python:
    folder: Path
    cache: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The interpreter, in the folder."""
        command = [sys.executable, *arguments]
        environment = clean_environment()
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120 * SCALE
        )

    def check(self, *files: str) -> str:
        """What mypy says of these files."""
        strict = ["--strict", "--config-file=", "--hide-error-context", f"--cache-dir={self.cache}"]
        done = self.run("-m", "mypy", *strict, *files)
        assert done.returncode in (0, 1), done.stdout + done.stderr
        return done.stdout

    def refused(self, described: Any, use: str) -> set[int]:
        """The lines of a program that are refused, where the client is generated from a document."""
        (self.folder / "generated.py").write_text(GENERATORS["python"](described))
        lines = ["from typing import Any, assert_type", "from generated import *"]
        lines.append("async def use(hub: TypedHub) -> None:")
        (self.folder / "use.py").write_text("\n".join([*lines, *(f"    {line}" for line in use.splitlines()), ""]))
        said = self.check("use.py", "generated.py")
        found = re.findall(r"^(\S+?):(\d+): error", said, re.MULTILINE)
        assert {name for name, _ in found} <= {"use.py"}, said
        return {int(line) - len(lines) for _, line in found}
