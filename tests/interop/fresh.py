"""Fresh projects with the client of a running hub, what they run, and what has to come of it: see ``runtimes/``."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shutil
import subprocess
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

from tests.interop.node import FOLDER, MODULES, require_packages
from tests.support.hub import RunningHub
from tests.support.match import require
from tests.support.proxy import Proxy
from tests.support.timing import PATIENCE
from trunkline.client import connect
from trunkline_protocol.errors import ErrorCode

SOURCES: Final = FOLDER / "runtimes"
TOKEN: Final = "the-token-of-the-runtimes-0123456789"

EXPECTED: Final = {
    "called": "Grüße",
    "failed": {"kind": "rpc", "code": ErrorCode.METHOD_NOT_FOUND},
    "indexes": list(range(100)),
    "summary": {"chunks": 100},
    "cut": "cut",
    "states": ["reconnecting", "resumed", "closed"],
    "heard": [1, 2, 3],
    "refused": {"kind": "connect", "code": ErrorCode.UNAUTHENTICATED},
}


def missing(what: str) -> NoReturn:
    """Skip for want of a tool; where everything has to be there it is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing")


def tool(place: str) -> str:
    """A program of ``node_modules``. It is there on the machines that it was made for."""
    require_packages("json-rpc-2.0")  # installs all, if nothing was
    if not (MODULES / place).is_file():
        missing(place)
    return str(MODULES / place)


def command(*words: str | Path, cwd: Path, within: float = 6 * PATIENCE, env: Mapping[str, str] | None = None) -> str:
    """What a program prints; it has to end well."""
    done = subprocess.run(
        words, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=within, check=False
    )
    assert done.returncode == 0, f"{words}: {done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def project(folder: Path, hub: RunningHub, *packages: str, sources: Path = SOURCES) -> Path:
    """A folder with these programs' sources, into which the client of the hub was installed, and nothing else but
    these packages.
    """
    npm = shutil.which("npm") or missing("npm")
    shutil.copytree(sources, folder, ignore=shutil.ignore_patterns("node_modules", "dist", "__pycache__"))
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    words = [npm, "install", "--no-audit", "--no-fund", "--loglevel=error", f"http://127.0.0.1:{hub.port}/client.tgz"]
    command(*words, *packages, cwd=folder)
    return folder


@contextmanager
def serving(folder: Path, *words: str | Path, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """A web server, for the length of a ``with`` block; the address that it says."""
    said = {**os.environ, "NO_COLOR": "1", **(env or {})}
    with subprocess.Popen(words, cwd=folder, env=said, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield next(found[0] for line in process.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        finally:
            process.terminate()


@dataclass(frozen=True, slots=True)
class Place:
    """Where one program finds its hub.

    Attributes:
        url: behind a proxy, over which nobody else comes.
        name: of what it alone uses there.
    """

    url: str
    name: str
    token: str = TOKEN

    @property
    def arguments(self) -> Sequence[str]:
        return (self.url, self.token, self.name)


@asynccontextmanager
async def place(hub: RunningHub) -> AsyncIterator[Place]:
    """One, with the method that cuts what comes by it."""
    name = secrets.token_hex(4)
    async with Proxy(hub.port) as proxy, connect(hub.url, token=TOKEN) as helper:

        async def cut(_params: Any, _call: Any) -> str:
            proxy.cut()
            await helper.publish(f"runtimes.{name}", 2)
            return "cut"

        async with await helper.register(f"runtimes.cut.{name}", cut):
            yield Place(proxy.url, name)


async def printed(*words: str | Path, cwd: Path) -> Any:
    """The JSON that a program prints, while this loop goes on."""
    process = await asyncio.create_subprocess_exec(*words, cwd=cwd, stdout=PIPE, stderr=PIPE)
    try:
        out, err = await asyncio.wait_for(process.communicate(), 3 * PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, f"{words}: {out.decode()}\n{err.decode()}"
    return json.loads(out)


def require_all(said: Any) -> None:
    """Nothing of what the scenario does went wrong, and the hub's own words came through."""
    require(EXPECTED, said)
    assert "no.such" in said["failed"]["message"]
    assert "the token is not valid" in said["refused"]["message"]
