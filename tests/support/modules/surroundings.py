"""What a method sees of its process: the environment, the command line, the umask, what the kernel lets it do."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
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


@method("surroundings.interpreter")
def interpreter() -> dict[str, Any]:
    """What a process of the hub's own interpreter begins with; its number and its parent's come last."""
    os.umask(umask := os.umask(0o077))
    main = sys.modules["__main__"].__spec__
    limits = {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")}
    return {
        "main": main and main.name,
        "arguments": len(sys.argv),
        "path": sys.path,
        "cwd": str(Path.cwd()),
        "streams": [
            (type(each).__name__, each.fileno(), each.encoding, each.errors, each.isatty())
            for each in (sys.stdin, sys.stdout, sys.stderr)
        ],
        "umask": umask,
        "limits": limits,
        "signals": {number.name: repr(signal.getsignal(number)).partition(" at ")[0] for number in signal.Signals},
        "threads": sorted(each.name for each in threading.enumerate()),
        "tests": sorted(name for name in sys.modules if name.partition(".")[0] == "tests"),
        "files": sorted(
            os.readlink(f"/proc/self/fd/{fd}").partition(":")[0] for fd in os.listdir("/proc/self/fd")[:-1]
        ),
        "leads a group": os.getpgrp() == os.getpid(),
        "name": Path("/proc/self/comm").read_text(),
        "pid": os.getpid(),
        "parent": os.getppid(),
    }


@method("surroundings.core")
def core() -> list[list[int]]:
    """The limits of core files, of this process and of one that it starts."""
    words = "import resource; print(*resource.getrlimit(resource.RLIMIT_CORE))"
    return [
        list(resource.getrlimit(resource.RLIMIT_CORE)),
        [int(each) for each in run([sys.executable, "-c", words]).split()],
    ]
