"""README's code, run as it stands there, against a real hub.

A comment before each block of code says what becomes of it:

- ``<!-- run -->``: it ends well.
- ``<!-- run, staying: 1 3 -->``: each line of a shell block is a command; those with these numbers go on.
- ``<!-- run until: TEXT -->``: it says so, while ``orders.42`` is published, and is ended then.
- ``<!-- file: NAME -->``: it is a file, for the others.
- ``<!-- not run: WHY -->``.

Two things are other than in the text: the port, and the packs, for which ``support/modules/documented.py`` stands.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.support.hub import MODULES, RunningHub, clean_environment, ready_hub
from tests.support.peer import peer
from tests.support.timing import PATIENCE, eventually

REPOSITORY = Path(__file__).parent.parent
CLIENTS = REPOSITORY / "clients"
BLOCK = re.compile(r"(?:<!-- (?P<rule>[^>]*) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)```", re.DOTALL)
LANGUAGES = {"sh", "js", "python"}


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code.

    Attributes:
        line: where it begins.
        rule: the comment before it.
    """

    line: int
    language: str
    rule: str
    code: str

    def __str__(self) -> str:
        return f"line {self.line}"


def blocks_of(text: str) -> Iterator[Block]:
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("code"))
        yield Block(line, found["language"], found["rule"] or "", found["code"])


BLOCKS = [block for block in blocks_of((REPOSITORY / "README.md").read_text()) if block.language in LANGUAGES]


def test_each_block_says_what_becomes_of_it() -> None:
    assert len(BLOCKS) > 10
    for block in BLOCKS:
        assert re.match(r"(run$|run, staying: |run until: |file: |not run: )", block.rule), f"{block}: {block.rule!r}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's folder: the environment beside it, the client installed, the files that README shows."""
    path = tmp_path_factory.mktemp("reader")
    (path / ".venv").symlink_to(sys.prefix)
    (path / "node_modules").mkdir()
    (path / "node_modules" / "trunkline").symlink_to(CLIENTS / "js")
    shutil.copy(MODULES / "documented.py", path)
    for block in BLOCKS:
        if block.rule.startswith("file: "):
            (path / block.rule.removeprefix("file: ")).write_text(block.code)
    return path


@pytest.fixture(scope="module")
def hub(folder: Path) -> Iterator[RunningHub]:
    with ready_hub("my_methods", "documented", cwd=folder) as running:
        yield running


def command_of(block: Block, code: str, folder: Path) -> list[str]:
    if block.language == "sh":
        return ["bash", "-ec", code]
    script = folder / f"line{block.line}.{'mjs' if block.language == 'js' else 'py'}"
    script.write_text(code)
    node = ["node", "--experimental-websocket", "--no-warnings"]  # as browsers and later versions have one
    return [*node, str(script)] if block.language == "js" else [sys.executable, str(script)]


@contextmanager
def started(command: list[str], folder: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A command in a process group of its own, which is ended with the block."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=PATIENCE)


async def said(process: subprocess.Popen[str], text: str) -> None:
    """Wait until a process says something."""
    assert process.stdout is not None
    heard = ""
    async with asyncio.timeout(PATIENCE):
        while text not in heard:
            line = await asyncio.to_thread(process.stdout.readline)
            assert line, f"it ended and did not say {text!r}:\n{heard}"
            heard += line


@asynccontextmanager
async def publishing(hub: RunningHub) -> AsyncIterator[None]:
    """``orders.42`` is published all the time."""

    async def publish() -> None:
        async with peer(hub.url) as publisher:
            while True:
                await publisher.result("publish", {"topic": "orders.42", "data": {"done": 7}})
                await asyncio.sleep(0.05)

    task = asyncio.create_task(publish())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])  # cancelled while it connects, it closes its socket only then


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.rule.startswith("run")], ids=str)
async def test_block(block: Block, folder: Path, hub: RunningHub) -> None:
    if block.language == "js" and (shutil.which("node") is None or not (CLIENTS / "js" / "dist").exists()):
        pytest.skip("needs Node.js and the built client: make setup")
    serves = "trunkline serve" in block.code
    port = free_port() if serves else hub.port
    path = f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}"
    env = clean_environment({"PATH": path, "TRUNKLINE_URL": f"ws://127.0.0.1:{port}/ws"})
    if serves:
        env["TRUNKLINE_PORT"] = str(port)
    code = block.code.replace("8765", str(port))
    if block.rule.startswith("run until: "):
        with started(command_of(block, code, folder), folder, env) as process:
            async with publishing(hub):
                await said(process, block.rule.removeprefix("run until: "))
            if "node.lookup" in code:
                async with peer(hub.url) as caller:
                    assert await caller.result("node.lookup", {"key": "a"}) == 1
    elif block.rule.startswith("run, staying: "):
        staying = {int(number) for number in block.rule.removeprefix("run, staying: ").split()}
        await take_lines(code.splitlines(), staying, folder, env, hub)
    else:
        command = command_of(block, code, folder)
        done = await asyncio.to_thread(subprocess.run, command, cwd=folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


async def take_lines(lines: list[str], staying: set[int], folder: Path, env: dict[str, str], hub: RunningHub) -> None:
    """Run commands one after the other, those that stay beside the others; in the end these have said something."""
    with ExitStack() as stack:
        going: list[subprocess.Popen[str]] = []
        for number, line in enumerate(lines, 1):
            before = subscriptions(hub)
            process = stack.enter_context(started(["bash", "-ec", line], folder, env))
            if number not in staying:
                assert await asyncio.to_thread(process.wait, PATIENCE) == 0, line
            elif "trunkline serve" in line:
                await said(process, "ready:")
            else:
                going.append(process)
                await asyncio.to_thread(eventually, partial(has_more_than, before, hub), line)
        for process in going:
            await said(process, "\n")


def has_more_than(count: float, hub: RunningHub) -> bool:
    return subscriptions(hub) > count


def subscriptions(hub: RunningHub) -> float:
    found = re.search(rb"^trunkline_subscriptions ([0-9.]+)$", hub.get("/metrics").body, re.MULTILINE)
    assert found is not None
    return float(found[1])


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
