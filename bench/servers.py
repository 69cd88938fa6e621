"""Starts the servers that benchmarks measure, and stops them again."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def server(*command: str) -> Iterator[str]:
    """Run a server that says ``listening on URL`` (and, a hub, ``ready``) on stdout; yields the URL."""
    is_hub = "trunkline.cli" in command
    with subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            url = ""
            for line in process.stdout:
                if match := re.search(r"listening on (\S+)", line):
                    url = match[1]
                if url and (not is_hub or line.startswith("ready")):
                    break
            yield url
        finally:
            process.terminate()
            process.wait(timeout=20)


@contextmanager
def hub(*options: str) -> Iterator[str]:
    """A hub with the debug methods alone."""
    with (
        tempfile.TemporaryDirectory() as data,
        server(
            "trunkline.cli", "serve", "--port", "0", "--packs", "none", "--no-demo", "--data", data,
            "--methods", "trunkline.methods.debug", *options,
        ) as url,
    ):  # fmt: skip
        yield url
