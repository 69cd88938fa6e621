"""The sources of two commits, each in a folder of its own."""

from __future__ import annotations

import compileall
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


def git(*arguments: str) -> str:
    """What git says.

    Raises:
        SystemExit: git could not do it; the message is git's.
    """
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def is_changed() -> bool:
    """Whether this checkout has sources that no commit has."""
    return bool(git("status", "--porcelain", "--", "server", "protocol"))


@contextmanager
def checkouts(*commits: str) -> Iterator[list[Path]]:
    """Check commits out, with their bytecode compiled, for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="trunkline-commits-") as folder:
        # Paths of one length: a path is part of what a program reads and hashes.
        paths = [Path(folder) / f"commit{number}" for number in range(len(commits))]
        try:
            for path, commit in zip(paths, commits, strict=True):
                git("worktree", "add", "--detach", "--force", str(path), commit)
                for sources in ("server", "protocol"):
                    compileall.compile_dir(path / sources, quiet=2)
            yield paths
        finally:
            for path in paths:
                if path.exists():
                    git("worktree", "remove", "--force", str(path))
