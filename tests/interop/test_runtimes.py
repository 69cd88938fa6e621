"""The client that a hub serves, installed into an empty project, in everything that runs JavaScript and has no page."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.interop.fresh import missing, place, printed, require_all, tool
from tests.support.hub import RunningHub

NODE22 = "node22/bin/node"
NODE24 = "node24/bin/node"
BUN = "@oven/bun-linux-x64/bin/bun"
DENO = "@deno/linux-x64-glibc/deno"


def deno() -> Sequence[str]:
    return (tool(DENO), "run", "--allow-net", "--allow-env", "--allow-read", "main.js")


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(lambda: (tool(NODE22), "main.js"), id="node 22"),
        pytest.param(lambda: (tool(NODE22), "thread.js"), id="a thread of node 22"),
        pytest.param(lambda: (tool(NODE24), "main.js"), id="node 24"),
        pytest.param(lambda: (tool(BUN), "main.js"), id="bun"),
        pytest.param(deno, id="deno"),
    ],
)
async def test_without_any_other_package(words: object, runtimes_hub: RunningHub, bare_project: Path) -> None:
    assert callable(words)
    async with place(runtimes_hub) as found:
        require_all(await printed(*words(), *found.arguments, cwd=bare_project))


@pytest.mark.parametrize("file", ["main.js", "thread.js"])
async def test_with_ws(file: str, runtimes_hub: RunningHub, ws_project: Path) -> None:
    """Node 20 has no WebSocket of its own."""
    node = shutil.which("node") or missing("node")
    async with place(runtimes_hub) as found:
        require_all(await printed(str(node), file, *found.arguments, cwd=ws_project))
