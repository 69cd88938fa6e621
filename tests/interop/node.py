"""Node scripts that drive foreign clients: they say what happens in JSON lines, and take words on stdin."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.timing import PATIENCE

FOLDER: Final = Path(__file__).parent
MODULES: Final = FOLDER / "node_modules"


def require_packages(*names: str) -> None:
    """Make sure that npm packages of this folder are there: installed if need be; without npm the test is skipped."""
    if all((MODULES / name).is_dir() for name in names):
        return
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("node and npm are missing")
        pytest.skip("node and npm are missing: install Node.js 20 or newer")
    command = [npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(command, cwd=FOLDER, check=True, timeout=300)


class Script:
    """A running script."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said: list[Any] = []

    async def line(self, within: float = PATIENCE) -> Any:
        """The next thing it says."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), within)
        assert line, f"the script has ended after {self.said}"
        self.said.append(json.loads(line))
        return self.said[-1]

    async def says(self, what: str, within: float = PATIENCE) -> Any:
        """Wait until it says this; what comes before is left out."""
        try:
            async with asyncio.timeout(within):
                while (said := await self.line(within))["what"] != what:
                    pass
        except TimeoutError:
            raise AssertionError(f"never said {what!r}, but {self.said}") from None
        return said

    def tell(self, word: str) -> None:
        """Let it go on."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())


@asynccontextmanager
async def node(script: Path, *arguments: str) -> AsyncIterator[Script]:
    """Run a script for the length of a ``with`` block."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("node", str(script), *arguments, stdin=pipe, stdout=pipe)
    try:
        yield Script(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
