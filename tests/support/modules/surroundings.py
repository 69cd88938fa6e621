"""What a method sees of its process: the environment, the command line, the umask."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from trunkline import method


@method("surroundings.environment")
def environment() -> dict[str, str]:
    """As Python has it."""
    return dict(os.environ)


@method("surroundings.process")
def process() -> dict[str, Any]:
    """As the kernel has it."""
    own = Path("/proc/self")
    return {
        "environ": (own / "environ").read_bytes().decode(errors="replace").split("\0"),
        "cmdline": (own / "cmdline").read_bytes().decode(errors="replace"),
    }


@method("surroundings.read")
def read(name: str) -> str | None:
    """One variable, as methods read it."""
    return os.environ.get(name)


@method("surroundings.write")
def write(path: str) -> None:
    """A file in a folder of its own."""
    file = Path(path)
    file.parent.mkdir(parents=True)
    file.write_text("text")
