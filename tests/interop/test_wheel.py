"""The Python client that a hub serves, alone in an empty environment of each Python that there is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.interop.fresh import SOURCES, command, missing, place, printed, require_all
from tests.support.hub import RunningHub
from trunkline.edge.http.client_packages import WHEEL

ALONE = ["msgspec", "orjson", "trunkline-client", "typing-extensions", "websockets"]
"""What the client needs, and nothing of the hub or of ML."""


def python(version: str) -> Sequence[str]:
    """How to start this Python: where pyenv has it, it answers only to who names a version."""
    if sys.version.startswith(f"{version}."):
        return (sys.executable,)
    for words in ((f"python{version}",), ("env", f"PYENV_VERSION={pyenv(version)}", f"python{version}")):
        try:
            said = subprocess.run([*words, "--version"], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            continue
        if said.stdout.startswith(f"Python {version}."):
            return words
    return missing(f"Python {version}")


def pyenv(version: str) -> str:
    """The version of pyenv's that this is; itself where there is no pyenv."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return next((found.name for found in sorted(root.glob(f"{version}.*"))), version)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("version", ["3.11", "3.13"])
async def test_all_that_it_needs_comes_with_it(version: str, runtimes_hub: RunningHub, tmp_path: Path) -> None:
    command(*python(version), "-m", "venv", "--without-pip", tmp_path / "environment", cwd=tmp_path)
    interpreter = tmp_path / "environment" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "--python", str(interpreter))
    command(*pip, "install", f"http://127.0.0.1:{runtimes_hub.port}/{WHEEL}", cwd=tmp_path)
    async with place(runtimes_hub) as found:
        said = await printed(str(interpreter), "-I", str(SOURCES / "scenario.py"), *found.arguments, cwd=tmp_path)
    require_all(said)
    assert said["synchronous"] == [1, [0, 1, 2], 3]
    assert said["installed"] == ALONE
