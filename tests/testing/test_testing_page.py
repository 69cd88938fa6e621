"""The examples of docs/testing.md are tests that pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.pages import REPOSITORY, blocks_of

PAGE = REPOSITORY / "docs" / "testing.md"


def test_the_examples_pass(tmp_path: Path) -> None:
    names = []
    for block in blocks_of(PAGE):
        if block.rule.startswith("file: "):
            names.append(block.rule.removeprefix("file: "))
            (tmp_path / names[-1]).write_text(block.code)
        else:
            assert block.rule == "run", f"{block}: it is neither a file nor run"
    said = " ".join(block.code for block in blocks_of(PAGE) if block.rule == "run")
    assert names
    assert all(name in said for name in names), "the page runs every file"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *names],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
