"""What a method sees of its process: the environment, the command line, the umask, what the kernel lets it do."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
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


@method("surroundings.run")
def run(command: list[str]) -> str:
    """What a program prints."""
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.strip()


@method("surroundings.core")
def core() -> list[list[int]]:
    """The limits of core files, of this process and of one that it starts."""
    words = "import resource; print(*resource.getrlimit(resource.RLIMIT_CORE))"
    return [
        list(resource.getrlimit(resource.RLIMIT_CORE)),
        [int(each) for each in run([sys.executable, "-c", words]).split()],
    ]
